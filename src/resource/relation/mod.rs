//! What the table kinds share: comparing columns, privileges, and changes.

mod access;
pub mod assignment;
mod change;
pub mod compare;
pub mod types;

pub use access::{Access, Grant};
pub use change::TableChange;

use crate::host::warehouse::{Catalog, Shown, TableName};

/// Returns why a table cannot be created in its schema, with a hint, if it cannot.
pub fn cannot_create_in(catalog: &Catalog, table: &TableName) -> Option<(String, String)> {
    let schema = &table.schema;
    match catalog.schema(table) {
        None => Some((
            format!("schema {schema} does not exist"),
            "create the schema first; provision does not create schemas".to_owned(),
        )),
        Some(found) if found.external => Some((
            format!("schema {schema} is an external schema: its tables are outside the warehouse"),
            "use a schema of the warehouse itself".to_owned(),
        )),
        Some(found) if !(found.usage && found.create) => Some((
            format!("the connected user {} has no CREATE and USAGE privilege on schema {schema}", catalog.user),
            format!("GRANT USAGE, CREATE ON SCHEMA {} TO {};", Shown(schema), Shown(&catalog.user)),
        )),
        Some(_) => None,
    }
}

/// Returns the message for accounts that do not exist on the server.
pub fn missing_accounts(accounts: &[String]) -> String {
    let verb = if accounts.len() == 1 { "does" } else { "do" };
    format!("{} {verb} not exist", accounts.join(", "))
}
