//! How steps are written from what a host has already.
//!
//! A kind says how a [`Subject`] is observed and what the step for it is. Nothing is guessed: what a step cannot say becomes a
//! comment, and a secret's value becomes the name of the variable that gives it.

mod subject;

use jiff::civil::Date;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

pub use subject::{PathKind, PathSubject, Subject};

use super::value::Account;
use crate::failure::Failure;
use crate::host::fs::acting_ids;
use crate::host::users::{User, group_name};
use crate::host::warehouse::{Catalog, CatalogQuery};

/// A resource with which a subject is observed.
#[derive(Debug, Clone)]
pub struct Probe<R> {
    pub resource: R,
    /// The user who has to observe it, where that is not the one who asks. The step gets the same.
    pub run_as: Option<String>,
}

impl<R> Probe<R> {
    /// The same probe of another type.
    pub fn map<S>(self, of: impl FnOnce(R) -> S) -> Probe<S> {
        Probe { resource: of(self.resource), run_as: self.run_as }
    }
}

/// A probe, or why the subject cannot be observed; `None` where the kind is not about such subjects.
pub type MaybeProbe<R> = Option<Result<Probe<R>, Failure>>;

/// Steps, or all that keeps them from being written.
pub type AdoptedSteps = Result<Vec<Adopted>, Vec<Failure>>;

/// Whether and how the steps of a kind (`R`, observed as `A`) are written from what is there.
#[derive(Debug)]
pub enum Adoption<R, A> {
    /// They are not.
    None,
    /// From an observation.
    Host {
        /// The resource with which a subject is observed.
        probe: fn(&Subject) -> MaybeProbe<R>,
        /// The step for what was observed.
        step: fn(&R, &A) -> Result<Adopted, Failure>,
    },
    /// From the catalog of a warehouse.
    Warehouse(FromCatalog),
}

/// How steps are written from a catalog.
#[derive(Debug, Clone, Copy)]
pub struct FromCatalog {
    /// What is read for a subject; `None` where the kind is not about such subjects.
    pub query: fn(&Subject) -> Option<Result<CatalogQuery, Failure>>,
    /// The steps for these subjects: one each, unless one step can say it for several.
    pub steps: fn(&[Subject], &Catalog, Date) -> AdoptedSteps,
}

/// A step for what is there.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Adopted {
    /// What it is about, for messages.
    pub subject: String,
    /// What its id is made of.
    pub name: String,
    pub title: String,
    /// The resource's keys, in order, without templates.
    pub keys: Map<String, Value>,
    /// The key of the resource that takes a secret, and what the variable for it may be called.
    pub secret: Option<(&'static str, String)>,
    /// What the step does not say.
    pub comments: Vec<String>,
}

/// Says of a failure what cannot be adopted.
pub fn cannot(subject: &str, failure: Failure) -> Failure {
    Failure { message: format!("cannot adopt {subject}: {}", failure.message), ..failure }
}

/// A probe of these keys, as the acting user.
///
/// # Errors
/// The kind does not take them.
pub fn probe_of<R: DeserializeOwned>(keys: Value) -> Result<Probe<R>, Failure> {
    let resource = serde_json::from_value(keys).map_err(|error| {
        let text = error.to_string();
        let (message, hint) = text.split_once('\n').unwrap_or((&text, ""));
        Failure { message: message.to_owned(), hint: Some(hint.to_owned()).filter(|hint| !hint.is_empty()) }
    })?;
    Ok(Probe { resource, run_as: None })
}

/// Adds `owner` and `group`.
pub fn put_ownership(keys: &mut Map<String, Value>, uid: u32, gid: u32) {
    keys.insert("owner".to_owned(), user(uid).unwrap_or_else(|| uid.to_string()).into());
    keys.insert("group".to_owned(), group(gid).unwrap_or_else(|| gid.to_string()).into());
}

/// The user as whom something of `uid` is observed, where that is not the acting one.
pub fn other_user(uid: u32) -> Option<String> {
    user(uid).filter(|_| uid != acting_ids().0)
}

/// The name of a user, where the host has one that leads back to the number.
fn user(uid: u32) -> Option<String> {
    let name = User::by_id(uid).ok()??.name;
    let back = account(&name)?.user().ok()?;
    (back.id == uid).then_some(name)
}

/// The name of a group, where the host has one that leads back to the number.
fn group(gid: u32) -> Option<String> {
    let name = group_name(gid).ok()??;
    let back = account(&name)?.group().ok()?;
    (back.id == gid).then_some(name)
}

/// The account as a plan file reads the name, if it takes it.
fn account(name: &str) -> Option<Account> {
    serde_json::from_value(Value::from(name)).ok()
}

/// The last name of a path.
pub fn base_name(path: &str) -> String {
    path.rsplit('/').next().unwrap_or(path).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_named_where_the_name_leads_back() {
        let mut keys = Map::new();
        put_ownership(&mut keys, 0, 3_123_456_789);
        assert_eq!(Value::Object(keys), serde_json::json!({ "owner": "root", "group": "3123456789" }));
        // nobody is 65534; a name that looks like a number would be taken for one.
        assert_eq!(user(3_123_456_789), None);
        assert_eq!(account("12ab"), None);
    }
}
