//! Failures of libgit2 and of the file system, with what was tried and where.

use std::path::Path;

use crate::failure::Failure;
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

/// Makes a failure of an error of libgit2: `cannot TRIED in PATH: CAUSE`.
pub fn git_failure<'a>(tried: &'a str, path: &'a Path) -> impl Fn(git2::Error) -> Failure + 'a {
    move |error| Failure::new(format!("cannot {tried} in {}: {}", path.display(), git_text(&error)))
}

/// Makes a failure of an error of a file system call: `cannot TRIED PATH: CAUSE`.
pub fn io_failure<'a>(tried: &'a str, path: &'a Path) -> impl Fn(std::io::Error) -> Failure + 'a {
    move |error| Failure::new(format!("cannot {tried} {}: {}", path.display(), io_error_text(&error)))
}
