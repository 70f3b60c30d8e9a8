//! Values that several kinds share: paths, modes, accounts. They are validated when they are parsed, so that an invalid
//! plan file is rejected before the host is touched.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::ops::Deref;
use std::path::{Component, Path, PathBuf};

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Failure;
use crate::host::fs;
use crate::host::users::{User, as_root, group_id, known_group, known_user};
use crate::text::{clean, io_error_text, shell_word};

/// An absolute path without `.`, `..` and duplicate slashes. It is not `/`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct AbsolutePath(PathBuf);

impl AsRef<OsStr> for AbsolutePath {
    fn as_ref(&self) -> &OsStr {
        self.0.as_os_str()
    }
}

impl AbsolutePath {
    /// Validates and normalises a path.
    ///
    /// # Errors
    /// Why it is not valid, with a correction.
    pub fn new(path: &str) -> Result<Self, String> {
        if path.trim().is_empty() {
            return Err("the path is empty".to_owned());
        }
        let quoted = fs::escape_path(Path::new(path));
        if path.starts_with('~') {
            return Err(format!("`{quoted}` is not absolute: write out the home directory"));
        }
        if let Some(plain) = without_typographic_quotes(path) {
            let plain = fs::escape_path(Path::new(&plain));
            return Err(format!(
                "`{quoted}` is not absolute: typographic quotes are part of the text for YAML: write {plain}"
            ));
        }
        if let Some((name, rest)) = shell_variable(path) {
            let rest = fs::escape_path(Path::new(rest));
            return Err(format!(
                "`{quoted}` is not absolute: shell variables are not expanded: write {{{{ env_var('{name}') }}}}{rest}"
            ));
        }
        if !path.starts_with('/') && path.trim_start().starts_with('/') {
            return Err(format!("`{quoted}` begins with a space: remove it"));
        }
        if path.ends_with(['\n', '\r']) {
            return Err(format!("`{quoted}` ends with a line break: write the path on the line of its key"));
        }
        if path.trim_end() != path {
            return Err(format!("`{quoted}` ends with a space: remove it"));
        }
        if !path.starts_with('/') {
            return Err(format!("`{quoted}` is not absolute: a path starts with `/`"));
        }
        if path.contains('\0') {
            return Err(format!("`{quoted}` contains a NUL byte"));
        }
        let mut tidy = PathBuf::from("/");
        for component in Path::new(path).components() {
            match component {
                Component::Normal(name) if name.len() > 255 => {
                    return Err(format!("`{quoted}` has a name of more than 255 bytes"));
                }
                Component::Normal(name) => tidy.push(name),
                Component::ParentDir => {
                    return Err(format!("`{quoted}` contains `..`: write the path without it"));
                }
                Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            }
        }
        if tidy.parent().is_none() {
            return Err("`/` cannot be managed: use a path below it".to_owned());
        }
        Ok(Self(tidy))
    }
}

/// Returns the path in a word processor's quotes.
fn without_typographic_quotes(path: &str) -> Option<String> {
    let quotes = ['\u{201c}', '\u{201d}', '\u{201e}', '\u{2018}', '\u{2019}', '\u{ab}', '\u{bb}'];
    path.starts_with(quotes).then(|| path.trim_matches(quotes).to_owned())
}

/// Splits a path that starts with a shell's variable.
fn shell_variable(path: &str) -> Option<(&str, &str)> {
    let rest = path.strip_prefix('$')?;
    let (name, rest) = match rest.strip_prefix('{') {
        Some(rest) => rest.split_once('}')?,
        None => rest.split_at(rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len())),
    };
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    is_name.then_some((name, rest))
}

impl Deref for AbsolutePath {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl fmt::Display for AbsolutePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&fs::escape_path(&self.0))
    }
}

impl<'de> Deserialize<'de> for AbsolutePath {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Self::new(&text).map_err(D::Error::custom)
    }
}

/// Permission bits as in chmod(1): three or four octal digits in quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mode(u32);

impl Mode {
    /// Returns the bits, at most `0o7777`.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Creates a mode from its bits. Bits above `0o7777` are dropped.
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits & 0o7777)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

impl Serialize for Mode {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Mode {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = Mode;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mode: three or four octal digits in quotes, such as \"0755\"")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Mode, E> {
                let octal = text.bytes().all(|digit| matches!(digit, b'0'..=b'7')) && matches!(text.len(), 3 | 4);
                let bits = if octal { u32::from_str_radix(text, 8).ok() } else { None };
                bits.map(Mode).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Mode, E> {
                Err(E::custom(format_args!(
                    "the mode is the unquoted number {number}, which YAML reads as decimal (400 is not 0400): \
                     write the mode in quotes, such as \"{number:0>4}\""
                )))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Mode, E> {
                Err(E::invalid_value(Unexpected::Signed(number), &self))
            }
        }
        from.deserialize_any(Reader)
    }
}

/// A user or group in a plan file: a name that exists on the host, or a number, which needs no account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Account(String);

