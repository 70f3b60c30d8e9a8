//! What the catalog says of the relations that the selected steps look at.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::{Deserialize, Deserializer, Serialize};

use super::name::TableName;

/// Whose SQL the server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    Postgresql,
    Redshift,
}

/// What the steps of a connection look at. The catalog is read for exactly this.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CatalogQuery {
    /// The steps' own tables and the parents in their LIKE clauses.
    pub relations: BTreeSet<TableName>,
    /// Who shall own a table or hold privileges on it.
    pub accounts: BTreeSet<Account>,
}

impl CatalogQuery {
    /// Adds what another step looks at.
    pub fn extend(&mut self, other: CatalogQuery) {
        self.relations.extend(other.relations);
        self.accounts.extend(other.accounts);
    }

    /// Whether all of `other` is wanted already.
    pub fn contains(&self, other: &CatalogQuery) -> bool {
        self.relations.is_superset(&other.relations) && self.accounts.is_superset(&other.accounts)
    }
}

/// One reading of the catalog, or the part of one that a step looks at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Catalog {
    pub dialect: Dialect,
    /// Who is connected, and will own what is made.
    pub user: String,
    /// The schemas of the wanted relations; one that is missing does not exist.
    pub schemas: BTreeMap<String, Schema>,
    /// The wanted relations; one that is missing does not exist.
    pub relations: BTreeMap<TableName, Relation>,
    /// The wanted accounts that exist.
    #[serde(default)]
    pub accounts: BTreeSet<Account>,
    /// Relations that have columns and came without them: what is known of them is not the truth.
    #[serde(skip)]
    pub incomplete: BTreeSet<TableName>,
}

impl Catalog {
    /// The relation of that name. Redshift folds quoted names too, unless told otherwise on the server.
    pub fn relation(&self, name: &TableName) -> Option<&Relation> {
        let folded = || match self.dialect {
            Dialect::Redshift => self.relations.get(&name.folded()),
            Dialect::Postgresql => None,
        };
        self.relations.get(name).or_else(folded)
    }

    /// A relation that `wanted` names and whose columns the server does not show, though it has some.
    pub(super) fn unreadable(&self, wanted: &CatalogQuery) -> Option<&TableName> {
        let names = |name: &&TableName| {
            wanted.relations.contains(name) || wanted.relations.iter().any(|one| one.folded() == **name)
        };
        self.incomplete.iter().find(names)
    }

    /// Whether some relation came without its columns.
    pub(super) fn is_incomplete(&self) -> bool {
        !self.incomplete.is_empty()
    }

    /// The part of this catalog that `wanted` names.
    pub fn restrict_to(&self, wanted: &CatalogQuery) -> Catalog {
        let mut part = Catalog {
            dialect: self.dialect,
            user: self.user.clone(),
            schemas: BTreeMap::new(),
            relations: BTreeMap::new(),
            accounts: self.accounts.intersection(&wanted.accounts).cloned().collect(),
            incomplete: BTreeSet::new(),
        };
        for name in wanted.relations.iter().flat_map(|name| [name.clone(), name.folded()]) {
            if let Some(schema) = self.schemas.get(&name.schema) {
                part.schemas.insert(name.schema.clone(), *schema);
            }
            if let Some(relation) = self.relations.get(&name) {
                part.relations.insert(name, relation.clone());
            }
        }
        part
    }

    /// The schema of a relation, where it exists.
    pub fn schema(&self, name: &TableName) -> Option<&Schema> {
        self.schemas.get(&name.schema).or_else(|| self.schemas.get(&name.folded().schema))
    }
}

/// A schema, and what the connected user may do in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schema {
    pub usage: bool,
    pub create: bool,
    /// Redshift: its tables lie elsewhere (Spectrum, another database); none can be made here.
    #[serde(default)]
    pub external: bool,
}

/// A relation: a table, or what has taken a table's name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Relation {
    pub kind: RelationKind,
    pub owner: String,
    /// Who holds which privileges, by [`Account`]'s text. The owner's own are not listed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub grants: BTreeMap<String, BTreeSet<Privilege>>,
    /// In the table's own order.
    pub columns: Vec<Column>,
    /// What an INSERT meets beside the columns.
    #[serde(default, skip_serializing_if = "Inserts::is_empty")]
    pub inserts: Inserts,
    /// Redshift alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dist: Option<Dist>,
    /// Redshift alone; `None` where there is no sort key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sort: Option<Sort>,
}

/// A column: its name, its type in the catalog's spelling, and whether it takes NULL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Column {
    pub name: String,
    #[serde(rename = "type")]
    pub type_name: String,
    /// True unless given.
    pub null: bool,
}

/// A column's key. YAML takes an unquoted `null` for the null value, though it is the key's name here.
enum ColumnKey {
    Name,
    Type,
    Null,
}

