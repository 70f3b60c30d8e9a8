//! The keys of the kind, for people and editors.

use crate::resource::reference::{GRANT, Key, Reference, Shape};

/// The keys of a table in a plan file.
pub static REFERENCE: Reference = Reference {
    summary: "A table in PostgreSQL or Redshift, as defined by its CREATE TABLE. It is never dropped, recreated or altered.",
    keys: &[
        Key::required("connection", Shape::Text, "warehouse", "A connection of the plan file."),
        Key::required(
            "ddl",
            Shape::Text,
            "CREATE TABLE ods.exceptions (id BIGINT NOT NULL, notes VARCHAR(1024))",
            "One CREATE TABLE statement with a schema name.",
        ),
        Key::optional(
            "columns",
            Shape::List(&Shape::Keys(&COLUMN)),
            "the columns of the DDL",
            "[{ name: id, type: bigint, null: false }, { name: notes, type: varchar(1024) }]",
            "What to compare if the DDL cannot be parsed. If it can be parsed, they have to agree with it.",
        ),
        Key::optional(
            "grants",
            Shape::List(&Shape::Keys(&GRANT)),
            "no privileges are granted",
            "[{ to: dbt, privileges: [select] }]",
            "Privileges that accounts have to have.",
        ),
        Key::optional("owner", Shape::Text, "the connected user, for a new table", "etl", "The owner of the table."),
    ],
    rules: &[],
};

/// A column to compare.
pub static COLUMN: Reference = Reference {
    summary: "A column.",
    keys: &[
        Key::required("name", Shape::Text, "id", "The name."),
        Key::required("type", Shape::Text, "bigint", "The type, as spelled by the server."),
        Key::optional("null", Shape::Boolean, "true", "false", "Whether it allows NULL."),
    ],
    rules: &[],
};
