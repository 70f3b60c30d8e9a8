//! The changes that the kind can make.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::host::fs::escape_path;
use crate::resource::{Action, Description};

/// The placeholder for a value.
const HIDDEN: &str = "(hidden)";
/// The placeholder for the value that replaces it.
const ANOTHER: &str = "(hidden, another)";

/// One decided mutation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case", deny_unknown_fields)]
pub enum Change {
    /// Removes the files that an interrupted run left.
    RemoveLeftovers { directory: PathBuf, names: Vec<String> },
    /// Creates `.env`.
    CreateEnvFile {
        path: PathBuf,
        /// The parents that are created first, the outermost first.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        parents: Vec<String>,
        names: Vec<String>,
        /// The other places that use these variables, such as `service db, line 7`.
        #[serde(default)]
        elsewhere: Vec<String>,
    },
    /// Sets variables in `.env`. `mode` is its mode if that is too open and becomes 0600.
    EnvFile {
        path: PathBuf,
        names: Vec<String>,
        #[serde(default)]
        mode: Option<String>,
        /// As for [`Change::CreateEnvFile`].
        #[serde(default)]
        elsewhere: Vec<String>,
    },
    /// Removes the access of group and others to `.env`.
    EnvFileMode { path: PathBuf, from: String, to: String },
    /// Edits the values in the compose file.
    ComposeFile {
        path: PathBuf,
        variable: String,
        /// `service web, line 7`.
        places: Vec<String>,
        /// The places whose text refers to variables, which the new value does not.
        #[serde(default)]
        references: Vec<String>,
    },
}

impl Change {
    /// The file that is changed.
    pub fn path(&self) -> &Path {
        match self {
            Self::RemoveLeftovers { directory: path, .. }
            | Self::CreateEnvFile { path, .. }
            | Self::EnvFile { path, .. }
            | Self::EnvFileMode { path, .. }
            | Self::ComposeFile { path, .. } => path,
        }
    }
}

/// The places without their lines: a value of several lines moves the places after it.
fn without_lines(places: &[String]) -> impl Iterator<Item = &str> {
    places.iter().map(|place| place.rsplit_once(", line ").map_or(place.as_str(), |(place, _)| place))
}

fn goes_elsewhere(places: &[String]) -> Option<String> {
    (!places.is_empty()).then(|| format!("the value goes to other places too ({})", places.join("; ")))
}

impl crate::resource::Change for Change {
    /// Another step of the run may have created `.env` first, or set another value in one of the two files.
    fn is_left_of(&self, planned: &Self) -> bool {
        match (self, planned) {
            (
                Self::EnvFile { path, names, mode: None, elsewhere },
                Self::CreateEnvFile { path: planned_path, names: planned_names, elsewhere: planned_elsewhere, .. },
            )
            | (
                Self::EnvFile { path, names, mode: None, elsewhere },
                Self::EnvFile { path: planned_path, names: planned_names, mode: Some(_), elsewhere: planned_elsewhere },
            ) => path == planned_path && names == planned_names && elsewhere == planned_elsewhere,
            (
                Self::ComposeFile { path, variable, places, references },
                Self::ComposeFile {
                    path: planned_path,
                    variable: planned_variable,
                    places: planned_places,
                    references: planned_references,
                },
            ) => {
                path == planned_path
                    && variable == planned_variable
                    && without_lines(places).eq(without_lines(planned_places))
                    && without_lines(references).eq(without_lines(planned_references))
            }
            _ => crate::resource::is_left_of_with_parents(self, planned),
        }
    }

    fn parents(&mut self) -> Option<&mut Vec<String>> {
        match self {
            Self::CreateEnvFile { parents, .. } => Some(parents),
            _ => None,
        }
    }

    fn describe(&self) -> Description {
        let target = escape_path(self.path());
        let name = self.path().file_name().map(|name| escape_path(Path::new(name))).unwrap_or_default();
        let update = |summary, before, after| Description {
            action: Action::Update,
            target: target.clone(),
            summary,
            before,
            after,
            risk: None,
            diff: None,
        };
        match self {
            Self::RemoveLeftovers { names, .. } => Description {
                action: Action::Delete,
                summary: format!("remove what an interrupted run left: {}", names.join(", ")),
                before: json!(names),
                after: Value::Null,
                risk: None,
                diff: None,
                target,
            },
            Self::CreateEnvFile { parents, names, elsewhere, .. } => {
                let mut summary = format!("create {name} with {}, mode 0600", names.join(", "));
                if !parents.is_empty() {
                    summary.push_str(&format!(", and its parents {}", parents.join(", ")));
                }
                Description {
                    action: Action::Create,
                    summary,
                    before: Value::Null,
                    after: json!({ "value": HIDDEN, "mode": "0600", "parents": parents }),
                    risk: goes_elsewhere(elsewhere),
                    diff: None,
                    target,
                }
            }
            Self::EnvFile { names, mode: None, elsewhere, .. } => Description {
                risk: goes_elsewhere(elsewhere),
                ..update(
                    format!("set {} in {name}", names.join(", ")),
                    json!({ "value": HIDDEN }),
                    json!({ "value": ANOTHER }),
                )
            },
            Self::EnvFile { names, mode: Some(mode), elsewhere, .. } => Description {
                risk: goes_elsewhere(elsewhere),
                ..update(
                    format!("set {} in {name}, and its mode to 0600", names.join(", ")),
                    json!({ "value": HIDDEN, "mode": mode }),
                    json!({ "value": ANOTHER, "mode": "0600" }),
                )
            },
            Self::EnvFileMode { from, to, .. } => {
                update(format!("set the mode of {name} to {to}"), json!({ "mode": from }), json!({ "mode": to }))
            }
            Self::ComposeFile { variable, places, references, .. } => Description {
                risk: (!references.is_empty()).then(|| {
                    format!(
                        "the text there refers to variables, and the new value does not ({})",
                        references.join("; ")
                    )
                }),
                ..update(
                    format!("set {variable} in {}", places.join("; ")),
                    json!({ "value": HIDDEN }),
                    json!({ "value": ANOTHER }),
                )
            },
        }
    }
}
