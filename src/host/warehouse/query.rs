//! The SQL queries on the catalog, and the conversion of their answers into a [`Catalog`].
//!
//! All statements are sent as one simple query, so that one round trip returns everything. They do not filter on
//! `relkind`, because anything with the name of a table matters. `pg_table_def` and `svv_table_info` are not used,
//! because both silently omit tables.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use postgres_protocol::escape::escape_literal;
use tokio_postgres::{SimpleQueryMessage, SimpleQueryRow};

use super::acl;
use super::catalog::{
    Account, Catalog, CatalogQuery, Column, Computed, Dialect, Dist, Family, Inserts, Relation, RelationKind, Schema,
    Sort,
};
use super::name::TableName;

/// More columns than these are not read for the families of one query.
const MAX_FAMILY_COLUMNS: usize = 300_000;

/// Returns the statements for the query, in the order in which [`decode`] expects their answers.
pub(super) fn statements(query: &CatalogQuery, dialect: Dialect) -> Vec<String> {
    let families = || query.families.iter().flat_map(|family| [family.clone(), family.folded()]);
    let schemas = list(names(query).map(|name| name.schema.clone()).chain(families().map(|family| family.schema)));
    let tables = list(names(query).map(|name| name.name.clone()));
    let accounts = list(query.accounts.iter().map(|account| account.name().to_owned()));
    let in_families = list_of(families().map(|family| in_family(&family)));
    let relation = format!(
        "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE ((n.nspname IN ({schemas}) AND c.relname IN ({tables})){in_families})"
    );
    let limit = if query.families.is_empty() { String::new() } else { format!(" LIMIT {}", MAX_FAMILY_COLUMNS + 1) };
    let (style, keys) = match dialect {
        Dialect::Redshift => ("c.reldiststyle", "a.attisdistkey, a.attsortkeyord"),
        Dialect::Postgresql => ("NULL", "NULL, NULL"),
    };
    // Redshift stores an identity column as a default that calls a function of that name.
    let (value, defaults) = match dialect {
        Dialect::Redshift => (
            "CASE WHEN pg_get_expr(d.adbin, d.adrelid) LIKE '\"identity\"(%' THEN 'identity' \
             WHEN d.adrelid IS NOT NULL THEN 'default' END",
            "LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum",
        ),
        Dialect::Postgresql => (
            "CASE WHEN a.attidentity = 'a' THEN 'identity' WHEN a.attgenerated <> '' THEN 'generated' \
             WHEN a.atthasdef OR a.attidentity = 'd' THEN 'default' END",
            "",
        ),
    };
    let mut statements = vec![
        "SELECT version(), current_user".to_owned(),
        format!(
            "SELECT nspname, has_schema_privilege(nspname, 'USAGE'), has_schema_privilege(nspname, 'CREATE') \
             FROM pg_namespace WHERE nspname IN ({schemas})"
        ),
        format!(
            "SELECT c.oid, n.nspname, c.relname, c.relkind, pg_get_userbyid(c.relowner), \
             array_to_string(c.relacl, ','), c.relnatts, {style} {relation}"
        ),
        format!(
            "SELECT a.attrelid, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, {keys}, {value} \
             FROM pg_attribute a {defaults} WHERE a.attnum > 0 AND NOT a.attisdropped \
             AND a.attrelid IN (SELECT c.oid {relation}) ORDER BY a.attrelid, a.attnum{limit}"
        ),
    ];
    match dialect {
        Dialect::Postgresql => {
            statements.push(format!("SELECT 'role', rolname FROM pg_roles WHERE rolname IN ({accounts})"));
            let relations = format!("(SELECT c.oid {relation})");
            // Constraints and the like that rows have to pass. A partitioned table without partitions rejects all rows.
            statements.push(format!(
                "SELECT conrelid, pg_get_constraintdef(oid) FROM pg_constraint \
                 WHERE contype IN ('c', 'f', 'p', 'u', 'x') AND conrelid IN {relations} \
                 UNION ALL SELECT tgrelid, 'TRIGGER ' || tgname FROM pg_trigger \
                 WHERE NOT tgisinternal AND tgenabled <> 'D' AND tgtype & 4 <> 0 AND tgrelid IN {relations} \
                 UNION ALL SELECT ev_class, 'RULE ' || rulename || ' for INSERT' FROM pg_rewrite \
                 WHERE ev_type = '3' AND ev_enabled <> 'D' AND ev_class IN {relations} \
                 UNION ALL SELECT oid, 'row-level security' FROM pg_class WHERE relrowsecurity AND oid IN {relations} \
                 UNION ALL SELECT p.partrelid, 'no partition' FROM pg_partitioned_table p \
                 WHERE p.partrelid IN {relations} AND NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = p.partrelid)"
            ));
            // A table's row type has the name of the table. Array types are renamed automatically.
            statements.push(format!(
                "SELECT n.nspname, t.typname, pg_get_userbyid(t.typowner) FROM pg_type t \
                 JOIN pg_namespace n ON n.oid = t.typnamespace WHERE t.typrelid = 0 AND t.typcategory <> 'A' \
                 AND n.nspname IN ({schemas}) AND t.typname IN ({tables})"
            ));
        }
        Dialect::Redshift => {
            statements.push(format!(
                "SELECT 'user', usename FROM pg_user WHERE usename IN ({accounts}) \
                 UNION ALL SELECT 'group', groname FROM pg_group WHERE groname IN ({accounts})"
            ));
            statements.push(format!("SELECT schemaname FROM svv_external_schemas WHERE schemaname IN ({schemas})"));
            // Only queried if a plan file has roles, because access lists do not contain them.
            if query.accounts.iter().any(|account| matches!(account, Account::Role(_))) {
                statements.push(format!("SELECT role_name FROM svv_roles WHERE role_name IN ({accounts})"));
                statements.push(format!(
                    "SELECT namespace_name, relation_name, privilege_type, identity_name FROM svv_relation_privileges \
                     WHERE identity_type = 'role' AND namespace_name IN ({schemas}) AND relation_name IN ({tables}) \
                     AND identity_name IN ({accounts})"
                ));
            }
        }
    }
    statements
}

