//! libpq's `target_session_attrs`: which of several servers will do.

use std::fmt;
use std::str::FromStr;

/// The kind of server that a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum SessionAttrs {
    #[default]
    Any,
    /// Transactions can write.
    ReadWrite,
    ReadOnly,
    /// Not a standby, even if transactions are read-only by default.
    Primary,
    Standby,
    /// A standby if there is one, or else any server.
    PreferStandby,
}

impl SessionAttrs {
    /// Returns the passes over the list of servers, each with what it accepts.
    pub fn passes(self) -> &'static [Self] {
        match self {
            Self::Any => &[Self::Any],
            Self::ReadWrite => &[Self::ReadWrite],
            Self::ReadOnly => &[Self::ReadOnly],
            Self::Primary => &[Self::Primary],
            Self::Standby => &[Self::Standby],
            Self::PreferStandby => &[Self::Standby, Self::Any],
        }
    }

    /// Returns the query that tells, the answer that will do, and what another answer means.
    pub fn question(self) -> Option<(&'static str, &'static str, &'static str)> {
        match self {
            Self::Any | Self::PreferStandby => None,
            Self::ReadWrite => Some(("SHOW transaction_read_only", "off", "is read-only")),
            Self::ReadOnly => Some(("SHOW transaction_read_only", "on", "accepts changes")),
            Self::Primary => Some(("SELECT pg_is_in_recovery()", "f", "is a standby")),
            Self::Standby => Some(("SELECT pg_is_in_recovery()", "t", "is not a standby")),
        }
    }
}

impl fmt::Display for SessionAttrs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Any => "any",
            Self::ReadWrite => "read-write",
            Self::ReadOnly => "read-only",
            Self::Primary => "primary",
            Self::Standby => "standby",
            Self::PreferStandby => "prefer-standby",
        })
    }
}

impl FromStr for SessionAttrs {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let all = [Self::Any, Self::ReadWrite, Self::ReadOnly, Self::Primary, Self::Standby, Self::PreferStandby];
        all.into_iter().find(|one| one.to_string() == word).ok_or_else(|| {
            let words: Vec<_> = all.iter().map(ToString::to_string).collect();
            format!("`target_session_attrs` has to be one of {}", words.join(", "))
        })
    }
}
