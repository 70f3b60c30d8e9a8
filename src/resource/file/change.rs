use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::host::secret::Digest;
use crate::resource::attributes::{AttributeChange, leftovers_removal, ownership, with_ids};
use crate::resource::regular_file::Replacement;
use crate::resource::value::{Identity, Mode};
use crate::resource::{Action, Description};
use crate::text;

/// One change of a file. An owner or group that is not given stays as it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum Change {
    /// Removes what a killed run left beside the target.
    RemoveLeftovers { path: String, names: Vec<String> },
    Create {
        path: String,
        /// The parents that are created first.
        parents: Vec<String>,
        /// The digest of the content.
        content: Digest,
        difference: Difference,
        mode: Mode,
        owner: Option<Identity>,
        group: Option<Identity>,
    },
    /// Replaces the existing file, which is rescued first, by a file with the content.
    Replace {
        path: String,
        /// The digests of the existing content and of the new one.
        before: Digest,
        content: Digest,
        difference: Difference,
        /// Whether the existing file is empty, so that nothing needs to be rescued.
        is_empty: bool,
        #[serde(flatten)]
        attributes: Replacement,
    },
    #[serde(untagged)]
    Attributes(AttributeChange),
}

/// What a plan shows of a change of content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Difference {
    /// The lines of a unified diff, and the numbers of added and removed lines.
    Lines { added: usize, removed: usize, diff: String },
    /// The reason why no lines are shown.
    NotShown { why: String },
}

impl crate::resource::Change for Change {
    fn parents(&mut self) -> Option<&mut Vec<String>> {
        match self {
            Self::Create { parents, .. } => Some(parents),
            _ => None,
        }
    }

    fn hide(&mut self, has_secret: &dyn Fn(&str) -> bool) {
        if let Self::Create { difference, .. } | Self::Replace { difference, .. } = self
            && let Difference::Lines { diff, .. } = difference
            && has_secret(diff)
        {
            *difference = Difference::NotShown { why: "not shown: it has the value of a secret".to_owned() };
        }
    }

    fn describe(&self) -> Description {
        let (action, path, summary, before, after, difference) = match self {
            Self::RemoveLeftovers { path, names } => return leftovers_removal(path, names),
            Self::Create { path, parents, difference, mode, owner, group, .. } => {
                let mut summary = format!("create the file with mode {mode}");
                if owner.is_some() || group.is_some() {
                    summary.push_str(&format!(", {}", ownership(owner, group)));
                }
                if !parents.is_empty() {
                    summary.push_str(&format!(", and its parent {}", text::directories(parents)));
                }
                summary.push_str(&difference.shown());
                let after = with_ids(json!({ "mode": mode, "parents": parents }), owner, group);
                (Action::Create, path, summary, Value::Null, after, Some(difference))
            }
            Self::Replace { path, difference, attributes, .. } => {
                let mut summary = "replace the content".to_owned();
                attributes.describe(&mut summary);
                summary.push_str(&difference.shown());
                let (mut before, mut after) = (json!({}), json!({}));
                attributes.add_to(&mut before, &mut after);
                (Action::Update, path, summary, before, after, Some(difference))
            }
            Self::Attributes(change) => return change.describe(),
        };
        let diff = match difference {
            Some(Difference::Lines { diff, .. }) => Some(diff.clone()).filter(|diff| !diff.is_empty()),
            _ => None,
        };
        Description { action, target: path.clone(), summary, before, after, risk: self.risk(), diff }
    }
}

impl Change {
    fn risk(&self) -> Option<String> {
        match self {
            Self::Replace { is_empty: false, .. } => Some("what is in the file now is rescued and replaced".to_owned()),
            _ => None,
        }
    }
}

impl Difference {
    /// Returns the end of a summary.
    fn shown(&self) -> String {
        match self {
            Self::Lines { added: 0, removed: 0, .. } => " (empty)".to_owned(),
            Self::Lines { added, removed: 0, .. } => format!(" ({} added)", lines(*added)),
            Self::Lines { added: 0, removed, .. } => format!(" ({} removed)", lines(*removed)),
            Self::Lines { added, removed, .. } => format!(" ({} added, {removed} removed)", lines(*added)),
            Self::NotShown { why } => format!(" ({why})"),
        }
    }
}

fn lines(count: usize) -> String {
    crate::text::plural(count, "line")
}
