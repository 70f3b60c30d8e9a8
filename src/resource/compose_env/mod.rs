//! `compose_env`: the value of one environment variable in a docker compose file.
//!
//! ```text
//! document.rs       YAML text -> tree with byte positions      interpolation.rs  Compose's `$`
//! occurrences.rs    where the variable gets its value          dotenv.rs         the .env file
//! scalar.rs         one value: reading, and writing in style   edit.rs           text -> edited text, proven
//! uses.rs           what containers are created from     project.rs        what is left to do for them
//! actual.rs, diff.rs, change.rs, host.rs                       observe, decide, execute
//! ```
//!
//! The value is written into the compose file where a literal stands there, `$` as `$$`, and no other byte changes.
//! Where the file says `${NAME}` (a default or an error message may follow), or names the variable without a value,
//! the value is kept in `.env` beside it, of mode 0600. A text that mixes variables and other letters counts as a
//! literal: it is replaced, and the change says so. Entries are never added, and nothing else is looked into: no
//! `env_file`, no file that is included or extended, and not the shell's environment, which for Compose comes before
//! `.env`.
//!
//! A variable of `.env` can be put in elsewhere, too: in an image's name, a label, another variable. The change then says
//! where its value goes; where one `service` is meant and another one uses the variable, it is refused. A file that
//! Compose lays over the compose file (`docker-compose.override.yml`) is warned of where it has a value of its own.

use crate::failure::Failure;
use crate::text::shell_word;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize};

use super::value::AbsolutePath;
use super::{
    Claim, Claims, Diff, Effect, ExecuteContext, Host, KindInfo, Need, ObserveContext, Reacts, Resource, Site,
};
use crate::host::secret::{SecretSource, optional_source};

mod actual;
mod change;
mod diff;
mod document;
pub(crate) mod dotenv;
pub(crate) mod edit;
mod host;
pub(crate) mod interpolation;
mod occurrences;
mod project;
mod reference;
mod scalar;
#[cfg(test)]
mod tests;
mod uses;

use actual::{ComposeFile, Occurrence};

pub use actual::Actual;
pub use change::Change;

/// The desired value of a variable.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ComposeEnv {
    /// The compose file.
    pub file: AbsolutePath,
    /// The variable's name in `environment`.
    #[serde(deserialize_with = "name")]
    pub variable: String,
    /// Where its value comes from; none leaves the value alone.
    #[serde(default, deserialize_with = "optional_source")]
    pub value: Option<SecretSource>,
    /// The one service that is meant; all of them without it.
    #[serde(default)]
    pub service: Option<String>,
}

impl ComposeEnv {
    /// Whether Compose finds the file by itself, and then lays another one over it.
    fn has_a_default_name(&self) -> bool {
        let names = ["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"];
        self.file.file_name().is_some_and(|name| names.iter().any(|default| name == *default))
    }

    /// Where Compose looks for the values of `${NAME}`.
    fn env_file(&self) -> PathBuf {
        self.file.with_file_name(".env")
    }
}

impl Resource for ComposeEnv {
    const INFO: KindInfo = KindInfo { secret_keys: &["value"], reacts: true, ..KindInfo::on_host("compose_env") };
    const REFERENCE: &'static super::reference::Reference = &reference::REFERENCE;
    type Actual = Actual;
    type Change = Change;

    /// The variable, and where its value lives in `.env` the variable there. Of a compose file that cannot be read yet
    /// both are taken to be possible.
    fn claims(&self, host: &dyn Host) -> Claims {
        let (file, env_file) = (self.file.to_path_buf(), self.env_file());
        let text = host.read(&file).and_then(|bytes| String::from_utf8(bytes).ok());
        let referred = text.and_then(|text| occurrences::referred(&text, &self.variable, self.service.as_deref()));
        let mut claims = Claims {
            owns: vec![Claim::Variable {
                file: file.clone(),
                name: self.variable.clone(),
                service: self.service.clone(),
            }],
            needs: vec![Need::Path(file.clone()), Need::Path(env_file.clone())],
            edits: file.parent().map(Path::to_path_buf).into_iter().collect(),
        };
        claims.owns.push(Claim::EditedFile { path: file, certain: true });
        if referred.as_ref().is_none_or(|names| !names.is_empty()) {
            claims.owns.push(Claim::EditedFile { path: env_file.clone(), certain: referred.is_some() });
        }
        let names = referred.into_iter().flatten();
        claims.owns.extend(names.map(|name| Claim::EnvVariable { file: env_file.clone(), name }));
        claims
    }

    fn observed_claims(&self, actual: &Actual) -> Vec<Claim> {
        let ComposeFile::Read { occurrences, .. } = &actual.file else { return Vec::new() };
        let names: BTreeSet<&String> = occurrences.iter().filter_map(Occurrence::referred).collect();
        let claim = |name: &String| Claim::EnvVariable { file: self.env_file(), name: name.clone() };
        names.into_iter().map(claim).collect()
    }

    fn site(&self) -> Site<'_> {
        Site::Host { secrets: self.value.iter().map(|value| ("value", value)).collect() }
    }

    fn manual(&self) -> Vec<String> {
        let folder = self.file.parent().unwrap_or(Path::new("/"));
        let name = self.file.file_name().unwrap_or_default();
        let file = shell_word(&name.to_string_lossy());
        vec![
            format!("cd {}", shell_word(&folder.to_string_lossy())),
            format!("grep -n {} {file}   # where it stands", shell_word(&self.variable)),
            format!("\"${{EDITOR:-vi}}\" {file}   # the value goes in quotes, each $ in it as $$"),
            "# where the file says ${NAME} in its place, the value goes into .env, as NAME='value':".to_owned(),
            "\"${EDITOR:-vi}\" .env && chmod 600 .env".to_owned(),
            if self.has_a_default_name() {
                "docker compose config --quiet && docker compose up -d".to_owned()
            } else {
                format!("docker compose -f {file} config --quiet && docker compose -f {file} up -d")
            },
        ]
    }

    fn effect(&self, change: &Change, path: &Path) -> Effect {
        let is_written =
            matches!(change, Change::CreateEnvFile { .. } | Change::EnvFile { .. } | Change::ComposeFile { .. });
        match change.path() == path {
            true if is_written => Effect::Replaces,
            true => Effect::Alters,
            false => Effect::None,
        }
    }

    fn reacts(&self) -> Option<&dyn Reacts<Actual, Change>> {
        Some(self)
    }

    async fn observe(&self, cx: &ObserveContext) -> Result<Actual, Failure> {
        host::observe(self, cx)
    }

    fn diff(&self, actual: &Actual) -> Result<Diff<Change>, Failure> {
        diff::diff(self, actual)
    }

    async fn execute(&self, change: &Change, cx: &ExecuteContext) -> Result<(), Failure> {
        host::execute(self, change, cx)
    }
}

/// A name that Compose can substitute (`[_a-zA-Z][_a-zA-Z0-9]*`).
fn name<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let name = String::deserialize(from)?;
    let letters = |c: char| c == '_' || c.is_ascii_alphanumeric();
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(letters) {
        let told = format!("`{}` is no variable's name: letters, digits and _ make one", name.escape_debug());
        return Err(serde::de::Error::custom(told));
    }
    Ok(name)
}