impl Account {
    /// Creates the account in another step's claim, which has been validated already.
    pub fn named(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// Returns the uid on this host.
    ///
    /// # Errors
    /// There is no such user.
    pub fn user(&self) -> Result<Identity, Failure> {
        self.identity("user", "useradd", |name| Ok(User::by_name(name)?.map(|user| user.uid)), known_user)
    }

    /// Returns the gid on this host.
    ///
    /// # Errors
    /// There is no such group.
    pub fn group(&self) -> Result<Identity, Failure> {
        self.identity("group", "groupadd", group_id, known_group)
    }

    fn identity(
        &self,
        what: &str,
        maker: &str,
        find: impl FnOnce(&str) -> io::Result<Option<u32>>,
        name_of: impl FnOnce(u32) -> Option<String>,
    ) -> Result<Identity, Failure> {
        if let Ok(id) = self.0.parse() {
            return Ok(Identity { id, name: name_of(id) });
        }
        let failed = |error: io::Error| {
            let name = clean(&self.0);
            Failure::new(format!("cannot look up the {what} {name}: {}", io_error_text(&error)))
                .hint("check that `getent passwd` and `getent group` work, then run again")
        };
        let id = find(&self.0).map_err(failed)?.ok_or_else(|| self.unknown(what, maker))?;
        Ok(Identity { id, name: Some(self.0.clone()) })
    }

    fn unknown(&self, what: &str, maker: &str) -> Failure {
        let command = as_root(&format!("{maker} {}", shell_word(&self.0)));
        Failure::new(format!("no such {what}: {}", clean(&self.0)))
            .hint(format!("create it with `{command}`, or use a number, which needs no account"))
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Account {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = Account;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                // The highest number means "unchanged" to chown(2).
                f.write_str("the name of a user or group, or a number from 0 to 4294967294")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Account, E> {
                let number = text.starts_with(|first: char| first.is_ascii_digit() || first == '-' || first == '+');
                if number {
                    let plain = text.bytes().all(|digit| digit.is_ascii_digit());
                    let id = if plain { text.parse::<u32>().ok() } else { None };
                    let id = id.filter(|id| *id != u32::MAX);
                    return id
                        .map(|id| Account(id.to_string()))
                        .ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self));
                }
                if text.is_empty() {
                    return Err(E::custom("it is empty; expected the name of a user or group, or a number"));
                }
                if text.contains([':', '\0', '\n']) {
                    return Err(E::invalid_value(Unexpected::Str(text), &self));
                }
                Ok(Account(text.to_owned()))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Account, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Account, E> {
                self.visit_str(&number.to_string())
            }
        }
        from.deserialize_any(Reader)
    }
}

/// A user or group that was looked up on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub id: u32,
    /// The name in the plan file, or the one that this host has for a number there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name} ({})", self.id),
            None => write!(f, "{}", self.id),
        }
    }
}

/// Deserializes `null` as the default, because a template that evaluates to none counts as absent.
pub fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Option::deserialize(from).map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_absolute_and_normalised() {
        assert_eq!(AbsolutePath::new("/a//b/./c/").unwrap().to_str(), Some("/a/b/c"));
        for (wrong, expected) in [
            ("a/b", "starts with"),
            ("", "empty"),
            (" /srv", "begins with a space"),
            ("/srv ", "ends with a space"),
            ("/srv\n", "ends with a line break"),
            ("~/a", "home directory"),
            ("/a/../b", "contains `..`"),
            ("/", "below it"),
            ("//./", "below it"),
            ("/a\0b", "NUL"),
        ] {
            let error = AbsolutePath::new(wrong).unwrap_err();
            assert!(error.contains(expected), "{wrong}: {error}");
        }
        assert!(AbsolutePath::new(&format!("/{}", "n".repeat(256))).is_err());
    }

    #[test]
    fn modes_are_quoted_octal_strings() {
        let read = |yaml: &str| serde_yaml::from_str::<Mode>(yaml).map_err(|error| error.to_string());
        assert_eq!(read("'0400'"), Ok(Mode(0o400)));
        assert_eq!(read("'755'"), Ok(Mode(0o755)));
        assert_eq!(read("'2775'"), Ok(Mode(0o2775)));
        for bare in ["400", "755", "0o755"] {
            let error = read(bare).unwrap_err();
            assert!(error.contains("is not 0400"), "{bare}: {error}");
        }
        for wrong in ["'0800'", "'u+x'", "''", "'75'", "'07777777'", "'+755'", "-5", "[1]"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert_eq!(serde_json::to_string(&Mode(0o400)).unwrap(), "\"0400\"");
    }

    #[test]
    fn accounts_are_names_or_numbers() {
        let read = |yaml: &str| serde_yaml::from_str::<Account>(yaml).map_err(|error| error.to_string());
        assert_eq!(read("'50000'").unwrap().user(), Ok(Identity { id: 50000, name: None }));
        assert_eq!(read("50000").unwrap().group(), Ok(Identity { id: 50000, name: None }));
        assert_eq!(read("root").unwrap().user(), Ok(Identity { id: 0, name: Some("root".into()) }));
        assert_eq!(read("root").unwrap().group().unwrap().to_string(), "root (0)");
        let unknown = read("nobody-here").unwrap();
        assert!(unknown.user().unwrap_err().message.contains("no such user: nobody-here"));
        assert!(unknown.group().unwrap_err().message.contains("no such group: nobody-here"));
        for wrong in ["'-1'", "'4294967295'", "''", "'a:b'", "'12ab'", "1.5"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
