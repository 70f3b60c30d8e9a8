//! The project that a compose file belongs to, as `docker compose` finds it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::model::{self, Model, ProjectError, Read, env_values, normal};
use crate::text::{shell_word, shell_words};

/// The files that Compose looks for, in this order (compose-go's `cli/options.go`).
pub const FILES: [&str; 4] = ["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"];
/// The first of these is merged into the file that Compose has found.
pub const OVERRIDES: [&str; 4] =
    ["compose.override.yml", "compose.override.yaml", "docker-compose.override.yml", "docker-compose.override.yaml"];

/// How Compose finds the file of a step.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Project {
    /// The project's directory.
    pub folder: PathBuf,
    /// The files that are merged, in this order.
    pub files: Vec<PathBuf>,
    /// Whether Compose finds these files by itself in the directory. If not, they are named with `-f`.
    pub is_found: bool,
    /// The file that has to be named with `--env-file`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env_file: Option<PathBuf>,
    /// All files that were read, including extended and included ones.
    #[serde(default)]
    pub read: Vec<PathBuf>,
    /// The files that Compose uses instead, if it ignores the step's file.
    #[serde(default)]
    pub instead: Vec<PathBuf>,
}

impl Project {
    /// Returns the command line of `docker compose` for this project, which works in any directory.
    pub fn argv(&self, arguments: &[String]) -> Vec<String> {
        let mut argv = self.compose();
        if self.env_file.is_none() && self.files.first().is_some_and(|file| file.parent() != Some(&self.folder)) {
            // Compose would look for `.env` beside the first file.
            argv.extend(["--env-file".to_owned(), self.folder.join(".env").to_string_lossy().into_owned()]);
        }
        for file in &self.files {
            argv.extend(["-f".to_owned(), file.to_string_lossy().into_owned()]);
        }
        argv.extend_from_slice(arguments);
        argv
    }

    /// Returns the same command as people write it. If Compose finds the files by itself, it enters the directory.
    pub fn command(&self, arguments: &[String]) -> String {
        if !self.is_found {
            return shell_words(&self.argv(arguments));
        }
        let mut argv = self.compose();
        argv.extend_from_slice(arguments);
        format!("cd {} && {}", shell_word(&self.folder), shell_words(&argv))
    }

    fn compose(&self) -> Vec<String> {
        let mut argv = vec!["docker".to_owned(), "compose".to_owned()];
        if let Some(file) = &self.env_file {
            argv.extend(["--env-file".to_owned(), file.to_string_lossy().into_owned()]);
        }
        argv
    }

    /// Returns the project's first file, which is its name in messages.
    pub fn subject(&self) -> Option<&PathBuf> {
        self.files.first()
    }
}

/// Finds the project of a compose file, and reads it as far as possible.
///
/// `trusted` returns whether the files in a directory above the file may be read.
pub fn discover(
    file: &Path,
    home: Option<&Path>,
    read: Read<'_>,
    trusted: &dyn Fn(&Path) -> bool,
) -> (Project, Result<Model, ProjectError>) {
    let file = normal(file);
    let folder = file.parent().unwrap_or(Path::new("/"));
    let load = |folder: &Path, files: &[PathBuf]| model::load(folder, files, home, read);
    let found = |folder: &Path, files: Vec<PathBuf>| Project {
        folder: folder.to_owned(),
        files,
        is_found: true,
        ..Project::default()
    };
    // A project in a directory above may include the file.
    let above = folder.ancestors().skip(1).take_while(|above| trusted(above));
    for above in above {
        if let Some(files) = compose_files(above, read)
            && let Ok(model) = load(above, &files)
            && model.files.contains(&file)
        {
            return with_model(found(above, files), Ok(model));
        }
    }
    let own = compose_files(folder, read);
    if let Some(files) = &own {
        let model = load(folder, files);
        let is_used = files.contains(&file) || model.as_ref().is_ok_and(|model| model.files.contains(&file));
        if is_used {
            return with_model(found(folder, files.clone()), model);
        }
    }
    let alone = load(folder, std::slice::from_ref(&file));
    let named = |files: Vec<PathBuf>| Project { folder: folder.to_owned(), files, ..Project::default() };
    let is_default =
        file.file_name().is_some_and(|name| FILES.iter().chain(&OVERRIDES).any(|default| name == *default));
    if let (Some(own), true) = (&own, is_default) {
        return with_model(Project { instead: own.clone(), ..named(vec![file.clone()]) }, alone);
    }
    let is_complete = |model: &Model| {
        let mut services = model.services.values();
        services.all(|service| ["image", "build", "provider"].iter().any(|key| service.tree.get(key).is_some()))
    };
    if let (Some(mut files), Ok(model)) = (own, &alone)
        && !is_complete(model)
    {
        files.push(file.clone());
        let both = load(folder, &files);
        if both.as_ref().is_ok_and(is_complete) {
            return with_model(named(files), both);
        }
    }
    with_model(named(vec![file.clone()]), alone)
}

fn with_model(mut project: Project, model: Result<Model, ProjectError>) -> (Project, Result<Model, ProjectError>) {
    project.read = model.as_ref().map_or_else(|_| project.files.clone(), |model| model.files.clone());
    (project, model)
}

/// Returns the files that Compose uses in a directory without `-f`: those of `COMPOSE_FILE` in `.env`, or the default names.
fn compose_files(folder: &Path, read: Read<'_>) -> Option<Vec<PathBuf>> {
    let env = env_values(&folder.join(".env"), read);
    if let Some(listed) = env.get("COMPOSE_FILE") {
        let separator = env.get("COMPOSE_PATH_SEPARATOR").filter(|separator| !separator.is_empty());
        let separator = separator.map_or(":", |separator| separator.as_str());
        return Some(listed.split(separator).map(|path| normal(&folder.join(path))).collect());
    }
    let first = |names: &[&str]| {
        let mut paths = names.iter().map(|name| folder.join(name));
        paths.find(|path| !matches!(read(path), Ok(None)))
    };
    let file = first(&FILES)?;
    Some([Some(file), first(&OVERRIDES)].into_iter().flatten().collect())
}

/// Returns the profiles that `.env` activates.
pub fn active_profiles(folder: &Path, read: Read<'_>) -> Vec<String> {
    let env = env_values(&folder.join(".env"), read);
    let listed = env.get("COMPOSE_PROFILES").map(|listed| listed.split(',').map(|name| name.trim().to_owned()));
    listed.into_iter().flatten().filter(|name| !name.is_empty()).collect()
}