impl<'de> Deserialize<'de> for ColumnKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = ColumnKey;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`name`, `type` or `null`")
            }

            fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<ColumnKey, E> {
                match key {
                    "name" => Ok(ColumnKey::Name),
                    "type" => Ok(ColumnKey::Type),
                    "null" => Ok(ColumnKey::Null),
                    other => Err(E::unknown_field(other, &["name", "type", "null"])),
                }
            }

            fn visit_unit<E>(self) -> Result<ColumnKey, E> {
                Ok(ColumnKey::Null)
            }

            fn visit_none<E>(self) -> Result<ColumnKey, E> {
                Ok(ColumnKey::Null)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl<'de> Deserialize<'de> for Column {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Column;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a column: { name: NAME, type: TYPE, null: true or false }")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Column, A::Error> {
                let (mut name, mut type_name, mut null) = (None, None, true);
                while let Some(key) = map.next_key()? {
                    match key {
                        ColumnKey::Name => name = Some(map.next_value()?),
                        ColumnKey::Type => type_name = Some(map.next_value()?),
                        ColumnKey::Null => null = map.next_value()?,
                    }
                }
                let missing = <A::Error as serde::de::Error>::missing_field;
                Ok(Column {
                    name: name.ok_or_else(|| missing("name"))?,
                    type_name: type_name.ok_or_else(|| missing("type"))?,
                    null,
                })
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

impl Column {
    /// The name as it stands in a statement.
    pub fn sql_name(&self) -> String {
        postgres_protocol::escape::escape_identifier(&self.name)
    }
}

/// What decides beside the columns' types whether rows can be inserted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Inserts {
    /// Columns that need no value, since they have a default.
    pub defaults: BTreeSet<String>,
    /// Columns that take no value, since the server makes it.
    pub computed: BTreeMap<String, Computed>,
    /// PostgreSQL alone: constraints, triggers, rules and row-level security that rows have to pass, in the server's words.
    pub guards: BTreeSet<String>,
}

impl Inserts {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// How the server makes a column's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Computed {
    Identity,
    Generated,
}

/// `pg_class.relkind`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RelationKind {
    Table,
    PartitionedTable,
    View,
    MaterializedView,
    ForeignTable,
    Index,
    Sequence,
    CompositeType,
    /// A type that is no relation, and has the name that a table's row type would have.
    Type,
    Other(String),
}

impl RelationKind {
    pub(super) fn from_relkind(relkind: &str) -> Self {
        match relkind {
            "r" => Self::Table,
            "p" => Self::PartitionedTable,
            "v" => Self::View,
            "m" => Self::MaterializedView,
            "f" => Self::ForeignTable,
            "i" | "I" => Self::Index,
            "S" => Self::Sequence,
            "c" => Self::CompositeType,
            other => Self::Other(other.to_owned()),
        }
    }

    /// Whether rows can be inserted into it as into any table.
    pub fn is_table(&self) -> bool {
        matches!(self, Self::Table | Self::PartitionedTable)
    }
}

impl fmt::Display for RelationKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Table => "a table",
            Self::PartitionedTable => "a partitioned table",
            Self::View => "a view",
            Self::MaterializedView => "a materialized view",
            Self::ForeignTable => "an external (foreign) table",
            Self::Index => "an index",
            Self::Sequence => "a sequence",
            Self::CompositeType => "a composite type",
            Self::Type => "a type",
            Self::Other(relkind) => return write!(f, "a relation of kind `{relkind}`"),
        })
    }
}

/// How Redshift spreads a table's rows over its slices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "style", rename_all = "snake_case")]
pub enum Dist {
    Even,
    /// By the values of this column.
    Key {
        column: String,
    },
    All,
    /// Redshift decides, and changes its mind by itself.
    Auto,
    /// A `reldiststyle` that the documentation does not name.
    Other {
        number: i64,
    },
}

impl fmt::Display for Dist {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Even => f.write_str("DISTSTYLE EVEN"),
            Self::Key { column } => write!(f, "DISTSTYLE KEY DISTKEY ({column})"),
            Self::All => f.write_str("DISTSTYLE ALL"),
            Self::Auto => f.write_str("DISTSTYLE AUTO"),
            Self::Other { number } => write!(f, "an unknown dist style ({number})"),
        }
    }
}

/// The columns by which Redshift keeps a table sorted, the first first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sort {
    pub columns: Vec<String>,
    #[serde(default)]
    pub interleaved: bool,
}

impl fmt::Display for Sort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let style = if self.interleaved { "INTERLEAVED " } else { "" };
        write!(f, "{style}SORTKEY ({})", self.columns.join(", "))
    }
}

/// A privilege on a table that PostgreSQL and Redshift spell alike in an access list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Privilege {
    Select,
    Insert,
    Update,
    Delete,
    References,
}

impl Privilege {
    /// From the letter in an access list (`aclitem`); the others' meanings differ between the servers.
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

    /// From the word in `svv_relation_privileges`.
    pub(super) fn from_word(word: &str) -> Option<Self> {
        [Self::Select, Self::Insert, Self::Update, Self::Delete, Self::References]
            .into_iter()
            .find(|privilege| privilege.to_string().eq_ignore_ascii_case(word))
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

/// Who holds privileges. A plan file writes a user as `dbt`, the others as `{ group: etl }`, `{ role: loader }`, and
/// everybody as `public`. PostgreSQL knows roles alone and takes the three for one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Account {
    Public,
    User(String),
    Group(String),
    Role(String),
}

impl Account {
    /// The name, bare of its sort.
    pub fn name(&self) -> &str {
        match self {
            Self::Public => "public",
            Self::User(name) | Self::Group(name) | Self::Role(name) => name,
        }
    }

    /// As it stands in [`Relation::grants`].
    pub fn held_as(&self, dialect: Dialect) -> String {
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

/// The written form of an account that is no plain user.
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
                    "" => Err(E::custom("an account's name is empty")),
                    "public" => Ok(Account::Public),
                    name => Ok(Account::User(name.to_owned())),
                }
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Account, A::Error> {
                // A map with one key is how serde writes an enum's variant.
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
