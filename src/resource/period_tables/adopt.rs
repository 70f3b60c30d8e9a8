//! Steps for existing period tables. The series and its periods come from the names of the tables. The parent table is named by
//! a person, or is the only possible one.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::Date;
use serde_json::{Map, Value, json};

use super::spec::{Pair, Series};
use super::view;
use crate::failure::Failure;
use crate::host::warehouse::{Catalog, CatalogQuery, Column, Dialect, Family, Privilege, Relation, Shown, TableName};
use crate::plan::period::{Every, Period};
use crate::resource::adopt::{Adopted, AdoptedSteps, FromCatalog, Subject, cannot};
use crate::resource::relation::compare;
use crate::resource::table::access;
use crate::text::shell_word;

pub(super) const FROM_CATALOG: FromCatalog = FromCatalog { query, steps };

/// A series as a person names it.
struct Named {
    series: Series,
    family: Family,
    parent: Option<TableName>,
}

impl Named {
    fn read(name: &str, like: Option<&TableName>) -> Result<Self, Failure> {
        // No table has an empty name, so this can stand for a parent that is not known yet.
        let stand_in = TableName::new("", "");
        let pair = Pair { name: name.to_owned(), like: like.cloned().unwrap_or(stand_in), view: None };
        let series = Series::parse(&pair).map_err(Failure::new)?;
        let TableName { schema, name } = series.template();
        let (before, after) = name.split_once("{period}").unwrap_or((name, ""));
        let family = Family { schema: schema.clone(), before: before.to_owned(), after: after.to_owned() };
        Ok(Self { series, family, parent: like.cloned() })
    }

    fn query(&self) -> CatalogQuery {
        let mut relations: BTreeSet<TableName> = self.parent.iter().cloned().collect();
        relations.insert(self.usual_view());
        // Without a given parent, every table of the schema is a candidate.
        let searched = match self.parent {
            Some(_) => self.family.clone(),
            None => Family::whole(&self.family.schema),
        };
        CatalogQuery { relations, families: [searched].into(), views: true, ..CatalogQuery::default() }
    }
}

impl Named {
    /// Returns the usual name of a view over the series: the name of the tables without their period.
    fn usual_view(&self) -> TableName {
        let Family { schema, before, after } = &self.family;
        TableName::new(schema, format!("{}{after}", before.trim_end_matches('_')))
    }
}

fn query(subject: &Subject) -> Option<Result<CatalogQuery, Failure>> {
    let Subject::Series { name, like } = subject else { return None };
    Some(Named::read(name, like.as_ref()).map(|named| named.query()))
}

/// What was found out about a series.
#[derive(Debug, Clone)]
struct Found {
    every: Every,
    from: Period,
    ahead: usize,
    parent: TableName,
    view: Option<TableName>,
    /// Whether the parent was identified by its columns.
    by_columns: bool,
    /// The keys `grants` and `owner`.
    access: Map<String, Value>,
}

fn steps(subjects: &[Subject], catalog: &Catalog, as_of: Date) -> AdoptedSteps {
    // For each step, its series with their names.
    let mut steps: Vec<Vec<(String, Found)>> = Vec::new();
    let mut failures = Vec::new();
    for subject in subjects {
        let Subject::Series { name, like } = subject else { continue };
        let found = Named::read(name, like.as_ref()).and_then(|named| {
            let found = look(&named, catalog, as_of)?;
            Ok((named.series.pattern(), found))
        });
        match found {
            Err(failure) => failures.push(cannot(&subject.to_string(), failure)),
            Ok((pattern, found)) => {
                let goes_with =
                    |series: &&mut Vec<(String, Found)>| series.iter().all(|(_, first)| first.goes_with(&found));
                match steps.iter_mut().find(goes_with) {
                    Some(series) => series.push((pattern, found)),
                    None => steps.push(vec![(pattern, found)]),
                }
            }
        }
    }
    if !failures.is_empty() {
        return Err(failures);
    }
    Ok(steps.iter().filter_map(|series| adopted(series)).collect())
}

