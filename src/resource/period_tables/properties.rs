//! Properties of every series on every date, compared with a calendar that uses jiff's arithmetic.

use std::collections::{BTreeMap, BTreeSet};

use jiff::ToSpan as _;
use jiff::civil::Date;
use proptest::prelude::*;

use super::spec::LOOKAHEAD;
use super::{Actual, PeriodTables};
use crate::host::warehouse::{Catalog, Column, Dialect, Relation, RelationKind, Schema, TableName};
use crate::resource::relation::TableChange;
use crate::resource::relation::compare::{self, Difference};
use crate::resource::{Diff, Resource as _};

/// A second implementation of the calendar, only with jiff's dates and spans.
#[derive(Debug, Clone, Copy)]
struct Calendar {
    every: &'static str,
    months: i64,
    days: i64,
}

impl Calendar {
    fn start_of(self, day: Date) -> Date {
        if self.every == "week" {
            return day.checked_sub(i64::from(day.weekday().to_monday_zero_offset()).days()).unwrap();
        }
        if self.every == "day" {
            return day;
        }
        let mut start = day.first_of_year();
        while self.after(start, 1) <= day {
            start = self.after(start, 1);
        }
        start
    }

    fn after(self, start: Date, periods: i64) -> Date {
        let later = start.checked_add((periods * self.months).months()).unwrap();
        later.checked_add((periods * self.days).days()).unwrap()
    }

    /// Returns all starts between two dates, inclusive.
    fn starts(self, from: Date, end: Date) -> impl Iterator<Item = Date> {
        (0..).map(move |periods| self.after(from, periods)).take_while(move |start| *start <= end)
    }

    fn name(self, start: Date) -> String {
        let part = i64::from(start.month() - 1) / self.months.max(1) + 1;
        match self.every {
            "year" => start.strftime("%Y").to_string(),
            "week" => start.strftime("%G_w%V").to_string(),
            "day" => start.strftime("%Y_%m_%d").to_string(),
            "half_year" => start.strftime("%Y_h").to_string() + &part.to_string(),
            "quarter" => start.strftime("%Y_q").to_string() + &part.to_string(),
            _ => start.strftime("%Y_%m").to_string(),
        }
    }
}

/// A step, the date, and which of the periods from the first one on have a table.
#[derive(Debug, Clone)]
struct Case {
    calendar: Calendar,
    from: Date,
    through: Option<Date>,
    ahead: i64,
    warn_days: i64,
    as_of: Date,
    there: Vec<bool>,
}

impl Case {
    fn step(&self) -> PeriodTables {
        let Self { calendar, from, through, ahead, warn_days, .. } = self;
        let through = through.map_or("current".to_owned(), |start| calendar.name(start));
        serde_yaml::from_str(&format!(
            "connection: w\nevery: {}\nfrom: \"{}\"\nthrough: \"{through}\"\nahead: {ahead}\nwarn_days: {warn_days}\n\
             tables: [{{ name: \"s.h_{{period}}\", like: s.mart }}]",
            calendar.every,
            calendar.name(*from),
        ))
        .unwrap()
    }

    fn end(&self) -> Date {
        self.calendar.after(self.through.unwrap_or_else(|| self.calendar.start_of(self.as_of)), self.ahead)
    }

    /// Returns the last start that is checked.
    fn horizon(&self) -> Date {
        let last = self.end().max(self.calendar.start_of(self.as_of)).max(self.from);
        self.calendar.after(last, LOOKAHEAD.into())
    }

    /// Returns the starts up to a date without a table, and those with one.
    fn split(&self, end: Date) -> (Vec<Date>, Vec<Date>) {
        let there = self.there.iter().copied().chain(std::iter::repeat(false));
        let all = self.calendar.starts(self.from, end).zip(there);
        let (have, lack): (Vec<_>, Vec<_>) = all.partition(|(_, there)| *there);
        let days = |list: Vec<(Date, bool)>| list.into_iter().map(|(day, _)| day).collect();
        (days(lack), days(have))
    }

    /// Returns the names of periods: of each one up to twelve, and otherwise of the first twelve runs of periods.
    fn named(&self, starts: &[&Date]) -> String {
        let name = |start: &Date| self.calendar.name(*start);
        if starts.len() <= 12 {
            return starts.iter().map(|start| name(start)).collect::<Vec<_>>().join(", ");
        }
        let runs = starts.chunk_by(|one, next| self.calendar.after(**one, 1) == **next);
        let mut runs: Vec<String> = runs
            .map(|run| match run {
                [first, .., last] => format!("{} to {} ({})", name(first), name(last), run.len()),
                one => name(one[0]),
            })
            .collect();
        let more = runs.split_off(runs.len().min(12)).len();
        runs.join(", ") + &if more == 0 { String::new() } else { format!(" and {more} more") }
    }

