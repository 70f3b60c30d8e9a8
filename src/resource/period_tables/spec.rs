//! The mapping in the plan file, and its validation before any server is contacted.

use std::collections::BTreeSet;
use std::fmt;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::host::warehouse::{CatalogQuery, MAX_IDENTIFIER_BYTES, TableName};
use crate::plan::period::{Every, Period};
use crate::resource::KeyError;
use crate::resource::Segment::{Item, Key};
use crate::resource::relation::{Access, Grant};

/// The maximum of `ahead`. A larger number is considered a mistake.
const MAX_AHEAD: u32 = 120;

/// The mapping in the plan file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// A connection of the plan file.
    pub connection: String,
    pub every: Every,
    /// The first period, or `current-N`.
    pub from: String,
    /// The last period, or `current`.
    #[serde(default = "current")]
    pub through: String,
    /// The number of future periods to create in advance.
    #[serde(default)]
    pub ahead: u32,
    pub tables: Vec<Pair>,
    /// How many days before the start of a period without a table a warning is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warn_days: Option<u16>,
    #[serde(default)]
    pub on_drift: OnDrift,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grants: Vec<Grant>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
}

fn current() -> String {
    "current".into()
}

/// A series: the name of the tables with `{period}` in it, and the parent table.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pair {
    pub name: String,
    pub like: TableName,
    /// A view over the tables of the series.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub view: Option<TableName>,
}

/// How to handle a table that differs from its parent so that an archive INSERT fails or misplaces values. For periods
/// that no longer receive rows it is always a warning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnDrift {
    /// The step has drifted, and the run fails after everything else is done.
    #[default]
    Fail,
    /// A warning for each column.
    Report,
    /// Columns that the parent has gained at its end are added, and VARCHARs are widened. What remains is drift.
    AddColumns,
}

/// The first period.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Start {
    Period(Period),
    /// The number of periods before the current one.
    Before(u32),
}

impl Start {
    /// Parses `2025_h2`, `current` or `current-6`.
    fn parse(every: Every, text: &str) -> Result<Self, String> {
        let Some(rest) = text.strip_prefix("current") else {
            let relative = "or `current-6`";
            return Period::parse(every, text).map(Self::Period).map_err(|error| format!("{error}, {relative}"));
        };
        let count = match rest.trim().strip_prefix('-') {
            None if rest.trim().is_empty() => Some(0),
            None => None,
            Some(count) => count.trim().parse().ok(),
        };
        match count {
            Some(count) if count < MAX_PERIODS => Ok(Self::Before(count)),
            _ => Err(format!("`{text}` is not a valid start; expected `current-N` with N below {MAX_PERIODS}")),
        }
    }

    /// Returns a period that is no later than any that the series has.
    fn earliest(self, every: Every) -> Period {
        match self {
            Self::Period(period) => period,
            Self::Before(_) => Period::first(every),
        }
    }
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Period(period) => period.fmt(f),
            Self::Before(0) => f.write_str("the current one"),
            Self::Before(count) => write!(f, "{count} before the current one"),
        }
    }
}

/// The last period before those of `ahead`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Through {
    /// The current period.
    Current,
    Period(Period),
}

/// A parsed [`Pair`].
#[derive(Debug, Clone)]
pub struct Series {
    /// The name, with `{period}` in place of the period.
    template: TableName,
    pub parent: TableName,
    /// The view over the tables.
    pub view: Option<TableName>,
}

/// Replaces `{period}` while a name is parsed, because braces are not allowed in names. It is not a word that people
/// use.
const MARK: &str = "pErIoDpErIoD";

impl Series {
    pub(super) fn parse(pair: &Pair) -> Result<Self, String> {
        let invalid =
            |what: &str| format!("`{}` {what}: expected a name like settlement_ods.hist_x_{{period}}", pair.name);
        match pair.name.matches("{period}").count() {
            0 => return Err(invalid("has no {period} in it")),
            1 => {}
            _ => return Err(invalid("has more than one {period} in it")),
        }
        let marked = pair.name.replace("{period}", MARK);
        let name = TableName::parse_template(&marked).map_err(|error| error.replace(MARK, "{period}"))?;
        let unmarked = |part: &str| part.replace(MARK, "{period}").replace(&MARK.to_lowercase(), "{period}");
        let template = TableName::new(unmarked(&name.schema), unmarked(&name.name));
        if !template.name.contains("{period}") {
            return Err(invalid("has its {period} in the schema"));
        }
        Ok(Self { template, parent: pair.like.clone(), view: pair.view.clone() })
    }

