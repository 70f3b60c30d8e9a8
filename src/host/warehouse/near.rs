//! Names like those that do not exist, for "did you mean".

use std::collections::{BTreeMap, BTreeSet};

use postgres_protocol::escape::escape_literal;
use tokio_postgres::SimpleQueryRow;

use super::catalog::Missing;
use super::dialect::Dialect;
use super::name::{Shown, TableName};

/// More names than these are not compared.
const MAX_NAMES: usize = 20_000;

/// Returns the query for the names that may have been meant: relations of the same schema or of the same name, schemas, and
/// accounts.
pub(super) fn statement(missing: &Missing, dialect: Dialect) -> String {
    let list = |names: &mut dyn Iterator<Item = &String>| {
        let names: BTreeSet<String> = names.map(|name| escape_literal(name)).collect();
        if names.is_empty() { "NULL".to_owned() } else { names.into_iter().collect::<Vec<_>>().join(", ") }
    };
    let schemas = list(&mut missing.relations.iter().map(|name| &name.schema));
    let names = list(&mut missing.relations.iter().map(|name| &name.name));
    let accounts = match dialect {
        Dialect::Postgresql => "SELECT 'account', rolname, NULL FROM pg_roles WHERE rolname NOT LIKE 'pg\\_%'",
        Dialect::Redshift => {
            "SELECT 'account', usename, NULL FROM pg_user UNION ALL SELECT 'account', groname, NULL FROM pg_group"
        }
    };
    let mut parts = Vec::new();
    if !missing.relations.is_empty() {
        parts.push(format!(
            "(SELECT 'relation', n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND (n.nspname IN ({schemas}) OR c.relname IN ({names})) \
             LIMIT {MAX_NAMES})"
        ));
    }
    if !missing.schemas.is_empty() {
        parts.push(
            "(SELECT 'schema', nspname, NULL FROM pg_namespace WHERE nspname NOT LIKE 'pg\\_%' \
             AND nspname <> 'information_schema')"
                .to_owned(),
        );
    }
    if !missing.accounts.is_empty() {
        parts.push(accounts.to_owned());
    }
    parts.join(" UNION ALL ")
}

/// Returns the most similar existing name for each missing one that has any.
pub(super) fn likely_names(missing: &Missing, rows: &[SimpleQueryRow]) -> BTreeMap<String, String> {
    let text = |row: &SimpleQueryRow, at: usize| row.try_get(at).ok().flatten().unwrap_or_default().to_owned();
    let mut relations = Vec::new();
    let mut others: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in rows {
        match text(row, 0).as_str() {
            "relation" => relations.push(TableName::new(text(row, 1), text(row, 2)).to_string()),
            kind => others.entry(kind.to_owned()).or_default().push(Shown(&text(row, 1)).to_string()),
        }
    }
    let none = Vec::new();
    let of = |kind: &str| others.get(kind).unwrap_or(&none);
    let mut near = BTreeMap::new();
    for (wanted, known) in [
        (missing.relations.iter().map(ToString::to_string).collect::<Vec<_>>(), &relations),
        (missing.schemas.iter().cloned().collect(), of("schema")),
        (missing.accounts.iter().cloned().collect(), of("account")),
    ] {
        for name in wanted {
            let same_table = |one: &&String| one.rsplit('.').next() == name.rsplit('.').next() && name.contains('.');
            let meant = crate::text::nearest(&name, known.iter().map(String::as_str));
            let meant = meant.or_else(|| known.iter().find(same_table).map(String::as_str)).map(str::to_owned);
            near.extend(meant.map(|meant| (name, meant)));
        }
    }
    near
}
