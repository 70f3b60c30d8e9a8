//! The type of a column of a UNION ALL, by PostgreSQL's rules: <https://www.postgresql.org/docs/current/typeconv-union-case.html>.
//! A generated test asks the server for each pair.

/// The type of a column of a UNION ALL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnionType {
    /// The server makes a column of this type.
    Of(String),
    /// The server refuses the UNION: the types at these places have none in common.
    None(usize, usize),
    /// There is no rule for one of the types.
    Unknown,
}

/// Returns the type of a column that has these types in the SELECTs of a UNION ALL, in their order. They are canonical spellings.
pub fn union_type(types: &[&str]) -> UnionType {
    let Some((first, others)) = types.split_first() else { return UnionType::Unknown };
    let mut common = (*first).to_owned();
    for (index, next) in others.iter().enumerate() {
        common = match of_two(&common, next) {
            Two::Same(common) => common,
            Two::Unknown => return UnionType::Unknown,
            Two::Different => {
                let before = types[..=index].iter().position(|one| of_two(one, next) == Two::Different);
                return UnionType::None(before.unwrap_or(0), index + 1);
            }
        };
    }
    UnionType::Of(common)
}

#[derive(PartialEq)]
enum Two {
    Same(String),
    Different,
    Unknown,
}

fn of_two(left: &str, right: &str) -> Two {
    if left == right {
        return Two::Same(left.to_owned());
    }
    let (left, right) = (without_modifier(left), without_modifier(right));
    let (Some(from), Some(to)) = (Known::of(&left), Known::of(&right)) else {
        return Two::Unknown;
    };
    if left == right {
        return Two::Same(from.unlimited.to_owned());
    }
    if from.category != to.category {
        return Two::Different;
    }
    match (from.becomes(&to), to.becomes(&from)) {
        (true, false) if !from.is_preferred => Two::Same(to.unlimited.to_owned()),
        (_, true) => Two::Same(from.unlimited.to_owned()),
        _ => Two::Different,
    }
}

/// Returns a type without its length, precision or scale.
fn without_modifier(text: &str) -> String {
    match (text.find('('), text.find(')')) {
        (Some(start), Some(end)) if start < end => format!("{}{}", &text[..start], &text[end + 1..]),
        _ => text.to_owned(),
    }
}

/// A type with a rule (`pg_type.typcategory`, `pg_cast.castcontext`).
struct Known {
    category: Category,
    is_preferred: bool,
    /// In its category. A type becomes one of a higher rank without a cast.
    rank: u8,
    /// The spelling of the type without a length.
    unlimited: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Category {
    Number,
    Text,
    Day,
    /// In the category of the days, but no day becomes one.
    Time,
    Span,
    Truth,
    /// Each of these types is alone.
    Other,
}

impl Known {
    fn of(name: &str) -> Option<Self> {
        const NUMBERS: [&str; 6] = ["smallint", "integer", "bigint", "numeric", "real", "double precision"];
        const DAYS: [&str; 3] = ["date", "timestamp without time zone", "timestamp with time zone"];
        const TIMES: [&str; 2] = ["time without time zone", "time with time zone"];
        const OTHERS: [&str; 5] = ["bytea", "uuid", "json", "jsonb", "xml"];
        let of = |names: &'static [&'static str], category, preferred: &str| {
            let rank = names.iter().position(|one| *one == name)?;
            let is_preferred = name == preferred;
            Some(Self { category, is_preferred, rank: u8::try_from(rank).ok()?, unlimited: names[rank] })
        };
        let text = |unlimited, is_preferred| Self { category: Category::Text, is_preferred, rank: 0, unlimited };
        match name {
            "character" | "bpchar" => Some(text("bpchar", false)),
            "character varying" => Some(text("character varying", false)),
            "text" => Some(text("text", true)),
            _ => of(&NUMBERS, Category::Number, "double precision")
                .or_else(|| of(&DAYS, Category::Day, "timestamp with time zone"))
                .or_else(|| of(&TIMES, Category::Time, ""))
                .or_else(|| of(&["interval"], Category::Span, "interval"))
                .or_else(|| of(&["boolean"], Category::Truth, "boolean"))
                .or_else(|| of(&OTHERS, Category::Other, "")),
        }
    }

    /// Returns whether the server converts it to the other type without a cast.
    fn becomes(&self, other: &Self) -> bool {
        match self.category {
            Category::Text => true,
            Category::Number | Category::Day | Category::Time => self.rank < other.rank,
            Category::Span | Category::Truth | Category::Other => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_of_a_union_is_predicted_where_there_are_rules() {
        for (types, expected) in [
            (&["integer"][..], Some("integer")),
            (&["character varying(5)", "character varying(9)"], Some("character varying")),
            (&["numeric(4,2)", "numeric"], Some("numeric")),
            (&["timestamp(3) without time zone", "timestamp without time zone"], Some("timestamp without time zone")),
            (&["character(5)", "character(9)"], Some("bpchar")),
            (&["integer", "bigint"], Some("bigint")),
            (&["bigint", "integer", "numeric(9,2)"], Some("numeric")),
            (&["character varying(5)", "text"], Some("character varying")),
            (&["text", "character varying(5)"], Some("text")),
            (&["date", "timestamp without time zone"], Some("timestamp without time zone")),
            (&["s.colour", "s.colour"], Some("s.colour")),
            (&["s.colour", "integer"], None),
            (&["integer[]", "bigint[]"], None),
        ] {
            let expected = expected.map_or(UnionType::Unknown, |name| UnionType::Of(name.to_owned()));
            assert_eq!(union_type(types), expected, "{types:?}");
        }
        assert_eq!(union_type(&["integer", "integer", "bigint", "text"]), UnionType::None(0, 3));
        assert_eq!(union_type(&["json", "jsonb"]), UnionType::None(0, 1));
        assert_eq!(union_type(&["date", "time without time zone"]), UnionType::None(0, 1));
    }
}