    /// Returns the name with `{period}` in it.
    pub(super) fn template(&self) -> &TableName {
        &self.template
    }

    /// Returns the table of a period.
    pub fn table(&self, period: Period) -> TableName {
        TableName::new(&self.template.schema, self.template.name.replace("{period}", &period.to_string()))
    }

    /// Returns the period of a table of the series.
    pub(super) fn period_of(&self, table: &TableName, every: Every) -> Option<Period> {
        let (before, after) = self.template.name.split_once("{period}")?;
        let name = table.name.strip_prefix(before).filter(|_| table.schema == self.template.schema)?;
        Period::parse(every, name.strip_suffix(after)?).ok()
    }

    /// Returns the name with `{period}` in it, as people write it.
    pub fn pattern(&self) -> String {
        TableName::new(&self.template.schema, self.template.name.replace("{period}", MARK_PLAIN))
            .to_string()
            .replace(MARK_PLAIN, "{period}")
    }
}

/// Like [`MARK`], but with letters that need no quotation marks.
const MARK_PLAIN: &str = "periodperiod";

/// The number of periods after the last desired one that are checked.
pub const LOOKAHEAD: u32 = 4;
/// The maximum number of periods in one series. More are considered a mistake.
pub const MAX_PERIODS: u32 = 1200;

/// Series of tables, one table per period, as written in the plan file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "Spec", into = "Spec")]
pub struct PeriodTables {
    pub spec: Spec,
    pub from: Start,
    pub through: Through,
    pub series: Vec<Series>,
}

impl PeriodTables {
    pub fn access(&self) -> Access<'_> {
        Access { grants: &self.spec.grants, owner: self.spec.owner.as_deref() }
    }

    pub fn current(&self, as_of: Date) -> Period {
        Period::of(self.spec.every, as_of)
    }

    /// Returns the first period that has to have a table.
    pub fn start(&self, as_of: Date) -> Period {
        match self.from {
            Start::Period(period) => period,
            Start::Before(count) => self.current(as_of).minus(count),
        }
    }

    /// Returns a period that is no later than any that the series has, on any date.
    pub fn earliest(&self) -> Period {
        self.from.earliest(self.spec.every)
    }

    /// Returns the last period that has to have a table.
    pub fn end(&self, as_of: Date) -> Period {
        let through = match self.through {
            Through::Current => self.current(as_of),
            Through::Period(period) => period,
        };
        through.plus(self.spec.ahead)
    }

    /// Returns the last period that is checked. It is later than the last desired one, to find out when the tables run
    /// out. It is limited, so that a wrong date does not query thousands of names.
    pub fn horizon(&self, as_of: Date) -> Period {
        let start = self.start(as_of);
        let last = self.end(as_of).max(self.current(as_of)).max(start).plus(LOOKAHEAD);
        last.min(start.plus(MAX_PERIODS + LOOKAHEAD))
    }

    /// Returns the query for its tables and some after them, their parents, and the accounts.
    pub fn query(&self, as_of: Date) -> CatalogQuery {
        let (start, last) = (self.start(as_of), self.horizon(as_of));
        let mut relations = BTreeSet::new();
        for series in &self.series {
            relations.insert(series.parent.clone());
            relations.extend(series.view.clone());
            relations.extend(start.through(last).map(|period| series.table(period)));
        }
        let expected = self.series.iter().map(|series| series.parent.clone()).collect();
        // A view that uses a column prevents it from being widened.
        let views = self.spec.on_drift == OnDrift::AddColumns || self.series.iter().any(|series| series.view.is_some());
        CatalogQuery { relations, expected, accounts: self.access().accounts(), views, ..CatalogQuery::default() }
    }
}

impl TryFrom<Spec> for PeriodTables {
    type Error = KeyError;

