//! The catalog's SQL, and its answers made into a [`Catalog`].
//!
//! All of it is sent as one simple query of several statements, so that one round trip brings everything. Nothing is
//! filtered on `relkind`: what has taken a table's name has to be seen. `pg_table_def` and `svv_table_info` are not used:
//! both leave out tables without saying so.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use postgres_protocol::escape::escape_literal;
use tokio_postgres::{SimpleQueryMessage, SimpleQueryRow};

use super::acl;
use super::catalog::{
    Account, Catalog, CatalogQuery, Column, Computed, Dialect, Dist, Inserts, Relation, RelationKind, Schema, Sort,
};
use super::name::TableName;

/// The statements that read what is wanted, in the order in which [`decode`] takes their answers.
pub(super) fn statements(wanted: &CatalogQuery, dialect: Dialect) -> Vec<String> {
    let schemas = list(names(wanted).map(|name| name.schema.clone()));
    let tables = list(names(wanted).map(|name| name.name.clone()));
    let accounts = list(wanted.accounts.iter().map(|account| account.name().to_owned()));
    let relation = format!(
        "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE n.nspname IN ({schemas}) AND c.relname IN ({tables})"
    );
    let (style, keys) = match dialect {
        Dialect::Redshift => ("c.reldiststyle", "a.attisdistkey, a.attsortkeyord"),
        Dialect::Postgresql => ("NULL", "NULL, NULL"),
    };
    // Redshift keeps an identity column as a default that calls a function of that name.
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
             AND a.attrelid IN (SELECT c.oid {relation}) ORDER BY a.attrelid, a.attnum"
        ),
    ];
    match dialect {
        Dialect::Postgresql => {
            statements.push(format!("SELECT 'role', rolname FROM pg_roles WHERE rolname IN ({accounts})"));
            let relations = format!("(SELECT c.oid {relation})");
            // Rows have to pass these, and those with no partition to go to are refused.
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
            // A table's row type has the table's name. Array types make way by themselves.
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
            // Asked for only where a plan file has roles: access lists do not show them.
            if wanted.accounts.iter().any(|account| matches!(account, Account::Role(_))) {
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

/// The names to ask for: as written, and as Redshift would have folded them.
fn names(wanted: &CatalogQuery) -> impl Iterator<Item = TableName> {
    wanted.relations.iter().flat_map(|name| [name.clone(), name.folded()])
}

fn list(values: impl Iterator<Item = String>) -> String {
    let values: BTreeSet<String> = values.map(|value| escape_literal(&value)).collect();
    // An empty list is no SQL, and NULL is IN nothing.
    if values.is_empty() { "NULL".into() } else { values.into_iter().collect::<Vec<_>>().join(", ") }
}

/// An answer that cannot be the whole truth; it is asked for again.
#[derive(Debug, PartialEq)]
pub(super) struct Incomplete(pub String);

/// The rows of each statement, in order.
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

/// Whose version text that is.
pub(super) fn dialect_of(version: &str) -> Dialect {
    if version.contains("Redshift") { Dialect::Redshift } else { Dialect::Postgresql }
}

/// The answers to [`statements`], one list of rows for each.
pub(super) fn decode(
    wanted: &CatalogQuery,
    dialect: Dialect,
    results: &[Vec<SimpleQueryRow>],
) -> Result<Catalog, Incomplete> {
    let rows = |at: usize| results.get(at).map(Vec::as_slice).unwrap_or_default();
    let is_wanted: BTreeSet<TableName> = names(wanted).collect();
    let user = rows(0).first().and_then(|row| field(row, 1)).unwrap_or_default().to_owned();
    let (schemas, relations) = (BTreeMap::new(), BTreeMap::new());
    let (accounts_found, incomplete) = (BTreeSet::new(), BTreeSet::new());
    let mut catalog = Catalog { dialect, user, schemas, relations, accounts: accounts_found, incomplete };
    // From here on the questions differ.
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
        // Two lists also find the pairs that nobody asked for.
        if !is_wanted.contains(&name) {
            continue;
        }
        let found = columns.remove(text(row, 0)?).unwrap_or_default();
        let kind = RelationKind::from_relkind(text(row, 3)?);
        // PostgreSQL lets a table's last column be dropped, and Redshift shows none of a late-binding view.
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
        if is_wanted.contains(&name) {
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
        catalog.accounts.extend(accounts(wanted, text(row, 0)?, text(row, 1)?));
    }
    for row in roles {
        catalog.accounts.extend(accounts(wanted, "role", text(row, 0)?));
    }
    for row in role_grants {
        let name = TableName::new(text(row, 0)?, text(row, 1)?);
        let held = super::catalog::Privilege::from_word(text(row, 2)?);
        if let (Some(relation), Some(privilege)) = (catalog.relations.get_mut(&name), held) {
            let role = Account::Role(text(row, 3)?.to_owned());
            relation.grants.entry(role.to_string()).or_default().insert(privilege);
        }
    }
    if wanted.accounts.contains(&Account::Public) {
        catalog.accounts.insert(Account::Public);
    }
    Ok(catalog)
}

/// The wanted accounts that a row of that sort shows to exist. PostgreSQL's roles answer for all three sorts.
fn accounts<'a>(wanted: &'a CatalogQuery, sort: &'a str, name: &'a str) -> impl Iterator<Item = Account> + 'a {
    let everything = !wanted.accounts.is_empty() && sort == "role";
    wanted
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

/// A relation's columns and what Redshift keeps beside them.
#[derive(Default)]
struct Columns {
    columns: Vec<Column>,
    dist_key: Option<String>,
    /// Position in the sort key and column; positions alternate in sign where the key is interleaved.
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

/// `pg_class.reldiststyle`; 10 to 12 say what AUTO has chosen for now.
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
    field(row, at).ok_or_else(|| Incomplete(format!("the catalog left field {at} of a row empty")))
}

fn flag(row: &SimpleQueryRow, at: usize) -> bool {
    field(row, at) == Some("t")
}

/// A field that may be NULL; one that the server did not send counts as such.
fn field(row: &SimpleQueryRow, at: usize) -> Option<&str> {
    row.try_get(at).ok().flatten()
}
