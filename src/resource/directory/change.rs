use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Examples, HardLinks};
use crate::resource::attributes::{AttributeChange, ownership, with_ids};
use crate::resource::value::{Identity, Mode};
use crate::resource::{Action, Description};

/// One change of a directory. Where no owner, group or mode is given, it stays as it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum Change {
    /// Takes away what a killed run left beside the target.
    RemoveLeftovers { path: String, names: Vec<String> },
    Create {
        path: String,
        /// The parents that are made first.
        parents: Vec<String>,
        owner: Option<Identity>,
        group: Option<Identity>,
        mode: Mode,
    },
    /// Sets owner and group of what is in the directory and differs, each directory after its entries.
    SetTreeOwner {
        path: String,
        owner: Option<Identity>,
        group: Option<Identity>,
        hard_links: HardLinks,
        differing: Examples,
        /// Those that lose setuid or setgid with it.
        set_id: Examples,
    },
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
            Self::RemoveLeftovers { path, names } => (
                Action::Delete,
                path,
                "remove what an interrupted run left".to_owned(),
                json!({ "leftovers": names }),
                Value::Null,
            ),
            Self::Create { path, parents, owner, group, mode } => {
                let mut summary = format!("create the directory with mode {mode}");
                if owner.is_some() || group.is_some() {
                    summary.push_str(&format!(", {}", ownership(owner, group)));
                }
                if !parents.is_empty() {
                    summary.push_str(&format!(", and its parents {}", parents.join(", ")));
                }
                let mut after = with_ids(json!({}), owner, group);
                after["mode"] = json!(mode);
                after["parents"] = json!(parents);
                (Action::Create, path, summary, Value::Null, after)
            }
            Self::SetTreeOwner { path, owner, group, differing, .. } => {
                let entries = if differing.count == 1 { "entry" } else { "entries" };
                let summary =
                    format!("set {} on {} {entries} below: {differing}", ownership(owner, group), differing.count);
                let before = json!({ "differing": differing.count, "examples": differing.first });
                (Action::Update, path, summary, before, with_ids(json!({}), owner, group))
            }
            Self::Attributes(change) => return change.describe(),
        };
        Description { action, target: path.clone(), summary, before, after, risk: self.risk() }
    }

    fn size(&self) -> u64 {
        match self {
            Self::SetTreeOwner { differing, .. } => differing.count,
            _ => 1,
        }
    }
}

impl Change {
    fn risk(&self) -> Option<String> {
        match self {
            Self::SetTreeOwner { set_id, .. } if set_id.count > 0 => {
                Some(format!("setuid or setgid is lost, as with chown, on {}: {set_id}", set_id.count))
            }
            _ => None,
        }
    }
}
