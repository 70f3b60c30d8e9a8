//! The desired value of a variable, as a plan file has it.

use std::path::PathBuf;

use serde::{Deserialize, Deserializer, Serialize};

use crate::host::secret::{SecretSource, optional_source};
use crate::resource::value::AbsolutePath;
use crate::resource::{KeyError, Segment};

/// The desired value of a variable.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ComposeEnv {
    /// The compose file.
    pub file: AbsolutePath,
    /// The variable's name in `environment`.
    #[serde(deserialize_with = "name")]
    pub variable: String,
    /// Where its value comes from. Without a source the value is left alone.
    #[serde(default, deserialize_with = "optional_source")]
    pub value: Option<SecretSource>,
    /// The service whose variable is set. Without it, the variable is set in all services.
    #[serde(default)]
    pub service: Option<String>,
    /// The file in which Compose looks for the values of `${NAME}`, if it is not `.env` beside the compose file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env_file: Option<AbsolutePath>,
}

impl ComposeEnv {
    /// Whether Compose finds the file by itself. Then it merges an override file into it.
    pub fn has_a_default_name(&self) -> bool {
        let names = ["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"];
        self.file.file_name().is_some_and(|name| names.iter().any(|default| name == *default))
    }

    /// Checks the keys together.
    pub fn check(self) -> Result<Self, KeyError> {
        if *self.file == *self.env_file() { Err(self.is_one_file()) } else { Ok(self) }
    }

    /// Returns the error for `file` and `env_file` that are the same file.
    pub(super) fn is_one_file(&self) -> KeyError {
        match &self.env_file {
            Some(env_file) if **env_file == *self.file => {
                KeyError::new(format!("`file` and `env_file` are both {}", self.file)).of([Segment::Key("env_file")])
            }
            Some(env_file) => KeyError::new(format!("`file` and `env_file` are the same file: {} and {env_file}", self.file))
                .of([Segment::Key("env_file")]),
            None => KeyError::new(format!(
                "`file` and `env_file` are both {}: without `env_file`, Compose takes the values of `${{NAME}}` from there",
                self.file
            ))
            .of([Segment::Key("file")]),
        }
        .hint("set `file` to the compose file, and `env_file` to the file with the values (by default .env beside it)")
    }

    /// The file in which Compose looks for the values of `${NAME}`.
    pub fn env_file(&self) -> PathBuf {
        self.env_file.as_ref().map_or_else(|| self.file.with_file_name(".env"), |path| path.to_path_buf())
    }
}

/// A name that Compose can substitute (`[_a-zA-Z][_a-zA-Z0-9]*`).
fn name<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let name = String::deserialize(from)?;
    let letters = |c: char| c == '_' || c.is_ascii_alphanumeric();
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(letters) {
        let told = format!("`{}` is not a valid variable name: use letters, digits and _", name.escape_debug());
        return Err(serde::de::Error::custom(told));
    }
    Ok(name)
}
