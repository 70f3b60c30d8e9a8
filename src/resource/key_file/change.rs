use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::PublicFacts;
use crate::resource::attributes::{AttributeChange, leftovers_removal, with_ids};
use crate::resource::regular_file::Replacement;
use crate::resource::value::{Identity, Mode};
use crate::resource::{Action, Description};
use crate::text;

/// One change of a key file. An owner or group of `None` is left unchanged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum Change {
    /// Removes what a killed run left beside the target.
    RemoveLeftovers { path: String, names: Vec<String> },
    /// Restores the key from the backup of an interrupted run.
    RestoreBackup {
        path: String,
        /// The name of the backup.
        name: String,
        /// `None` if it is not a private key, or could not be read.
        key: Option<PublicFacts>,
        /// The current key.
        instead_of: Option<PublicFacts>,
    },
    /// Removes the backup of an interrupted run, because the new key is good.
    RemoveBackup { path: String, name: String },
    Create {
        path: String,
        /// The parents that are created first.
        parents: Vec<String>,
        key: PublicFacts,
        mode: Mode,
        owner: Option<Identity>,
        group: Option<Identity>,
        /// The host where a login has to succeed before and after the key is installed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        proven_by: Option<String>,
    },
    /// Replaces the current content by the source's key.
    Replace {
        path: String,
        /// The current key. `None` if it is not a private key, or could not be read.
        before: Option<PublicFacts>,
        /// What the file contains instead of a key.
        before_text: Option<String>,
        key: PublicFacts,
        #[serde(flatten)]
        attributes: Replacement,
        /// As in `Create`. If the login fails after the key is installed, the old key is restored.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        proven_by: Option<String>,
    },
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
            Self::RestoreBackup { path, name, key, instead_of } => {
                let show = |key: &Option<PublicFacts>| key.as_ref().map_or("the current file".to_owned(), short);
                let kept = key.as_ref().map_or("the file".to_owned(), short);
                let summary =
                    format!("restore {kept} from the backup of an interrupted run, in place of {}", show(instead_of));
                let before = json!({ "key": instead_of, "kept": name });
                (Action::Update, path, summary, before, json!({ "key": key }))
            }
            Self::RemoveBackup { path, name } => (
                Action::Delete,
                path,
                "remove the backup of the old key that an interrupted run left".to_owned(),
                json!({ "kept": name }),
                Value::Null,
            ),
            Self::Create { path, parents, key, mode, owner, group, proven_by } => {
                let mut summary = format!("create the key file with {} and mode {mode}", short(key));
                if !parents.is_empty() {
                    summary.push_str(&format!(", and its parent {}", text::directories(parents)));
                }
                add_proof(&mut summary, proven_by);
                let after = with_ids(json!({ "key": key, "mode": mode, "parents": parents }), owner, group);
                (Action::Create, path, summary, Value::Null, after)
            }
            Self::Replace { path, before, before_text, key, attributes, proven_by } => {
                let was = before.as_ref().map(short).or_else(|| before_text.as_deref().map(in_a_sentence));
                let was = was.unwrap_or_default();
                let mut summary = match before {
                    Some(before) if before == key => {
                        format!("rewrite the same key, {}, with the exact content of the source", short(key))
                    }
                    _ => format!("replace {was} by {}", short(key)),
                };
                attributes.describe(&mut summary);
                add_proof(&mut summary, proven_by);
                let mut old = match before {
                    Some(before) => json!({ "key": before }),
                    None => json!({ "content": before_text }),
                };
                let mut after = json!({ "key": key });
                attributes.add_to(&mut old, &mut after);
                (Action::Update, path, summary, old, after)
            }
            Self::Attributes(change) => return change.describe(),
        };
        Description { action, target: path.clone(), summary, before, after, risk: self.risk(), diff: None }
    }
}

impl Change {
    fn risk(&self) -> Option<String> {
        match self {
            Self::Replace { before: Some(before), key, .. } if before == key => None,
            Self::Replace { before: Some(_), .. } => Some("the old key is not backed up".to_owned()),
            Self::Replace { before: None, .. } => Some("the current content of the file is not backed up".to_owned()),
            _ => None,
        }
    }
}

fn short(key: &PublicFacts) -> String {
    format!("{} {}", key.algorithm, key.fingerprint)
}

/// Returns what a file is in a form that can be in the middle of a sentence: its cause is in parentheses.
fn in_a_sentence(text: &str) -> String {
    text.split_once(": ").map_or_else(|| text.to_owned(), |(what, cause)| format!("{what} ({cause})"))
}

fn add_proof(summary: &mut String, proven_by: &Option<String>) {
    if let Some(bastion) = proven_by {
        summary.push_str(&format!(", and prove it again at {bastion}"));
    }
}
