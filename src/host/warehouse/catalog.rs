//! The part of the database catalog that the selected steps need.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::{Deserialize, Deserializer, Serialize};

use super::name::TableName;

/// The SQL dialect of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    Postgresql,
    Redshift,
}

/// What the steps of a connection need from the catalog. Exactly this is read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CatalogQuery {
    /// The tables of the steps and the parents in their LIKE clauses.
    pub relations: BTreeSet<TableName>,
    /// The accounts that should own a table or have privileges on it.
    pub accounts: BTreeSet<Account>,
    /// Relations that are found by a part of their names.
    pub families: BTreeSet<Family>,
}

/// The tables and views of a schema whose names begin and end in a given way: all of them where both are empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Family {
    pub schema: String,
    pub before: String,
    pub after: String,
}

impl Family {
    /// Every table and view of a schema.
    pub fn whole(schema: &str) -> Self {
        Self { schema: schema.to_owned(), before: String::new(), after: String::new() }
    }

    /// The part of a relation's name between the two, where it belongs to the family.
    pub fn middle<'a>(&self, name: &'a TableName) -> Option<&'a str> {
        let rest = name.name.strip_prefix(&self.before).filter(|_| name.schema == self.schema)?;
        rest.strip_suffix(&self.after)
    }

    /// The family as Redshift stores its names.
    pub fn folded(&self) -> Self {
        let Self { schema, before, after } = self;
        Self { schema: schema.to_lowercase(), before: before.to_lowercase(), after: after.to_lowercase() }
    }

    /// Whether a relation belongs to it, as written or folded.
    fn has(&self, name: &TableName) -> bool {
        self.middle(name).is_some() || self.folded().middle(name).is_some()
    }
}

impl CatalogQuery {
    /// Adds what another step needs.
    pub fn extend(&mut self, other: CatalogQuery) {
        self.relations.extend(other.relations);
        self.accounts.extend(other.accounts);
        self.families.extend(other.families);
    }

    /// Returns whether all of `other` is included already.
    pub fn contains(&self, other: &CatalogQuery) -> bool {
        self.relations.is_superset(&other.relations)
            && self.accounts.is_superset(&other.accounts)
            && self.families.is_superset(&other.families)
    }

    /// Whether a relation belongs to one of the families.
    pub(super) fn has_in_family(&self, name: &TableName) -> bool {
        self.families.iter().any(|family| family.has(name))
    }
}

/// A snapshot of the catalog, or the part of it that a step needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Catalog {
    pub dialect: Dialect,
    /// The connected user, who owns new tables.
    pub user: String,
    /// The schemas of the queried relations. A missing entry does not exist.
    pub schemas: BTreeMap<String, Schema>,
    /// The queried relations. A missing entry does not exist.
    pub relations: BTreeMap<TableName, Relation>,
    /// The queried accounts that exist.
    #[serde(default)]
    pub accounts: BTreeSet<Account>,
    /// Relations that have columns but were returned without them. Their state is not known.
    #[serde(skip)]
    pub incomplete: BTreeSet<TableName>,
    /// The families have more columns than are read: what is known of them is not all.
    #[serde(skip)]
    pub is_cut: bool,
}

impl Catalog {
    /// Returns the relation with this name. Redshift also folds quoted names, unless configured otherwise on the
    /// server.
    pub fn relation(&self, name: &TableName) -> Option<&Relation> {
        let folded = || match self.dialect {
            Dialect::Redshift => self.relations.get(&name.folded()),
            Dialect::Postgresql => None,
        };
        self.relations.get(name).or_else(folded)
    }

    /// Returns a queried relation whose columns the server did not return although it has some.
    pub(super) fn unreadable(&self, query: &CatalogQuery) -> Option<&TableName> {
        let names = |name: &&TableName| {
            query.relations.contains(name) || query.relations.iter().any(|one| one.folded() == **name)
        };
        self.incomplete.iter().find(names)
    }

    /// Returns whether any relation was returned without its columns.
    pub(super) fn is_incomplete(&self) -> bool {
        !self.incomplete.is_empty()
    }

