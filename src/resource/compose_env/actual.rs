//! What is observed of a variable. It is pure data and contains no secret.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::host::fs::{Denial, FileKind};
use crate::host::secret::Digest;

/// Everything that `diff` needs for its decision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Actual {
    pub source: Source,
    pub file: ComposeFile,
    /// The `.env` file. It is read only if an occurrence refers to it.
    #[serde(default)]
    pub env_file: Option<EnvFile>,
    /// Why the acting user cannot create `.env`, if it does not exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder_denied: Option<Box<Denial>>,
    /// The names of files that an interrupted run left beside the compose file.
    #[serde(default)]
    pub leftovers: Vec<String>,
}

/// What the secret source yielded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case", deny_unknown_fields)]
pub enum Source {
    Nothing,
    /// The value cannot be that of an environment variable.
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
    /// The file is not a compose file, or not one that can be edited. The reason includes the position.
    Unreadable {
        reason: String,
    },
    Read {
        /// In the order of the file.
        services: Vec<String>,
        /// The keys that name other files, which are not read: `env_file`, `extends`, `include`.
        #[serde(default)]
        not_searched: Vec<String>,
        /// What the containers of each service are created from.
        #[serde(default)]
        uses: Vec<Service>,
        /// For each variable of `.env` that an occurrence refers to, the other places that use it.
        #[serde(default)]
        elsewhere: BTreeMap<String, Vec<String>>,
        occurrences: Vec<Occurrence>,
        /// The names of all variables that some `environment` has, if there is no occurrence.
        #[serde(default, skip_serializing_if = "<[String]>::is_empty")]
        variables: Box<[String]>,
        /// The override file that Compose merges into it.
        #[serde(default)]
        override_file: Option<Box<Override>>,
        /// Why the edit as a whole fails, although each place by itself can be edited.
        #[serde(default)]
        unproven: Option<String>,
        /// The owner, if the acting user is another one and cannot keep it.
        #[serde(default)]
        foreign_owner: Option<u32>,
        /// The group, if the acting user cannot keep it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        foreign_group: Option<u32>,
        /// Why the acting user cannot replace the file.
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

/// A file such as `docker-compose.override.yml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Override {
    pub path: PathBuf,
    /// The places where it sets the variable, or why it cannot be read.
    pub places: Result<Vec<String>, String>,
}

/// One place that sets the variable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Occurrence {
    /// The part of the file, such as `service web` or `x-common`.
    pub place: String,
    /// From 1.
    pub line: usize,
    /// The services whose containers get this value.
    #[serde(default)]
    pub services: Vec<String>,
    pub form: Form,
    /// Why the place cannot be edited without changing something else.
    #[serde(default)]
    pub entangled: Option<String>,
}

impl Occurrence {
    /// The variable of `.env` that holds the value, if one does.
    pub fn referred(&self) -> Option<&String> {
        match &self.form {
            Form::Reference { name, .. } => Some(name),
            _ => None,
        }
    }
}

/// How Compose reads the place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case", deny_unknown_fields)]
pub enum Form {
    Literal {
        digest: Digest,
    },
    /// A number, boolean or date, which reaches a container in another spelling.
    Retyped,
    /// A text with references to variables in it.
    Mixed,
    /// The value of one variable, which is kept in `.env`.
    Reference {
        name: String,
        /// Whether the place refuses an empty value (`:-`, `:?`).
        #[serde(default)]
        refuses_empty: bool,
    },
    /// Not a text.
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
        /// The value of each variable that an occurrence refers to.
        values: BTreeMap<String, EnvValue>,
        /// The other variables of the file that use one of them.
        #[serde(default)]
        put_into: BTreeMap<String, Vec<String>>,
        #[serde(default)]
        foreign_owner: Option<u32>,
        /// The group, if the acting user cannot keep it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        foreign_group: Option<u32>,
        /// Why the acting user cannot replace the file.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        denied: Option<Box<Denial>>,
    },
}

/// The value of one variable in `.env`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case", deny_unknown_fields)]
pub enum EnvValue {
    Missing,
    Text {
        digest: Digest,
    },
    /// The value uses other variables.
    Expanded,
}

/// One service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    pub name: String,
    /// The files and directories of the host that its containers mount, or read when they are created, as absolute paths.
    #[serde(default)]
    pub files: Vec<PathBuf>,
    /// The variables that its description uses.
    #[serde(default)]
    pub variables: Vec<String>,
}
