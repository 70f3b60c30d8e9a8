//! A plan file or a saved plan as it was read.

use crate::text::{file_word, io_error_text, nearest};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::libc;

use super::error::NotPrepared;
use crate::engine::saved::Saved;
use crate::failure::Failure;
use crate::host::fs;
use crate::host::fs::canonical;
use crate::host::users::User;
use crate::plan_file::{Folder, PlanFile};

/// The maximum size of a plan file. A larger file is not a plan file.
const MAX_PLAN_FILE_BYTES: usize = 4 << 20;
/// The maximum size of a saved plan. It contains all changes, so it can be much larger than its plan file.
pub const MAX_SAVED_PLAN_BYTES: u64 = 64 << 20;

/// The name of standard input in messages and events.
const STANDARD_INPUT: &str = "-";

/// The bytes of a plan file or a saved plan.
#[derive(Debug, Clone)]
pub struct Source {
    /// As the user gave it.
    pub path: PathBuf,
    pub bytes: Vec<u8>,
    /// Whether the bytes came from standard input. Any file at `path` is then unrelated.
    pub is_input: bool,
    /// Whether the bytes came in a request.
    pub is_request: bool,
    /// The files beside the plan file, by their names, if a request brought them along.
    pub files: Option<BTreeMap<String, String>>,
}