    /// Returns the part of this catalog that the query names.
    pub fn restrict_to(&self, query: &CatalogQuery) -> Catalog {
        let mut part = Catalog {
            dialect: self.dialect,
            user: self.user.clone(),
            schemas: BTreeMap::new(),
            relations: BTreeMap::new(),
            accounts: self.accounts.intersection(&query.accounts).cloned().collect(),
            incomplete: BTreeSet::new(),
            is_cut: self.is_cut,
        };
        let in_family = self.relations.iter().filter(|(name, _)| query.has_in_family(name));
        part.relations.extend(in_family.map(|(name, relation)| (name.clone(), relation.clone())));
        let schemas = query.families.iter().flat_map(|family| [family.schema.clone(), family.folded().schema]);
        part.schemas.extend(schemas.filter_map(|name| self.schemas.get(&name).map(|found| (name, *found))));
        for name in query.relations.iter().flat_map(|name| [name.clone(), name.folded()]) {
            if let Some(schema) = self.schemas.get(&name.schema) {
                part.schemas.insert(name.schema.clone(), *schema);
            }
            if let Some(relation) = self.relations.get(&name) {
                part.relations.insert(name, relation.clone());
            }
        }
        part
    }

    /// Returns the schema of a relation, if it exists.
    pub fn schema(&self, name: &TableName) -> Option<&Schema> {
        self.schemas.get(&name.schema).or_else(|| self.schemas.get(&name.folded().schema))
    }
}

/// A schema, and the connected user's privileges on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schema {
    pub usage: bool,
    pub create: bool,
    /// Redshift: its tables are stored elsewhere (Spectrum, another database), and none can be created in it.
    #[serde(default)]
    pub external: bool,
}

/// A relation: a table, or something else with the name of a table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Relation {
    pub kind: RelationKind,
    pub owner: String,
    /// The privileges by the text of an [`Account`]. The owner's own privileges are not listed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub grants: BTreeMap<String, BTreeSet<Privilege>>,
    /// In the order of the table.
    pub columns: Vec<Column>,
    /// What affects an INSERT apart from the columns.
    #[serde(default, skip_serializing_if = "Inserts::is_empty")]
    pub inserts: Inserts,
    /// Only on Redshift.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dist: Option<Dist>,
    /// Only on Redshift. `None` if there is no sort key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sort: Option<Sort>,
}

/// A column: its name, its type as spelled in the catalog, and whether it allows NULL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Column {
    pub name: String,
    #[serde(rename = "type")]
    pub type_name: String,
    /// Defaults to true.
    pub null: bool,
}

/// A key of a column. YAML parses an unquoted `null` as the null value, but here it is the name of a key.
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
    /// Returns the name quoted for a statement.
    pub fn sql_name(&self) -> String {
        postgres_protocol::escape::escape_identifier(&self.name)
    }
}

/// What decides, apart from the types of the columns, whether rows can be inserted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Inserts {
    /// Columns with a default, which need no value.
    pub defaults: BTreeSet<String>,
    /// Columns whose values the server computes, which accept no value.
    pub computed: BTreeMap<String, Computed>,
    /// Only on PostgreSQL: constraints, triggers, rules and row-level security that apply to rows, in the server's
    /// notation.
    pub guards: BTreeSet<String>,
}

impl Inserts {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// How the server computes a column's values.
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
    /// A type without a relation that has the name of a table's row type.
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

    /// Returns whether rows can be inserted as into an ordinary table.
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

/// How Redshift distributes a table's rows over its slices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "style", rename_all = "snake_case")]
pub enum Dist {
    Even,
    /// By the values of this column.
    Key {
        column: String,
    },
    All,
    /// Redshift chooses, and may change its choice.
    Auto,
    /// A `reldiststyle` that is not documented.
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

/// The columns of a Redshift sort key, in order.
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

/// A privilege on a table with the same letter in the access lists of PostgreSQL and Redshift.
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

    /// Returns the privilege for a word in `svv_relation_privileges`.
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
                    "public" => Ok(Account::Public),
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
