//! The calendar of periods: `2025_h2`, `2025_q3`, `2025_07`.

use std::fmt;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

/// The length of a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Every {
    HalfYear,
    Quarter,
    Month,
}

impl Every {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::HalfYear, Self::Quarter, Self::Month];

    /// Returns the number of periods in a year.
    fn in_a_year(self) -> i32 {
        match self {
            Self::HalfYear => 2,
            Self::Quarter => 4,
            Self::Month => 12,
        }
    }

    /// Returns the approximate number of days in a period.
    pub fn days(self) -> u16 {
        match self {
            Self::HalfYear => 182,
            Self::Quarter => 91,
            Self::Month => 30,
        }
    }

    /// Returns the name for people: `half year`.
    pub fn word(self) -> &'static str {
        match self {
            Self::HalfYear => "half year",
            Self::Quarter => "quarter",
            Self::Month => "month",
        }
    }

    fn example(self) -> &'static str {
        match self {
            Self::HalfYear => "2025_h2",
            Self::Quarter => "2025_q3",
            Self::Month => "2025_07",
        }
    }
}

/// One calendar period: half a year, a quarter or a month.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period {
    /// The number of periods since the year 0.
    count: i32,
    /// The number of periods in a year.
    in_a_year: i32,
}

/// The range of years. Table names contain four digits.
const YEARS: std::ops::RangeInclusive<i32> = 1000..=9999;

impl Period {
    /// Returns the period that contains a day.
    pub fn of(every: Every, day: Date) -> Self {
        let in_a_year = every.in_a_year();
        let months = 12 / in_a_year;
        Self { count: i32::from(day.year()) * in_a_year + (i32::from(day.month()) - 1) / months, in_a_year }
    }

    /// Parses the name of a period.
    pub fn parse(every: Every, name: &str) -> Result<Self, String> {
        let wrong = || format!("`{name}` is not a valid {}; expected a name like {}", every.word(), every.example());
        let (year, part) = name.split_once('_').ok_or_else(wrong)?;
        let in_a_year = every.in_a_year();
        let digits = match every {
            Every::HalfYear => part.strip_prefix('h'),
            Every::Quarter => part.strip_prefix('q'),
            Every::Month => Some(part).filter(|part| part.len() == 2),
        };
        let number = |text: &str| text.bytes().all(|digit| digit.is_ascii_digit()).then(|| text.parse::<i32>().ok())?;
        let part = digits.filter(|digits| every == Every::Month || digits.len() == 1).and_then(number);
        match (number(year).filter(|value| year.len() == 4 && YEARS.contains(value)), part) {
            (Some(year), Some(part)) if (1..=in_a_year).contains(&part) => {
                Ok(Self { count: year * in_a_year + part - 1, in_a_year })
            }
            _ => Err(wrong()),
        }
    }

    /// Returns the period `periods` later, or the last one of the calendar.
    pub fn plus(self, periods: u32) -> Self {
        let last = (*YEARS.end() + 1) * self.in_a_year - 1;
        let count = i32::try_from(periods).map_or(last, |periods| self.count.saturating_add(periods).min(last));
        Self { count, ..self }
    }

    /// Returns the previous period.
    pub fn before(self) -> Self {
        Self { count: self.count - 1, ..self }
    }

    /// Returns the periods from this one to `end`, inclusive. Empty if `end` is earlier.
    pub fn through(self, end: Self) -> impl Iterator<Item = Self> {
        (self.count..=end.count).map(move |count| Self { count, ..self })
    }

    /// Returns the number of periods that `through` yields.
    pub fn count_through(self, end: Self) -> usize {
        usize::try_from(i64::from(end.count) - i64::from(self.count) + 1).unwrap_or(0)
    }