impl Source {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let seen = fs::read_file(path, MAX_SAVED_PLAN_BYTES).map_err(|error| {
            let failure = cannot_read(path, &reason(&error));
            match error.kind() {
                _ if path.is_dir() => failure.hint(format!("choose a file in it: `ls {}`", word(path))),
                // It is a pipe, a device, or too large.
                std::io::ErrorKind::Other => {
                    failure.hint(format!("a pipe is read as standard input: `provision plan - < {}`", word(path)))
                }
                std::io::ErrorKind::PermissionDenied => failure.hint(rights_hint(path)),
                _ if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => {
                    failure.hint("raise the limit on open files (`ulimit -n`), then run again")
                }
                _ => failure.hint(not_found_hint(path)),
            }
        })?;
        Ok(Self { path: path.to_owned(), bytes: seen.bytes.to_vec(), is_input: false, is_request: false, files: None })
    }

    fn not_utf8(&self, at: usize) -> Failure {
        if [&[0xff, 0xfe], &[0xfe, 0xff]].iter().any(|mark| self.bytes.starts_with(*mark)) {
            return cannot_read(&self.path, "it is UTF-16").hint("save the file as UTF-8");
        }
        let before = &self.bytes[..at];
        let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let column = String::from_utf8_lossy(&before[line_start..]).chars().count() + 1;
        let byte = self.bytes.get(at).copied().unwrap_or_default();
        cannot_read(&self.path, &format!("line {line}, column {column}: the byte {byte:#04x} is not UTF-8"))
            .hint("save the file as UTF-8")
    }

    /// The text of a plan file that came from standard input. `name` is the absolute path that it goes by.
    pub fn of_input(bytes: Vec<u8>, name: Option<PathBuf>) -> Self {
        let path = name.unwrap_or_else(|| PathBuf::from(STANDARD_INPUT));
        Self { path, bytes, is_input: true, is_request: false, files: None }
    }

    /// Returns the plan file as that of a request. If the request has files, those on the host are not read.
    pub fn of_request(self, files: Option<BTreeMap<String, String>>) -> Self {
        Self { is_request: true, files, ..self }
    }

    /// Returns whether a lock and a history can use its path.
    pub fn is_named(&self) -> bool {
        !self.is_input || self.path.is_absolute()
    }

    /// Requires a name. `what` is the command or option that needs one for a lock or a record.
    ///
    /// # Errors
    /// The plan file came from standard input without a name.
    pub fn require_name(&self, what: &str) -> Result<(), Failure> {
        if self.is_named() {
            return Ok(());
        }
        if self.is_request {
            return Err(Failure::new(format!("{what} needs a name for the plan file of the request"))
                .hint(r#"add an absolute path for its lock and history: "as": "/etc/provision/NAME.yaml""#));
        }
        Err(Failure::new(format!("{what} needs a name for the plan file on standard input"))
            .hint("give it an absolute path for its lock and history: --as /etc/provision/NAME.yaml"))
    }

    /// Requires that the files beside the plan file are on the host, where an apply of a saved plan reads them again.
    ///
    /// # Errors
    /// A request brought them along.
    pub fn require_no_files(&self) -> Result<(), Failure> {
        if self.files.is_none() {
            return Ok(());
        }
        Err(Failure::new("a saved plan cannot hold the `files` of a request")
            .hint("put the files on the host beside the plan file, or apply the request without saving its plan"))
    }

    /// Returns the path without symlinks. If there is no file at the path, only the symlinks of its folder are
    /// resolved.
    pub fn canonical_path(&self) -> PathBuf {
        if self.is_named() { canonical(&self.path) } else { self.path.clone() }
    }

    /// Parses the plan file.
    ///
    /// # Errors
    /// It is not a plan file, or it is malformed.
    pub fn plan_file(&self) -> Result<PlanFile, NotPrepared> {
        if Saved::is_one(&self.bytes) {
            let shown = word(&self.path);
            return Err(cannot_read(&self.path, "it is a saved plan")
                .hint(format!("use a saved plan with apply: `provision apply {shown}`"))
                .into());
        }
        if self.bytes.len() > MAX_PLAN_FILE_BYTES {
            return Err(cannot_read(&self.path, &format!("it has {} bytes, more than 4 MiB", self.bytes.len())).into());
        }
        let text = std::str::from_utf8(&self.bytes).map_err(|error| self.not_utf8(error.valid_up_to()))?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Ok(PlanFile::parse(&self.path.display().to_string(), text)?.in_folder(self.folder()))
    }

    /// Where the files are that the plan file names beside itself.
    fn folder(&self) -> Folder {
        let folder = self.is_named().then(|| self.canonical_path().parent().map(Path::to_path_buf)).flatten();
        match &self.files {
            Some(files) => Folder::Given { folder: folder.unwrap_or_default(), files: files.clone() },
            None => folder.map_or(Folder::Nowhere { is_request: self.is_request }, Folder::At),
        }
    }
}

/// Returns how to read a plan file that this user has no permission to read.
#[expect(clippy::disallowed_methods, reason = "the user names the plan file")]
fn rights_hint(path: &Path) -> String {
    let is_own = std::fs::metadata(path).is_ok_and(|stat| stat.uid() == User::acting().uid);
    if is_own {
        format!("make it readable: `chmod u+r {}`", word(path))
    } else {
        format!("read it as root: `sudo cat {} | provision plan -`", word(path))
    }
}

/// Returns the hint for a missing file: a file with a similar name, or where to look.
fn not_found_hint(path: &Path) -> String {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if path.to_str().is_some_and(|text| text.bytes().all(|byte| byte.is_ascii_digit())) {
        return format!(
            "a plan file is expected here; if {name} is meant as the seconds of `apply --wait`, write `--wait={name}`"
        );
    }
    let names = std::path::absolute(path).map(|path| fs::names_beside(&path)).unwrap_or_default();
    if let Some(close) = nearest(&name, names.iter().map(String::as_str)) {
        return format!("did you mean `{}`?", word(&path.with_file_name(close)));
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if folder.is_dir() {
        format!("correct the path; to see what is there: `ls {}`", word(folder))
    } else {
        format!("correct the path: there is no directory {}", folder.display())
    }
}

fn word(path: &Path) -> String {
    file_word(path)
}

fn cannot_read(path: &Path, why: &str) -> Failure {
    Failure::new(format!("cannot read the plan file {}: {why}", path.display()))
}

/// Returns the text of an I/O error in the style of the program's own messages.
pub fn reason(error: &std::io::Error) -> String {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::NotFound => "it does not exist".to_owned(),
        ErrorKind::PermissionDenied => "permission denied".to_owned(),
        ErrorKind::IsADirectory => "it is a directory".to_owned(),
        _ => io_error_text(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_in_place_of_a_plan_file_may_be_seconds() {
        assert!(not_found_hint(Path::new("5")).contains("`--wait=5`"));
        assert!(!not_found_hint(Path::new("/srv/5")).contains("--wait"));
    }
}
