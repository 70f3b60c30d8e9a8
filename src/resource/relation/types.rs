//! Canonical spellings of column types: `VARCHAR(64)`, `character varying (64)` and `varchar( 64 )` are the same type.
//!
//! The spelling is that of `format_type`, which both servers use in their catalogs. The defaults differ between the
//! servers: <https://docs.aws.amazon.com/redshift/latest/dg/c_Supported_data_types.html> and
//! <https://www.postgresql.org/docs/current/datatype.html>.

use crate::host::warehouse::Dialect;

/// Returns the canonical spelling of a type, or `None` if it is unknown.
pub fn canonical(text: &str, dialect: Dialect) -> Option<String> {
    let text = text.trim().to_lowercase();
    let text = text.strip_prefix("pg_catalog.").unwrap_or(&text);
    match element(text) {
        // The catalog shows every array with one pair of brackets, however many dimensions were declared.
        Some(element) if dialect == Dialect::Postgresql && !implies_not_null(element) => {
            scalar(element, dialect).map(|element| format!("{element}[]"))
        }
        Some(_) => None,
        None => scalar(text, dialect),
    }
}

/// Returns the element type of an array: `int[]`, `int[3][3]`, `int array`, `int array[3]`.
fn element(text: &str) -> Option<&str> {
    let mut rest = text;
    while let Some(open) = rest.strip_suffix(']') {
        rest = open.trim_end_matches(|letter: char| letter.is_ascii_digit()).strip_suffix('[')?.trim_end();
    }
    let rest = rest.strip_suffix(" array").unwrap_or(rest).trim_end();
    (rest.len() < text.len()).then_some(rest)
}

fn scalar(text: &str, dialect: Dialect) -> Option<String> {
    let (head, arguments, tail) = parts(text)?;
    let redshift = dialect == Dialect::Redshift;
    let word = |known: &str| arguments.is_empty().then(|| known.to_owned());
    let length = |known: &str, default: Option<&str>, max: &str| match arguments.as_slice() {
        [] => Some(default.map_or_else(|| known.to_owned(), |default| format!("{known}({default})"))),
        [length] if redshift && length == "max" => Some(format!("{known}({max})")),
        [length] => Some(format!("{known}({})", number(length)?)),
        _ => None,
    };
    let head = if tail.is_empty() { head } else { format!("{head} {tail}") };
    match head.as_str() {
        "smallint" | "int2" => word("smallint"),
        "integer" | "int" | "int4" => word("integer"),
        "bigint" | "int8" => word("bigint"),
        "smallserial" | "serial2" if !redshift => word("smallint"),
        "serial" | "serial4" if !redshift => word("integer"),
        "bigserial" | "serial8" if !redshift => word("bigint"),
        "real" | "float4" => word("real"),
        "double precision" | "float8" | "double" => word("double precision"),
        "float" => match arguments.as_slice() {
            [] => Some("double precision".into()),
            [bits] => match number(bits)? {
                1..=24 => Some("real".into()),
                25..=53 => Some("double precision".into()),
                _ => None,
            },
            _ => None,
        },
        "numeric" | "decimal" | "dec" => match arguments.as_slice() {
            [] if redshift => Some("numeric(18,0)".into()),
            [] => Some("numeric".into()),
            [precision] => Some(format!("numeric({},0)", number(precision)?)),
            [precision, scale] => Some(format!("numeric({},{})", number(precision)?, number(scale)?)),
            _ => None,
        },
        "boolean" | "bool" => word("boolean"),
        "character varying" | "varchar" | "char varying" => {
            length("character varying", redshift.then_some("256"), "65535")
        }
        "national character varying" | "national char varying" | "nchar varying" if !redshift => {
            length("character varying", None, "")
        }
        "nvarchar" if redshift => length("character varying", Some("256"), "65535"),
        "text" if redshift => word("character varying(256)"),
        "text" => word("text"),
        "character" | "char" => length("character", Some("1"), "4096"),
        "nchar" => length("character", Some("1"), "4096"),
        "national character" | "national char" if !redshift => length("character", Some("1"), ""),
        "bit" if !redshift => length("bit", Some("1"), ""),
        "bit varying" | "varbit" if !redshift => length("bit varying", None, ""),
        "bpchar" if redshift => length("character", Some("256"), "4096"),
        "bpchar" => length("character", None, ""),
        "date" => word("date"),
        "timestamp" | "timestamp without time zone" => time("timestamp", "without", &arguments),
        "timestamptz" | "timestamp with time zone" => time("timestamp", "with", &arguments),
        "time" | "time without time zone" => time("time", "without", &arguments),
        "timetz" | "time with time zone" => time("time", "with", &arguments),
        "datetime" if redshift => word("timestamp without time zone"),
        "binary varying" | "varbinary" | "varbyte" if redshift => length("binary varying", Some("64000"), "1024000"),
        "super" | "geometry" | "geography" | "hllsketch" if redshift => word(&head),
        _ if !redshift && POSTGRESQL_TYPES.contains(&head.as_str()) => word(&head),
        "interval" if !redshift => match arguments.as_slice() {
            [] => word(&head),
            [digits] => Some(format!("interval({})", number(digits)?)),
            _ => None,
        },
        "interval day to second" | "interval hour to second" | "interval minute to second" | "interval second"
            if !redshift =>
        {
            match arguments.as_slice() {
                [] => word(&head),
                [digits] => Some(format!("{head}({})", number(digits)?)),
                _ => None,
            }
        }
        "interval year"
        | "interval month"
        | "interval day"
        | "interval hour"
        | "interval minute"
        | "interval day to hour"
        | "interval day to minute"
        | "interval hour to minute"
            if !redshift =>
        {
            word(&head)
        }
        "interval" | "interval day to second" | "interval year to month" => word(&head),
        _ => None,
    }
}

