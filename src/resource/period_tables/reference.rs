//! The keys of the kind, for people and editors.

use crate::resource::reference::{GRANT, Key, Reference, Shape};

/// The keys of series of tables in a plan file.
pub static REFERENCE: Reference = Reference {
    summary: "Series of tables, one table per period, each like its parent. Tables are never dropped or recreated.",
    keys: &[
        Key::required("connection", Shape::Text, "warehouse", "A connection of the plan file."),
        Key::required(
            "every",
            Shape::OneOf(&["year", "half_year", "quarter", "month", "week", "day"]),
            "half_year",
            "The length of a period. Weeks are those of ISO 8601.",
        ),
        Key::required(
            "from",
            Shape::Period,
            "2025_h2",
            "The first period (2025, 2025_h2, 2025_q3, 2025_07, 2025_w07 or 2025_07_15), or `current-6` for the six before the \
             current one.",
        ),
        Key::required(
            "tables",
            Shape::Some(&Shape::Keys(&SERIES)),
            "[{ name: \"ods.hist_orders_{period}\", like: ods.mart_orders }]",
            "The series.",
        ),
        Key::optional("through", Shape::Period, "current", "current", "The last period, or `current`."),
        Key::optional("ahead", Shape::Whole(120), "0", "1", "The number of future periods to create in advance."),
        Key::optional(
            "warn_days",
            Shape::Whole(65535),
            "a third of the period, at most 30",
            "30",
            "How many days before the start of a period without a table a warning is given.",
        ),
        Key::optional(
            "on_drift",
            Shape::OneOf(&["fail", "report", "add_columns"]),
            "fail",
            "fail",
            "What happens if a table is no longer like its parent.",
        ),
        Key::optional(
            "grants",
            Shape::List(&Shape::Keys(&GRANT)),
            "no privileges are granted",
            "[{ to: dbt, privileges: [select, insert] }]",
            "Privileges that accounts have to have.",
        ),
        Key::optional("owner", Shape::Text, "the connected user, for new tables", "etl", "The owner of the tables."),
    ],
    rules: &[],
};

/// One series.
pub static SERIES: Reference = Reference {
    summary: "A series of tables.",
    keys: &[
        Key::required("name", Shape::PeriodName, "\"ods.hist_orders_{period}\"", "The name of the tables."),
        Key::required("like", Shape::Table, "ods.mart_orders", "The parent table."),
        Key::optional(
            "view",
            Shape::Table,
            "no view",
            "ods.hist_orders",
            "A view over the tables that exist (UNION ALL), replaced when a table is added. Its grants and owner are those of the \
             tables.",
        ),
    ],
    rules: &[],
};
