//! What is observed of a variable: pure data, and no secret in it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::project::Service;
use crate::host::fs::{Denial, FileKind};
use crate::host::secret::Digest;

/// The whole of what `diff` decides on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Actual {
    pub source: Source,
    pub file: ComposeFile,
    /// The file beside the compose file; looked at only where an occurrence refers to it.
    #[serde(default)]
    pub env_file: Option<EnvFile>,
    /// What keeps the acting user from making `.env`, where it does not exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder_denied: Option<Box<Denial>>,
    /// Names of entries that an interrupted run left beside the compose file.
    #[serde(default)]
    pub leftovers: Vec<String>,
}

/// What the secret source yielded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case", deny_unknown_fields)]
pub enum Source {
    Nothing,
    /// No environment variable can hold it.
    Unusable {
        reason: String,
    },
    Value {
        digest: Digest,
        empty: bool,
    },
}

/// The compose file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case", deny_unknown_fields)]
pub enum ComposeFile {
    Missing,
    NotAFile {
        found: FileKind,
    },
    /// Not a compose file, or one that is written in a way that is not worked on; with the position.
    Unreadable {
        reason: String,
    },
    Read {
        /// In the order of the file.
        services: Vec<String>,
        /// The words that name other files, which are not looked into: `env_file`, `extends`, `include`.
        #[serde(default)]
        not_searched: Vec<String>,
        /// What their containers are created from.
        #[serde(default)]
        uses: Vec<Service>,
        /// Where else a variable of `.env` is put in that an occurrence refers to, by its name.
        #[serde(default)]
        elsewhere: BTreeMap<String, Vec<String>>,
        occurrences: Vec<Occurrence>,
        /// The file beside it that Compose lays over it.
        #[serde(default)]
        override_file: Option<Box<Override>>,
        /// Why the places cannot be given the value, although each by itself can.
        #[serde(default)]
        unproven: Option<String>,
        /// The owner, where the acting user is another one and could not keep it.
        #[serde(default)]
        foreign_owner: Option<u32>,
        /// The group, where the acting user could not keep it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        foreign_group: Option<u32>,
        /// What keeps the acting user from putting a new version in its place.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        denied: Option<Box<Denial>>,
        /// Four octal digits.
        #[serde(default)]
        mode: String,
        /// The number of hard links.
        #[serde(default)]
        links: u64,
    },
}

/// A file of a name such as `docker-compose.override.yml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Override {
    pub path: PathBuf,
    /// Where it gives the variable a value of its own; or why it cannot be read.
    pub places: Result<Vec<String>, String>,
}

/// One place that gives the variable a value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Occurrence {
    /// The part of the file: `service web`, `x-common`.
    pub place: String,
    /// From 1.
    pub line: usize,
    /// The services whose containers get this value.
    #[serde(default)]
    pub services: Vec<String>,
    pub form: Form,
    /// Why its bytes cannot change without changing something else.
    #[serde(default)]
    pub entangled: Option<String>,
}

impl Occurrence {
    /// The variable of `.env` in which the value lives, where it lives there.
    pub fn referred(&self) -> Option<&String> {
        match &self.form {
            Form::Reference { name, .. } => Some(name),
            _ => None,
        }
    }
}

/// What Compose makes of the place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case", deny_unknown_fields)]
pub enum Form {
    Literal {
        digest: Digest,
    },
    /// A number, truth value or date, which a container gets in another spelling.
    Retyped,
    /// A text with references to variables in it.
    Mixed,
    /// The value of one variable, which is kept in `.env`.
    Reference {
        name: String,
        /// The place does not take an empty value (`:-`, `:?`).
        #[serde(default)]
        refuses_empty: bool,
    },
    /// No text.
    Foreign {
        /// Completes "the value …".
        why: String,
    },
}

/// The `.env` file beside the compose file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case", deny_unknown_fields)]
pub enum EnvFile {
    Missing,
    NotAFile {
        found: FileKind,
    },
    Unreadable {
        reason: String,
    },
    Read {
        /// Four octal digits.
        mode: String,
        /// What it says of each variable that an occurrence refers to.
        values: BTreeMap<String, EnvValue>,
        /// Which of its other variables one of them is put into.
        #[serde(default)]
        put_into: BTreeMap<String, Vec<String>>,
        #[serde(default)]
        foreign_owner: Option<u32>,
        /// The group, where the acting user could not keep it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        foreign_group: Option<u32>,
        /// What keeps the acting user from putting a new version in its place.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        denied: Option<Box<Denial>>,
    },
}

/// What `.env` says of one variable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case", deny_unknown_fields)]
pub enum EnvValue {
    Missing,
    Text {
        digest: Digest,
    },
    /// Other variables are put into it.
    Expanded,
}