/// PostgreSQL's types without parameters whose only spelling is the catalog's.
const POSTGRESQL_TYPES: &[&str] = &[
    "bytea",
    "uuid",
    "json",
    "jsonb",
    "jsonpath",
    "xml",
    "inet",
    "cidr",
    "macaddr",
    "macaddr8",
    "oid",
    "money",
    "name",
    "tsvector",
    "tsquery",
    "point",
    "line",
    "lseg",
    "box",
    "path",
    "polygon",
    "circle",
    "pg_lsn",
    "pg_snapshot",
    "regclass",
    "regproc",
    "regtype",
    "regrole",
    "regnamespace",
    "int4range",
    "int8range",
    "numrange",
    "tsrange",
    "tstzrange",
    "daterange",
    "int4multirange",
    "int8multirange",
    "nummultirange",
    "tsmultirange",
    "tstzmultirange",
    "datemultirange",
];

/// Returns whether a type implies NOT NULL.
pub fn implies_not_null(text: &str) -> bool {
    let text = text.trim().to_lowercase();
    ["serial", "bigserial", "smallserial", "serial2", "serial4", "serial8"].contains(&text.as_str())
}

/// Returns the length of a `character varying(n)` in canonical spelling.
pub fn varchar_length(canonical: &str) -> Option<u32> {
    canonical.strip_prefix("character varying(")?.strip_suffix(')')?.parse().ok()
}

fn time(kind: &str, zone: &str, arguments: &[String]) -> Option<String> {
    match arguments {
        [] => Some(format!("{kind} {zone} time zone")),
        // Both servers keep six digits anyway, but PostgreSQL remembers an explicit six.
        [digits] => Some(format!("{kind}({}) {zone} time zone", number(digits)?)),
        _ => None,
    }
}

/// The digits of a second that both servers keep.
pub const MAX_DIGITS: u32 = 6;

/// Returns whether a type of times asks for more digits of a second than the servers keep. PostgreSQL makes the column with fewer,
/// which is another type.
pub fn has_too_many_digits(text: &str) -> bool {
    let text = text.trim().to_lowercase();
    let text = text.strip_prefix("pg_catalog.").unwrap_or(&text);
    let Some((head, arguments, _)) = parts(element(text).unwrap_or(text)) else { return false };
    let is_time = ["timestamp", "timestamptz", "time", "timetz", "interval"]
        .contains(&head.split(' ').next().unwrap_or_default());
    let digits = |argument: &String| !argument.is_empty() && argument.bytes().all(|digit| digit.is_ascii_digit());
    // A number too long to be read is too large as well.
    is_time
        && arguments
            .iter()
            .any(|argument| digits(argument) && number(argument).is_none_or(|digits| digits > MAX_DIGITS))
}

