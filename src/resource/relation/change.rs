//! The changes to tables. None of them removes anything.

use crate::failure::Failure;
use std::collections::BTreeSet;

use postgres_protocol::escape::escape_identifier;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::host::warehouse::{Account, Catalog, Column, Dialect, Privilege, Relation, Shown, TableName, Warehouse};
use crate::resource::{Action, Change, Description};

/// One statement on one table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum TableChange {
    /// Creates the table with exactly this statement.
    Create {
        table: TableName,
        /// The table it is like.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        like: Option<TableName>,
        sql: String,
    },
    /// Adds a column at the end.
    AddColumn {
        table: TableName,
        column: Column,
    },
    /// Lengthens a VARCHAR.
    Widen {
        table: TableName,
        column: String,
        before: String,
        after: String,
    },
    /// Creates a view over tables, or replaces it, with exactly this statement.
    View {
        /// The view.
        table: TableName,
        /// The tables of the view that is replaced.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        before: Option<Vec<TableName>>,
        over: Vec<TableName>,
        sql: String,
    },
    Grant {
        table: TableName,
        to: Account,
        #[serde(default)]
        held: BTreeSet<Privilege>,
        missing: BTreeSet<Privilege>,
        /// Redshift needs GROUP and ROLE. PostgreSQL treats every account as a role.
        dialect: Dialect,
    },
    SetOwner {
        table: TableName,
        before: String,
        owner: String,
    },
}

impl TableChange {
    /// Returns the statement that makes the change.
    pub fn sql(&self) -> String {
        match self {
            Self::Create { sql, .. } | Self::View { sql, .. } => sql.clone(),
            Self::AddColumn { table, column } => {
                // Never NOT NULL: existing rows have no value for it, so both servers would reject the statement.
                format!(
                    "ALTER TABLE {} ADD COLUMN {} {}",
                    table.sql(),
                    escape_identifier(&column.name),
                    column.type_name
                )
            }
            Self::Widen { table, column, after, .. } => {
                format!("ALTER TABLE {} ALTER COLUMN {} TYPE {after}", table.sql(), escape_identifier(column))
            }
            Self::Grant { table, to, missing, dialect, .. } => {
                format!("GRANT {} ON TABLE {} TO {}", words(missing).to_uppercase(), table.sql(), grantee(to, *dialect))
            }
            Self::SetOwner { table, owner, .. } => {
                format!("ALTER TABLE {} OWNER TO {}", table.sql(), escape_identifier(owner))
            }
        }
    }

    /// Returns the table that is changed.
    pub fn table(&self) -> &TableName {
        match self {
            Self::Create { table, .. }
            | Self::AddColumn { table, .. }
            | Self::Widen { table, .. }
            | Self::View { table, .. }
            | Self::Grant { table, .. }
            | Self::SetOwner { table, .. } => table,
        }
    }

    /// Returns the same change of a column for another table. Other changes are returned as they are.
    pub fn with_columns_of(mut self, other: &TableName) -> Self {
        if let Self::AddColumn { table, .. } | Self::Widen { table, .. } = &mut self {
            table.clone_from(other);
        }
        self
    }

    /// Returns the table that is created, if any.
    pub fn creates(&self) -> Option<&TableName> {
        match self {
            Self::Create { table, .. } | Self::View { table, before: None, .. } => Some(table),
            _ => None,
        }
    }

