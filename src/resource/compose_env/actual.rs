//! What is observed of a variable. It is pure data and contains no secret.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::project::Project;
use crate::host::fs::{Denial, FileKind, Removal};
use crate::host::secret::Digest;

/// Everything that `diff` needs for its decision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Actual {
    pub source: Source,
    /// Warnings about the value of the source.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secret_warnings: Vec<String>,
    pub file: ComposeFile,
    /// The `.env` file. It is read only if an occurrence refers to it.
    #[serde(default)]
    pub env_file: Option<EnvFile>,
    /// Whether the keys `file` and `env_file` lead to the same file.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_one_file: bool,
    /// Why the acting user cannot create `.env`, if it does not exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder_denied: Option<Box<Denial>>,
    /// The names of files that an interrupted run left beside the compose file.
    #[serde(default)]
    pub leftovers: Vec<String>,
    /// The names of files that it left beside a `.env` in another directory.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env_leftovers: Vec<String>,
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
#[expect(clippy::large_enum_variant, reason = "a step has one of them")]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case", deny_unknown_fields)]
pub enum ComposeFile {
    Missing,
    NotAFile {
        found: FileKind,
        /// Where a symlink leads.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        target: Option<PathBuf>,
        /// What the message may propose for it.
        #[serde(default, skip_serializing_if = "Removal::is_aside")]
        removal: Removal,
    },
    /// The file is not a compose file, or not one that can be edited. The reason includes the position.
    Unreadable {
        reason: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hint: Option<String>,
    },
    Read {
        /// In the order of the file.
        services: Box<[String]>,
        /// The keys that name other files, which are not read: `env_file`, `extends`, `include`.
        #[serde(default)]
        not_searched: Box<[String]>,
        /// The services of the project, with what their containers are created from.
        #[serde(default)]
        uses: Box<[Service]>,
        /// For each variable of `.env` that an occurrence refers to, the other places that use it.
        #[serde(default)]
        elsewhere: BTreeMap<String, Vec<String>>,
        occurrences: Box<[Occurrence]>,
        /// The names of all variables that some `environment` has, if there is no occurrence.
        #[serde(default, skip_serializing_if = "<[String]>::is_empty")]
        variables: Box<[String]>,
        /// The files of an `env_file` that have the variable, if there is no occurrence, each with a service.
        #[serde(default, skip_serializing_if = "<[EnvFileOf]>::is_empty")]
        in_env_files: Box<[EnvFileOf]>,
        /// How Compose comes to the file.
        #[serde(default)]
        project: Box<Project>,
        /// The services that the edit of the compose file changes.
        #[serde(default)]
        by_compose_file: Box<Affected>,
        /// The services that the edit of `.env` changes.
        #[serde(default)]
        by_env_file: Box<Affected>,
        /// The services that do not get the value, because another file decides it.
        #[serde(default)]
        overridden: Box<[Overridden]>,
        /// Why the project is not known in full.
        #[serde(default)]
        unresolved: Option<Box<Unresolved>>,
        /// Why the edit as a whole fails, although each place by itself can be edited.
        #[serde(default)]
        unproven: Option<Box<str>>,
        /// The owner, if the acting user is another one and cannot keep it.
        #[serde(default)]
        foreign_owner: Option<Box<str>>,
        /// The group, if the acting user cannot keep it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        foreign_group: Option<Box<str>>,
        /// Why the acting user cannot replace the file.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        denied: Option<Box<Denial>>,
        /// Four octal digits.
        #[serde(default)]
        mode: Box<str>,
        /// Whether a directory above gives no access to users other than its owner and group.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        is_out_of_reach: bool,
        /// The number of hard links.
        #[serde(default)]
        links: u64,
    },
}

/// The services that an edit changes, in alphabetical order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Affected {
    pub services: Vec<String>,
    /// Those of them whose containers have to be recreated. For the others, only the build changes.
    #[serde(default)]
    pub containers: Vec<String>,
}

/// A service that does not get the value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Overridden {
    pub service: String,
    /// Where other files set the variable for it.
    #[serde(default)]
    pub places: Vec<String>,
}

/// A file that a service names in `env_file`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnvFileOf {
    pub service: String,
    pub path: PathBuf,
}

/// A file of the project that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unresolved {
    pub path: PathBuf,
    /// Completes "cannot be read: ".
    pub why: String,
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
    Missing {
        /// The parents that are missing too, the outermost first.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        missing_parents: Vec<String>,
    },
    NotAFile {
        found: FileKind,
        /// Where a symlink leads.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        target: Option<PathBuf>,
        /// What the message may propose for it.
        #[serde(default, skip_serializing_if = "Removal::is_aside")]
        removal: Removal,
    },
    Unreadable {
        reason: String,
    },
    /// A compose file, which may also be valid in the syntax of `.env`.
    ComposeFile,
    Read {
        /// Four octal digits.
        mode: String,
        /// The value of each variable that an occurrence refers to.
        values: BTreeMap<String, EnvValue>,
        /// The other variables of the file that use one of them.
        #[serde(default)]
        put_into: BTreeMap<String, Vec<String>>,
        #[serde(default)]
        foreign_owner: Option<Box<str>>,
        /// The group, if the acting user cannot keep it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        foreign_group: Option<Box<str>>,
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
    /// The files and directories of the host that its containers mount or are given, as absolute paths.
    #[serde(default)]
    pub files: Vec<PathBuf>,
    /// The files that hold variables for its containers.
    #[serde(default)]
    pub env_files: Vec<PathBuf>,
    /// Why a plain `docker compose up` would not start it, or would run it again: `profile debug`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_demand: Option<String>,
}