/// The condition for the relations of a family, which may match others as well.
fn in_family(family: &Family) -> String {
    let part = |text: &str| text.replace(['%', '\\'], "_");
    let (schema, pattern) = (&family.schema, format!("{}%{}", part(&family.before), part(&family.after)));
    format!(
        " OR (n.nspname = {} AND c.relname LIKE {} AND c.relkind IN ('r', 'p', 'v', 'm', 'f'))",
        escape_literal(schema),
        escape_literal(&pattern)
    )
}

fn list_of(conditions: impl Iterator<Item = String>) -> String {
    conditions.collect::<BTreeSet<String>>().into_iter().collect()
}

/// Returns the names to query: as written, and as Redshift would fold them.
fn names(query: &CatalogQuery) -> impl Iterator<Item = TableName> {
    query.relations.iter().flat_map(|name| [name.clone(), name.folded()])
}

fn list(values: impl Iterator<Item = String>) -> String {
    let values: BTreeSet<String> = values.map(|value| escape_literal(&value)).collect();
    // An empty list is not valid SQL. `IN (NULL)` matches nothing.
    if values.is_empty() { "NULL".into() } else { values.into_iter().collect::<Vec<_>>().join(", ") }
}

/// An incomplete answer, which has to be queried again.
#[derive(Debug, PartialEq)]
pub(super) struct Incomplete(pub String);

/// Returns the rows of each statement, in order.
pub(super) fn results(messages: Vec<SimpleQueryMessage>) -> Vec<Vec<SimpleQueryRow>> {
    let mut results = Vec::new();
    let mut rows = Vec::new();
    for message in messages {
        match message {
            SimpleQueryMessage::Row(row) => rows.push(row),
            SimpleQueryMessage::CommandComplete(_) => results.push(std::mem::take(&mut rows)),
            _ => {}
        }
    }
    results
}

