//! How Redshift stores a table: its dist style and its sort key.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::name::{Shown, fold};

/// How Redshift distributes a table's rows over its slices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "style", rename_all = "snake_case")]
pub enum Dist {
    Even,
    /// By the values of this column.
    Key {
        column: String,
    },
    All,
    /// Redshift chooses, and may change its choice.
    Auto,
    /// A `reldiststyle` that is not documented.
    Other {
        number: i64,
    },
}

impl fmt::Display for Dist {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Even => f.write_str("DISTSTYLE EVEN"),
            Self::Key { column } => write!(f, "DISTSTYLE KEY DISTKEY ({})", Shown(column)),
            Self::All => f.write_str("DISTSTYLE ALL"),
            Self::Auto => f.write_str("DISTSTYLE AUTO"),
            Self::Other { number } => write!(f, "an unknown dist style ({number})"),
        }
    }
}

impl Dist {
    /// Returns whether both mean the same: column names are folded.
    pub fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Key { column }, Self::Key { column: other }) => fold(column) == fold(other),
            _ => self == other,
        }
    }
}

/// The columns of a Redshift sort key, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sort {
    pub columns: Vec<String>,
    #[serde(default)]
    pub interleaved: bool,
}

impl Sort {
    /// Returns whether both mean the same: column names are folded.
    pub fn is_like(&self, other: &Self) -> bool {
        let folded = |sort: &Self| sort.columns.iter().map(|column| fold(column)).collect::<Vec<_>>();
        self.interleaved == other.interleaved && folded(self) == folded(other)
    }
}

impl fmt::Display for Sort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let style = if self.interleaved { "INTERLEAVED " } else { "" };
        let columns: Vec<_> = self.columns.iter().map(|column| Shown(column).to_string()).collect();
        write!(f, "{style}SORTKEY ({})", columns.join(", "))
    }
}
