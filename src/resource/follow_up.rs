//! What runs on this host and was made from things that a step changes: it keeps the old ones until it is made anew.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::value::shell_word;

/// The services of a compose file, and what of the host their containers are created from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Project {
    /// The compose file.
    pub file: PathBuf,
    /// What Compose lays over it by itself, unless a file is named to it.
    pub override_file: Option<PathBuf>,
    pub services: Vec<Service>,
}

/// One service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    pub name: String,
    /// What its containers mount from the host, or read when they are created: absolute paths, of directories too.
    #[serde(default)]
    pub files: Vec<PathBuf>,
    /// The variables that are put into its description.
    #[serde(default)]
    pub variables: Vec<String>,
}

impl Project {
    /// The command that creates the containers of these services anew.
    pub fn recreate(&self, services: &[String]) -> String {
        let words: Vec<String> = services.iter().map(|service| shell_word(service)).collect();
        format!("{} --force-recreate {}", self.up(), words.join(" "))
    }

    /// The command that creates those containers anew whose description has changed.
    pub fn up(&self) -> String {
        let files = [Some(&self.file), self.override_file.as_ref()].into_iter().flatten();
        let files: Vec<String> = files.map(|file| format!("-f {}", shell_word(&file.to_string_lossy()))).collect();
        format!("docker compose {} up -d", files.join(" "))
    }
}
