//! Rescues, as all kinds that keep them report them.

use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::ExecuteContext;
use crate::failure::Failure;
use crate::host::fs::{Attributes, Dir, Place, escape_path};

/// A named copy of work that a step moved aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rescue {
    /// The argument for `rescue show` and `rescue restore`. It starts with the id of the run that made it.
    pub id: String,
    /// Where it is stored.
    pub place: String,
    /// A one-line summary.
    pub subject: String,
    /// Its files, for output. Empty if it contains commits.
    pub files: Vec<String>,
    /// The command that restores it, if `rescue restore` does not handle it: commits get a branch.
    pub way_back: Option<String>,
    /// The command that deletes it.
    pub delete: String,
    /// What restoring it undoes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undoes: Option<String>,
    /// A new directory for its files, if something else is in their place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elsewhere: Option<PathBuf>,
}

/// A request to a step that may keep rescues.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RescueRequest {
    List,
    Show(String),
    Restore(Restoring),
    /// Writes the files to a new directory instead of their original paths.
    Extract {
        id: String,
        to: PathBuf,
    },
}

/// The rescue to restore, and what must not be overwritten.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restoring {
    pub id: String,
    /// The files and directories that other steps of the plan file own, with the step ids.
    pub claimed: Vec<(PathBuf, String)>,
    /// Whether the plan file does not have the step any more as it was when it made the rescue.
    #[serde(default)]
    pub is_past: bool,
}

/// A kind whose changes may move someone's work aside.
pub trait Rescues {
    /// Lists, shows or restores what the step's changes moved aside.
    ///
    /// # Errors
    /// There is no such rescue, or it cannot be read or restored.
    fn rescue(&self, request: &RescueRequest, cx: &ExecuteContext) -> Result<RescueAnswer, Failure>;

    /// Returns the minimal keys of a step that has the same rescues.
    fn rescue_keys(&self) -> serde_json::Value;

    /// Returns where the rescues are.
    fn store(&self) -> RescueStore;
}

/// Where the rescues of a step are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RescueStore {
    /// In the step's target, for its owner.
    Target,
    /// In the state folder of the step's user.
    StateFolder,
}

/// The answer to a [`RescueRequest`] of the same name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RescueAnswer {
    List(Vec<Rescue>),
    /// A patch with the bytes of the files, or the bytes of the one file.
    Show(#[serde(with = "base64_text")] Vec<u8>),
    Restore {
        /// The restored paths, for output.
        paths: Vec<String>,
        /// What follows from the restore.
        notes: Vec<String>,
    },
}

/// A directory for copies of rescued files. Only the acting user can read it.
pub struct Extraction {
    top: Dir,
    paths: Vec<String>,
}

/// The mode of a copy and of the directories around it. Whoever wants others to read a copy has to say so.
const COPY_MODE: u32 = 0o600;
const COPY_DIR_MODE: u32 = 0o700;

impl Extraction {
    /// Creates the directory.
    ///
    /// # Errors
    /// It exists already, or the acting user cannot create it.
    pub fn create(to: &Path) -> Result<Self, Failure> {
        let place = Place::find(to)?;
        let shown = escape_path(to);
        if !place.missing_parents.is_empty() {
            return Err(Failure::new(format!("cannot create {shown}: its parent directory does not exist"))
                .hint("name a new directory in one that exists"));
        }
        if place.stat()?.is_some() {
            return Err(Failure::new(format!("cannot create {shown}: it already exists")).hint("name a new directory"));
        }
        let attributes = Attributes { uid: None, gid: None, mode: COPY_DIR_MODE };
        Ok(Self { top: place.parent()?.create_dir(&place.name, attributes)?, paths: Vec::new() })
    }

    /// Writes a file below the directory. `is_program` keeps it executable for its owner.
    ///
    /// # Errors
    /// The path leads outside, or the file cannot be written.
    pub fn write(&mut self, path: &Path, bytes: &[u8], is_program: bool) -> Result<(), Failure> {
        let mode = if is_program { COPY_MODE | 0o100 } else { COPY_MODE };
        self.with_parent(path, |dir, name| Ok(dir.create(name, bytes, Attributes { uid: None, gid: None, mode })?))
    }

    /// Creates a symlink below the directory.
    ///
    /// # Errors
    /// The path leads outside, or the symlink cannot be created.
    pub fn link(&mut self, path: &Path, target: &OsStr) -> Result<(), Failure> {
        self.with_parent(path, |dir, name| Ok(dir.create_symlink(name, target)?))
    }

    fn with_parent(
        &mut self,
        path: &Path,
        make: impl FnOnce(&Dir, &OsStr) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let names = path.components().map(|component| match component {
            Component::Normal(name) => Ok(name),
            _ => Err(Failure::new(format!("the rescue has a path that leads outside: {}", escape_path(path)))),
        });
        let mut names: Vec<&OsStr> = names.collect::<Result<_, _>>()?;
        let Some(last) = names.pop() else { return Ok(()) };
        let mut inner = None;
        for name in names {
            let dir: &Dir = inner.as_ref().unwrap_or(&self.top);
            let attributes = Attributes { uid: None, gid: None, mode: COPY_DIR_MODE };
            inner = Some(match dir.stat(name)? {
                Some(_) => dir.open_dir(name)?,
                None => dir.create_dir(name, attributes)?,
            });
        }
        make(inner.as_ref().unwrap_or(&self.top), last)?;
        self.paths.push(self.top.path_of(path.as_os_str()).display().to_string());
        Ok(())
    }

    /// Returns the answer for output.
    pub fn answer(self, mut notes: Vec<String>) -> RescueAnswer {
        notes.push(format!("only the step's user can read {}", escape_path(self.top.path())));
        RescueAnswer::Restore { paths: self.paths, notes }
    }
}

/// Bytes as base64, because JSON has no bytes.
mod base64_text {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        STANDARD.decode(String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}