    fn table(&self, start: Date) -> TableName {
        TableName::new("s", format!("h_{}", self.calendar.name(start)))
    }
}

fn case() -> impl Strategy<Value = Case> {
    let calendar = prop_oneof![
        Just(Calendar { every: "year", months: 12, days: 0 }),
        Just(Calendar { every: "half_year", months: 6, days: 0 }),
        Just(Calendar { every: "quarter", months: 3, days: 0 }),
        Just(Calendar { every: "month", months: 1, days: 0 }),
        Just(Calendar { every: "week", months: 0, days: 7 }),
        Just(Calendar { every: "day", months: 0, days: 1 }),
    ];
    let first =
        (1100i16..=2900, 1i8..=12, 1i8..=28).prop_map(|(year, month, day)| Date::new(year, month, day).unwrap());
    let through = prop::option::of(0i64..60);
    let there = prop::collection::vec(prop::bool::weighted(0.8), 0..90);
    (calendar, first, through, 0i64..6, 0i64..200, -800i32..4000, there).prop_map(
        |(calendar, first, through, ahead, warn_days, later, there)| {
            let from = calendar.start_of(first);
            // A series has at most 1200 periods.
            let later = if calendar.every == "day" { later.min(1000) } else { later };
            let through = through.map(|periods| calendar.after(from, periods));
            let as_of = first.checked_add(i64::from(later).days()).unwrap();
            Case { calendar, from, through, ahead, warn_days, as_of, there }
        },
    )
}

fn relation(columns: Vec<Column>) -> Relation {
    Relation {
        kind: RelationKind::Table,
        owner: "etl".into(),
        rights: Default::default(),
        grants: BTreeMap::new(),
        columns,
        inserts: Default::default(),
        union: None,
        partition_of: None,
        options: BTreeMap::new(),
        used_by: BTreeMap::new(),
        read_by: Vec::new(),
        dist: None,
        sort: None,
    }
}

fn catalog(relations: impl IntoIterator<Item = (TableName, Relation)>) -> Catalog {
    Catalog {
        schemas: BTreeMap::from([("s".into(), Schema { usage: true, create: true, ..Schema::default() })]),
        relations: relations.into_iter().collect(),
        ..Catalog::empty(Dialect::Redshift, "etl".into())
    }
}

fn id() -> Vec<Column> {
    vec![Column { name: "id".into(), type_name: "bigint".into(), null: false }]
}

/// Applies a change to the catalog as the servers would.
fn apply_to_catalog(change: &TableChange, catalog: &mut Catalog) {
    let of = |name: &TableName, catalog: &Catalog| catalog.relations[name].columns.clone();
    let (table, columns) = match change {
        TableChange::Create { table, like, .. } => {
            assert!(!catalog.relations.contains_key(table), "{table} is created twice");
            (table, of(like.as_ref().unwrap(), catalog))
        }
        TableChange::AddColumn { table, column } => {
            let mut columns = of(table, catalog);
            columns.push(Column { null: true, ..column.clone() });
            (table, columns)
        }
        TableChange::Widen { table, column, before, after } => {
            let mut columns = of(table, catalog);
            let column = columns.iter_mut().find(|one| one.name == *column).unwrap();
            assert_eq!(column.type_name, *before);
            column.type_name.clone_from(after);
            (table, columns)
        }
        other => panic!("{other:?}"),
    };
    catalog.relations.insert(table.clone(), relation(columns));
}

