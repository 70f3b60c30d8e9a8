//! The names of the tables of a series, now and later.

use jiff::civil::Date;

use super::period::{Every, Period};

/// Tables whose names differ only in the period.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Series {
    /// The parts of the qualified name before and after the period, as PostgreSQL stores them.
    pub before: String,
    pub after: String,
    pub every: Every,
    pub from: Period,
    /// The last period, or `None` for an open series.
    pub through: Option<Period>,
}

/// The Gregorian calendar repeats after these years, so two open series that have no table in common by then never have one.
const CALENDAR_YEARS: u32 = 400;

impl Series {
    /// Returns whether a table with this name belongs to the series, now or later.
    pub fn contains(&self, table: &str) -> bool {
        let period = table.strip_prefix(self.before.as_str()).and_then(|rest| rest.strip_suffix(self.after.as_str()));
        period.and_then(|period| Period::parse(self.every, period).ok()).is_some_and(|period| self.covers(period))
    }

    /// Returns whether both series contain a table with the same name: `s.h_{period}` by month and `s.h_{period}_07` by year do.
    pub fn overlaps(&self, other: &Self) -> bool {
        if self.before == other.before && self.every == other.every {
            return self.after == other.after && (self.covers(other.from) || other.covers(self.from));
        }
        // First the series whose period begins earlier in the name. If both begin at the same place, the one with longer periods.
        let order = |series: &Self| (series.before.len(), series.every);
        let (one, other) = if order(self) <= order(other) { (self, other) } else { (other, self) };
        one.may_meet(other) && one.periods_at(other).any(|period| other.contains(&one.table(period)))
    }

    /// Returns the series as Redshift stores its names.
    pub fn folded(&self) -> Self {
        let (before, after) = (self.before.to_ascii_lowercase(), self.after.to_ascii_lowercase());
        Self { before, after, ..self.clone() }
    }

    fn table(&self, period: Period) -> String {
        format!("{}{period}{}", self.before, self.after)
    }

    fn covers(&self, period: Period) -> bool {
        period >= self.from && self.through.is_none_or(|through| period <= through)
    }

    /// Returns whether the names have the same length, and letters and digits at the same places. This rules out most series.
    fn may_meet(&self, other: &Self) -> bool {
        let shape = |series: &Self| -> Vec<(u8, bool)> {
            let is_any = |byte: u8| (byte, byte.is_ascii_digit());
            let literal = |text: &str| text.bytes().map(|byte| (byte, false)).collect::<Vec<_>>();
            let period = series.every.example().bytes().map(is_any).collect();
            [literal(&series.before), period, literal(&series.after)].concat()
        };
        let (own, theirs) = (shape(self), shape(other));
        let meet = |((byte, is_any), (byte2, is_any2)): (&(u8, bool), &(u8, bool))| {
            byte == byte2 || (*is_any && byte2.is_ascii_digit()) || (*is_any2 && byte.is_ascii_digit())
        };
        own.len() == theirs.len() && own.iter().zip(&theirs).all(meet)
    }

    /// Returns the periods whose names can be in a name of the other series, whose period begins at the same place or later.
    fn periods_at(&self, other: &Self) -> impl Iterator<Item = Period> {
        // The text before the other's period contains the beginning of this one's.
        let begin = other.before.get(self.before.len()..).unwrap_or_default();
        let of_year = |year: i16, month, day| Date::new(year, month, day).map(|day| Period::of(self.every, day)).ok();
        let year = begin.get(..4).and_then(|year| year.parse::<i16>().ok());
        let (first, last) = match year {
            // The days around a year can be in one of its weeks.
            Some(year) => {
                (of_year(year, 1, 1).map(|first| first.minus(1)), of_year(year, 12, 31).map(|last| last.plus(1)))
            }
            None if begin.is_empty() => {
                let first = Period::of(self.every, other.from.start()).minus(1).max(self.from);
                let in_a_year = 366 / u32::from(self.every.days());
                (Some(first), Some(first.plus(CALENDAR_YEARS * in_a_year)))
            }
            None => (None, None),
        };
        let first = first.unwrap_or(self.from).max(self.from);
        let last = last.unwrap_or(self.from.plus(u32::MAX));
        first.through(self.through.map_or(last, |through| through.min(last)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(every: Every, name: &str, from: &str) -> Series {
        let (before, after) = name.split_once("{}").unwrap();
        let from = Period::parse(every, from).unwrap();
        Series { before: before.into(), after: after.into(), every, from, through: None }
    }

    #[test]
    fn series_of_different_lengths_can_overlap() {
        let months = series(Every::Month, "s.h_{}", "2025_07");
        let weeks = series(Every::Week, "s.h_{}", "2025_w01");
        let days = series(Every::Day, "s.h_{}", "2025_01_01");
        for (every, name, from, other, expected) in [
            (Every::Year, "s.h_{}_07", "2025", &months, true),
            (Every::Year, "s.h_{}_13", "2025", &months, false),
            (Every::Year, "s.h_{}_h2", "2025", &months, false),
            (Every::Year, "s.i_{}_07", "2025", &months, false),
            (Every::Year, "s.h_{}_w53", "2033", &weeks, true),
            (Every::Year, "s.h_{}_w54", "2025", &weeks, false),
            (Every::Month, "s.h_{}_31", "2025_02", &days, true),
            (Every::Month, "s.h_{}_32", "2025_02", &days, false),
            (Every::Year, "s.h_{}_02_29", "2097", &days, true),
            (Every::Year, "s.h_{}_02_30", "2097", &days, false),
            (Every::Year, "s.h_{}25", "2025", &series(Every::Year, "s.h_20{}", "2025"), true),
            (Every::HalfYear, "s.h_{}", "2025_h1", &months, false),
        ] {
            let one = series(every, name, from);
            assert_eq!((one.overlaps(other), other.overlaps(&one)), (expected, expected), "{name}");
        }
    }

    #[test]
    fn series_that_end_before_the_other_begins_do_not_overlap() {
        let months = series(Every::Month, "s.h_{}", "2025_08");
        let year = series(Every::Year, "s.h_{}_07", "2025");
        let only = Series { through: Some(year.from), ..year.clone() };
        assert!(year.overlaps(&months) && !only.overlaps(&months) && !months.overlaps(&only));
    }
}
