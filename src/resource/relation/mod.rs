//! What the kinds that keep tables share: comparing columns, privileges, and the changes they make.

mod access;
pub mod assignment;
mod change;
pub mod compare;
pub mod types;

pub use access::{Access, Grant};
pub use change::TableChange;

use crate::host::warehouse::{Catalog, TableName};

/// Why a table cannot be made in its schema, if it cannot.
pub fn cannot_create_in(catalog: &Catalog, table: &TableName) -> Option<(String, &'static str)> {
    let schema = &table.schema;
    match catalog.schema(table) {
        None => Some((format!("schema {schema} does not exist"), "create the schema first; no step makes schemas")),
        Some(found) if found.external => Some((
            format!("schema {schema} is an external schema: its tables lie outside the warehouse"),
            "name a schema of the warehouse itself",
        )),
        Some(found) if !(found.usage && found.create) => Some((
            format!("the connected user {} has no CREATE and USAGE privilege on schema {schema}", catalog.user),
            "GRANT USAGE, CREATE ON SCHEMA to that user",
        )),
        Some(_) => None,
    }
}
