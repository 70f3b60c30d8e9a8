//! Failures of libgit2 and of the file system, with what was tried and where.

use std::path::Path;

use git2::{ErrorClass, ErrorCode};

use rustix::io::Errno;

use super::unreadable;
use crate::failure::Failure;
use crate::host::fs::{closed, escape_path, remedy};
use crate::text::io_error_text;

/// Returns what libgit2 said, as the end of a sentence.
pub fn git_text(error: &git2::Error) -> String {
    let text = error.message().trim_end_matches('.').trim();
    let mut characters = text.chars();
    match characters.next() {
        Some(first) if !text.starts_with(|c: char| c.is_uppercase() && text[1..].starts_with(char::is_uppercase)) => {
            first.to_lowercase().collect::<String>() + characters.as_str()
        }
        _ => text.to_owned(),
    }
}

/// Makes a failure of an error of libgit2: `cannot TRIED in PATH: CAUSE`. The cause is what the acting user may not read, if there is
/// anything: libgit2 does not tell it from a missing object or a locked file.
pub fn git_failure<'a>(tried: &'a str, path: &'a Path) -> impl Fn(git2::Error) -> Failure + 'a {
    move |error| {
        let may_be_denied = matches!(error.code(), ErrorCode::NotFound | ErrorCode::Locked)
            || matches!(error.class(), ErrorClass::Odb | ErrorClass::Os);
        let named = error.message().split_once('\'').and_then(|(_, rest)| rest.rsplit_once('\''));
        let named = named.map(|(name, _)| Path::new(name));
        match may_be_denied.then(|| unreadable::cause(path, named)).flatten() {
            Some((top, obstacle)) => obstacle.refusal(&top),
            None => Failure::new(format!("cannot {tried} in {}: {}", path.display(), git_text(&error))),
        }
    }
}

/// Makes a failure of an error of a file system call: `cannot TRIED PATH: CAUSE`. What the acting user may not read has the remedy
/// of its obstacle.
pub fn io_failure<'a>(tried: &'a str, path: &'a Path) -> impl Fn(std::io::Error) -> Failure + 'a {
    move |error| {
        let is_denied = error.kind() == std::io::ErrorKind::PermissionDenied;
        let cause = is_denied.then(|| unreadable::cause(path, Some(path))).flatten();
        let of_cause = cause.and_then(|(top, obstacle)| obstacle.refusal(&top).hint);
        let errno = error.raw_os_error().map(Errno::from_raw_os_error);
        let hint = || of_other_owner(path).filter(|_| is_denied).or_else(|| remedy(tried, path, errno?));
        Failure {
            hint: of_cause.or_else(hint),
            ..Failure::new(format!("cannot {tried} {}: {}", path.display(), io_error_text(&error)))
        }
    }
}

/// Returns the remedy for a directory that another user owns and the acting user may not list.
fn of_other_owner(path: &Path) -> Option<String> {
    let closed = closed::on_way_to(path).filter(|closed| closed.is_target)?;
    let owner = closed.other_owner()?;
    Some(format!(
        "{} belongs to {owner}: set run_as: {owner}; git work is done as the checkout's owner alone",
        escape_path(path)
    ))
}