impl Found {
    /// Returns whether one step can contain both.
    fn goes_with(&self, other: &Self) -> bool {
        let same = |found: &Self| (found.every, found.from, found.ahead, found.access.clone());
        same(self) == same(other)
    }
}

/// Returns the step for series that differ only in their names and parents.
fn adopted(series: &[(String, Found)]) -> Option<Adopted> {
    let (pattern, first) = series.first()?;
    let mut keys = Map::new();
    keys.insert("every".to_owned(), json!(first.every));
    keys.insert("from".to_owned(), first.from.to_string().into());
    keys.insert("through".to_owned(), "current".into());
    keys.insert("ahead".to_owned(), first.ahead.into());
    let pair = |(name, found): &(String, Found)| match &found.view {
        Some(view) => json!({ "name": name, "like": found.parent, "view": view }),
        None => json!({ "name": name, "like": found.parent }),
    };
    keys.insert("tables".to_owned(), series.iter().map(pair).collect());
    keys.extend(first.access.clone());
    let found_by_columns = series.iter().filter(|(_, found)| found.by_columns).map(|(_, found)| {
        let parent = &found.parent;
        format!("{parent} is the only other table of its schema with the same columns, so it was taken for the parent.")
    });
    let names: Vec<&str> = series.iter().map(|(name, _)| name.as_str()).collect();
    let name = pattern.rsplit('.').next().unwrap_or_default().replace("{period}", "").replace("__", "_");
    Some(Adopted {
        subject: format!("series {}", names.join(", ")),
        name: name.trim_matches(['_', '"']).to_owned(),
        title: format!("Tables {}", names.join(", ")),
        keys,
        secret: None,
        comments: found_by_columns.collect(),
    })
}

fn look(named: &Named, catalog: &Catalog, as_of: Date) -> Result<Found, Failure> {
    let Named { series, family, .. } = named;
    let pattern = series.pattern();
    if catalog.is_cut {
        let schema = Shown(&family.schema);
        return Err(Failure::new(format!("schema {schema} has more columns than are searched"))
            .hint(format!("name the table that it is like: --series {}", with_parent(&pattern))));
    }
    if catalog.schema(&TableName::new(&family.schema, "")).is_none() {
        return Err(Failure::new(format!("there is no schema {}", Shown(&family.schema))));
    }
    let family = match catalog.dialect {
        Dialect::Postgresql => family.clone(),
        Dialect::Redshift => family.folded(),
    };
    let (every, periods) = periods(&family, catalog)?;
    let (Some(from), Some(last)) = (periods.first_key_value(), periods.last_key_value()) else {
        return Err(no_table());
    };
    let (from, newest, last) = (*from.0, last.1, *last.0);
    let current = Period::of(every, as_of);
    let parent = parent(named, &family, newest, catalog);
    let missing: Vec<TableName> = from
        .through(last.max(current))
        .filter(|period| !periods.contains_key(period))
        .map(|period| series.table(period))
        .collect();
    if let Some(first) = missing.first() {
        return Err(gap(first, &missing, last < current, parent.ok().map(|(parent, _)| parent)));
    }
    let (parent, by_columns) = parent?;
    let tables: Vec<&Relation> = periods.values().copied().collect();
    let ahead = current.count_through(last).saturating_sub(1);
    let access = common_access(&tables, catalog.dialect);
    let has_same_access =
        |view: &Relation| common_access(&[tables.as_slice(), &[view]].concat(), catalog.dialect) == access;
    let names: Vec<TableName> = periods.keys().map(|period| series.table(*period)).collect();
    let view =
        catalog.relation(&parent).and_then(|parent| view::find_existing(&names, parent, catalog, has_same_access));
    Ok(Found { every, from, ahead, parent, view, by_columns, access })
}

