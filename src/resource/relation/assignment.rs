//! What an INSERT does with a value for a column of another type.
//!
//! The rules are PostgreSQL's assignment casts (`pg_cast.castcontext`), which Redshift has adopted. A generated test
//! runs the INSERT for each pair. Pairs without a rule are not assumed to be harmless.

/// The effect of an INSERT of values of one type into a column of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// Every value is stored unchanged.
    Keeps,
    /// It fails for some or all values. The text says when.
    Fails(&'static str),
    /// It works, but changes some values. The text says how.
    Changes(&'static str),
    /// There is no rule for the two types.
    Unknown,
}

/// The known types, with the limits of their values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// `digits` is the number of decimal digits that every value fits into, `holds` is the number of digits of which
    /// every number fits, and `bits` is the size.
    Integer {
        digits: u32,
        holds: u32,
        bits: u32,
    },
    /// `None` means any precision and scale.
    Numeric(Option<(u32, u32)>),
    /// The bits and the decimal digits that it stores exactly.
    Float {
        bits: u32,
        digits: u32,
    },
    /// `None` means any length.
    Varchar(Option<u32>),
    Char(Option<u32>),
    Date,
    /// The digits of fractional seconds, and whether there is a time zone.
    Timestamp(u32, bool),
    Time(u32, bool),
    Boolean,
    Uuid,
    Json,
    Jsonb,
}

impl Kind {
    /// Returns the maximum length of a value's text, if the text does not depend on the session. The inner `None` means
    /// any length.
    fn text_length(self) -> Option<Option<u32>> {
        match self {
            Self::Integer { digits, .. } => Some(Some(digits + 1)),
            Self::Numeric(None) | Self::Json | Self::Jsonb => Some(None),
            Self::Date | Self::Timestamp(_, false) | Self::Time(_, false) => Some(None),
            Self::Numeric(Some((precision, 0))) => Some(Some(precision + 1)),
            // With a sign, a point, and a leading zero.
            Self::Numeric(Some((precision, scale))) => Some(Some(precision.max(scale + 1) + 2)),
            Self::Boolean => Some(Some(5)),
            Self::Uuid => Some(Some(36)),
            _ => None,
        }
    }
}

/// Returns the effect of an INSERT of `from` into a column of type `to`. Both are canonical spellings.
pub fn fit(from: &str, to: &str) -> Fit {
    if from == to {
        return Fit::Keeps;
    }
    match (kind(from), kind(to)) {
        (Some(from), Some(to)) => between(from, to),
        _ => Fit::Unknown,
    }
}

fn between(from: Kind, to: Kind) -> Fit {
    const LONGER: Fit = Fit::Fails("if a value is longer");
    const LARGER: Fit = Fit::Fails("if a value is larger");
    const ROUNDED: Fit = Fit::Changes("it rounds values");
    const ZONE: Fit = Fit::Changes("the time zone of the session decides what the values mean");
    let keeps_if = |keeps: bool, otherwise: Fit| if keeps { Fit::Keeps } else { otherwise };
    match (from, to) {
        (from, to) if from == to => Fit::Keeps,
        (Kind::Integer { digits, .. }, Kind::Integer { digits: max, .. }) => keeps_if(digits <= max, LARGER),
        (Kind::Integer { .. }, Kind::Numeric(None)) => Fit::Keeps,
        (Kind::Integer { digits, .. }, Kind::Numeric(Some((precision, scale)))) => {
            keeps_if(precision >= scale + digits, LARGER)
        }
        (Kind::Integer { bits, .. }, Kind::Float { bits: max, .. }) => keeps_if(bits <= max, ROUNDED),
        (Kind::Numeric(_), Kind::Numeric(None)) => Fit::Keeps,
        (Kind::Numeric(None), Kind::Numeric(Some(_)) | Kind::Integer { .. } | Kind::Float { .. }) => ROUNDED,
        (Kind::Numeric(Some((precision, scale))), Kind::Numeric(Some((to_precision, to_scale)))) => {
            if to_scale < scale {
                ROUNDED
            } else {
                // The digits before the point have to fit. Those after it are enough.
                keeps_if(to_precision + scale >= precision + to_scale, LARGER)
            }
        }
        (Kind::Numeric(Some((precision, 0))), Kind::Integer { holds, .. }) => keeps_if(precision <= holds, LARGER),
        // A double stores 15 decimal digits exactly. A real stores only whole numbers exactly.
        (Kind::Numeric(Some((precision, scale))), Kind::Float { digits, .. }) => {
            keeps_if(precision <= digits && (digits > 6 || scale == 0), ROUNDED)
        }
        (Kind::Numeric(_), Kind::Integer { .. }) => ROUNDED,
        (Kind::Float { bits, .. }, Kind::Float { bits: max, .. }) => keeps_if(bits <= max, ROUNDED),
        (Kind::Float { .. }, Kind::Numeric(_) | Kind::Integer { .. }) => ROUNDED,
        (Kind::Varchar(_) | Kind::Char(_), Kind::Varchar(None)) => Fit::Keeps,
        (Kind::Varchar(length) | Kind::Char(length), Kind::Varchar(Some(max))) => {
            keeps_if(length.is_some_and(|length| length <= max), LONGER)
        }
        (Kind::Char(_), Kind::Char(None)) => Fit::Keeps,
        (Kind::Char(length), Kind::Char(Some(max))) => keeps_if(length.is_some_and(|length| length <= max), LONGER),
        (Kind::Varchar(length), Kind::Char(Some(max))) if length.is_none_or(|length| length > max) => LONGER,
        (Kind::Varchar(_), Kind::Char(_)) => Fit::Changes("trailing spaces are lost"),
        (Kind::Date, Kind::Timestamp(_, false)) => Fit::Keeps,
        (Kind::Timestamp(..), Kind::Date) => Fit::Changes("the time of the day is lost"),
        (Kind::Timestamp(..), Kind::Time(..)) => Fit::Changes("the day is lost"),
        (Kind::Timestamp(digits, zone), Kind::Timestamp(max, other))
        | (Kind::Time(digits, zone), Kind::Time(max, other))
            if zone == other =>
        {
            keeps_if(digits <= max, ROUNDED)
        }
        (Kind::Time(..), Kind::Time(..)) | (Kind::Timestamp(..) | Kind::Date, Kind::Timestamp(..)) => ZONE,
        (Kind::Jsonb, Kind::Json) => Fit::Keeps,
        (Kind::Json, Kind::Jsonb) => Fit::Changes("duplicate keys are lost"),
        (from, Kind::Varchar(room) | Kind::Char(room)) => match (from.text_length(), room) {
            (None, None) => Fit::Changes("it stores them as text"),
            (Some(_), None) => Fit::Keeps,
            (length, Some(room)) => keeps_if(length.flatten().is_some_and(|length| length <= room), LONGER),
        },
        (
            Kind::Json | Kind::Jsonb | Kind::Uuid | Kind::Boolean | Kind::Date | Kind::Timestamp(..) | Kind::Time(..),
            _,
        )
        | (Kind::Varchar(_) | Kind::Char(_), _)
        | (
            _,
            Kind::Json | Kind::Jsonb | Kind::Uuid | Kind::Boolean | Kind::Date | Kind::Timestamp(..) | Kind::Time(..),
        ) => Fit::Fails("always, because the types are incompatible"),
    }
}