    /// Returns whether both have the same purpose on the same table, although they start from different states.
    pub fn same_purpose(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Create { table, .. }, Self::Create { table: other, .. })
            | (Self::View { table, .. }, Self::View { table: other, .. })
            | (Self::SetOwner { table, .. }, Self::SetOwner { table: other, .. }) => table == other,
            (Self::AddColumn { table, column }, Self::AddColumn { table: other, column: its }) => {
                table == other && column.name == its.name
            }
            (Self::Widen { table, column, .. }, Self::Widen { table: other, column: its, .. }) => {
                table == other && column == its
            }
            (Self::Grant { table, to, .. }, Self::Grant { table: other, to: its, .. }) => table == other && to == its,
            _ => false,
        }
    }

    /// Returns why the connected user cannot make this change to an existing table, if that is known.
    pub fn not_allowed(&self, found: &Relation, catalog: &Catalog) -> Option<Failure> {
        let may_grant = |missing: &BTreeSet<Privilege>| missing.is_subset(&found.rights.grant);
        if found.rights.own || matches!(self, Self::Grant { missing, .. } if may_grant(missing)) {
            return None;
        }
        let (owner, user) = (Shown(&found.owner), Shown(&catalog.user));
        let member = match found.rights.is_member {
            true => format!(", and {user} is a member of {owner} that does not inherit its rights"),
            false => String::new(),
        };
        let failure =
            Failure::new(format!("cannot {}: {} belongs to {owner}{member}", self.describe().summary, self.table()));
        let grant = catalog.inheritance.statements(&found.owner, &catalog.user, found.rights.is_member);
        Some(failure.hint(format!("`{};` as {owner}, or let {user} do it: `{grant}`", self.sql())))
    }

    /// Executes the statement. `is_still_needed` decides on a new read whether the change is still needed, after
    /// another session has interfered or the connection was lost.
    pub async fn execute(
        &self,
        warehouse: &Warehouse,
        is_still_needed: impl Fn(&Catalog) -> Result<bool, Failure> + Send + Sync,
    ) -> Result<(), Failure> {
        let doing = format!("cannot {}", self.describe().summary);
        warehouse.execute(&doing, &self.sql(), |catalog| Ok(!is_still_needed(catalog)?)).await
    }
}

/// Returns an account as GRANT spells it.
pub(super) fn grantee(to: &Account, dialect: Dialect) -> String {
    match (to, dialect) {
        (Account::Public, _) => "PUBLIC".into(),
        (Account::Group(name), Dialect::Redshift) => format!("GROUP {}", escape_identifier(name)),
        (Account::Role(name), Dialect::Redshift) => format!("ROLE {}", escape_identifier(name)),
        (account, _) => escape_identifier(account.name()),
    }
}

fn words(privileges: &BTreeSet<Privilege>) -> String {
    privileges.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl Change for TableChange {
    /// A change needs its table, and a view needs all of its tables. Columns are added in order. A user who has given a table away
    /// can no longer grant privileges on it.
    fn depends_on(&self, failed: &Self) -> bool {
        if let (Self::View { over, .. }, Self::Create { table, .. } | Self::AddColumn { table, .. }) = (self, failed) {
            return over.contains(table);
        }
        let first = failed.creates().is_some() || matches!(self, Self::SetOwner { .. });
        let in_order = matches!((self, failed), (Self::AddColumn { .. }, Self::AddColumn { .. }));
        self.table() == failed.table() && (first || in_order)
    }

    fn describe(&self) -> Description {
        let (action, table, summary, before, after) = match self {
            Self::Create { table, like, sql } => {
                let like = like.as_ref().map(|like| format!(" like {like}")).unwrap_or_default();
                let summary = format!("create table {table}{like}");
                (Action::Create, table, summary, json!(null), json!({ "sql": sql }))
            }
            Self::AddColumn { table, column } => {
                let summary = format!("add column {} {} to {table}", Shown(&column.name), column.type_name);
                (Action::Update, table, summary, json!(null), json!({ "column": column }))
            }
            Self::Widen { table, column, before, after } => {
                let summary = format!("widen column {} of {table} from {before} to {after}", Shown(column));
                (Action::Update, table, summary, json!({ "type": before }), json!({ "type": after }))
            }
            Self::View { table, before, over, sql } => {
                let count = match over.len() {
                    1 => "1 table".to_owned(),
                    count => format!("{count} tables"),
                };
                let verb = if before.is_some() { "replace" } else { "create" };
                let action = if before.is_some() { Action::Update } else { Action::Create };
                let was = before.as_ref().map_or(json!(null), |tables| json!({ "tables": tables }));
                let summary = format!("{verb} view {table} over {count}");
                (action, table, summary, was, json!({ "tables": over, "sql": sql }))
            }
            Self::Grant { table, to, held, missing, .. } => {
                let summary = format!("grant {} on {table} to {to}", words(missing));
                let all: BTreeSet<_> = held.union(missing).collect();
                let (before, after) = (json!({ "privileges": held }), json!({ "privileges": all }));
                (Action::Update, table, summary, before, after)
            }
            Self::SetOwner { table, before, owner } => {
                let summary = format!("set owner of {table} to {}", Shown(owner));
                (Action::Update, table, summary, json!({ "owner": before }), json!({ "owner": owner }))
            }
        };
        Description { action, target: table.to_string(), summary, before, after, risk: None, diff: None }
    }
}
