use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::TreeChange;
use crate::resource::attributes::{AttributeChange, leftovers_removal, ownership, with_ids};
use crate::resource::value::{Identity, Mode};
use crate::resource::{Action, Description};
use crate::text;

/// One change of a directory. An owner, group or mode of `None` is left unchanged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum Change {
    /// Removes what a killed run left beside the target.
    RemoveLeftovers { path: String, names: Vec<String> },
    Create {
        path: String,
        /// The parents that are created first.
        parents: Vec<String>,
        owner: Option<Identity>,
        group: Option<Identity>,
        mode: Mode,
    },
    /// Sets owner, group and modes of the entries that differ, each directory after its entries.
    #[serde(rename = "change_tree")]
    Tree(Box<TreeChange>),
    /// Sets owner, group or mode of the directory itself.
    #[serde(untagged)]
    Attributes(AttributeChange),
}

impl crate::resource::Change for Change {
    fn parents(&mut self) -> Option<&mut Vec<String>> {
        match self {
            Self::Create { parents, .. } => Some(parents),
            _ => None,
        }
    }

    fn describe(&self) -> Description {
        let (action, path, summary, before, after) = match self {
            Self::RemoveLeftovers { path, names } => return leftovers_removal(path, names),
            Self::Create { path, parents, owner, group, mode } => {
                let mut summary = format!("create the directory with mode {mode}");
                if owner.is_some() || group.is_some() {
                    summary.push_str(&format!(", {}", ownership(owner, group)));
                }
                if !parents.is_empty() {
                    summary.push_str(&format!(", and its parent {}", text::directories(parents)));
                }
                let mut after = with_ids(json!({}), owner, group);
                after["mode"] = json!(mode);
                after["parents"] = json!(parents);
                (Action::Create, path, summary, Value::Null, after)
            }
            Self::Tree(change) => return change.describe(),
            Self::Attributes(change) => return change.describe(),
        };
        Description { action, target: path.clone(), summary, before, after, risk: None, diff: None }
    }

    fn size(&self) -> u64 {
        match self {
            Self::Tree(change) => change.differing.count,
            _ => 1,
        }
    }

    fn is_left_of(&self, planned: &Self) -> bool {
        match (self, planned) {
            (Self::Tree(now), Self::Tree(planned)) => now.is_within(planned),
            _ => crate::resource::is_left_of_with_parents(self, planned),
        }
    }

    /// An entry that cannot be changed does not prevent other changes.
    fn depends_on(&self, failed: &Self) -> bool {
        !matches!(failed, Self::Tree(_))
    }

    fn is_newer_than(&self, time: SystemTime) -> bool {
        matches!(self, Self::Tree(change) if change.is_newer_than(time))
    }
}
