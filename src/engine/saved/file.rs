//! Saved plans as files: where `plan --out` writes them, and how `apply` reads them.

use std::ffi::OsString;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::Saved;
use crate::engine::run::{MAX_SAVED_PLAN_BYTES, reason};
use crate::failure::Failure;
use crate::host::fs::{Attributes, Dir, acting_ids};
use crate::text::file_word;

/// The destination of a new saved plan. Nothing exists there yet.
pub struct Target {
    dir: Dir,
    name: OsString,
    /// The path as the user gave it.
    shown: PathBuf,
}

impl Target {
    /// Opens the directory of the new file.
    ///
    /// # Errors
    /// The directory does not exist, the acting user cannot create files in it, or the file already exists.
    #[expect(clippy::disallowed_methods, reason = "the user names the file")]
    pub fn find(path: &Path) -> Result<Self, Failure> {
        let cannot = |why: &str| Failure::new(format!("cannot save the plan to {}: {why}", path.display()));
        let name = path.file_name().ok_or_else(|| cannot("it has no file name").hint("name the new file"))?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let parent = std::fs::canonicalize(parent).map_err(|error| {
            let why = match error.kind() {
                std::io::ErrorKind::NotFound => "its folder does not exist".to_owned(),
                _ => format!("its folder: {}", reason(&error)),
            };
            cannot(&why).hint(format!("create it: `mkdir -p {}`", file_word(parent)))
        })?;
        let target = Self { dir: Dir::open(&parent)?, name: name.to_owned(), shown: path.to_owned() };
        if target.dir.stat(&target.name)?.is_some() {
            return Err(target.exists());
        }
        if let Some(denial) = target.dir.entry_denial()? {
            return Err(cannot(&denial.reason()).hint("name a file in a folder that you can write to"));
        }
        Ok(target)
    }

    /// Writes the plan completely or not at all.
    ///
    /// # Errors
    /// A file was created there meanwhile, or the plan cannot be written.
    pub fn write(&self, saved: &Saved) -> Result<(), Failure> {
        let attributes = Attributes { uid: None, gid: None, mode: 0o600 };
        self.dir.create(&self.name, &saved.bytes()?, attributes).map_err(|error| {
            if error.kind() == std::io::ErrorKind::AlreadyExists { self.exists() } else { error.into() }
        })
    }

    /// Returns the path as the user gave it.
    pub fn shown(&self) -> String {
        self.shown.display().to_string()
    }

    fn exists(&self) -> Failure {
        let failure = Failure::new(format!("cannot save the plan to {}: it already exists", self.shown()));
        // The existing file may be the plan file itself.
        failure.hint(match load(&self.shown) {
            Ok(_) => format!(
                "a saved plan is a new file: give another name, or remove the saved plan that is there: `rm {}`",
                file_word(&self.shown)
            ),
            Err(_) => "a saved plan is a new file: give another name".to_owned(),
        })
    }
}

/// Reads the saved plan at `path`. Users other than the acting user must not have access to the file.
///
/// # Errors
/// The file cannot be read, is not as `plan --out` wrote it, belongs to another user, or is open to other users.
#[expect(clippy::disallowed_methods, reason = "the user names the file")]
pub fn load(path: &Path) -> Result<Saved, Failure> {
    let cannot = |why: &str| Failure::new(format!("cannot read the saved plan {}: {why}", path.display()));
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    let flags = i32::try_from(flags.bits()).unwrap_or(0);
    let is_link = std::fs::symlink_metadata(path).is_ok_and(|stat| stat.is_symlink());
    let mut file = match std::fs::File::options().read(true).custom_flags(flags).open(path) {
        Err(_) if is_link => return Err(cannot("it is a symlink").hint("give the file's own path")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let hint = format!("to save a plan, run `provision plan --out {}`", file_word(path));
            return Err(cannot(&reason(&error)).hint(hint));
        }
        file => file.map_err(|error| cannot(&reason(&error)))?,
    };
    let stat = file.metadata().map_err(|error| cannot(&reason(&error)))?;
    let mut bytes = Vec::new();
    let limit = MAX_SAVED_PLAN_BYTES + 1;
    file.by_ref().take(limit).read_to_end(&mut bytes).map_err(|error| cannot(&reason(&error)))?;
    if bytes.len() as u64 == limit {
        return Err(cannot("it is larger than 64 MiB"));
    }
    if !Saved::is_one(&bytes) {
        let file = file_word(path);
        return Err(cannot("it is not a saved plan")
            .hint(format!("this is a plan file; to plan it, run `provision plan {file}`")));
    }
    if stat.uid() != acting_ids().0 {
        return Err(cannot("it belongs to another user").hint("apply it as the user who made it"));
    }
    if stat.mode() & 0o077 != 0 {
        return Err(cannot(&format!("its mode is {:04o}: others can read it or write to it", stat.mode() & 0o7777))
            .hint("make a new plan, and do not change the mode of its file (0600)"));
    }
    Saved::parse(&bytes, path)
}