    /// Returns the first day of the period.
    pub fn start(self) -> Date {
        let months = 12 / self.in_a_year;
        let year = i16::try_from(self.count.div_euclid(self.in_a_year)).unwrap_or(Date::MAX.year());
        let month = i8::try_from(self.count.rem_euclid(self.in_a_year) * months + 1).unwrap_or(1);
        // A year with four digits and a month from 1 to 12 always form a valid date.
        Date::new(year, month, 1).unwrap_or(Date::MAX)
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let year = self.count.div_euclid(self.in_a_year);
        let part = self.count.rem_euclid(self.in_a_year) + 1;
        match self.in_a_year {
            2 => write!(f, "{year:04}_h{part}"),
            4 => write!(f, "{year:04}_q{part}"),
            _ => write!(f, "{year:04}_{part:02}"),
        }
    }
}

/// Returns the days from one date to another. Negative if the other is earlier.
pub fn days(from: Date, to: Date) -> i32 {
    from.until(to).map_or(0, |span| span.get_days())
}

#[cfg(test)]
mod tests {
    use jiff::ToSpan as _;
    use proptest::prelude::*;

    use super::*;

    fn every() -> impl Strategy<Value = Every> {
        prop_oneof![Just(Every::HalfYear), Just(Every::Quarter), Just(Every::Month)]
    }

    fn day() -> impl Strategy<Value = Date> {
        (1000i16..=9990, 1i8..=12, 1i8..=31)
            .prop_filter_map("a day of the calendar", |(year, month, day)| Date::new(year, month, day).ok())
    }

    proptest! {
        #[test]
        fn a_period_contains_its_day(every in every(), day in day()) {
            let period = Period::of(every, day);
            prop_assert!(period.start() <= day && day < period.plus(1).start());
            let months = 12 / every.in_a_year();
            prop_assert_eq!(period.start().checked_add(months.months()).unwrap(), period.plus(1).start());
        }

        #[test]
        fn names_parse_back(every in every(), day in day()) {
            let period = Period::of(every, day);
            prop_assert_eq!(Period::parse(every, &period.to_string()), Ok(period));
        }

        #[test]
        fn adding_periods_agrees_with_jiff(every in every(), day in day(), steps in 0u32..60) {
            let months = i64::from(12 / every.in_a_year()) * i64::from(steps);
            // jiff's calendar ends with the year 9999.
            let later = day.first_of_month().checked_add(months.months());
            prop_assume!(later.is_ok());
            let later = later.unwrap();
            prop_assert_eq!(Period::of(every, day).plus(steps), Period::of(every, later));
            prop_assert_eq!(Period::of(every, day).count_through(Period::of(every, later)), steps as usize + 1);
        }

        #[test]
        fn days_agree_with_jiff(one in day(), other in day()) {
            let apart = days(one, other);
            prop_assert_eq!(one.checked_add(i64::from(apart).days()).unwrap(), other);
        }

        #[test]
        fn parsing_never_panics(name in "\\PC{0,9}", every in every()) {
            if let Ok(period) = Period::parse(every, &name) {
                prop_assert_eq!(period.to_string(), name);
            }
        }
    }

    #[test]
    fn adding_periods_stops_at_the_end_of_the_calendar() {
        let last = Period::parse(Every::Month, "9999_12").unwrap();
        assert_eq!(last.plus(1), last);
        assert_eq!(last.plus(u32::MAX).to_string(), "9999_12");
    }

    #[test]
    fn names_of_other_periods_are_rejected() {
        for (every, name) in [
            (Every::HalfYear, "2025_h3"),
            (Every::HalfYear, "2025_q1"),
            (Every::HalfYear, "2025_h02"),
            (Every::Quarter, "2025_q0"),
            (Every::Month, "2025_7"),
            (Every::Month, "2025_13"),
            (Every::Month, "25_07"),
            (Every::Month, "2025-07"),
            (Every::Month, "0999_07"),
        ] {
            let error = Period::parse(every, name).unwrap_err();
            assert!(error.contains(every.example()), "{error}");
        }
    }
}
