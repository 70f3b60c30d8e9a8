//! The desired state of a directory, as a plan file has it.

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::exclude::Exclude;
use super::mode_rule::ModeRule;
use crate::resource::value::{AbsolutePath, Account, Mode, or_default};
use crate::resource::{KeyError, Segment};

/// The resource as written in the plan file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct Directory {
    pub path: AbsolutePath,
    /// The user of the directory. Left unchanged if not given.
    #[serde(default)]
    pub owner: Option<Account>,
    /// The group of the directory. Left unchanged if not given.
    #[serde(default)]
    pub group: Option<Account>,
    /// The mode of the directory itself, compared in all its bits. A new directory gets 0755 if it is not given.
    #[serde(default)]
    pub mode: Option<Mode>,
    /// What also applies to every entry below.
    #[serde(default, deserialize_with = "or_default")]
    pub recursive: Recursive,
    /// The mode of every directory below. Left unchanged if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dir_mode: Option<ModeRule>,
    /// The mode of every regular file below. Left unchanged if not given. Symlinks have no mode, and those of sockets,
    /// FIFOs and devices are not changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_mode: Option<ModeRule>,
    /// Entries below that are excluded.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<Exclude>,
    #[serde(default, deserialize_with = "or_default")]
    pub hard_links: HardLinks,
}

/// What the entries below share with the directory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Recursive {
    /// Nothing.
    #[default]
    No,
    /// Owner and group.
    OwnerAndGroup,
    /// Only the owner. The group of an entry is that of the process that writes it.
    Owner,
}

impl Serialize for Recursive {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::No => to.serialize_bool(false),
            Self::OwnerAndGroup => to.serialize_bool(true),
            Self::Owner => to.serialize_str("owner"),
        }
    }
}

impl<'de> Deserialize<'de> for Recursive {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = Recursive;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("true, false or `owner`")
            }

            fn visit_bool<E: Error>(self, yes: bool) -> Result<Recursive, E> {
                Ok(if yes { Recursive::OwnerAndGroup } else { Recursive::No })
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Recursive, E> {
                if text == "owner" { Ok(Recursive::Owner) } else { Err(E::invalid_value(Unexpected::Str(text), &self)) }
            }
        }
        from.deserialize_any(Reader)
    }
}

/// How to handle a file with several names. Changing its owner changes it under its other names too, which may be
/// outside the directory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HardLinks {
    #[default]
    Refuse,
    Change,
}

impl Serialize for Directory {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, to)
    }
}

impl<'de> Deserialize<'de> for Directory {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Self::deserialize(from)?.check().map_err(D::Error::custom)
    }
}

impl Directory {
    pub fn check(self) -> Result<Self, KeyError> {
        let of_entries = [
            self.dir_mode.as_ref().map(|_| "dir_mode"),
            self.file_mode.as_ref().map(|_| "file_mode"),
            self.exclude.first().map(|_| "exclude"),
        ];
        match of_entries.into_iter().flatten().next() {
            Some(key) if self.recursive == Recursive::No => {
                let message = format!(
                    "`{key}` applies to the entries below: set `recursive: true`, or `recursive: owner` for their owner only"
                );
                Err(KeyError::new(message).of([Segment::Key(key)]))
            }
            _ => Ok(self),
        }
    }
}
