//! Accounts, and their privileges on a table.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::{Deserialize, Deserializer, Serialize};

use super::dialect::Dialect;
use super::name::Shown;

/// What the connected user may do with a relation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rights {
    /// SELECT, which LIKE needs.
    pub select: bool,
    /// The rights of its owner.
    pub own: bool,
    /// Without the owner's rights: the privileges that the user may grant.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub grant: BTreeSet<Privilege>,
    /// Without the owner's rights: whether the user is a member of the owner all the same, and does not inherit its rights.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_member: bool,
}

impl Default for Rights {
    fn default() -> Self {
        Self { select: true, own: true, grant: BTreeSet::new(), is_member: false }
    }
}

impl Rights {
    pub(super) fn are_full(&self) -> bool {
        *self == Self::default()
    }
}

/// What gives the rights of a role to its members. Only on PostgreSQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Inheritance {
    /// Whether the connected user has the attribute INHERIT.
    pub of_user: bool,
    /// Whether GRANT has the options INHERIT and SET, as in PostgreSQL 16. Then the attribute is only their default.
    pub in_grants: bool,
}

impl Default for Inheritance {
    fn default() -> Self {
        Self { of_user: true, in_grants: false }
    }
}

impl Inheritance {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Returns the statements that give the rights of a role to a user. `is_member` tells whether the user is a member of it already.
    pub fn statements(self, role: &str, user: &str, is_member: bool) -> String {
        let (role, user) = (Shown(role), Shown(user));
        let grant = format!("GRANT {role} TO {user}");
        let alter = format!("ALTER ROLE {user} INHERIT;");
        match (self.in_grants, self.of_user) {
            (true, true) if !is_member => format!("{grant};"),
            (true, _) => format!("{grant} WITH INHERIT TRUE;"),
            (false, true) => format!("{grant};"),
            (false, false) if is_member => alter,
            (false, false) => format!("{grant}; {alter}"),
        }
    }

    /// Returns the statement that lets a user give tables to a role.
    pub fn statement_to_set(self, role: &str, user: &str) -> String {
        let option = if self.in_grants { " WITH SET TRUE" } else { "" };
        format!("GRANT {} TO {}{option};", Shown(role), Shown(user))
    }
}

/// A privilege on a table with the same letter in the access lists of PostgreSQL and Redshift.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Privilege {
    Select,
    Insert,
    Update,
    Delete,
    References,
}

impl Privilege {
    /// Returns the privilege for a letter of an access list (`aclitem`). The meaning of other letters differs between
    /// the servers.
    pub(super) fn from_letter(letter: char) -> Option<Self> {
        match letter {
            'r' => Some(Self::Select),
            'a' => Some(Self::Insert),
            'w' => Some(Self::Update),
            'd' => Some(Self::Delete),
            'x' => Some(Self::References),
            _ => None,
        }
    }

    /// All of them.
    pub const ALL: [Self; 5] = [Self::Select, Self::Insert, Self::Update, Self::Delete, Self::References];

    /// Returns the privilege for a word in `svv_relation_privileges`.
    pub(super) fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|privilege| privilege.to_string().eq_ignore_ascii_case(word))
    }
}

/// Accepts any case, as SQL does.
impl<'de> Deserialize<'de> for Privilege {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Privilege;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a privilege")
            }

            fn visit_enum<A: serde::de::EnumAccess<'de>>(self, word: A) -> Result<Privilege, A::Error> {
                let (word, _): (String, _) = word.variant()?;
                let unknown = || serde::de::Error::unknown_variant(&word, WORDS);
                Privilege::from_word(&word).ok_or_else(unknown)
            }
        }
        const WORDS: &[&str] = &["select", "insert", "update", "delete", "references"];
        // An enum, because the reader of plan files then hides what a template gave.
        deserializer.deserialize_enum("Privilege", WORDS, Visitor)
    }
}

impl fmt::Display for Privilege {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Select => "select",
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::References => "references",
        })
    }
}

/// An account that can have privileges. A plan file writes a user as `dbt`, others as `{ group: etl }` and `{ role:
/// loader }`, and everyone as `public`. PostgreSQL has only roles and does not distinguish the three.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Account {
    Public,
    User(String),
    Group(String),
    Role(String),
}

impl Account {
    /// Returns the name without its type.
    pub fn name(&self) -> &str {
        match self {
            Self::Public => "public",
            Self::User(name) | Self::Group(name) | Self::Role(name) => name,
        }
    }

    /// Returns the key in [`Relation::grants`].
    pub fn grant_key(&self, dialect: Dialect) -> String {
        match (dialect, self) {
            (Dialect::Postgresql, account) => account.name().to_owned(),
            (Dialect::Redshift, account) => account.to_string(),
        }
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Public => f.write_str("public"),
            Self::User(name) => f.write_str(name),
            Self::Group(name) => write!(f, "group {name}"),
            Self::Role(name) => write!(f, "role {name}"),
        }
    }
}

/// The serialized form of an account that is not a plain user.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Named {
    User(String),
    Group(String),
    Role(String),
}

impl Serialize for Account {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let named = match self {
            Self::Public => return serializer.serialize_str("public"),
            Self::User(name) if name.eq_ignore_ascii_case("public") => ("user", name),
            Self::User(name) => return serializer.serialize_str(name),
            Self::Group(name) => ("group", name),
            Self::Role(name) => ("role", name),
        };
        serializer.collect_map([named])
    }
}

impl<'de> Deserialize<'de> for Account {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Account;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a user's name, `public`, { group: NAME } or { role: NAME }")
            }

            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Account, E> {
                match name {
                    "" => Err(E::custom("the name of an account is empty")),
                    // As in SQL. No server has a role `public`; one named `PUBLIC` is written { user: PUBLIC }.
                    public if public.eq_ignore_ascii_case("public") => Ok(Account::Public),
                    name => Ok(Account::User(name.to_owned())),
                }
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Account, A::Error> {
                // serde represents a variant of an enum as a map with one key.
                Ok(match Named::deserialize(MapAccessDeserializer::new(map))? {
                    Named::User(name) => Account::User(name),
                    Named::Group(name) => Account::Group(name),
                    Named::Role(name) => Account::Role(name),
                })
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}