    fn try_from(spec: Spec) -> Result<Self, KeyError> {
        let wrong = |key: &'static str, message: String| KeyError::new(message).of([Key(key)]);
        let from = Start::parse(spec.every, spec.from.trim()).map_err(|error| KeyError::new(error).named("from"))?;
        let example = match from {
            Start::Period(period) => Ok(period),
            Start::Before(_) => Period::parse(spec.every, spec.every.example()),
        };
        let example = example.map_err(|error| KeyError::new(error).named("from"))?;
        let through = match spec.through.as_str() {
            "current" => Through::Current,
            name => Period::parse(spec.every, name)
                .map(Through::Period)
                .map_err(|error| KeyError::new(format!("{error}, or `current`")).named("through"))?,
        };
        if spec.ahead > MAX_AHEAD {
            return Err(wrong("ahead", format!("`ahead` is {}, but at most {MAX_AHEAD} is allowed", spec.ahead)));
        }
        if let Through::Period(end) = through {
            if matches!(from, Start::Before(_)) {
                return Err(wrong(
                    "through",
                    "`through` has to be `current` if `from` is relative to the current period".into(),
                ));
            }
            let from = example;
            if end < from {
                return Err(wrong("through", format!("`through` ({end}) is before `from` ({from})")));
            }
            let count = from.count_through(end);
            if count > MAX_PERIODS as usize {
                let message = format!("{from} to {end} are {count} periods, but at most {MAX_PERIODS} are allowed");
                return Err(wrong("through", message));
            }
        }
        if spec.tables.is_empty() {
            return Err(wrong("tables", "`tables` is empty".to_owned()));
        }
        let mut series = Vec::new();
        let mut patterns = BTreeSet::new();
        for (index, pair) in spec.tables.iter().enumerate() {
            let wrong =
                |key: &'static str, message: String| KeyError::new(message).of([Key("tables"), Item(index), Key(key)]);
            let one = Series::parse(pair).map_err(|error| wrong("name", format!("`tables`: {error}")))?;
            if !patterns.insert(one.pattern()) {
                return Err(wrong("name", format!("`tables` lists {} twice", one.pattern())));
            }
            let table = one.table(example);
            if table.schema.len().max(table.name.len()) > MAX_IDENTIFIER_BYTES {
                let limit = format!("{MAX_IDENTIFIER_BYTES} bytes, the limit of the servers");
                return Err(wrong("name", format!("`tables`: {table} is longer than {limit}")));
            }
            let is_made = |period: Period| period >= from.earliest(spec.every);
            if one.period_of(&one.parent, spec.every).is_some_and(is_made) {
                return Err(wrong("like", format!("`tables`: {} is its own parent", one.parent)));
            }
            series.push(one);
        }
        let tables = Self { spec, from, through, series };
        tables.check_views()?;
        tables.access().check()?;
        Ok(tables)
    }
}

impl PeriodTables {
    /// Checks that the names of views are unique.
    fn check_views(&self) -> Result<(), KeyError> {
        let mut views = BTreeSet::new();
        for (index, series) in self.series.iter().enumerate() {
            let Some(view) = &series.view else { continue };
            let is_table = |other: &Series| other.parent == *view || other.period_of(view, self.spec.every).is_some();
            let problem = if !views.insert(view) {
                "is the view of another series"
            } else if self.series.iter().any(is_table) {
                "is also the name of a table"
            } else {
                continue;
            };
            let message = format!("`tables`: the view {view} {problem}");
            return Err(KeyError::new(message).of([Key("tables"), Item(index), Key("view")]));
        }
        Ok(())
    }
}

impl From<PeriodTables> for Spec {
    fn from(tables: PeriodTables) -> Self {
        tables.spec
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str) -> Result<Series, String> {
        Series::parse(&Pair { name: name.into(), like: TableName::new("s", "mart"), view: None })
    }

    #[test]
    fn the_period_is_inserted_into_the_name() {
        let period = Period::parse(Every::Quarter, "2025_q3").unwrap();
        for (name, table, pattern) in [
            ("s.hist_{period}", "s.hist_2025_q3", "s.hist_{period}"),
            ("S.Hist_{period}_x", "s.hist_2025_q3_x", "s.hist_{period}_x"),
            ("s.\"Hist {period}\"", "s.\"Hist 2025_q3\"", "s.\"Hist {period}\""),
        ] {
            let series = read(name).unwrap();
            assert_eq!(series.table(period).to_string(), table);
            assert_eq!(series.pattern(), pattern);
        }
    }

