//! The part of the database catalog that the selected steps need.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::account::{Account, Inheritance, Privilege, Rights};
use super::column::Column;
use super::dialect::Dialect;
use super::layout::{Dist, Sort};
use super::name::{TableName, fold};
use super::union_view::Branch;

/// What the steps of a connection need from the catalog. Exactly this is read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CatalogQuery {
    /// The tables of the steps and the parents in their LIKE clauses.
    pub relations: BTreeSet<TableName>,
    /// The accounts that should own a table or have privileges on it.
    pub accounts: BTreeSet<Account>,
    /// Those of the relations that have to exist already: parents.
    pub expected: BTreeSet<TableName>,
    /// Relations that are found by a part of their names.
    pub families: BTreeSet<Family>,
    /// Whether to read the definitions of views, and what uses the columns of tables.
    pub views: bool,
    /// The names of types that are not built in, for SQL.
    pub types: BTreeSet<String>,
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
        Self { schema: fold(schema), before: fold(before), after: fold(after) }
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
        self.expected.extend(other.expected);
        self.families.extend(other.families);
        self.views |= other.views;
        self.types.extend(other.types);
    }

    /// Returns whether all of `other` is included already.
    pub fn contains(&self, other: &CatalogQuery) -> bool {
        self.relations.is_superset(&other.relations)
            && self.accounts.is_superset(&other.accounts)
            && self.expected.is_superset(&other.expected)
            && self.families.is_superset(&other.families)
            && (self.views || !other.views)
            && self.types.is_superset(&other.types)
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
    /// The queried accounts to which the connected user may give a table. `None` if the server does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub possible_owners: Option<BTreeSet<String>>,
    /// Only on PostgreSQL: what gives the rights of a role to the connected user.
    #[serde(default, skip_serializing_if = "Inheritance::is_default")]
    pub inheritance: Inheritance,
    /// The queried types that exist, each with its qualified name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub types: BTreeMap<String, String>,
    /// Why the server accepts no changes, if it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_only: Option<ReadOnly>,
    /// Whether the encoding of the database has one byte per letter. Such a server folds names by its locale.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub single_byte: bool,
    /// For names that do not exist: the existing name that is most like each.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub near: BTreeMap<String, String>,
    /// Relations that have columns but were returned without them. Their state is not known.
    #[serde(skip)]
    pub incomplete: BTreeSet<TableName>,
    /// The families have more columns than are read: what is known of them is not all.
    #[serde(skip)]
    pub is_cut: bool,
}

/// Why a server accepts no changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReadOnly {
    /// A hot standby.
    Standby,
    /// `default_transaction_read_only` is on. The text is the remedy: the statement that turns it off, if one can.
    Setting(String),
}