fn kind(canonical: &str) -> Option<Kind> {
    let (head, arguments, tail) = super::types::parts(canonical)?;
    let number = |at: usize| arguments.get(at).and_then(|argument| argument.parse::<u32>().ok());
    let fraction = number(0).unwrap_or(6);
    Some(match (head.as_str(), tail.as_str()) {
        ("smallint", "") => Kind::Integer { digits: 5, holds: 4, bits: 16 },
        ("integer", "") => Kind::Integer { digits: 10, holds: 9, bits: 32 },
        ("bigint", "") => Kind::Integer { digits: 19, holds: 18, bits: 64 },
        ("numeric", "") if arguments.is_empty() => Kind::Numeric(None),
        // PostgreSQL allows a negative scale, which has no rule here.
        ("numeric", "") => Kind::Numeric(Some((number(0)?, number(1)?))),
        ("real", "") => Kind::Float { bits: 24, digits: 6 },
        ("double precision", "") => Kind::Float { bits: 53, digits: 15 },
        ("character varying", "") if arguments.is_empty() => Kind::Varchar(None),
        ("character varying", "") => Kind::Varchar(Some(number(0)?)),
        ("text", "") => Kind::Varchar(None),
        ("bpchar", "") => Kind::Char(None),
        ("character", "") if arguments.is_empty() => Kind::Char(None),
        ("character", "") => Kind::Char(Some(number(0)?)),
        ("date", "") => Kind::Date,
        ("timestamp without time zone", "") | ("timestamp", "without time zone") => Kind::Timestamp(fraction, false),
        ("timestamp with time zone", "") | ("timestamp", "with time zone") => Kind::Timestamp(fraction, true),
        ("time without time zone", "") | ("time", "without time zone") => Kind::Time(fraction, false),
        ("time with time zone", "") | ("time", "with time zone") => Kind::Time(fraction, true),
        ("boolean", "") => Kind::Boolean,
        ("uuid", "") => Kind::Uuid,
        ("json", "") => Kind::Json,
        ("jsonb", "") => Kind::Jsonb,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wider_types_keep_every_value() {
        for (from, to) in [
            ("smallint", "integer"),
            ("integer", "bigint"),
            ("smallint", "real"),
            ("integer", "double precision"),
            ("integer", "numeric(12,2)"),
            ("bigint", "numeric"),
            ("real", "double precision"),
            ("numeric(10,3)", "numeric(12,3)"),
            ("numeric(10,3)", "numeric(12,5)"),
            ("numeric(9,0)", "integer"),
            ("character varying(20)", "character varying(21)"),
            ("character varying(20)", "text"),
            ("character varying", "text"),
            ("character(5)", "character varying(5)"),
            ("character(5)", "character(6)"),
            ("date", "timestamp without time zone"),
            ("timestamp(3) without time zone", "timestamp without time zone"),
            ("integer", "text"),
        ] {
            assert_eq!(fit(from, to), Fit::Keeps, "{from} into {to}");
        }
    }

    #[test]
    fn narrower_and_incompatible_types_do_not() {
        for (from, to) in [
            ("integer", "smallint"),
            ("integer", "real"),
            ("bigint", "double precision"),
            ("integer", "numeric(9,0)"),
            ("integer", "numeric(11,2)"),
            ("numeric(10,3)", "numeric(12,2)"),
            ("numeric(10,3)", "numeric(12,6)"),
            ("numeric(10,0)", "integer"),
            ("numeric", "numeric(38,10)"),
            ("double precision", "real"),
            ("character varying(20)", "character varying(19)"),
            ("text", "character varying(65535)"),
            ("character varying(5)", "character(5)"),
            ("character(6)", "character varying(5)"),
            ("timestamp without time zone", "timestamp with time zone"),
            ("timestamp without time zone", "date"),
            ("timestamp without time zone", "timestamp(3) without time zone"),
            ("text", "integer"),
            ("boolean", "integer"),
            ("integer[]", "bigint[]"),
        ] {
            assert_ne!(fit(from, to), Fit::Keeps, "{from} into {to}");
        }
    }
}