/// Returns the dialect for a version text.
pub(super) fn dialect_of(version: &str) -> Dialect {
    if version.contains("Redshift") { Dialect::Redshift } else { Dialect::Postgresql }
}

/// Converts the answers to [`statements`], one list of rows for each.
pub(super) fn decode(
    query: &CatalogQuery,
    dialect: Dialect,
    results: &[Vec<SimpleQueryRow>],
) -> Result<Catalog, Incomplete> {
    let rows = |at: usize| results.get(at).map(Vec::as_slice).unwrap_or_default();
    let queried: BTreeSet<TableName> = names(query).collect();
    let user = rows(0).first().and_then(|row| field(row, 1)).unwrap_or_default().to_owned();
    let (schemas, relations) = (BTreeMap::new(), BTreeMap::new());
    let (accounts_found, incomplete) = (BTreeSet::new(), BTreeSet::new());
    let is_cut = rows(3).len() > MAX_FAMILY_COLUMNS;
    let mut catalog = Catalog { dialect, user, schemas, relations, accounts: accounts_found, incomplete, is_cut };
    // The remaining queries differ by dialect.
    let (external, roles, role_grants, passes, types) = match dialect {
        Dialect::Redshift => (rows(5), rows(6), rows(7), rows(usize::MAX), rows(usize::MAX)),
        Dialect::Postgresql => (rows(usize::MAX), rows(usize::MAX), rows(usize::MAX), rows(5), rows(6)),
    };
    let external: BTreeSet<&str> = external.iter().filter_map(|row| field(row, 0)).collect();
    let mut guards: HashMap<&str, BTreeSet<String>> = HashMap::new();
    for row in passes {
        guards.entry(text(row, 0)?).or_default().insert(text(row, 1)?.to_owned());
    }
    for row in rows(1) {
        let name = text(row, 0)?;
        let schema = Schema { usage: flag(row, 1), create: flag(row, 2), external: external.contains(name) };
        catalog.schemas.insert(name.to_owned(), schema);
    }
    let mut columns = columns(rows(3))?;
    for row in rows(2) {
        let name = TableName::new(text(row, 1)?, text(row, 2)?);
        // Two IN lists also match pairs that were not queried.
        if !queried.contains(&name) && !query.has_in_family(&name) {
            continue;
        }
        let found = columns.remove(text(row, 0)?).unwrap_or_default();
        let kind = RelationKind::from_relkind(text(row, 3)?);
        // In PostgreSQL the last column of a table can be dropped, and Redshift shows no columns of a late-binding
        // view.
        if dialect == Dialect::Redshift && kind.is_table() && found.columns.is_empty() && text(row, 6)? != "0" {
            catalog.incomplete.insert(name.clone());
        }
        let guards = guards.remove(text(row, 0)?).unwrap_or_default();
        let relation = Relation {
            kind,
            inserts: Inserts { defaults: found.defaults.clone(), computed: found.computed.clone(), guards },
            owner: text(row, 4)?.to_owned(),
            grants: field(row, 5).map(|list| acl::read(list, field(row, 4).unwrap_or_default())).unwrap_or_default(),
            sort: found.sort_key(),
            dist: field(row, 7).map(|style| dist(style, found.dist_key)),
            columns: found.columns,
        };
        catalog.relations.insert(name, relation);
    }
    for row in types {
        let name = TableName::new(text(row, 0)?, text(row, 1)?);
        if queried.contains(&name) {
            let owner = text(row, 2)?.to_owned();
            catalog.relations.entry(name).or_insert_with(|| Relation {
                kind: RelationKind::Type,
                owner,
                grants: BTreeMap::new(),
                columns: Vec::new(),
                inserts: Inserts::default(),
                dist: None,
                sort: None,
            });
        }
    }
    for row in rows(4) {
        catalog.accounts.extend(accounts(query, text(row, 0)?, text(row, 1)?));
    }
    for row in roles {
        catalog.accounts.extend(accounts(query, "role", text(row, 0)?));
    }
    for row in role_grants {
        let name = TableName::new(text(row, 0)?, text(row, 1)?);
        let held = super::catalog::Privilege::from_word(text(row, 2)?);
        if let (Some(relation), Some(privilege)) = (catalog.relations.get_mut(&name), held) {
            let role = Account::Role(text(row, 3)?.to_owned());
            relation.grants.entry(role.to_string()).or_default().insert(privilege);
        }
    }
    if query.accounts.contains(&Account::Public) {
        catalog.accounts.insert(Account::Public);
    }
    Ok(catalog)
}