/// Returns the periods that have a table, and the one calendar of their names.
fn periods<'a>(family: &Family, catalog: &'a Catalog) -> Result<(Every, BTreeMap<Period, &'a Relation>), Failure> {
    let found = Every::ALL.map(|every| {
        let period = |(name, relation)| Some((Period::parse(every, family.middle(name)?).ok()?, relation));
        (every, catalog.relations.iter().filter_map(period).collect::<BTreeMap<_, _>>())
    });
    let mut found = found.into_iter().filter(|(_, periods)| !periods.is_empty());
    match (found.next(), found.next()) {
        (None, _) => Err(no_table()),
        (Some(only), None) => Ok(only),
        (Some((one, _)), Some((other, _))) => Err(Failure::new(format!(
            "there are tables for a {} and tables for a {}, and a series has one length of period",
            one.word(),
            other.word()
        ))),
    }
}

fn no_table() -> Failure {
    Failure::new("there is no table of that name for any period: 2025, 2025_h2, 2025_q3, 2025_07, 2025_w07, 2025_07_15")
}

fn gap(first: &TableName, missing: &[TableName], has_ended: bool, parent: Option<TableName>) -> Failure {
    let failure = Failure::new(match missing {
        [_] => format!("{first} does not exist"),
        several => format!("{first} and {} more between the others or up to now do not exist", several.len() - 1),
    });
    let like = parent.map_or("PARENT".to_owned(), |parent| parent.sql());
    let create = format!("make it, then adopt the series again: `CREATE TABLE {} (LIKE {like});`", first.sql());
    failure.hint(match has_ended {
        true => format!("write the step of a series that has ended by hand, with `through`; or {create}"),
        false => create,
    })
}

/// Returns the parent table of the series, and whether it was identified by its columns.
fn parent(named: &Named, family: &Family, newest: &Relation, catalog: &Catalog) -> Result<(TableName, bool), Failure> {
    if let Some(parent) = &named.parent {
        return match catalog.relation(parent) {
            Some(_) => Ok((parent.clone(), false)),
            None => Err(Failure::new(format!("its parent table {parent} does not exist"))),
        };
    }
    let same = |columns: &[Column]| compare::columns(columns, &newest.columns, catalog.dialect).is_empty();
    let candidates: Vec<&TableName> = catalog
        .relations
        .iter()
        .filter(|(name, relation)| name.schema == family.schema && relation.kind.is_table() && same(&relation.columns))
        .map(|(name, _)| name)
        .filter(|name| !is_named_after_a_period(&name.name))
        .collect();
    let argument = with_parent(&named.series.pattern());
    match candidates.as_slice() {
        [parent] => Ok(((*parent).clone(), true)),
        [] => Err(Failure::new(format!(
            "no other table of schema {} has the same columns, so its parent table is not known",
            Shown(&family.schema)
        ))
        .hint(format!("name that table: --series {argument}"))),
        several => {
            let names: Vec<String> = several.iter().take(5).map(ToString::to_string).collect();
            Err(Failure::new(format!("several tables have the same columns: {}", names.join(", ")))
                .hint(format!("name its parent table: --series {argument}")))
        }
    }
}

fn with_parent(pattern: &str) -> String {
    shell_word(format!("{pattern}=PARENT"))
}

/// Returns whether a part of the name is a period. Such a table has a parent, and is not the parent of others.
fn is_named_after_a_period(name: &str) -> bool {
    let is_digit = |at: Option<usize>| at.and_then(|at| name.as_bytes().get(at)).is_some_and(u8::is_ascii_digit);
    let holds = |every: Every, at: usize| {
        let end = at + every.example().len();
        // A year is not part of a longer number.
        let is_apart = !is_digit(at.checked_sub(1)) && !is_digit(Some(end));
        is_apart && name.get(at..end).is_some_and(|text| Period::parse(every, text).is_ok())
    };
    Every::ALL.into_iter().any(|every| (0..name.len()).any(|at| holds(every, at)))
}

