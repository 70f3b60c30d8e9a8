//! Privileges and ownership. They are observed and granted if missing, but never revoked.
//!
//! `CREATE TABLE … (LIKE …)` copies no privileges. An account that writes to a history table created by another account
//! therefore needs explicit grants.

use std::collections::BTreeSet;

use serde::de::IntoDeserializer as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::change::{TableChange, grantee};
use crate::failure::Failure;
use crate::host::warehouse::{Account, Catalog, Dialect, Privilege, Relation, Shown, TableName};
use crate::resource::Diff;
use crate::resource::KeyError;
use crate::resource::Segment::{Item, Key};

/// The privileges that an account should have on a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// `dbt`, `{ group: etl }`, `{ role: loader }` or `public`.
    pub to: Account,
    #[serde(deserialize_with = "one_or_many")]
    pub privileges: BTreeSet<Privilege>,
}

/// Reads `[select, insert]`, or a single privilege.
fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<Privilege>, D::Error> {
    struct Visitor;
    impl<'de> serde::de::Visitor<'de> for Visitor {
        type Value = BTreeSet<Privilege>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a privilege or a list of privileges")
        }

        fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<Self::Value, E> {
            let words = word.split(',').map(|word| word.trim().into_deserializer());
            words.map(Privilege::deserialize).collect()
        }

        fn visit_seq<A: serde::de::SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
            BTreeSet::deserialize(serde::de::value::SeqAccessDeserializer::new(list))
        }
    }
    deserializer.deserialize_any(Visitor)
}

/// The desired privileges and owner of a table.
#[derive(Debug, Clone, Copy)]
pub struct Access<'a> {
    pub grants: &'a [Grant],
    pub owner: Option<&'a str>,
}

impl<'a> Access<'a> {
    /// Returns the accounts that have to exist.
    pub fn accounts(&self) -> BTreeSet<Account> {
        let owner = self.owner.map(|owner| Account::User(owner.to_owned()));
        self.grants.iter().map(|grant| grant.to.clone()).chain(owner).collect()
    }

    /// Returns the names of the accounts.
    pub fn names(self) -> impl Iterator<Item = &'a str> {
        self.grants.iter().map(|grant| grant.to.name()).chain(self.owner)
    }

    /// Returns the statements for setting the access by hand.
    pub fn manual(self, table: &TableName) -> Vec<String> {
        let grantee = |account: &Account| match account {
            Account::Public => "PUBLIC".to_owned(),
            Account::User(name) => Shown(name).to_string(),
            Account::Group(name) => format!("GROUP {}", Shown(name)),
            Account::Role(name) => format!("ROLE {}", Shown(name)),
        };
        let grant = |grant: &Grant| {
            let privileges: Vec<_> = grant.privileges.iter().map(|one| one.to_string().to_uppercase()).collect();
            format!("GRANT {} ON {table} TO {};", privileges.join(", "), grantee(&grant.to))
        };
        let owner = self.owner.map(|owner| format!("ALTER TABLE {table} OWNER TO {};", Shown(owner)));
        self.grants.iter().map(grant).chain(owner).collect()
    }

    /// Checks the keys in the plan file.
    pub fn check(&self) -> Result<(), KeyError> {
        if let Some(owner) = self.owner
            && owner.eq_ignore_ascii_case("public")
        {
            return Err(KeyError::new("`owner`: public is not a user who can own a table").of([Key("owner")]));
        }
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

    /// Adds to `diff` the changes for `table`, and what prevents some of them. `found` is `None` if the table is about to
    /// be created by the connected user. Accounts that do not exist are skipped.
    pub fn plan_access(
        &self,
        table: &TableName,
        found: Option<&Relation>,
        catalog: &Catalog,
        diff: &mut Diff<TableChange>,
    ) {
        let owner_now = found.map_or(catalog.user.as_str(), |relation| &relation.owner);
        let known = |account: &Account| catalog.accounts.contains(account);
        let owner = self.owner.filter(|owner| known(&Account::User((*owner).to_owned()))).unwrap_or(owner_now);
        let none = BTreeSet::new();
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
            push_new(&mut diff.warnings, useless(&grant.to, table, catalog));
            let key = grant.to.grant_key(catalog.dialect);
            let held = found.and_then(|relation| relation.grants.get(&key)).unwrap_or(&none);
            let missing: BTreeSet<_> = grant.privileges.difference(held).copied().collect();
            if missing.is_empty() {
                continue;
            }
            let change = TableChange::Grant {
                table: table.clone(),
                to: grant.to.clone(),
                held: held.clone(),
                missing,
                dialect: catalog.dialect,
            };
            match found.and_then(|found| change.not_allowed(found, catalog)) {
                None => diff.changes.push(change),
                Some(obstacle) => diff.obstacles.push(obstacle),
            }
        }
        // The owner comes last, because whoever gives a table away can no longer grant privileges on it.
        if owner != owner_now {
            let change =
                TableChange::SetOwner { table: table.clone(), before: owner_now.to_owned(), owner: owner.to_owned() };
            let obstacle = cannot_own(owner, table, catalog);
            match obstacle.or_else(|| found.and_then(|found| change.not_allowed(found, catalog))) {
                None => diff.changes.push(change),
                Some(obstacle) => push_new(&mut diff.obstacles, Some(obstacle)),
            }
        }
    }
}

/// Adds what is not in the list yet: the same holds for all tables of a schema.
fn push_new<T: PartialEq>(list: &mut Vec<T>, new: Option<T>) {
    list.extend(new.filter(|new| !list.contains(new)));
}

/// Returns the warning that an account cannot use privileges on tables of the schema.
fn useless(account: &Account, table: &TableName, catalog: &Catalog) -> Option<String> {
    let usage_by = catalog.schema(table)?.usage_by.as_ref()?;
    let has_usage = |account: &Account| usage_by.contains(&account.grant_key(catalog.dialect));
    if has_usage(account) || has_usage(&Account::Public) {
        return None;
    }
    let (schema, grantee) = (Shown(&table.schema), grantee(account, catalog.dialect));
    Some(format!(
        "{account} cannot use privileges on tables of schema {schema} without USAGE on the schema: \
         `GRANT USAGE ON SCHEMA {schema} TO {grantee};`"
    ))
}

/// Returns why the connected user cannot make an account the owner of a table, if that is known.
fn cannot_own(owner: &str, table: &TableName, catalog: &Catalog) -> Option<Failure> {
    let user = Shown(&catalog.user);
    if catalog.possible_owners.as_ref().is_some_and(|owners| !owners.contains(owner)) {
        let grant = catalog.inheritance.statement_to_set(owner, &catalog.user);
        let owner = Shown(owner);
        let failure = Failure::new(format!("cannot make {owner} the owner: {user} is not a member of {owner}"));
        return Some(failure.hint(format!("let {user} act as that role: `{grant}`")));
    }
    let schema = catalog.schema(table)?;
    if schema.create_by.as_ref().is_some_and(|accounts| !accounts.contains(owner)) {
        let (owner, schema) = (Shown(owner), Shown(&table.schema));
        let failure = Failure::new(format!(
            "cannot make {owner} the owner: {owner} has no CREATE privilege on schema {schema}, which the owner of a table \
             needs"
        ));
        return Some(
            failure.hint(format!("let that role use the schema: `GRANT USAGE, CREATE ON SCHEMA {schema} TO {owner};`")),
        );
    }
    None
}