    #[test]
    fn names_without_exactly_one_period_are_rejected() {
        for (name, reason) in [
            ("s.hist", "no {period}"),
            ("s.{period}_{period}", "more than one"),
            ("s_{period}.hist", "in the schema"),
            ("hist_{period}", "has no schema"),
            ("s.hist {period}", "needs quotation marks"),
            ("s.{period}.x", "more than two parts"),
        ] {
            let error = read(name).unwrap_err();
            assert!(error.contains(reason), "{name}: {error}");
            assert!(!error.contains(MARK), "{error}");
        }
    }

    #[test]
    fn invalid_mappings_are_rejected_without_a_server() {
        let read = |lines: &str| {
            let text = format!("connection: w\nevery: half_year\n{lines}");
            serde_yaml::from_str::<PeriodTables>(&text).map(|_| ()).map_err(|error| error.to_string())
        };
        let tables = "tables: [{ name: 's.h_{period}', like: s.m }]";
        for from in ["2025_h2", "current", "current-6", "current - 6"] {
            assert_eq!(read(&format!("from: {from}\n{tables}")), Ok(()), "{from}");
        }
        for (lines, reason) in [
            (format!("from: 2025_q2\n{tables}"), "`2025_q2` is not a valid half year; expected a name like 2025_h2"),
            (format!("from: current-1200\n{tables}"), "N below 1200"),
            (format!("from: current+1\n{tables}"), "expected `current-N`"),
            (format!("from: current-2\nthrough: 2027_h1\n{tables}"), "`through` has to be `current`"),
            ("from: current-2\ntables: [{ name: 's.h_{period}', like: s.h_2030_h1 }]".into(), "is its own parent"),
            ("from: 2025_h2\ntables: [{ name: 's.h_{period}', like: s.h_2060_h1 }]".into(), "is its own parent"),
            (format!("from: 2025_h2\nthrough: now\n{tables}"), "or `current`"),
            (format!("from: 2025_h2\nthrough: 2025_h1\n{tables}"), "is before `from`"),
            (format!("from: 1000_h1\nthrough: 2025_h1\n{tables}"), "at most 1200"),
            (format!("from: 2025_h2\nahead: 500\n{tables}"), "at most 120"),
            (format!("from: 2025_h2\nahead: 100000\n{tables}"), "at most 120"),
            ("from: 2025_h2\ntables: []".into(), "is empty"),
            (format!("from: 2025_h2\n{tables}\ngrants: [{{ to: dbt, privileges: [] }}]"), "list no privileges"),
            (format!("from: 2025_h2\n{tables}\ngrants: [{{ to: dbt, privileges: [drop] }}]"), "unknown variant"),
            (format!("from: 2025_h2\n{tables}\nowners: x"), "unknown field"),
            (
                "from: 2025_h2\ntables: [{ name: 's.h_{period}', like: s.m }, { name: 'S.H_{period}', like: s.n }]"
                    .into(),
                "twice",
            ),
            (
                "from: 2025_h2\ntables: [{ name: 's.h_{period}', like: s.m, view: s.m }]".into(),
                "the view s.m is also the name of a table",
            ),
            (
                "from: 2025_h2\ntables: [{ name: 's.h_{period}', like: s.m, view: S.H_2020_H1 }]".into(),
                "the view s.h_2020_h1 is also the name of a table",
            ),
            (
                "from: 2025_h2\ntables: [{ name: 's.h_{period}', like: s.m, view: s.v }, { name: 's.g_{period}', like: s.m, view: \
                 s.v }]"
                    .into(),
                "the view s.v is the view of another series",
            ),
            ("from: 2025_h2\ntables: [{ name: 's.h_{period}', like: s.m, view: v }]".into(), "has no schema"),
            (
                format!("from: 2025_h2\ntables: [{{ name: 's.{}_{{period}}', like: s.m }}]", "x".repeat(120)),
                "127 bytes",
            ),
        ] {
            let error = read(&lines).unwrap_err();
            assert!(error.contains(reason), "{lines}: {error}");
        }
    }
}