proptest! {
    /// After the changes every period has a table, and nothing else was created.
    #[test]
    fn exactly_the_periods_without_a_table_get_one(case in case()) {
        let (lack, _) = case.split(case.end());
        let (_, have) = case.split(case.horizon());
        let mart = [(TableName::new("s", "mart"), relation(id()))];
        let catalog = catalog(mart.into_iter().chain(have.iter().map(|start| (case.table(*start), relation(id())))));
        let step = case.step();
        let mut actual = Actual { as_of: case.as_of, catalog };
        let expected: BTreeSet<_> = case.calendar.starts(case.from, case.horizon()).map(|start| case.table(start))
            .chain([TableName::new("s", "mart")]).collect();
        prop_assert_eq!(step.query(case.as_of).relations, expected);
        let Diff { changes, .. } = step.diff(&actual).unwrap();
        let made: Vec<_> = changes.iter().map(|change| change.table().clone()).collect();
        let expected: Vec<_> = lack.iter().map(|start| case.table(*start)).collect();
        prop_assert_eq!(made, expected);
        for change in &changes {
            apply_to_catalog(change, &mut actual.catalog);
        }
        prop_assert_eq!(step.diff(&actual).unwrap().changes, vec![]);
    }

    /// The first period without a table is reported with its date, for people and for programs. It becomes a warning
    /// `warn_days` before it begins, and a period without a table that has already begun comes first.
    #[test]
    fn the_first_period_without_a_table_is_reported(case in case()) {
        let (lack, have) = case.split(case.horizon());
        let mart = [(TableName::new("s", "mart"), relation(id()))];
        let catalog = catalog(mart.into_iter().chain(have.iter().map(|start| (case.table(*start), relation(id())))));
        let diff = case.step().diff(&Actual { as_of: case.as_of, catalog }).unwrap();
        let [note] = diff.notes.as_slice() else { panic!("{diff:?}") };
        let names: Vec<_> = have.iter().map(|start| case.calendar.name(*start)).collect();
        let has = if names.is_empty() { "no period".to_owned() } else { names.join(", ") };
        let begins = if names.len() <= 12 { format!("s.h_{{period}}: has {has}; ") } else { "s.h_{period}: has ".to_owned() };
        prop_assert!(note.starts_with(&begins), "{}", note);
        let next = lack.first().map(|start| case.calendar.name(*start));
        let facts = serde_json::json!([{
            "name": "s.h_{period}", "periods": names, "next_missing": next, "starts": lack.first().map(ToString::to_string),
        }]);
        prop_assert_eq!(&diff.facts["series"], &facts);
        let days = |start: &Date| i64::from(case.as_of.until(*start).unwrap().get_days());
        match (&next, lack.first().map(days)) {
            (Some(next), Some(left)) => {
                let expected = match left {
                    0 => "begins today".to_owned(),
                    1.. => format!("begins on {} in {left} day", lack[0]),
                    _ => format!("began on {}, {} day", lack[0], -left),
                };
                let expected = format!("without a table is {next}, which {expected}");
                prop_assert!(note.contains(&expected), "{} {}", note, expected);
            }
            _ => prop_assert!(note.contains("no period after"), "{}", note),
        }
        let late: Vec<_> = lack.iter().filter(|start| **start <= case.as_of).collect();
        let named = case.named(&late);
        let reported = diff.warnings.first().is_some_and(|first| first.contains(&named) && first.contains("no table"));
        prop_assert!(late.is_empty() || reported, "{:?}", diff.warnings);
        let coming = lack.iter().find(|start| **start > case.as_of);
        let soon = coming.is_some_and(|start| days(start) <= case.warn_days);
        let warned = diff.warnings.iter().any(|text| coming.is_some_and(|start| text.contains(&format!("which begins on {start}"))));
        prop_assert_eq!(warned, soon, "{:?}", diff.warnings);
        let never = diff.warnings.iter().any(|text| text.contains("no table is created yet"));
        prop_assert_eq!(never, case.end() < case.from, "{:?}", diff.warnings);
    }

    /// The default warning period is a third of the period.
    #[test]
    fn the_default_warning_period_is_a_third_of_the_period(day in 0i64..366) {
        for (every, from, third) in [("month", "2026_01", 10), ("quarter", "2026_q1", 30), ("half_year", "2026_h1", 30)] {
            let step: PeriodTables = serde_yaml::from_str(&format!(
                "connection: w\nevery: {every}\nfrom: \"{from}\"\ntables: [{{ name: \"s.h_{{period}}\", like: s.mart }}]"
            )).unwrap();
            let as_of = Date::constant(2026, 1, 1).checked_add(day.days()).unwrap();
            let mart = (TableName::new("s", "mart"), relation(id()));
            let mut actual = Actual { as_of, catalog: catalog([mart]) };
            for change in step.diff(&actual).unwrap().changes {
                apply_to_catalog(&change, &mut actual.catalog);
            }
            let diff = step.diff(&actual).unwrap();
            let starts: Date = diff.facts["series"][0]["starts"].as_str().unwrap().parse().unwrap();
            let left = as_of.until(starts).unwrap().get_days();
            prop_assert_eq!(!diff.warnings.is_empty(), left <= third, "{} {:?}", every, diff.warnings);
        }
    }
}

