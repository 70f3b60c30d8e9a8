//! Privileges and ownership: observed, given where missing, never taken away.
//!
//! `CREATE TABLE … (LIKE …)` copies no privileges, so an account that is to write a history table made by another has to
//! be given them by name.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::change::TableChange;
use crate::host::warehouse::{Account, Catalog, Dialect, Privilege, Relation, TableName};
use crate::resource::KeyError;
use crate::resource::Segment::{Item, Key};

/// Who shall hold which privileges on a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// `dbt`, `{ group: etl }`, `{ role: loader }` or `public`.
    pub to: Account,
    pub privileges: BTreeSet<Privilege>,
}

/// What is to hold beside a table's shape.
#[derive(Debug, Clone, Copy)]
pub struct Access<'a> {
    pub grants: &'a [Grant],
    pub owner: Option<&'a str>,
}

impl Access<'_> {
    /// The accounts that have to exist.
    pub fn accounts(&self) -> BTreeSet<Account> {
        let owner = self.owner.map(|owner| Account::User(owner.to_owned()));
        self.grants.iter().map(|grant| grant.to.clone()).chain(owner).collect()
    }

    /// What is wrong with the plan file's lines.
    pub fn check(&self) -> Result<(), KeyError> {
        match self.grants.iter().enumerate().find(|(_, grant)| grant.privileges.is_empty()) {
            Some((index, grant)) => {
                let message = format!("`grants` to {} list no privileges: name select, insert, …", grant.to);
                Err(KeyError::new(message).of([Key("grants"), Item(index), Key("privileges")]))
            }
            None => Ok(()),
        }
    }

    /// The accounts that the server does not know.
    pub fn unknown(&self, catalog: &Catalog) -> Vec<String> {
        let sort = |account: &Account| match account {
            Account::User(name) => format!("user {name}"),
            other => other.to_string(),
        };
        self.accounts().difference(&catalog.accounts).map(sort).collect()
    }

    /// What is missing on `table`; `found` is none where the table is only about to be made, by the connected user.
    /// Accounts that the server does not know are left out.
    pub fn changes(&self, table: &TableName, found: Option<&Relation>, catalog: &Catalog) -> Vec<TableChange> {
        let owner_now = found.map_or(catalog.user.as_str(), |relation| &relation.owner);
        let known = |account: &Account| catalog.accounts.contains(account);
        let owner = self.owner.filter(|owner| known(&Account::User((*owner).to_owned()))).unwrap_or(owner_now);
        let none = BTreeSet::new();
        let mut changes = Vec::new();
        for grant in self.grants {
            // Owners hold everything, and a grant to oneself would not show.
            let is_owner = match (&grant.to, catalog.dialect) {
                (Account::Public, _) => false,
                (Account::User(name), _) => name == owner,
                (account, Dialect::Postgresql) => account.name() == owner,
                (_, Dialect::Redshift) => false,
            };
            if is_owner || !known(&grant.to) {
                continue;
            }
            let key = grant.to.held_as(catalog.dialect);
            let held = found.and_then(|relation| relation.grants.get(&key)).unwrap_or(&none);
            let missing: BTreeSet<_> = grant.privileges.difference(held).copied().collect();
            if !missing.is_empty() {
                changes.push(TableChange::Grant {
                    table: table.clone(),
                    to: grant.to.clone(),
                    held: held.clone(),
                    missing,
                    dialect: catalog.dialect,
                });
            }
        }
        // Last: who gives a table away can no longer grant on it.
        if owner != owner_now {
            changes.push(TableChange::SetOwner {
                table: table.clone(),
                before: owner_now.to_owned(),
                owner: owner.to_owned(),
            });
        }
        changes
    }
}