/// Returns the grants and the owner that all the tables have in common.
fn common_access(tables: &[&Relation], dialect: Dialect) -> Map<String, Value> {
    let Some((first, others)) = tables.split_first() else { return Map::new() };
    let mut common = (*first).clone();
    for other in others {
        common.grants.retain(|holder, privileges| {
            let none = BTreeSet::<Privilege>::new();
            let theirs = other.grants.get(holder).unwrap_or(&none);
            privileges.retain(|privilege| theirs.contains(privilege));
            !privileges.is_empty()
        });
    }
    let mut keys = access(&common, dialect);
    if others.iter().any(|other| other.owner != first.owner) {
        keys.remove("owner");
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::warehouse::{Account, Inserts, RelationKind, Schema};
    use crate::resource::Resource;
    use crate::resource::period_tables::{Actual, PeriodTables};

    const DAY: Date = jiff::civil::date(2026, 3, 1);

    fn relation(columns: &[&str], grants: &[&str]) -> Relation {
        let column = |name: &&str| Column { name: (*name).into(), type_name: "integer".into(), null: true };
        Relation {
            kind: RelationKind::Table,
            owner: "etl".into(),
            rights: Default::default(),
            grants: grants.iter().map(|to| ((*to).into(), BTreeSet::from([Privilege::Select]))).collect(),
            columns: columns.iter().map(column).collect(),
            inserts: Inserts::default(),
            union: None,
            partition_of: None,
            options: BTreeMap::new(),
            used_by: BTreeMap::new(),
            read_by: Vec::new(),
            dist: None,
            sort: None,
        }
    }

    fn catalog(tables: &[(&str, &[&str])]) -> Catalog {
        let relations = tables.iter().map(|(name, columns)| (TableName::new("s", *name), relation(columns, &["dbt"])));
        Catalog {
            schemas: BTreeMap::from([("s".into(), Schema { usage: true, create: true, ..Schema::default() })]),
            relations: relations.collect(),
            accounts: ["etl", "dbt"].map(|name| Account::User(name.into())).into(),
            ..Catalog::empty(Dialect::Postgresql, "etl".into())
        }
    }

    fn series(name: &str, like: Option<&str>) -> Subject {
        Subject::Series { name: name.to_owned(), like: like.map(|like| like.parse().unwrap()) }
    }

    fn failure(subject: Subject, catalog: &Catalog) -> Failure {
        steps(&[subject], catalog, DAY).unwrap_err().remove(0)
    }

    const A: &[&str] = &["id", "at"];
    const B: &[&str] = &["id"];

    #[test]
    fn a_series_is_adopted_with_its_first_period_and_those_ahead() {
        for (names, every, from, ahead) in [
            (["h_2025_h1", "h_2025_h2", "h_2026_h1", "h_2026_h2"], "half_year", "2025_h1", 1),
            (["h_2025_q3", "h_2025_q4", "h_2026_q1", "h_2026_q2"], "quarter", "2025_q3", 1),
            (["h_2026_01", "h_2026_02", "h_2026_03", "h_2026_04"], "month", "2026_01", 1),
            (["h_2025_12", "h_2026_01", "h_2026_02", "h_2026_03"], "month", "2025_12", 0),
            (["h_2026_04", "h_2026_05", "h_2026_06", "h_2026_07"], "month", "2026_04", 4),
        ] {
            let mut tables: Vec<(&str, &[&str])> = names.iter().map(|name| (*name, A)).collect();
            tables.extend([("mart", A), ("other", B), ("h_notes", B)]);
            let catalog = catalog(&tables);
            let found = steps(&[series("s.h_{period}", None)], &catalog, DAY);
            let mut adopted = found.unwrap().remove(0);
            let keys = &adopted.keys;
            assert_eq!((&keys["every"], &keys["from"], &keys["ahead"]), (&json!(every), &json!(from), &json!(ahead)));
            assert_eq!(keys["tables"], json!([{ "name": "s.h_{period}", "like": "s.mart" }]));
            assert_eq!(keys["grants"], json!([{ "to": "dbt", "privileges": ["select"] }]));
            assert_eq!(adopted.name, "h");
            assert!(adopted.comments[0].contains("s.mart is the only other table"), "{adopted:?}");
            adopted.keys.insert("connection".into(), "warehouse".into());
            let step: PeriodTables = serde_json::from_value(adopted.keys.into()).unwrap();
            let diff = step.diff(&Actual { as_of: DAY, catalog }).unwrap();
            assert!(diff.changes.is_empty() && diff.drift.is_empty() && diff.obstacles.is_empty(), "{diff:?}");
        }
    }

    #[test]
    fn a_gap_is_refused_with_the_missing_table() {
        let tables = [("h_2025_h1", A), ("h_2026_h1", A), ("mart", A)];
        let refused = failure(series("s.h_{period}", None), &catalog(&tables));
        assert_eq!(refused.message, "cannot adopt series s.h_{period}: s.h_2025_h2 does not exist");
        assert!(refused.hint.unwrap().contains(r#"CREATE TABLE "s"."h_2025_h2" (LIKE "s"."mart");"#));
        let ended = failure(series("s.h_{period}", None), &catalog(&[("h_2025_h1", A), ("mart", A)]));
        assert!(ended.message.contains("s.h_2025_h2 and 1 more"), "{ended:?}");
        assert!(ended.hint.unwrap().contains("`through`"));
    }

    #[test]
    fn the_parent_is_named_or_the_only_one_that_it_can_be() {
        let several = catalog(&[("h_2026_h1", A), ("mart", A), ("mart_copy", A), ("g_2026_h1", A)]);
        let refused = failure(series("s.h_{period}", None), &several);
        assert!(refused.message.contains("s.mart, s.mart_copy"), "{refused:?}");
        assert!(refused.hint.unwrap().contains("'s.h_{period}=PARENT'"));
        let named = steps(&[series("s.h_{period}", Some("s.mart"))], &several, DAY).unwrap();
        assert_eq!(named[0].keys["tables"][0]["like"], "s.mart");
        assert!(named[0].comments.is_empty());
        let none = failure(series("s.h_{period}", None), &catalog(&[("h_2026_h1", A), ("mart", B)]));
        assert!(none.message.contains("no other table"), "{none:?}");
        let unknown = failure(series("s.h_{period}", Some("s.nowhere")), &several);
        assert!(unknown.message.contains("its parent table s.nowhere does not exist"), "{unknown:?}");
    }

    #[test]
    fn names_of_two_calendars_or_none_are_refused() {
        let two = failure(series("s.h_{period}", None), &catalog(&[("h_2026_h1", A), ("h_2026_01", A), ("mart", A)]));
        assert!(two.message.contains("half year") && two.message.contains("month"), "{two:?}");
        let none = failure(series("s.x_{period}", None), &catalog(&[("h_2026_h1", A)]));
        assert!(none.message.contains("no table of that name"), "{none:?}");
        assert!(failure(series("t.x_{period}", None), &catalog(&[])).message.contains("there is no schema t"));
        assert!(query(&series("s.x", None)).unwrap().is_err());
    }

    #[test]
    fn series_that_differ_in_nothing_else_are_one_step() {
        let tables = [("a_2026_h1", A), ("b_2026_h1", B), ("c_2026_h1", A), ("c_2026_h2", A), ("x", A), ("y", B)];
        let all = ["s.a_{period}", "s.b_{period}", "s.c_{period}"].map(|name| series(name, None));
        let adopted = steps(&all, &catalog(&tables), DAY).unwrap();
        let names = |at: usize| -> Vec<&str> {
            let Value::Array(tables) = &adopted[at].keys["tables"] else { panic!("{adopted:?}") };
            tables.iter().map(|pair| pair["name"].as_str().unwrap()).collect()
        };
        assert_eq!(adopted.len(), 2);
        assert_eq!((names(0), names(1)), (vec!["s.a_{period}", "s.b_{period}"], vec!["s.c_{period}"]));
    }

    #[test]
    fn what_the_tables_do_not_have_in_common_is_left_out() {
        let (mut one, other) = (relation(A, &["dbt", "bi"]), relation(A, &["dbt"]));
        let keys = common_access(&[&one, &other], Dialect::Postgresql);
        assert_eq!(
            Value::Object(keys),
            json!({ "grants": [{ "to": "dbt", "privileges": ["select"] }], "owner": "etl" })
        );
        one.owner = "me".into();
        assert_eq!(common_access(&[&one, &other], Dialect::Postgresql).get("owner"), None);
    }
}
