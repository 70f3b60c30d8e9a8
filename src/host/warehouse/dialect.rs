//! The two servers, and how they treat names.

use serde::{Deserialize, Serialize};

use super::name::{MAX_IDENTIFIER_BYTES, fold};

/// The SQL dialect of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    Postgresql,
    Redshift,
}

impl Dialect {
    /// Returns the longest identifier that the server stores, in bytes. PostgreSQL truncates longer ones
    /// (`NAMEDATALEN` minus one), and Redshift rejects them.
    pub fn max_identifier_bytes(self) -> usize {
        match self {
            Self::Postgresql => 63,
            Self::Redshift => MAX_IDENTIFIER_BYTES,
        }
    }

    /// Returns an identifier as the server compares it. Redshift folds quoted identifiers too, unless
    /// `enable_case_sensitive_identifier` is on.
    pub fn comparable(self, identifier: &str) -> String {
        match self {
            Self::Postgresql => identifier.to_owned(),
            Self::Redshift => fold(identifier),
        }
    }
}
