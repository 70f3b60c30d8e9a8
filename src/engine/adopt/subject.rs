//! From what a person names to what is there.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use super::request::Request;
use crate::engine::run::canonical;
use crate::failure::Failure;
use crate::host::fs::{FileKind, Place, escape_path};
use crate::resource::adopt::{PathKind, PathSubject, Subject, cannot};
use crate::text::{io_error_text, shell_word};

/// The subjects in the order in which they are named, each once. What cannot be one is added to `failures`.
pub fn find(request: &Request, failures: &mut Vec<Failure>) -> Vec<Subject> {
    let Request { paths, variables, tables, series, .. } = request;
    let paths = paths.iter().map(|path| (path, at_path(path)));
    let variables = variables.iter().map(|(file, name)| (file, in_file(file, name)));
    let mut subjects = Vec::new();
    for (path, subject) in paths.chain(variables) {
        match subject {
            Ok(subject) => subjects.push(subject),
            Err(failure) => failures.push(cannot(&escape_path(path), failure)),
        }
    }
    subjects.extend(tables.iter().cloned().map(Subject::Table));
    subjects.extend(series.iter().cloned().map(|(name, like)| Subject::Series { name, like }));
    let mut known = BTreeSet::new();
    subjects.retain(|subject| known.insert(identity(subject)));
    subjects
}

/// Whether a subject is found by the connection.
pub fn is_on_warehouse(subject: &Subject) -> bool {
    matches!(subject, Subject::Table(_) | Subject::Series { .. })
}

/// What is the same of two subjects that are one.
fn identity(subject: &Subject) -> String {
    let real = |path: &str| {
        let path = Path::new(path);
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return path.display().to_string() };
        canonical(parent).join(name).display().to_string()
    };
    match subject {
        Subject::Path(subject) => format!("path {}", real(&subject.path)),
        Subject::Variable { file, name } => format!("variable {name} {}", real(file)),
        Subject::Table(table) => format!("table {table}"),
        Subject::Series { name, .. } => format!("series {name}"),
    }
}

fn at_path(path: &Path) -> Result<Subject, Failure> {
    let path = absolute(path)?;
    let place = Place::find(Path::new(&path))?;
    let Some(stat) = place.stat()? else {
        return Err(Failure::new("it does not exist").hint("name something that the host has"));
    };
    let found = match stat.kind {
        FileKind::Directory => {
            let top = place.dir.open_dir(&place.name)?;
            // A user who may not look into it cannot tell; its git would not either.
            let has_git = top.stat(OsStr::new(".git")).is_ok_and(|git| git.is_some());
            if has_git { PathKind::Checkout } else { PathKind::Directory }
        }
        FileKind::File => PathKind::File,
        FileKind::Symlink => return Err(symlink(Path::new(&path))),
        other => return Err(Failure::new(format!("it is {}, and no step makes one", other.name()))),
    };
    Ok(Subject::Path(PathSubject { path, found, uid: stat.uid }))
}

fn in_file(file: &Path, name: &str) -> Result<Subject, Failure> {
    let file = absolute(file)?;
    let place = Place::find(Path::new(&file))?;
    match place.stat()?.map(|stat| stat.kind) {
        Some(FileKind::File) => Ok(Subject::Variable { file, name: name.to_owned() }),
        Some(FileKind::Symlink) => Err(symlink(Path::new(&file))),
        Some(other) => Err(Failure::new(format!("it is {}, not a file", other.name()))),
        None => Err(Failure::new("it does not exist").hint("name a compose file: --variable FILE:NAME")),
    }
}

/// Steps follow no symlink at the end of their paths.
fn symlink(path: &Path) -> Failure {
    let target = canonical(path);
    if target.file_name() == path.file_name() && target.parent() == path.parent().map(canonical).as_deref() {
        return Failure::new("it is a symlink that leads nowhere").hint("name something that the host has");
    }
    Failure::new(format!("it is a symlink, which leads to {}", escape_path(&target)))
        .hint(format!("name that: {}", shell_word(&target.display().to_string())))
}

/// The path from the root, without `.` and `..`.
fn absolute(path: &Path) -> Result<String, Failure> {
    let mut absolute = std::path::absolute(path).map_err(|error| Failure::new(io_error_text(&error)))?;
    let goes_up = |path: &Path| path.components().any(|component| component == Component::ParentDir);
    if goes_up(&absolute) {
        // Where `..` leads to hangs on the symlinks before it.
        absolute = match (absolute.parent(), absolute.file_name()) {
            (Some(parent), Some(name)) => canonical(parent).join(name),
            _ => canonical(&absolute),
        };
        if goes_up(&absolute) {
            return Err(Failure::new("it does not exist").hint("name something that the host has"));
        }
    }
    let tidy: PathBuf = absolute.components().collect();
    match tidy.to_str() {
        Some(text) => Ok(text.to_owned()),
        None if tidy.as_os_str().as_bytes().is_empty() => Err(Failure::new("it is empty")),
        None => Err(Failure::new("its name is not UTF-8, and a plan file is")),
    }
}
