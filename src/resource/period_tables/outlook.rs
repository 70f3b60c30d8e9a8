//! Reports which periods a series has and which is the next one without a table.

use serde_json::json;

use super::spec::{Series, Through};
use super::{Actual, PeriodTables};
use crate::plan::period::{Period, days};
use crate::resource::KeyError;

/// The state of one series before any change.
pub(super) struct Outlook {
    pub note: String,
    /// The message that a period has begun without a table. It comes before messages about the future.
    pub overdue: Option<String>,
    pub warnings: Vec<String>,
    /// The same as numbers and dates.
    pub facts: serde_json::Value,
}

impl PeriodTables {
    pub(super) fn outlook(&self, series: &Series, actual: &Actual) -> Outlook {
        let pattern = series.pattern();
        let (as_of, end, last_seen) = (actual.as_of, self.end(actual.as_of), self.horizon(actual.as_of));
        let exists = |period: &Period| actual.catalog.relation(&series.table(*period)).is_some();
        let (existing, missing): (Vec<Period>, Vec<Period>) = self.start(as_of).through(last_seen).partition(exists);
        let (begun, to_come): (Vec<Period>, Vec<Period>) = missing.iter().partition(|period| period.start() <= as_of);
        let next = missing.first();

        let has = if existing.is_empty() { "no period".to_owned() } else { names(&existing) };
        let note = match next {
            None => format!("{pattern}: has {has}; no period after {last_seen} was checked"),
            Some(next) => {
                format!("{pattern}: has {has}; the next period without a table is {next}, which {}", when(as_of, *next))
            }
        };
        let overdue = begun.first().map(|first| {
            let which = match begun.as_slice() {
                [one] => format!("{one} {} and has no table", when(as_of, *one)),
                several => format!("{} have no table; the first {}", names(several), when(as_of, *first)),
            };
            let beyond = begun.iter().any(|period| *period > end);
            let last = if beyond { format!("; `through` and `ahead` end at {end}") } else { String::new() };
            format!("{pattern}: {which}{last}")
        });
        let mut warnings = Vec::new();
        let coming = to_come.first().filter(|coming| days(as_of, coming.start()) <= i32::from(self.warn_days()));
        if let Some(coming) = coming {
            let which = match &overdue {
                None => format!("the next period without a table is {coming}, which"),
                Some(_) => format!("there is no table for {coming} either, which"),
            };
            warnings.push(format!("{pattern}: {which} {}", when(as_of, *coming)));
        }
        let from = self.start(as_of);
        if from > end {
            warnings.push(format!(
                "{pattern}: no table is created yet: `from` is {from}, but `through` and `ahead` end at {end}"
            ));
        }
        let facts = json!({
            "name": pattern,
            "periods": existing.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "next_missing": next.map(ToString::to_string),
            "starts": next.map(|period| period.start().to_string()),
        });
        Outlook { note, overdue, warnings, facts }
    }

    /// Returns a remark if `warn_days` is so long that a series is warned of every day, although all its tables exist.
    pub(super) fn always_warns(&self) -> Option<KeyError> {
        let (warn_days, ahead) = (self.spec.warn_days?, self.spec.ahead);
        // On the first day of the current period, the next one without a table is this far away.
        let furthest = u32::from(self.spec.every.max_days()).saturating_mul(ahead.saturating_add(1));
        if self.through != Through::Current || u32::from(warn_days) < furthest {
            return None;
        }
        let word = self.spec.every.word();
        let message = format!(
            "warns every day: with `ahead: {ahead}`, the first {word} without a table always begins within {furthest} days"
        );
        Some(KeyError::new(message).named("warn_days"))
    }

    /// Returns how many days before the start of a period without a table a warning is given. The default is a third of
    /// the period, but at most 30 days.
    pub(super) fn warn_days(&self) -> u16 {
        self.spec.warn_days.unwrap_or_else(|| (self.spec.every.days() / 3).min(30))
    }
}

/// The maximum number of periods, or of runs of periods, that a text names.
const NAMED: usize = 12;

/// Returns the periods for a text. Many of them are named as runs: `2024_06_01 to 2024_12_31 (214)`.
fn names(periods: &[Period]) -> String {
    let joined = |names: &[String]| names.join(", ");
    if periods.len() <= NAMED {
        return joined(&periods.iter().map(ToString::to_string).collect::<Vec<_>>());
    }
    let runs = periods.chunk_by(|one, next| one.plus(1) == *next);
    let name = |run: &[Period]| match run {
        [first, .., last] => format!("{first} to {last} ({})", run.len()),
        one => one.iter().map(ToString::to_string).collect(),
    };
    let runs: Vec<String> = runs.map(name).collect();
    match runs.split_at_checked(NAMED) {
        Some((named, rest)) if !rest.is_empty() => format!("{} and {} more", joined(named), rest.len()),
        _ => joined(&runs),
    }
}

/// Returns `begins on 2026-01-01 in 144 days`, or how long ago the period began.
fn when(as_of: jiff::civil::Date, period: Period) -> String {
    let (start, left) = (period.start(), days(as_of, period.start()));
    let unit = if left.abs() == 1 { "day" } else { "days" };
    match left {
        1.. => format!("begins on {start} in {left} {unit}"),
        0 => format!("begins today, on {start}"),
        _ => format!("began on {start}, {} {unit} ago", -left),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::period::Every;

    #[test]
    fn many_periods_are_named_as_runs() {
        let day = |name: &str| Period::parse(Every::Day, name).unwrap();
        let year: Vec<Period> = day("2025_01_01").through(day("2025_12_31")).collect();
        assert_eq!(names(&year[..2]), "2025_01_01, 2025_01_02");
        assert_eq!(names(&year), "2025_01_01 to 2025_12_31 (365)");
        let gap = [&year[..30], &year[31..32], &year[40..]].concat();
        assert_eq!(names(&gap), "2025_01_01 to 2025_01_30 (30), 2025_02_01, 2025_02_10 to 2025_12_31 (325)");
        let odd: Vec<Period> = year.iter().copied().step_by(2).collect();
        assert!(names(&odd).ends_with("2025_01_23 and 171 more"), "{}", names(&odd));
    }
}