/// A `warn_days` that is remarked on warns on every day, and one that is a day shorter does not.
#[test]
fn a_series_that_is_warned_of_every_day_is_remarked_on() {
    for (every, from, longest) in [
        ("day", "2027_01_01", 1),
        ("week", "2027_w01", 7),
        ("month", "2027_01", 31),
        ("quarter", "2027_q1", 92),
        ("half_year", "2027_h1", 184),
        ("year", "2027", 366),
    ] {
        let step = |warn_days: i32| -> PeriodTables {
            let series = "tables: [{ name: \"s.h_{period}\", like: s.mart }]";
            serde_yaml::from_str(&format!(
                "connection: w\nevery: {every}\nfrom: \"{from}\"\nwarn_days: {warn_days}\n{series}"
            ))
            .unwrap()
        };
        let (always, not_always) = (step(longest), step(longest - 1));
        let [remark] = always.remarks().try_into().unwrap();
        assert!(remark.failure.message.starts_with("`warn_days`: warns every day: "), "{remark}");
        assert_eq!(not_always.remarks(), []);
        let warns = |step: &PeriodTables, as_of: Date| {
            let mart = (TableName::new("s", "mart"), relation(id()));
            let mut actual = Actual { as_of, catalog: catalog([mart]) };
            for change in step.diff(&actual).unwrap().changes {
                apply_to_catalog(&change, &mut actual.catalog);
            }
            !step.diff(&actual).unwrap().warnings.is_empty()
        };
        let first = Date::constant(2027, 1, 4);
        // Two years, the second of which has 366 days.
        let all =
            (0..730).filter(|day| every != "day" || day % 9 == 0).map(|day| first.checked_add(day.days()).unwrap());
        let days: Vec<Date> =
            all.filter(|day| day.day() == 1 || day.weekday() == jiff::civil::Weekday::Monday).collect();
        assert!(days.iter().all(|day| warns(&always, *day)), "{every}");
        assert!(!days.iter().all(|day| warns(&not_always, *day)), "{every}");
    }
}

fn table() -> impl Strategy<Value = Vec<Column>> {
    let type_name = prop_oneof![
        (1u32..5).prop_map(|length| format!("character varying({length})")),
        Just("integer".to_owned()),
        Just("date".to_owned()),
    ];
    let column =
        ("[a-f]", type_name, any::<bool>()).prop_map(|(name, type_name, null)| Column { name, type_name, null });
    prop::collection::vec(column, 1..6).prop_map(|mut columns| {
        let mut seen = BTreeSet::new();
        columns.retain(|column| seen.insert(column.name.clone()));
        columns
    })
}

/// Repairs a history table until nothing is left to do, and returns its columns.
fn repaired(mart: &[Column], history: &[Column], on_drift: &str) -> Vec<Column> {
    let step: PeriodTables = serde_yaml::from_str(&format!(
        "connection: w\nevery: half_year\nfrom: 2025_h2\nthrough: 2025_h2\non_drift: {on_drift}\n\
         tables: [{{ name: \"s.h_{{period}}\", like: s.mart }}]"
    ))
    .unwrap();
    let name = TableName::new("s", "h_2025_h2");
    let tables = [(TableName::new("s", "mart"), mart.to_vec()), (name.clone(), history.to_vec())];
    let catalog = catalog(tables.map(|(name, columns)| (name, relation(columns))));
    let mut actual = Actual { as_of: Date::constant(2025, 8, 1), catalog };
    for change in step.diff(&actual).unwrap().changes {
        apply_to_catalog(&change, &mut actual.catalog);
    }
    assert_eq!(step.diff(&actual).unwrap().changes, vec![], "a second apply has nothing to do");
    actual.catalog.relations.remove(&name).unwrap().columns
}

proptest! {
    /// Repairs end after one round, remove nothing, and leave at most as many differences as before.
    #[test]
    fn repairs_converge_and_remove_nothing(mart in table(), history in table()) {
        let after = repaired(&mart, &history, "add_columns");
        prop_assert!(after.len() >= history.len());
        for (old, new) in history.iter().zip(&after) {
            prop_assert_eq!(&old.name, &new.name);
            prop_assert_eq!(old.null, new.null);
        }
        let differ = |columns: &[Column]| {
            let all = compare::columns(&mart, columns, Dialect::Redshift);
            all.iter().filter(|one| !matches!(one, Difference::Null { .. })).count()
        };
        prop_assert!(differ(&after) <= differ(&history));
        prop_assert_eq!(repaired(&mart, &history, "report"), history);
    }

    /// If the mart has only gained columns at its end and longer VARCHARs, the tables are the same afterwards.
    #[test]
    fn repairable_differences_are_repaired(mart in table(), kept in 0usize..6) {
        let kept = kept.clamp(1, mart.len());
        let mut history = mart[..kept].to_vec();
        for column in &mut history {
            if column.type_name.starts_with("character varying") {
                column.type_name = "character varying(1)".into();
            }
        }
        let after = repaired(&mart, &history, "add_columns");
        let expected: Vec<_> = mart.iter().enumerate()
            .map(|(at, column)| Column { null: column.null || at >= kept, ..column.clone() }).collect();
        prop_assert_eq!(after, expected);
    }
}
