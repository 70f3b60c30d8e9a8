use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Examples, HardLinks};
use crate::resource::value::{Identity, Mode};
use crate::resource::{Action, Description};

/// One change of a directory. Where no owner, group or mode is given, it stays as it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum Change {
    /// Takes away what a killed run left beside the target.
    RemoveLeftovers {
        path: String,
        names: Vec<String>,
    },
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
    /// Sets owner and group of the directory itself.
    SetOwner {
        path: String,
        uid: u32,
        gid: u32,
        owner: Option<Identity>,
        group: Option<Identity>,
    },
    SetMode {
        path: String,
        before: Mode,
        mode: Mode,
    },
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
                let mut after = ids(owner, group);
                after["mode"] = json!(mode);
                after["parents"] = json!(parents);
                (Action::Create, path, summary, Value::Null, after)
            }
            Self::SetTreeOwner { path, owner, group, differing, .. } => {
                let entries = if differing.count == 1 { "entry" } else { "entries" };
                let summary =
                    format!("set {} on {} {entries} below: {differing}", ownership(owner, group), differing.count);
                let before = json!({ "differing": differing.count, "examples": differing.first });
                (Action::Update, path, summary, before, ids(owner, group))
            }
            Self::SetOwner { path, uid, gid, owner, group } => {
                let summary = format!("set {}, was {uid}:{gid}", ownership(owner, group));
                (Action::Update, path, summary, json!({ "owner": uid, "group": gid }), ids(owner, group))
            }
            Self::SetMode { path, before, mode } => {
                let summary = format!("set mode {mode}, was {before}");
                (Action::Update, path, summary, json!({ "mode": before }), json!({ "mode": mode }))
            }
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

/// `owner 50000 and group 50000`.
fn ownership(owner: &Option<Identity>, group: &Option<Identity>) -> String {
    let owner = owner.as_ref().map(|owner| format!("owner {owner}"));
    let group = group.as_ref().map(|group| format!("group {group}"));
    owner.into_iter().chain(group).collect::<Vec<_>>().join(" and ")
}

fn ids(owner: &Option<Identity>, group: &Option<Identity>) -> Value {
    let mut ids = json!({});
    if let Some(owner) = owner {
        ids["owner"] = json!(owner.id);
    }
    if let Some(group) = group {
        ids["group"] = json!(group.id);
    }
    ids
}
