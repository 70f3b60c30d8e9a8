//! What has to be dropped before a column or a view can be changed, and created again afterwards.

use crate::host::warehouse::TableName;

/// Statements that drop everything that uses a column or a view.
pub(super) struct Drops {
    /// Empty if nothing uses it.
    pub sql: String,
    /// What a person has to do after the statements.
    pub then: String,
}

impl Drops {
    /// Creates the statements. `users` are in the order in which they can be dropped. `own_view` is the view of the step, which
    /// apply creates again.
    pub(super) fn of(users: &[String], own_view: Option<&TableName>) -> Self {
        let own = own_view.map(named);
        let is_own = |user: &str| own.as_deref() == Some(user);
        let drops: Vec<String> = users.iter().map(|user| format!("DROP {user};")).collect();
        let others: Vec<&str> = users.iter().map(String::as_str).filter(|user| !is_own(user)).collect();
        let makes_own = if others.len() < users.len() { ", which creates the view again" } else { "" };
        let definition = if others.len() == 1 { "its definition" } else { "their definitions" };
        let then = match others.as_slice() {
            [] => format!("then run apply{makes_own}"),
            _ => format!("then run apply{makes_own}, and create {} again (keep {definition})", others.join(" and ")),
        };
        Self { sql: drops.join(" "), then }
    }
}

/// Returns a view as DROP names it.
pub(super) fn named(view: &TableName) -> String {
    format!("VIEW {view}")
}
