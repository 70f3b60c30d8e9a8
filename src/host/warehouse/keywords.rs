//! Words that name no column unless they are quoted.

use super::dialect::Dialect;

impl Dialect {
    /// Returns whether an unquoted word in lower case is reserved. The server quotes a column with such a name.
    pub(super) fn is_reserved(self, word: &str) -> bool {
        let is_in = |words: &str| words.split_ascii_whitespace().any(|reserved| reserved == word);
        is_in(POSTGRESQL) || (self == Self::Redshift && is_in(REDSHIFT))
    }

    /// Returns whether every table has a hidden column with this name. No column of a user can have it.
    pub(super) fn is_system_column(self, name: &str) -> bool {
        ["tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"].contains(&name)
            || (self == Self::Redshift && ["oid", "insertxid", "deletexid"].contains(&name))
    }
}

/// The reserved words, and those that name only functions and types (`pg_get_keywords()`, codes R and T, PostgreSQL 16).
const POSTGRESQL: &str = "all analyse analyze and any array as asc asymmetric authorization binary both case cast check collate
    collation column concurrently constraint create cross current_catalog current_date current_role current_schema current_time
    current_timestamp current_user default deferrable desc distinct do else end except false fetch for foreign freeze from full
    grant group having ilike in initially inner intersect into is isnull join lateral leading left like limit localtime
    localtimestamp natural not notnull null offset on only or order outer overlaps placing primary references returning right
    select session_user similar some symmetric system_user table tablesample then to trailing true union unique user using
    variadic verbose when where window with";

/// The reserved words (<https://docs.aws.amazon.com/redshift/latest/dg/r_pg_keywords.html>) that PostgreSQL does not reserve.
const REDSHIFT: &str = "aes128 aes256 allowoverwrite az64 backup between blanksasnull bytedict bzip2 credentials current_user_id
    deflate defrag delta delta32k disable emptyasnull enable encode encrypt encryption explicit globaldict256 globaldict64k gzip
    identity ignore interval language lun luns lzo lzop minus mostly16 mostly32 mostly8 new nulls off offline oid old open parallel
    partition percent permissions pivot raw readratio recover rejectlog resort respect restore snapshot sysdate system tag tdes
    text255 text32k timestamp top truncatecolumns unnest unpivot wallet without";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_without_parentheses_are_reserved() {
        for word in ["current_user", "localtime", "null", "true", "union", "only"] {
            assert!(Dialect::Postgresql.is_reserved(word) && Dialect::Redshift.is_reserved(word), "{word}");
        }
        for word in ["sysdate", "top", "current_user_id"] {
            assert!(!Dialect::Postgresql.is_reserved(word) && Dialect::Redshift.is_reserved(word), "{word}");
        }
        for word in ["a", "name", "time", "date", "user_id", "values"] {
            assert!(!Dialect::Postgresql.is_reserved(word) && !Dialect::Redshift.is_reserved(word), "{word}");
        }
    }
}
