//! A plan file or a saved plan, as it was read.

use std::path::{Path, PathBuf};

use super::NotPrepared;
use crate::engine::saved::Saved;
use crate::host::fs;
use crate::plan_file::PlanFile;
use crate::resource::Failure;

/// A plan file is prose and a few steps; a larger one (4 MiB) is something else.
const MAX_PLAN_FILE_BYTES: usize = 4 << 20;
/// A saved plan holds as many changes as a plan file can bring about: more than it has bytes.
const MAX_SAVED_PLAN_BYTES: u64 = 64 << 20;

/// The bytes of a plan file or a saved plan.
#[derive(Debug, Clone)]
pub struct Source {
    /// As the user gave it.
    pub path: PathBuf,
    pub bytes: Vec<u8>,
}

impl Source {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let seen = fs::read_file(path, MAX_SAVED_PLAN_BYTES).map_err(|error| {
            let failure = cannot(path, &reason(&error));
            if error.kind() == std::io::ErrorKind::Other {
                failure
            } else {
                failure.hint("name the plan file: provision COMMAND FILE")
            }
        })?;
        Ok(Self { path: path.to_owned(), bytes: seen.bytes.to_vec() })
    }

    /// Reads the plan file's shape.
    ///
    /// # Errors
    /// It is not a plan file, or its shape is wrong.
    pub fn plan_file(&self) -> Result<PlanFile, NotPrepared> {
        if Saved::is_one(&self.bytes) {
            let shown = self.path.display();
            return Err(cannot(&self.path, "it is a saved plan")
                .hint(format!("a saved plan is for apply: provision apply {shown}"))
                .into());
        }
        if self.bytes.len() > MAX_PLAN_FILE_BYTES {
            return Err(cannot(&self.path, &format!("it has {} bytes, more than 4 MiB", self.bytes.len())).into());
        }
        let text = std::str::from_utf8(&self.bytes).map_err(|error| {
            cannot(&self.path, &format!("byte {} is not UTF-8", error.valid_up_to())).hint("save the file as UTF-8")
        })?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Ok(PlanFile::parse(&self.path.display().to_string(), text)?)
    }
}

fn cannot(path: &Path, why: &str) -> Failure {
    Failure::new(format!("cannot read the plan file {}: {why}", path.display()))
}

/// The text of an I/O error, in the tone of the program's own messages.
pub fn reason(error: &std::io::Error) -> String {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::NotFound => "it does not exist".to_owned(),
        ErrorKind::PermissionDenied => "permission denied".to_owned(),
        ErrorKind::IsADirectory => "it is a directory".to_owned(),
        _ => error.to_string(),
    }
}
