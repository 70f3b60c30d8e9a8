//! The words of `provision adopt`'s options.

use std::path::PathBuf;

use crate::host::warehouse::TableName;

/// A word after an option that takes several values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Word<T> {
    /// A value of the option.
    Value(T),
    /// A path, because options can also come before the paths.
    Path(PathBuf),
}

/// The name of a series, and its parent table if one is given.
pub type Series = (String, Option<TableName>);

/// Parses `FILE:NAME`. A name contains no colon, but a file name can.
pub fn variable(text: &str) -> Result<Word<(PathBuf, String)>, String> {
    match text.rsplit_once(':') {
        Some((file, name)) if !file.is_empty() && !name.is_empty() && !name.contains('/') => {
            Ok(Word::Value((file.into(), name.to_owned())))
        }
        None if text.contains('/') => Ok(Word::Path(text.into())),
        _ => Err("write it as FILE:NAME, such as docker-compose.yml:SMTP_PASSWORD".to_owned()),
    }
}

/// Parses `schema.table`.
pub fn table(text: &str) -> Result<Word<TableName>, String> {
    match text.parse() {
        Ok(table) => Ok(Word::Value(table)),
        Err(_) if text.contains('/') => Ok(Word::Path(text.into())),
        Err(error) => Err(error),
    }
}

/// Parses `S_{period}`, with or without `=PARENT` after it.
pub fn series(text: &str) -> Result<Word<Series>, String> {
    match text.rsplit_once('=') {
        Some((name, parent)) if name.contains("{period}") => Ok(Word::Value((name.to_owned(), Some(parent.parse()?)))),
        _ if text.contains("{period}") => Ok(Word::Value((text.to_owned(), None))),
        _ if text.contains('/') => Ok(Word::Path(text.into())),
        _ => Err("write {period} where the period stands, such as sales.orders_{period}".to_owned()),
    }
}

/// Parses the name of an environment variable.
pub fn environment_name(text: &str) -> Result<String, String> {
    let letter = |c: char| c == '_' || c.is_ascii_alphanumeric();
    if text.is_empty() || text.starts_with(|c: char| c.is_ascii_digit()) || !text.chars().all(letter) {
        return Err("write the name of an environment variable, such as DATABASE_URL".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_variable_is_split_at_its_last_colon() {
        let value = |file: &str, name: &str| Ok(Word::Value((file.into(), name.to_owned())));
        assert_eq!(variable("/srv/a:b.yml:NAME"), value("/srv/a:b.yml", "NAME"));
        for wrong in ["", "NAME", ":NAME", "file:"] {
            assert!(variable(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_series_may_name_its_parent() {
        let value = |name: &str, parent| Ok(Word::Value((name.to_owned(), parent)));
        assert_eq!(series("s.h_{period}"), value("s.h_{period}", None));
        assert_eq!(series("s.h_{period}=s.mart"), value("s.h_{period}", Some(TableName::new("s", "mart"))));
        assert_eq!(series("s.\"a={period}\""), value("s.\"a={period}\"", None));
        for wrong in ["s.h", "s.h_{period}=mart"] {
            assert!(series(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn paths_may_stand_after_options() {
        let path = Path::new("/srv/app");
        assert_eq!(variable("/srv/app"), Ok(Word::Path(path.to_owned())));
        assert_eq!(table("/srv/app"), Ok(Word::Path(path.to_owned())));
        assert_eq!(series("/srv/app"), Ok(Word::Path(path.to_owned())));
        assert!(table("app").unwrap_err().contains("has no schema"));
    }

    #[test]
    fn a_password_in_the_place_of_a_name_is_refused() {
        assert_eq!(environment_name("DB_URL"), Ok("DB_URL".to_owned()));
        for wrong in ["", "$DB_URL", "postgresql://u:p@h/d", "1X"] {
            assert!(!environment_name(wrong).unwrap_err().contains("p@h"), "{wrong}");
        }
    }
}
