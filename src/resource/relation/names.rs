//! Identifiers that a server would store under another name than the one that was written.

use crate::failure::Failure;
use crate::host::warehouse::{Dialect, Shown};

/// Returns the failure for the first name that the server would truncate, if there is one. It would make the object under
/// another name, and look for an existing one under another name.
pub fn truncated<'a>(names: impl IntoIterator<Item = &'a str>, dialect: Dialect) -> Option<Failure> {
    let limit = dialect.max_identifier_bytes();
    let name = names.into_iter().find(|name| name.len() > limit)?;
    let server = match dialect {
        Dialect::Postgresql => "PostgreSQL truncates names to",
        Dialect::Redshift => "Redshift stores names of at most",
    };
    let failure = Failure::new(format!("the name {} has {} bytes, but {server} {limit}", Shown(name), name.len()));
    Some(failure.hint(format!("shorten the name, for example to {}", Shown(kept(name, limit)))))
}

/// Returns what PostgreSQL keeps of a name: whole characters within the limit.
fn kept(name: &str, limit: usize) -> &str {
    let end = (0..=limit).rev().find(|end| name.is_char_boundary(*end)).unwrap_or_default();
    name.get(..end).unwrap_or_default()
}

/// Returns the failure for an unquoted word that a database with a single-byte encoding folds by its locale.
pub fn folded_by_locale(word: &str) -> Failure {
    Failure::new(format!("cannot know how the server folds `{word}`: its encoding has one byte per letter"))
        .hint(format!("write the name in double quotation marks, as the server stores it: \"{}\"", word.to_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_measured_in_bytes_and_cut_at_letters() {
        let umlauts = "ü".repeat(32);
        assert_eq!(truncated(["a", &"x".repeat(63)], Dialect::Postgresql), None);
        assert_eq!(truncated([umlauts.as_str()], Dialect::Redshift), None);
        let failure = truncated([umlauts.as_str()], Dialect::Postgresql).unwrap();
        assert!(failure.message.contains("has 64 bytes, but PostgreSQL truncates names to 63"), "{failure:?}");
        assert!(failure.hint.unwrap().ends_with(&format!("to \"{}\"", "ü".repeat(31))));
        let failure = truncated(["x".repeat(128).as_str()], Dialect::Redshift).unwrap();
        assert!(failure.message.contains("Redshift stores names of at most 127"), "{failure:?}");
    }
}
