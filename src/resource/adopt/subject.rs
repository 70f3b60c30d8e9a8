//! What people name for adoption, and what exists there.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use crate::failure::Failure;
use crate::host::fs::{AccessEntry, AccessTag, FileKind, Place, canonical, escape_path};
use crate::host::warehouse::TableName;
use crate::text::{io_error_text, shell_word};

/// Something that a person names for adoption.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    Path(PathSubject),
    /// A variable in a compose file.
    Variable {
        /// Absolute.
        file: String,
        name: String,
    },
    Table(TableName),
    /// Tables of one name with `{period}` in it.
    Series {
        name: String,
        /// The table that they are like, where it is named.
        like: Option<TableName>,
    },
}

impl Subject {
    /// Returns what is at a path.
    ///
    /// # Errors
    /// Nothing exists there, or something that no step makes.
    pub fn at_path(path: &Path) -> Result<Self, Failure> {
        let path = absolute(path)?;
        let place = Place::find(Path::new(&path))?;
        let Some(stat) = place.stat()? else {
            return Err(Failure::new("it does not exist").hint("name something that the host has"));
        };
        let found = match stat.kind {
            FileKind::Directory => {
                let top = place.parent()?.open_dir(&place.name)?;
                // A user without access cannot find out. git of that user cannot either.
                let has_git = top.stat(OsStr::new(".git")).is_ok_and(|git| git.is_some());
                if has_git { PathKind::Checkout } else { PathKind::Directory }
            }
            FileKind::File => PathKind::File,
            FileKind::Symlink => return Err(symlink(Path::new(&path))),
            other => return Err(Failure::new(format!("it is {}, and no step makes one", other.name()))),
        };
        Ok(Self::Path(PathSubject { path, found, uid: stat.uid }))
    }

    /// Returns a variable in a compose file.
    ///
    /// # Errors
    /// The file does not exist.
    pub fn variable(file: &Path, name: &str) -> Result<Self, Failure> {
        let file = absolute(file)?;
        let place = Place::find(Path::new(&file))?;
        match place.stat()?.map(|stat| stat.kind) {
            Some(FileKind::File) => Ok(Self::Variable { file, name: name.to_owned() }),
            Some(FileKind::Symlink) => Err(symlink(Path::new(&file))),
            Some(other) => Err(Failure::new(format!("it is {}, not a file", other.name()))),
            None => {
                let folder = Path::new(&file).parent().map(shell_word);
                let folder = folder.unwrap_or_default();
                Err(Failure::new("it does not exist")
                    .hint(format!("correct the path of the compose file; to see what is there: `ls {folder}`")))
            }
        }
    }

    /// Returns sentences about what steps cannot express: its access control lists.
    pub fn comments(&self) -> Vec<String> {
        let Self::Path(PathSubject { path, .. }) = self else { return Vec::new() };
        let lists = Place::find(Path::new(path)).and_then(|place| {
            let Some(stat) = place.stat()? else { return Ok(None) };
            let lists = place.parent()?.access_lists(&place.name, &stat)?;
            Ok(Some((lists, stat.mode)))
        });
        // What cannot be read is reported by the step's own observation.
        let Some((lists, mode)) = lists.ok().flatten() else { return Vec::new() };
        let mut comments = Vec::new();
        if !lists.access.is_empty() {
            let mut comment =
                format!("It has an access control list, which the step does not set: {}.", shown(&lists.access));
            if let Some(without) = lists.mode().map(|bits| bits | mode & 0o7000).filter(|bits| *bits != mode & 0o7777) {
                comment.push_str(&format!(
                    " The group bits of its mode are the mask of the list; without the list, its mode would be {without:04o}."
                ));
            }
            comments.push(comment);
        }
        if !lists.default.is_empty() {
            comments.push(format!(
                "New entries in it get an access control list, which the step does not set: {}.",
                shown(&lists.default)
            ));
        }
        comments
    }

    /// Returns whether it is in a warehouse.
    pub fn is_on_warehouse(&self) -> bool {
        matches!(self, Self::Table(_) | Self::Series { .. })
    }

    /// Returns a text that is equal for two subjects that are the same.
    pub fn identity(&self) -> String {
        let real = |path: &str| {
            let path = Path::new(path);
            let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
                return path.display().to_string();
            };
            canonical(parent).join(name).display().to_string()
        };
        match self {
            Self::Path(subject) => format!("path {}", real(&subject.path)),
            Self::Variable { file, name } => format!("variable {name} {}", real(file)),
            Self::Table(table) => format!("table {table}"),
            Self::Series { name, .. } => format!("series {name}"),
        }
    }
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Path(subject) => f.write_str(&subject.path),
            Self::Variable { file, name } => write!(f, "{name} in {file}"),
            Self::Table(table) => write!(f, "table {table}"),
            Self::Series { name, .. } => write!(f, "series {name}"),
        }
    }
}

/// A path, with what is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathSubject {
    /// Absolute, without `.` and `..`.
    pub path: String,
    pub found: PathKind,
    /// The user whom it belongs to.
    pub uid: u32,
}

/// What is at a path, as far as `lstat` shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathKind {
    /// A directory with `.git` in it.
    Checkout,
    /// Any other directory.
    Directory,
    /// A regular file.
    File,
}

/// The entries of a list as getfacl(1) writes them.
fn shown(list: &[AccessEntry]) -> String {
    let entry = |AccessEntry { who, rights }: &AccessEntry| {
        let (tag, name) = match who {
            AccessTag::Owner => ("user", String::new()),
            AccessTag::User(id) => ("user", super::user(*id).unwrap_or_else(|| id.to_string())),
            AccessTag::OwningGroup => ("group", String::new()),
            AccessTag::Group(id) => ("group", super::group(*id).unwrap_or_else(|| id.to_string())),
            AccessTag::Mask => ("mask", String::new()),
            AccessTag::Others => ("other", String::new()),
        };
        let letter = |bit: u32, letter: char| if rights & bit == 0 { '-' } else { letter };
        format!("{tag}:{name}:{}{}{}", letter(4, 'r'), letter(2, 'w'), letter(1, 'x'))
    };
    list.iter().map(entry).collect::<Vec<_>>().join(", ")
}

/// Steps follow no symlink at the end of their paths.
fn symlink(path: &Path) -> Failure {
    let target = canonical(path);
    if target.file_name() == path.file_name() && target.parent() == path.parent().map(canonical).as_deref() {
        return Failure::new("it is a symlink that leads nowhere").hint("name something that the host has");
    }
    Failure::new(format!("it is a symlink, which leads to {}", escape_path(&target)))
        .hint(format!("name that: {}", shell_word(target)))
}

/// Returns the absolute path, without `.` and `..`.
fn absolute(path: &Path) -> Result<String, Failure> {
    let mut absolute = std::path::absolute(path).map_err(|error| Failure::new(io_error_text(&error)))?;
    let goes_up = |path: &Path| path.components().any(|component| component == Component::ParentDir);
    if goes_up(&absolute) {
        // The target of `..` depends on the symlinks before it.
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
        None => Err(Failure::new("its path is not UTF-8, and a plan file is").hint("rename it, or leave it out")),
    }
}