impl Catalog {
    /// Returns a catalog without content.
    pub fn empty(dialect: Dialect, user: String) -> Self {
        Self {
            dialect,
            user,
            schemas: BTreeMap::new(),
            relations: BTreeMap::new(),
            accounts: BTreeSet::new(),
            possible_owners: None,
            inheritance: Inheritance::default(),
            types: BTreeMap::new(),
            read_only: None,
            single_byte: false,
            near: BTreeMap::new(),
            incomplete: BTreeSet::new(),
            is_cut: false,
        }
    }

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
        let own = |(name, spelling): (&String, &String)| (name.clone(), spelling.clone());
        let mut part = Catalog {
            accounts: self.accounts.intersection(&query.accounts).cloned().collect(),
            possible_owners: self.possible_owners.clone(),
            inheritance: self.inheritance,
            types: self.types.iter().filter(|(name, _)| query.types.contains(*name)).map(own).collect(),
            read_only: self.read_only.clone(),
            single_byte: self.single_byte,
            near: self.near.clone(),
            is_cut: self.is_cut,
            ..Catalog::empty(self.dialect, self.user.clone())
        };
        let in_family = self.relations.iter().filter(|(name, _)| query.has_in_family(name));
        part.relations.extend(in_family.map(|(name, relation)| (name.clone(), relation.clone())));
        let schemas = query.families.iter().flat_map(|family| [family.schema.clone(), family.folded().schema]);
        part.schemas.extend(schemas.filter_map(|name| self.schemas.get(&name).map(|found| (name, found.clone()))));
        for name in query.relations.iter().flat_map(|name| [name.clone(), name.folded()]) {
            if let Some(schema) = self.schemas.get(&name.schema) {
                part.schemas.insert(name.schema.clone(), schema.clone());
            }
            if let Some(relation) = self.relations.get(&name) {
                part.relations.insert(name, relation.clone());
            }
        }
        part
    }

    /// Returns the names that have to exist and do not: relations, schemas and accounts.
    pub(super) fn missing(&self, query: &CatalogQuery) -> Missing {
        let schemas = query.relations.iter().filter(|name| self.schema(name).is_none());
        Missing {
            schemas: schemas.map(|name| name.schema.clone()).collect(),
            relations: query.expected.iter().filter(|name| self.relation(name).is_none()).cloned().collect(),
            accounts: query.accounts.difference(&self.accounts).map(|account| account.name().to_owned()).collect(),
        }
    }

    /// Returns "did you mean …?" for a name that does not exist, if there is one like it.
    pub fn did_you_mean(&self, name: &str) -> Option<String> {
        self.near.get(name).map(|near| format!("did you mean {near}?"))
    }

    /// Returns the schema of a relation, if it exists. Redshift also folds quoted names.
    pub fn schema(&self, name: &TableName) -> Option<&Schema> {
        self.schemas.get(&name.schema).or_else(|| self.schemas.get(&self.dialect.comparable(&name.schema)))
    }
}

/// Names that have to exist and do not.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Missing {
    pub schemas: BTreeSet<String>,
    pub relations: BTreeSet<TableName>,
    pub accounts: BTreeSet<String>,
}

impl Missing {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A schema, and the connected user's privileges on it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schema {
    pub usage: bool,
    pub create: bool,
    /// Redshift: its tables are stored elsewhere (Spectrum, another database), and none can be created in it.
    #[serde(default)]
    pub external: bool,
    /// The queried accounts with the USAGE privilege, by [`Account::grant_key`]. `None` if the server does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage_by: Option<BTreeSet<String>>,
    /// The same for CREATE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create_by: Option<BTreeSet<String>>,
}

/// A relation: a table, or something else with the name of a table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Relation {
    pub kind: RelationKind,
    pub owner: String,
    /// The connected user's rights on it, where they are limited.
    #[serde(default, skip_serializing_if = "Rights::are_full")]
    pub rights: Rights,
    /// The privileges by the text of an [`Account`]. The owner's own privileges are not listed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub grants: BTreeMap<String, BTreeSet<Privilege>>,
    /// In the order of the table.
    pub columns: Vec<Column>,
    /// What affects an INSERT apart from the columns.
    #[serde(default, skip_serializing_if = "Inserts::is_empty")]
    pub inserts: Inserts,
    /// The tables and columns of a view that is only a UNION ALL of tables. `None` if definitions were not read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub union: Option<Vec<Branch>>,
    /// Only on PostgreSQL, of a partition: the root of the partition tree. Columns can be added or changed only there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition_of: Option<TableName>,
    /// Only on PostgreSQL: the options of a view, such as `security_barrier`. Empty if definitions were not read.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
    /// Only on PostgreSQL: what prevents the types of columns from being altered, as DROP names it (`VIEW a.b`), and what reads that,
    /// in the order in which all of it can be dropped.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub used_by: BTreeMap<String, Vec<String>>,
    /// Only of a view on PostgreSQL: the same for what prevents the view from being dropped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub read_by: Vec<String>,
    /// Only on Redshift.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dist: Option<Dist>,
    /// Only on Redshift. `None` if there is no sort key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sort: Option<Sort>,
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
