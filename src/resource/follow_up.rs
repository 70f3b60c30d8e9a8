//! What runs on this host and was made from things that a step changes: it keeps the old ones until it is made anew.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::value::shell_word;

/// The services of a compose file, and what of the host their containers are created from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Project {
    /// The compose file.
    pub file: PathBuf,
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
        format!("docker compose -f {} up -d", shell_word(&self.file.to_string_lossy()))
    }
}