/// Returns the queried accounts that a row proves to exist. PostgreSQL's roles stand for all three types.
fn accounts<'a>(query: &'a CatalogQuery, sort: &'a str, name: &'a str) -> impl Iterator<Item = Account> + 'a {
    let everything = !query.accounts.is_empty() && sort == "role";
    query
        .accounts
        .iter()
        .filter(move |account| {
            account.name() == name
                && match account {
                    Account::Public => false,
                    Account::User(_) => sort == "user" || everything,
                    Account::Group(_) => sort == "group" || everything,
                    Account::Role(_) => sort == "role",
                }
        })
        .cloned()
}

/// The columns of a relation, with the details that Redshift stores with them.
#[derive(Default)]
struct Columns {
    columns: Vec<Column>,
    dist_key: Option<String>,
    /// The position in the sort key, and the column. In an interleaved key the positions alternate in sign.
    sort: Vec<(i64, String)>,
    defaults: BTreeSet<String>,
    computed: BTreeMap<String, Computed>,
}

impl Columns {
    fn sort_key(&self) -> Option<Sort> {
        let mut sort = self.sort.clone();
        sort.sort_by_key(|(position, _)| position.abs());
        let interleaved = sort.iter().any(|(position, _)| *position < 0);
        let columns: Vec<_> = sort.into_iter().map(|(_, column)| column).collect();
        (!columns.is_empty()).then_some(Sort { columns, interleaved })
    }
}

fn columns(rows: &[SimpleQueryRow]) -> Result<HashMap<&str, Columns>, Incomplete> {
    let mut columns: HashMap<&str, Columns> = HashMap::new();
    for row in rows {
        let entry = columns.entry(text(row, 0)?).or_default();
        let name = text(row, 1)?.to_owned();
        if flag(row, 4) {
            entry.dist_key = Some(name.clone());
        }
        let position = field(row, 5).and_then(|position| position.parse().ok()).unwrap_or(0);
        if position != 0 {
            entry.sort.push((position, name.clone()));
        }
        match field(row, 6) {
            Some("identity") => drop(entry.computed.insert(name.clone(), Computed::Identity)),
            Some("generated") => drop(entry.computed.insert(name.clone(), Computed::Generated)),
            Some(_) => drop(entry.defaults.insert(name.clone())),
            None => {}
        }
        entry.columns.push(Column { name, type_name: text(row, 2)?.to_owned(), null: !flag(row, 3) });
    }
    Ok(columns)
}

/// Converts `pg_class.reldiststyle`. 10 to 12 mean AUTO with its current choice.
fn dist(style: &str, key: Option<String>) -> Dist {
    match (style, key) {
        ("0", _) => Dist::Even,
        ("1", Some(column)) => Dist::Key { column },
        ("8", _) => Dist::All,
        ("9" | "10" | "11" | "12", _) => Dist::Auto,
        (other, _) => Dist::Other { number: other.parse().unwrap_or(-1) },
    }
}

fn text(row: &SimpleQueryRow, at: usize) -> Result<&str, Incomplete> {
    field(row, at).ok_or_else(|| Incomplete(format!("field {at} of a catalog row is empty")))
}

fn flag(row: &SimpleQueryRow, at: usize) -> bool {
    field(row, at) == Some("t")
}

/// Returns a field that may be NULL. A missing field counts as NULL.
fn field(row: &SimpleQueryRow, at: usize) -> Option<&str> {
    row.try_get(at).ok().flatten()
}
