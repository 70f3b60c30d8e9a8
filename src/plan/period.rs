//! The calendar of periods: `2025`, `2025_h2`, `2025_q3`, `2025_07`, `2025_w07`, `2025_07_15`.

use std::fmt;

use jiff::ToSpan as _;
use jiff::civil::{Date, ISOWeekDate, Weekday};
use serde::{Deserialize, Serialize};

/// The length of a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Every {
    Year,
    HalfYear,
    Quarter,
    Month,
    /// A week of ISO 8601: it begins on Monday, and its year is that of its Thursday.
    Week,
    Day,
}

/// How the periods of a length are counted.
enum Unit {
    /// Months of a year that a period takes.
    Months(i32),
    /// Days that a period takes.
    Days(i32),
}

impl Every {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Year, Self::HalfYear, Self::Quarter, Self::Month, Self::Week, Self::Day];

    fn unit(self) -> Unit {
        match self {
            Self::Year => Unit::Months(12),
            Self::HalfYear => Unit::Months(6),
            Self::Quarter => Unit::Months(3),
            Self::Month => Unit::Months(1),
            Self::Week => Unit::Days(7),
            Self::Day => Unit::Days(1),
        }
    }

    /// Returns the approximate number of days in a period.
    pub fn days(self) -> u16 {
        match self {
            Self::Year => 365,
            Self::HalfYear => 182,
            Self::Quarter => 91,
            Self::Month => 30,
            Self::Week => 7,
            Self::Day => 1,
        }
    }

    /// Returns the number of days in the longest period.
    pub fn max_days(self) -> u16 {
        match self {
            Self::Year => 366,
            Self::HalfYear => 184,
            Self::Quarter => 92,
            Self::Month => 31,
            Self::Week => 7,
            Self::Day => 1,
        }
    }

    /// Returns the name for people: `half year`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Year => "year",
            Self::HalfYear => "half year",
            Self::Quarter => "quarter",
            Self::Month => "month",
            Self::Week => "week",
            Self::Day => "day",
        }
    }

    /// Returns the name of a period of this length.
    pub fn example(self) -> &'static str {
        match self {
            Self::Year => "2025",
            Self::HalfYear => "2025_h2",
            Self::Quarter => "2025_q3",
            Self::Month => "2025_07",
            Self::Week => "2025_w07",
            Self::Day => "2025_07_15",
        }
    }
}

/// One calendar period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period {
    every: Every,
    /// The number of periods since the year 0, or since the Monday before the year 1.
    count: i32,
}

/// The range of years. Table names contain four digits.
const YEARS: std::ops::RangeInclusive<i16> = 1000..=9999;
/// A Monday, from which days and weeks are counted.
const MONDAY: Date = Date::constant(1, 1, 1);

impl Period {
    /// Returns the period that contains a day.
    pub fn of(every: Every, day: Date) -> Self {
        let count = match every.unit() {
            Unit::Months(months) => i32::from(day.year()) * (12 / months) + (i32::from(day.month()) - 1) / months,
            Unit::Days(length) => days(MONDAY, day).div_euclid(length),
        };
        Self { every, count }
    }

    /// Parses the name of a period.
    pub fn parse(every: Every, name: &str) -> Result<Self, String> {
        let first = first_day(every, name).filter(|first| YEARS.contains(&first.year()));
        // Only one spelling is the name of a period.
        let period = first.map(|first| Self::of(every, first)).filter(|period| period.to_string() == name);
        period.ok_or_else(|| {
            format!("`{name}` is not a valid {}; expected a name like {}", every.word(), every.example())
        })
    }

    /// Returns the period `periods` later, or the last one of the calendar.
    pub fn plus(self, periods: u32) -> Self {
        let last = Self::of(self.every, Date::MAX).count;
        let count = i32::try_from(periods).map_or(last, |periods| self.count.saturating_add(periods).min(last));
        Self { count, ..self }
    }

    /// Returns the period `periods` earlier, or the first one of the calendar.
    pub fn minus(self, periods: u32) -> Self {
        let first = Self::first(self.every).count;
        let count = i32::try_from(periods).map_or(first, |periods| self.count.saturating_sub(periods).max(first));
        Self { count, ..self }
    }

    /// Returns the first period of the calendar.
    pub fn first(every: Every) -> Self {
        // The first week that begins in the year 1000.
        Self::of(every, Date::constant(1000, 1, 7))
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
        match self.every.unit() {
            Unit::Months(months) => {
                let in_a_year = 12 / months;
                let year = i16::try_from(self.count.div_euclid(in_a_year)).unwrap_or(Date::MAX.year());
                let month = i8::try_from(self.count.rem_euclid(in_a_year) * months + 1).unwrap_or(1);
                // A year with four digits and a month from 1 to 12 always form a valid date.
                Date::new(year, month, 1).unwrap_or(Date::MAX)
            }
            Unit::Days(length) => MONDAY.checked_add((self.count * length).days()).unwrap_or(Date::MAX),
        }
    }
}