fn number(text: &str) -> Option<u32> {
    text.parse().ok()
}

/// Returns the words before the parentheses, the arguments in them, and the words after them, with single spaces.
pub(super) fn parts(text: &str) -> Option<(String, Vec<String>, String)> {
    let spaced = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let Some((head, rest)) = text.split_once('(') else { return Some((spaced(text), Vec::new(), String::new())) };
    let (inside, tail) = rest.split_once(')')?;
    let arguments = inside.split(',').map(|argument| argument.trim().to_owned()).collect();
    Some((spaced(head), arguments, spaced(tail)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use Dialect::{Postgresql, Redshift};

    #[test]
    fn types_have_one_canonical_spelling() {
        for (written, postgresql, redshift) in [
            ("VARCHAR(64)", "character varying(64)", "character varying(64)"),
            ("character  varying ( 64 )", "character varying(64)", "character varying(64)"),
            ("varchar", "character varying", "character varying(256)"),
            ("CHAR", "character(1)", "character(1)"),
            ("TIMESTAMP", "timestamp without time zone", "timestamp without time zone"),
            ("timestamp(3) with time zone", "timestamp(3) with time zone", "timestamp(3) with time zone"),
            ("timestamptz", "timestamp with time zone", "timestamp with time zone"),
            ("INT", "integer", "integer"),
            ("int8", "bigint", "bigint"),
            ("float(10)", "real", "real"),
            ("FLOAT", "double precision", "double precision"),
            ("DECIMAL(10, 2)", "numeric(10,2)", "numeric(10,2)"),
            ("numeric(10)", "numeric(10,0)", "numeric(10,0)"),
            ("numeric", "numeric", "numeric(18,0)"),
            ("text", "text", "character varying(256)"),
            ("bool", "boolean", "boolean"),
            ("nchar(3)", "character(3)", "character(3)"),
            ("NCHAR", "character(1)", "character(1)"),
            ("interval day to second", "interval day to second", "interval day to second"),
        ] {
            assert_eq!(canonical(written, Postgresql).as_deref(), Some(postgresql), "{written}");
            assert_eq!(canonical(written, Redshift).as_deref(), Some(redshift), "{written}");
        }
        for (written, postgresql) in [
            ("int[]", "integer[]"),
            ("varchar(5)[]", "character varying(5)[]"),
            ("int4 [3][3]", "integer[]"),
            ("timestamptz(3) ARRAY", "timestamp(3) with time zone[]"),
            ("numeric(8, 2) array[4]", "numeric(8,2)[]"),
            ("bit", "bit(1)"),
            ("varbit(5)", "bit varying(5)"),
            ("bit varying[]", "bit varying[]"),
            ("national character varying(7)", "character varying(7)"),
            ("interval (3)", "interval(3)"),
            ("interval day to second (3)", "interval day to second(3)"),
            ("pg_catalog.int8", "bigint"),
        ] {
            assert_eq!(canonical(written, Postgresql).as_deref(), Some(postgresql), "{written}");
            assert_eq!(canonical(postgresql, Postgresql).as_deref(), Some(postgresql), "{written}");
        }
        for unknown in ["int[]", "bit(3)", "serial[]"] {
            assert_eq!(canonical(unknown, Redshift), None, "{unknown}");
        }
        assert_eq!(canonical("serial[]", Postgresql), None);
        assert_eq!(canonical("varchar(max)", Redshift).as_deref(), Some("character varying(65535)"));
        assert_eq!(canonical("super", Redshift).as_deref(), Some("super"));
        for unknown in ["mood", "varchar(1,2)", "varchar(", "int(x)", "super"] {
            assert_eq!(canonical(unknown, Postgresql), None, "{unknown}");
        }
    }

    proptest::proptest! {
        #[test]
        fn canonical_spellings_are_fixed_points(
            head in "(varchar|char|numeric|decimal|timestamp|time|float|int|text|bool)",
            arguments in "(|\\([0-9]{1,2}\\)|\\([0-9],[0-9]\\))",
        ) {
            for dialect in [Postgresql, Redshift] {
                if let Some(once) = canonical(&format!("{head}{arguments}"), dialect) {
                    proptest::prop_assert_eq!(canonical(&once, dialect), Some(once));
                }
            }
        }
    }
}
