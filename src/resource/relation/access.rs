//! Privileges and ownership. They are observed and granted if missing, but never revoked.
//!
//! `CREATE TABLE … (LIKE …)` copies no privileges. An account that writes to a history table created by another account
//! therefore needs explicit grants.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::change::TableChange;
use crate::host::warehouse::{Account, Catalog, Dialect, Privilege, Relation, TableName};
use crate::resource::KeyError;
use crate::resource::Segment::{Item, Key};

/// The privileges that an account should have on a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// `dbt`, `{ group: etl }`, `{ role: loader }` or `public`.
    pub to: Account,
    pub privileges: BTreeSet<Privilege>,
}

/// The desired privileges and owner of a table.
#[derive(Debug, Clone, Copy)]
pub struct Access<'a> {
    pub grants: &'a [Grant],
    pub owner: Option<&'a str>,
}

impl Access<'_> {
    /// Returns the accounts that have to exist.
    pub fn accounts(&self) -> BTreeSet<Account> {
        let owner = self.owner.map(|owner| Account::User(owner.to_owned()));
        self.grants.iter().map(|grant| grant.to.clone()).chain(owner).collect()
    }

    /// Checks the keys in the plan file.
    pub fn check(&self) -> Result<(), KeyError> {
        match self.grants.iter().enumerate().find(|(_, grant)| grant.privileges.is_empty()) {
            Some((index, grant)) => {
                let message = format!("`grants` to {} list no privileges: add select, insert, …", grant.to);
                Err(KeyError::new(message).of([Key("grants"), Item(index), Key("privileges")]))
            }
            None => Ok(()),
        }
    }

    /// Returns the accounts that do not exist on the server.
    pub fn unknown(&self, catalog: &Catalog) -> Vec<String> {
        let sort = |account: &Account| match account {
            Account::User(name) => format!("user {name}"),
            other => other.to_string(),
        };
        self.accounts().difference(&catalog.accounts).map(sort).collect()
    }

    /// Returns the changes for `table`. `found` is `None` if the table is about to be created by the connected user.
    /// Accounts that do not exist are skipped.
    pub fn changes(&self, table: &TableName, found: Option<&Relation>, catalog: &Catalog) -> Vec<TableChange> {
        let owner_now = found.map_or(catalog.user.as_str(), |relation| &relation.owner);
        let known = |account: &Account| catalog.accounts.contains(account);
        let owner = self.owner.filter(|owner| known(&Account::User((*owner).to_owned()))).unwrap_or(owner_now);
        let none = BTreeSet::new();
        let mut changes = Vec::new();
        for grant in self.grants {
            // Owners have all privileges, and a grant to the owner would not be visible.
            let is_owner = match (&grant.to, catalog.dialect) {
                (Account::Public, _) => false,
                (Account::User(name), _) => name == owner,
                (account, Dialect::Postgresql) => account.name() == owner,
                (_, Dialect::Redshift) => false,
            };
            if is_owner || !known(&grant.to) {
                continue;
            }
            let key = grant.to.grant_key(catalog.dialect);
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
        // The owner comes last, because whoever gives a table away can no longer grant privileges on it.
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
