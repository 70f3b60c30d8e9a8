//! What the table kinds share: comparing columns, privileges, and changes.

mod access;
pub mod assignment;
mod change;
pub mod compare;
mod named_type;
mod names;
pub mod types;
mod union_type;

pub use access::{Access, Grant};
pub use change::TableChange;
pub use named_type::{NamedType, named_types, with_catalog_spelling};
pub use names::{folded_by_locale, truncated};
pub use union_type::{UnionType, union_type};

use crate::failure::Failure;
use crate::host::warehouse::{Catalog, ReadOnly, Relation, Shown, TableName};

/// Returns why the server accepts no changes at all, if it does not.
pub fn refuses_changes(catalog: &Catalog) -> Option<Failure> {
    Some(match catalog.read_only.as_ref()? {
        ReadOnly::Standby => Failure::new("the server is a standby, which accepts no changes")
            .hint("connect to the primary: list both hosts in the URL and add target_session_attrs=read-write"),
        ReadOnly::Setting(remedy) => {
            Failure::new("the server accepts no changes: default_transaction_read_only is on").hint(remedy)
        }
    })
}

/// Returns why the connected user cannot use a table in LIKE, if it cannot.
pub fn cannot_copy_from(catalog: &Catalog, name: &TableName, parent: &Relation) -> Option<Failure> {
    let user = Shown(&catalog.user);
    if catalog.schema(name).is_some_and(|schema| !schema.usage) {
        let schema = Shown(&name.schema);
        let failure = Failure::new(format!("the connected user {user} has no USAGE privilege on schema {schema}"));
        return Some(failure.hint(format!("let the user see it: `GRANT USAGE ON SCHEMA {schema} TO {user};`")));
    }
    if parent.rights.select {
        return None;
    }
    let failure =
        Failure::new(format!("the connected user {user} has no SELECT privilege on {name}, which LIKE needs"));
    Some(failure.hint(format!("let the user read it: `GRANT SELECT ON {} TO {user};`", name.sql())))
}

/// Returns why a table cannot be created in its schema, with a hint, if it cannot.
pub fn cannot_create_in(catalog: &Catalog, table: &TableName) -> Option<(String, String)> {
    let schema = &table.schema;
    match catalog.schema(table) {
        None => Some((
            format!("schema {schema} does not exist"),
            catalog.did_you_mean(schema).unwrap_or_else(|| {
                format!("create the schema, which provision does not do: `CREATE SCHEMA {};`", Shown(schema))
            }),
        )),
        Some(found) if found.external => Some((
            format!("schema {schema} is an external schema: its tables are outside the warehouse"),
            "use a schema of the warehouse itself".to_owned(),
        )),
        Some(found) if !(found.usage && found.create) => Some((
            format!("the connected user {} has no CREATE and USAGE privilege on schema {schema}", catalog.user),
            format!(
                "let the user create tables: `GRANT USAGE, CREATE ON SCHEMA {} TO {};`",
                Shown(schema),
                Shown(&catalog.user)
            ),
        )),
        Some(_) => None,
    }
}

/// Returns the hint for a parent that does not exist.
pub fn missing_parent(catalog: &Catalog, parent: &TableName, otherwise: &str) -> String {
    catalog.did_you_mean(&parent.to_string()).unwrap_or_else(|| otherwise.to_owned())
}

/// Returns the failure for accounts that do not exist on the server, as [`Access::unknown`] names them.
pub fn missing_accounts(accounts: &[String], catalog: &Catalog) -> Failure {
    let verb = if accounts.len() == 1 { "does" } else { "do" };
    let name = |account: &String| account.rsplit(' ').next().unwrap_or_default().to_owned();
    let near: Vec<String> = accounts.iter().filter_map(|account| catalog.did_you_mean(&name(account))).collect();
    let hint = match near.as_slice() {
        [] => "create them on the server, or correct `grants` and `owner`".to_owned(),
        near => near.join(" "),
    };
    Failure::new(format!("{} {verb} not exist", accounts.join(", "))).hint(hint)
}
