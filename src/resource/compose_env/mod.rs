//! `compose_env`: the value of one environment variable in a docker compose file.
//!
//! ```text
//! document.rs       YAML text -> tree, merge keys              interpolation.rs  Compose's `$`
//! occurrences.rs    the places that set the variable           dotenv.rs         the .env file
//! scalar.rs         one value: reading it, writing it          edit.rs           text -> edited text, checked
//! uses.rs           what containers are created from           project.rs        follow-ups
//! actual.rs, diff.rs, change.rs, host.rs                       observe, decide, execute
//! ```
//!
//! If the compose file has a literal value, the new value is written there, with `$` as `$$`, and no other byte changes. If it
//! has `${NAME}` (a default or an error message may follow), or names the variable without a value, the value is written to
//! `.env` beside it, with mode 0600. A text with variables and other letters counts as a literal: it is replaced, and the
//! change says so. Entries are never added, and the environment of the shell, which Compose prefers to `.env`, is not known.
//!
//! The services of the whole project are read as Compose reads them: `extends`, `env_file`, overrides, `COMPOSE_FILE`, `include`.
//! From that follow
//! - the follow-up, which names the services whose containers an edit changes, and the command of the project
//! - the refusal of a step for one `service` whose edit would change another one
//! - a warning if another file decides the value, or if Compose does not use the file.
//!
//! A variable of `.env` may be used elsewhere too: in the name of an image, a label, another variable. The change lists these
//! places.

use crate::failure::Failure;
use crate::text::shell_word;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer};

use super::{
    Claim, Claims, Diff, Effect, ExecuteContext, FileUse, Host, KeyError, KindInfo, Need, ObserveContext, Reacts,
    Resource, Site,
};

mod actual;
mod adopt;
mod change;
mod desired;
mod diff;
mod document;
pub(crate) mod dotenv;
pub(crate) mod edit;
mod effects;
mod follow_up;
mod host;
pub(crate) mod interpolation;
mod model;
mod occurrences;
mod project;
mod reference;
mod scalar;
#[cfg(test)]
mod tests;
mod tree;
mod uses;

use actual::{ComposeFile, Occurrence};

pub use actual::Actual;
pub use change::Change;
pub use desired::ComposeEnv;

impl Resource for ComposeEnv {
    const INFO: KindInfo = KindInfo { reacts: true, ..KindInfo::on_host("compose_env") };
    const REFERENCE: &'static super::reference::Reference = &reference::REFERENCE;
    const ADOPTION: super::adopt::Adoption<Self, Self::Actual> =
        super::adopt::Adoption::Host { probe: adopt::probe, step: adopt::step };
    const READ_SUBJECT: Option<super::ReadSubject> = Some(effects::read_subject);
    type Actual = Actual;
    type Change = Change;

    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Result<Self, KeyError>, D::Error> {
        Self::deserialize(from).map(Self::check)
    }

    /// Claims the variable, and the variable of `.env` that holds its value if one does. If the compose file cannot be read
    /// yet, both are possible.
    fn claims(&self, host: &dyn Host) -> Claims {
        let (file, env_file) = (self.file.to_path_buf(), self.env_file());
        let text = host.read(&file).and_then(|bytes| String::from_utf8(bytes).ok());
        let homes = text.and_then(|text| occurrences::homes(&text, &self.variable, self.service.as_deref()));
        let only_in_env_file =
            homes.as_ref().is_some_and(|homes| !homes.in_compose_file && !homes.in_env_file.is_empty());
        let only_in_compose_file =
            homes.as_ref().is_some_and(|homes| homes.in_compose_file && homes.in_env_file.is_empty());
        let referred = homes.map(|homes| homes.in_env_file);
        let may_be_in_env_file = referred.as_ref().is_none_or(|names| !names.is_empty());
        // With a literal in the compose file, the environment file can at most have settings of Compose.
        let env_need = if only_in_compose_file { Need::Read } else { Need::Path };
        let mut claims = Claims {
            owns: vec![Claim::Variable {
                file: file.clone(),
                name: self.variable.clone(),
                service: self.service.clone(),
            }],
            creates: None,
            needs: vec![Need::Path(file.clone()), env_need(env_file.clone())],
            edits: file.parent().map(Path::to_path_buf).into_iter().collect(),
        };
        let usage = if only_in_env_file { FileUse::Needs } else { FileUse::Edits };
        claims.owns.push(Claim::EditedFile { path: file, usage });
        if may_be_in_env_file {
            // Only the environment file may be new. The compose file has to exist.
            claims.creates = Some(env_file.clone());
            let usage = if referred.is_some() { FileUse::Edits } else { FileUse::MayEdit };
            claims.owns.push(Claim::EditedFile { path: env_file.clone(), usage });
        }
        let names = referred.into_iter().flatten();
        claims.owns.extend(names.map(|name| Claim::EnvVariable { file: env_file.clone(), name }));
        claims
    }

    /// Whether the value reaches the services depends on an override file.
    fn reads(&self, _home: Option<&Path>, _host: &dyn Host) -> Vec<PathBuf> {
        let folder = self.file.parent().filter(|_| self.has_a_default_name());
        folder.into_iter().flat_map(|folder| project::OVERRIDES.map(|name| folder.join(name))).collect()
    }

    fn observed_claims(&self, actual: &Actual) -> Vec<Claim> {
        let ComposeFile::Read { occurrences, .. } = &actual.file else { return Vec::new() };
        let names: BTreeSet<&String> = occurrences.iter().filter_map(Occurrence::referred).collect();
        let claim = |name: &String| Claim::EnvVariable { file: self.env_file(), name: name.clone() };
        let mut claims: Vec<Claim> = names.iter().map(|name| claim(name)).collect();
        if !names.is_empty() {
            claims.push(Claim::EditedFile { path: self.env_file(), usage: FileUse::Edits });
        }
        if occurrences.iter().any(|occurrence| occurrence.referred().is_none()) {
            claims.push(Claim::EditedFile { path: self.file.to_path_buf(), usage: FileUse::Edits });
        }
        claims
    }

    fn site(&self) -> Site<'_> {
        Site::Host { secrets: self.value.iter().map(|value| ("value", value)).collect() }
    }

    fn manual(&self) -> Vec<String> {
        let folder = self.file.parent().unwrap_or(Path::new("/"));
        let name = self.file.file_name().unwrap_or_default();
        let file = shell_word(name);
        let env_file = self.env_file.as_ref().map(shell_word);
        let mut compose = "docker compose".to_owned();
        if let Some(env_file) = &env_file {
            compose.push_str(&format!(" --env-file {env_file}"));
        }
        if !self.has_a_default_name() {
            compose.push_str(&format!(" -f {file}"));
        }
        let env_file = env_file.unwrap_or_else(|| ".env".to_owned());
        vec![
            format!("cd {}", shell_word(folder)),
            format!("grep -n {} {file}   # find the value", shell_word(&self.variable)),
            format!("\"${{EDITOR:-vi}}\" {file}   # write the value in quotes, with each $ as $$"),
            format!("# if the file has ${{NAME}} instead, write the value into {env_file}, as NAME='value':"),
            format!("\"${{EDITOR:-vi}}\" {env_file} && chmod 600 {env_file}"),
            format!("{compose} config --quiet && {compose} up -d"),
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
