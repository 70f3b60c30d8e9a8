//! Files beside a plan file that it names: templates.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use super::template::{MAX_LENGTH, environment_names_in};
use crate::failure::Failure;
use crate::host::fs::{self, NotRead, escape_path};
use crate::host::users::{User, as_root};
use crate::resource::Companion;
use crate::text::nearest;
use crate::text::{io_error_text, shell_word};

/// Where the files beside a plan file are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Folder {
    /// They are not read, because the plan file is checked by its text alone.
    #[default]
    Unread,
    /// The plan file came from standard input, and has no name.
    Nowhere { is_request: bool },
    /// In or below this directory, which is an absolute path without symlinks.
    At(PathBuf),
    /// A request contains them by name. `folder` is the directory of the plan file's name.
    Given { folder: PathBuf, files: BTreeMap<String, String> },
}

impl Folder {
    /// Reads the text of a file that a plan file names. Returns `None` if the files beside the plan file are not read.
    ///
    /// # Errors
    /// The name leads out of the directory, or the file cannot be read as text.
    pub fn read(&self, name: &str) -> Result<Option<(Companion, String)>, Failure> {
        check_name(name)?;
        let folder = match self {
            Self::Unread => return Ok(None),
            Self::Nowhere { is_request } => {
                let failure = Failure::new(format!(
                    "the template `{name}` cannot be found: the plan file came from standard input, so it has no folder"
                ));
                return Err(failure.hint(if *is_request {
                    r#"add its text to the request's `files`, or name the plan file by a path in the template's folder: "as": "/etc/provision/NAME.yaml""#
                } else {
                    "name it by an absolute path in the template's folder: --as /etc/provision/NAME.yaml"
                }));
            }
            Self::Given { folder, files } => return given(folder, files, name).map(Some),
            Self::At(folder) => folder,
        };
        let written = folder.join(name);
        let cannot = |why: &str| Failure::new(format!("cannot read the template {}: {why}", escape_path(&written)));
        let unreadable = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::NotFound => cannot("it does not exist").hint(missing(folder, name)),
            std::io::ErrorKind::PermissionDenied => cannot("permission denied").hint(readable_hint(&written)),
            _ if written.is_dir() => cannot("it is a directory, not a file")
                .hint(format!("name a file in it: `ls {}`", shell_word(&written))),
            // It is a pipe, or too large.
            _ => cannot(&io_error_text(&error)).hint("name a file of at most 1 MiB"),
        };
        let read = fs::read_below(folder, Path::new(name), MAX_LENGTH as u64);
        let (path, seen) = read.map_err(|error| match error {
            NotRead::Unreadable(error) => unreadable(error),
            NotRead::Outside(path) => {
                let path = escape_path(&path);
                cannot(&format!("it is a symlink to {path}, outside of the plan file's folder"))
                    .hint("put the file itself beside the plan file")
            }
        })?;
        let hash = blake3::hash(&seen.bytes).to_hex().to_string();
        let text = String::from_utf8(seen.bytes.to_vec()).map_err(|error| not_utf8(&seen.bytes, &error, &cannot))?;
        Ok(Some((companion(path, hash, &text), text)))
    }
}

/// Returns the command that lets the user who starts provision read a template.
#[expect(clippy::disallowed_methods, reason = "only the owner of the plan file's own template is looked at")]
fn readable_hint(path: &Path) -> String {
    let is_own = std::fs::metadata(path).is_ok_and(|stat| stat.uid() == User::acting().uid);
    let word = shell_word(path);
    let command = if is_own { format!("chmod u+r {word}") } else { as_root(&format!("chmod a+r {word}")) };
    format!("give whoever starts provision the right to read it: `{command}`")
}

fn companion(path: PathBuf, hash: String, text: &str) -> Companion {
    let mut environment = BTreeSet::new();
    environment_names_in(text, &mut environment);
    Companion { path, hash, environment }
}

/// Finds a file of a request, however its name is spelled (`./app.j2`).
fn given(folder: &Path, files: &BTreeMap<String, String>, name: &str) -> Result<(Companion, String), Failure> {
    let components = |name: &str| -> Vec<OsString> {
        let parts = Path::new(name).components().filter(|part| *part != Component::CurDir);
        parts.map(|part| part.as_os_str().to_owned()).collect()
    };
    let wanted = components(name);
    let Some((_, text)) = files.iter().find(|(known, _)| components(known) == wanted) else {
        let failure = Failure::new(format!("the request has no file `{}`", escape_path(Path::new(name))));
        return Err(failure.hint(match nearest(name, files.keys().map(String::as_str)) {
            Some(close) => format!("did you mean `{}`?", escape_path(Path::new(close))),
            None => "add its text to the request's `files`, by this name".to_owned(),
        }));
    };
    if text.len() > MAX_LENGTH {
        return Err(Failure::new(format!("the template `{}` is too large", escape_path(Path::new(name))))
            .hint("send a file of at most 1 MiB"));
    }
    let hash = blake3::hash(text.as_bytes()).to_hex().to_string();
    Ok((companion(folder.join(wanted.iter().collect::<PathBuf>()), hash, text), text.clone()))
}

/// Checks that a template is below the plan file's directory, however its name is spelled.
fn check_name(name: &str) -> Result<(), Failure> {
    let quoted = escape_path(Path::new(name));
    let refused = |why: &str| Failure::new(format!("`{quoted}` {why}"));
    let below = "put the template beside the plan file, or into a folder there: templates/app.conf.j2";
    if name.trim().is_empty() || name.contains('\0') {
        return Err(Failure::new("the template's name is empty, or holds a NUL byte").hint(below));
    }
    if name.starts_with(['/', '~']) {
        return Err(refused("is not relative to the plan file's folder").hint(below));
    }
    if Path::new(name).components().any(|component| component == Component::ParentDir) {
        return Err(refused("goes up by `..`, out of the plan file's folder").hint(below));
    }
    Ok(())
}

/// Returns the remedy for a missing template: a similar name, if there is one.
fn missing(folder: &Path, name: &str) -> String {
    let names = fs::names_beside(&folder.join(name));
    let last = Path::new(name).file_name().and_then(|name| name.to_str()).unwrap_or_default();
    match nearest(last, names.iter().map(String::as_str)) {
        Some(close) => format!("did you mean `{}`?", escape_path(&Path::new(name).with_file_name(close))),
        None => format!("put it there, or name another one: `ls {}`", shell_word(folder)),
    }
}

fn not_utf8(bytes: &[u8], error: &std::string::FromUtf8Error, cannot: &dyn Fn(&str) -> Failure) -> Failure {
    let before = &bytes[..error.utf8_error().valid_up_to()];
    let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let column = String::from_utf8_lossy(&before[line_start..]).chars().count() + 1;
    let byte = bytes.get(before.len()).copied().unwrap_or_default();
    cannot(&format!("line {line}, column {column}: the byte {byte:#04x} is not UTF-8")).hint("save the file as UTF-8")
}