/// Returns the first day of the period with this name, if it has the form of one.
fn first_day(every: Every, name: &str) -> Option<Date> {
    let (year, rest) = name.split_once('_').unwrap_or((name, ""));
    let year: i16 = number(year)?;
    let month =
        |part: i8, months: i8| Date::new(year, (part.checked_sub(1)?).checked_mul(months)?.checked_add(1)?, 1).ok();
    match every {
        Every::Year => month(1, 1),
        Every::HalfYear => month(number(rest.strip_prefix('h')?)?, 6),
        Every::Quarter => month(number(rest.strip_prefix('q')?)?, 3),
        Every::Month => month(number(rest)?, 1),
        Every::Week => {
            let week: i8 = number(rest.strip_prefix('w')?)?;
            Some(ISOWeekDate::new(year, week, Weekday::Monday).ok()?.date())
        }
        Every::Day => {
            let (month, day) = rest.split_once('_')?;
            Date::new(year, number(month)?, number(day)?).ok()
        }
    }
}

fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.bytes().all(|digit| digit.is_ascii_digit()).then(|| text.parse().ok())?
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = self.start();
        let (year, month, day) = (first.year(), first.month(), first.day());
        match self.every {
            Every::Year => write!(f, "{year:04}"),
            Every::HalfYear => write!(f, "{year:04}_h{}", (month + 5) / 6),
            Every::Quarter => write!(f, "{year:04}_q{}", (month + 2) / 3),
            Every::Month => write!(f, "{year:04}_{month:02}"),
            Every::Week => {
                let week = first.iso_week_date();
                write!(f, "{:04}_w{:02}", week.year(), week.week())
            }
            Every::Day => write!(f, "{year:04}_{month:02}_{day:02}"),
        }
    }
}

/// Returns the days from one date to another. Negative if the other is earlier.
pub fn days(from: Date, to: Date) -> i32 {
    from.until(to).map_or(0, |span| span.get_days())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn every() -> impl Strategy<Value = Every> {
        prop::sample::select(Every::ALL.to_vec())
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
            let length = match every.unit() {
                Unit::Months(months) => months.months(),
                Unit::Days(days) => days.days(),
            };
            prop_assert_eq!(period.start().checked_add(length).unwrap(), period.plus(1).start());
            prop_assert_eq!(period.plus(1).before(), period);
            // The last day is nine years before the end of the calendar.
            prop_assert_eq!(period.plus(9).minus(9), period);
        }

        #[test]
        fn names_parse_back(every in every(), day in day()) {
            let period = Period::of(every, day);
            prop_assert_eq!(Period::parse(every, &period.to_string()), Ok(period));
        }

        #[test]
        fn adding_periods_agrees_with_jiff(every in every(), day in day(), steps in 0u32..60) {
            let steps_of = |length: i32| i64::from(length) * i64::from(steps);
            // jiff's calendar ends with the year 9999.
            let later = match every.unit() {
                Unit::Months(months) => day.first_of_month().checked_add(steps_of(months).months()),
                Unit::Days(days) => day.checked_add(steps_of(days).days()),
            };
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
    fn weeks_are_those_of_iso_8601() {
        for (day, week, start) in [
            ("2026-12-31", "2026_w53", "2026-12-28"),
            ("2027-01-03", "2026_w53", "2026-12-28"),
            ("2027-01-04", "2027_w01", "2027-01-04"),
            ("2024-12-30", "2025_w01", "2024-12-30"),
        ] {
            let period = Period::of(Every::Week, day.parse().unwrap());
            assert_eq!((period.to_string().as_str(), period.start().to_string().as_str()), (week, start), "{day}");
        }
        assert!(Period::parse(Every::Week, "2025_w53").is_err(), "the year has 52 weeks");
        assert_eq!(Period::parse(Every::Day, "2028_02_29").unwrap().plus(1).to_string(), "2028_03_01");
        assert!(Period::parse(Every::Day, "2026_02_29").is_err());
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
            (Every::Year, "2025_01"),
            (Every::Year, "25"),
            (Every::Year, "2025_"),
            (Every::Week, "2025_w7"),
            (Every::Week, "2025_w00"),
            (Every::Week, "2025_07"),
            (Every::Day, "2025_7_01"),
            (Every::Day, "2025_07"),
            (Every::HalfYear, "2025_h-1"),
            (Every::Month, "2025_+7"),
        ] {
            let error = Period::parse(every, name).unwrap_err();
            assert!(error.contains(every.example()), "{error}");
        }
    }
}
