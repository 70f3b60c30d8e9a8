//! The changes that the kind can make.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::host::fs::escape_path;
use crate::resource::{Action, Description};

/// Stands for a value, the old one and the new one alike.
const HIDDEN: &str = "(hidden)";

/// One decided mutation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case", deny_unknown_fields)]
pub enum Change {
    /// Removes what an interrupted run left.
    RemoveLeftovers { directory: PathBuf, names: Vec<String> },
    /// Makes `.env`.
    CreateEnvFile {
        path: PathBuf,
        names: Vec<String>,
        /// Where else the value goes, for they are put in there too: `service db, line 7`.
        #[serde(default)]
        elsewhere: Vec<String>,
    },
    /// Sets variables in `.env`. `mode` is its mode, where that is too wide and becomes 0600.
    EnvFile {
        path: PathBuf,
        names: Vec<String>,
        #[serde(default)]
        mode: Option<String>,
        /// As for a new one.
        #[serde(default)]
        elsewhere: Vec<String>,
    },
    /// Takes access to `.env` away from group and others.
    EnvFileMode { path: PathBuf, from: String, to: String },
    /// Edits the values in the compose file.
    ComposeFile {
        path: PathBuf,
        variable: String,
        /// `service web, line 7`.
        places: Vec<String>,
        /// Those of the places whose text refers to variables, and will not any more.
        #[serde(default)]
        references: Vec<String>,
    },
}

impl Change {
    /// What is changed.
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

/// The places by what they are in: a value of several lines moves those after it.
fn without_lines(places: &[String]) -> impl Iterator<Item = &str> {
    places.iter().map(|place| place.rsplit_once(", line ").map_or(place.as_str(), |(place, _)| place))
}

fn goes_elsewhere(places: &[String]) -> Option<String> {
    (!places.is_empty()).then(|| format!("the value goes to other places too ({})", places.join("; ")))
}

impl crate::resource::Change for Change {
    /// Another step of the run may have made `.env` first, or put another value into one of the two files.
    fn is_left_of(&self, planned: &Self) -> bool {
        match (self, planned) {
            (
                Self::EnvFile { path, names, mode: None, elsewhere },
                Self::CreateEnvFile { path: planned_path, names: planned_names, elsewhere: planned_elsewhere },
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
            _ => self == planned,
        }
    }

    fn describe(&self) -> Description {
        let target = escape_path(self.path());
        let update = |summary, before, after| Description {
            action: Action::Update,
            target: target.clone(),
            summary,
            before,
            after,
            risk: None,
        };
        match self {
            Self::RemoveLeftovers { names, .. } => Description {
                action: Action::Delete,
                summary: format!("remove what an interrupted run left: {}", names.join(", ")),
                before: json!(names),
                after: Value::Null,
                risk: None,
                target,
            },
            Self::CreateEnvFile { names, elsewhere, .. } => Description {
                action: Action::Create,
                summary: format!("create .env with {}, mode 0600", names.join(", ")),
                before: Value::Null,
                after: json!({ "value": HIDDEN, "mode": "0600" }),
                risk: goes_elsewhere(elsewhere),
                target,
            },
            Self::EnvFile { names, mode: None, elsewhere, .. } => Description {
                risk: goes_elsewhere(elsewhere),
                ..update(
                    format!("set {} in .env", names.join(", ")),
                    json!({ "value": HIDDEN }),
                    json!({ "value": HIDDEN }),
                )
            },
            Self::EnvFile { names, mode: Some(mode), elsewhere, .. } => Description {
                risk: goes_elsewhere(elsewhere),
                ..update(
                    format!("set {} in .env, and its mode to 0600", names.join(", ")),
                    json!({ "value": HIDDEN, "mode": mode }),
                    json!({ "value": HIDDEN, "mode": "0600" }),
                )
            },
            Self::EnvFileMode { from, to, .. } => {
                update(format!("set the mode of .env to {to}"), json!({ "mode": from }), json!({ "mode": to }))
            }
            Self::ComposeFile { variable, places, references, .. } => Description {
                risk: (!references.is_empty()).then(|| {
                    format!("the text there refers to variables and will not any more ({})", references.join("; "))
                }),
                ..update(
                    format!("set {variable} in {}", places.join("; ")),
                    json!({ "value": HIDDEN }),
                    json!({ "value": HIDDEN }),
                )
            },
        }
    }
}
