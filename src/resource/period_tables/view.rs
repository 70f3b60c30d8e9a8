//! The view over the tables of a series: a UNION ALL of the tables that exist, by column name.
//!
//! A view belongs to the step only if it is a UNION ALL of the same columns of tables of the series. It is replaced when a table is
//! added. Any other relation with its name is left unchanged.

use std::collections::{BTreeMap, BTreeSet};

use postgres_protocol::escape::{escape_identifier, escape_literal};

use super::dependents::{Drops, named};
use super::spec::Series;
use super::{Actual, PeriodTables};
use crate::failure::Failure;
use crate::host::warehouse::{Branch, Catalog, Column, Dialect, Relation, RelationKind, Shown, TableName};
use crate::resource::Diff;
use crate::resource::relation::assignment::{Fit, fit};
use crate::resource::relation::{TableChange, UnionType, cannot_create_in, truncated, union_type};

/// The option of a view that checks the rows written through it. Only a view over one table can have it.
const CHECK_OPTION: &str = "check_option";

/// A table of the view, in its state after the planned changes.
struct Member {
    table: TableName,
    columns: Vec<Column>,
}

impl PeriodTables {
    /// Adds to `diff` the changes for the view of a series, after those for its tables.
    ///
    /// # Errors
    /// Something prevents the view from being created or replaced.
    pub(super) fn plan_view(
        &self,
        series: &Series,
        parent: &Relation,
        actual: &Actual,
        diff: &mut Diff<TableChange>,
    ) -> Result<(), Failure> {
        let Some(view) = &series.view else { return Ok(()) };
        let catalog = &actual.catalog;
        if let Some(failure) = truncated([view.schema.as_str(), &view.name], catalog.dialect) {
            return Err(Failure { message: format!("{view}: {}", failure.message), ..failure });
        }
        let periods = self.start(actual.as_of).through(self.horizon(actual.as_of));
        let members: Vec<Member> =
            periods.filter_map(|period| member(series.table(period), parent, catalog, &diff.changes)).collect();
        let (columns, left_out) = common_columns(parent, &members, catalog.dialect);
        if members.is_empty() || columns.is_empty() {
            return Ok(());
        }
        diff.notes.extend(left_out.map(|missing| format!("view {view} leaves out {missing}")));
        let wanted: Vec<Branch> = members.iter().map(|member| member.branch(&columns, catalog.dialect)).collect();
        let found = match catalog.relation(view) {
            None => {
                if let Some((reason, hint)) = cannot_create_in(catalog, view) {
                    return Err(Failure::new(format!("view {view}: {reason}")).hint(hint));
                }
                if let Some(failure) = refused_union(view, None, &columns, parent, &members, catalog) {
                    return Err(failure);
                }
                diff.changes.push(create(view, &wanted, catalog.dialect));
                None
            }
            Some(found) => {
                let before = own_branches(series, self, view, found, catalog.dialect)?;
                if !is_same(before, &wanted, catalog.dialect) {
                    let change = replace(view, &wanted, before, &found.options, catalog.dialect);
                    if let Some(refusal) = change.not_allowed(found, catalog) {
                        return Err(refusal);
                    }
                    if found.options.contains_key(CHECK_OPTION) && wanted.len() > 1 {
                        let why = format!("a view over several tables cannot have its option {CHECK_OPTION}");
                        let failure = Failure::new(format!("view {view} cannot be replaced: {why}"));
                        return Err(failure
                            .hint(format!("remove the option: `ALTER VIEW {} RESET ({CHECK_OPTION});`", view.sql())));
                    }
                    if let Some(failure) = refused_union(view, Some(found), &columns, parent, &members, catalog) {
                        return Err(failure);
                    }
                    if let Some(why) = cannot_replace(found, before, &columns, &members, catalog.dialect) {
                        let failure = Failure::new(format!("view {view} cannot be replaced: {why}"));
                        let Drops { sql, then } = Drops::of(&with_its_readers(view, found), Some(view));
                        return Err(failure.hint(format!("`{sql}`, {then}")));
                    }
                    diff.changes.push(change);
                }
                Some(found)
            }
        };
        self.access().plan_access(view, found, catalog, diff);
        Ok(())
    }

    /// Returns whether the view exists and belongs to the step.
    pub(super) fn owns_view(&self, series: &Series, view: &TableName, catalog: &Catalog) -> bool {
        catalog.relation(view).is_some_and(|found| own_branches(series, self, view, found, catalog.dialect).is_ok())
    }
}

/// Returns the existing view that a step would make over these tables, if there is one. `has_same_access` returns whether a view has
/// the grants and the owner of the tables.
pub(super) fn find_existing(
    tables: &[TableName],
    parent: &Relation,
    catalog: &Catalog,
    has_same_access: impl Fn(&Relation) -> bool,
) -> Option<TableName> {
    let members: Vec<Member> = tables.iter().filter_map(|table| member(table.clone(), parent, catalog, &[])).collect();
    let (columns, _) = common_columns(parent, &members, catalog.dialect);
    let wanted: Vec<Branch> = members.iter().map(|member| member.branch(&columns, catalog.dialect)).collect();
    let is_view = |found: &Relation| {
        found.union.as_ref().is_some_and(|branches| is_same(branches, &wanted, catalog.dialect))
            && has_same_access(found)
    };
    catalog.relations.iter().find(|(_, found)| is_view(found)).map(|(name, _)| name.clone())
}

/// Returns the table in its state after the changes, if it exists then.
fn member(table: TableName, parent: &Relation, catalog: &Catalog, changes: &[TableChange]) -> Option<Member> {
    let own = || changes.iter().filter(|change| *change.table() == table);
    let mut columns = match catalog.relation(&table) {
        Some(found) if found.kind.is_table() => found.columns.clone(),
        Some(_) => return None,
        None => own().any(|change| change.creates().is_some()).then(|| parent.columns.clone())?,
    };
    for change in own() {
        match change {
            TableChange::AddColumn { column, .. } => columns.push(column.clone()),
            TableChange::Widen { column, after, .. } => {
                columns.iter_mut().filter(|one| one.name == *column).for_each(|one| one.type_name.clone_from(after));
            }
            _ => {}
        }
    }
    Some(Member { table, columns })
}

impl Member {
    /// Returns the column with this name.
    fn column(&self, name: &str, dialect: Dialect) -> Option<&Column> {
        self.columns.iter().find(|column| dialect.comparable(&column.name) == dialect.comparable(name))
    }

    fn branch(&self, columns: &[String], dialect: Dialect) -> Branch {
        let own = columns.iter().filter_map(|name| Some(self.column(name, dialect)?.name.clone()));
        Branch { table: self.table.clone(), columns: own.collect(), is_renamed: false }
    }
}

/// Returns the columns of the parent that every table has, and the sentence about the others.
fn common_columns(parent: &Relation, members: &[Member], dialect: Dialect) -> (Vec<String>, Option<String>) {
    let (mut common, mut missing) = (Vec::new(), Vec::new());
    let mut without = BTreeSet::new();
    for column in &parent.columns {
        let tables = members.iter().filter(|member| member.column(&column.name, dialect).is_none());
        let tables: Vec<String> = tables.map(|member| member.table.to_string()).collect();
        if tables.is_empty() {
            common.push(column.name.clone());
        } else {
            missing.push(Shown(&column.name).to_string());
            without.extend(tables);
        }
    }
    let names = without.into_iter().collect::<Vec<_>>().join(", ");
    let noun = if missing.len() == 1 { "column" } else { "columns" };
    let sentence = format!("{noun} {}, because not every table has it: {names}", missing.join(", "));
    (common, (!missing.is_empty()).then_some(sentence))
}

/// Returns the branches of a view that belongs to the step.
///
/// # Errors
/// Another relation has the name.
fn own_branches<'a>(
    series: &Series,
    tables: &PeriodTables,
    view: &TableName,
    found: &'a Relation,
    dialect: Dialect,
) -> Result<&'a [Branch], Failure> {
    let kind = if found.kind == RelationKind::View { "VIEW" } else { "TABLE" };
    let other = escape_identifier(&format!("{}_other", view.name));
    let rename = format!("ALTER {kind} {} RENAME TO {other};", view.sql());
    let rename_hint = || format!("name another `view`, or rename the existing one: `{rename}`");
    if found.kind != RelationKind::View {
        return Err(Failure::new(format!("{view} exists, but is {} and not the view of the series", found.kind))
            .hint(rename_hint()));
    }
    let is_own = |branch: &Branch| series.period_of(&branch.table, tables.spec.every).is_some();
    let own = found.union.as_ref().filter(|branches| branches.iter().all(is_own));
    let Some(branches) = own else {
        let pattern = series.pattern();
        let message = format!("view {view} exists, but is not a UNION ALL of the columns of tables {pattern}");
        return Err(Failure::new(message).hint(rename_hint()));
    };
    if branches.iter().any(|branch| branch.is_renamed) || !have_same_columns(branches, dialect) {
        let message = format!("view {view} exists, but gives other names to columns of tables {}", series.pattern());
        return Err(Failure::new(message).hint(format!("`{rename}`, then run apply, which creates the view again")));
    }
    Ok(branches)
}

/// Returns whether every table of the view has the same columns at the same places.
fn have_same_columns(branches: &[Branch], dialect: Dialect) -> bool {
    let columns = |branch: &Branch| branch.columns.iter().map(|one| dialect.comparable(one)).collect::<Vec<_>>();
    branches.windows(2).all(|pair| columns(&pair[0]) == columns(&pair[1]))
}

fn is_same(before: &[Branch], after: &[Branch], dialect: Dialect) -> bool {
    let comparable = |branches: &[Branch]| -> Vec<(TableName, Vec<String>)> {
        let name = |name: &TableName| TableName::new(dialect.comparable(&name.schema), dialect.comparable(&name.name));
        let columns = |columns: &[String]| columns.iter().map(|column| dialect.comparable(column)).collect();
        branches.iter().map(|branch| (name(&branch.table), columns(&branch.columns))).collect()
    };
    before.iter().all(|branch| !branch.is_renamed) && comparable(before) == comparable(after)
}

fn create(view: &TableName, wanted: &[Branch], dialect: Dialect) -> TableChange {
    let sql = format!("CREATE VIEW {} AS {}", view.sql(), definition(wanted, dialect));
    TableChange::View { table: view.clone(), before: None, over: tables(wanted), sql }
}

/// Returns the replacement of a view. It names the options, because CREATE OR REPLACE VIEW resets the others.
fn replace(
    view: &TableName,
    wanted: &[Branch],
    before: &[Branch],
    options: &BTreeMap<String, String>,
    dialect: Dialect,
) -> TableChange {
    let option = |(name, value): (&String, &String)| format!("{}={}", escape_identifier(name), escape_literal(value));
    let options = options.iter().map(option).collect::<Vec<_>>().join(", ");
    let with = if options.is_empty() { options } else { format!(" WITH ({options})") };
    let sql = format!("CREATE OR REPLACE VIEW {}{with} AS {}", view.sql(), definition(wanted, dialect));
    TableChange::View { table: view.clone(), before: Some(tables(before)), over: tables(wanted), sql }
}

fn tables(branches: &[Branch]) -> Vec<TableName> {
    branches.iter().map(|branch| branch.table.clone()).collect()
}

fn definition(branches: &[Branch], dialect: Dialect) -> String {
    let selects: Vec<String> = branches.iter().map(select).collect();
    // A view that is bound to its tables would prevent them from being dropped or renamed, for example to unload one.
    let binding = if dialect == Dialect::Redshift { " WITH NO SCHEMA BINDING" } else { "" };
    format!("{}{binding}", selects.join(" UNION ALL "))
}

fn select(branch: &Branch) -> String {
    let columns: Vec<String> = branch.columns.iter().map(|column| escape_identifier(column)).collect();
    format!("SELECT {} FROM {}", columns.join(", "), branch.table.sql())
}

/// Returns why CREATE OR REPLACE VIEW would be refused, if that is known. PostgreSQL keeps the columns and their types, and
/// adds columns at the end. Redshift keeps the columns.
fn cannot_replace(
    found: &Relation,
    before: &[Branch],
    columns: &[String],
    members: &[Member],
    dialect: Dialect,
) -> Option<String> {
    let none = Vec::new();
    let old: Vec<String> = match dialect {
        Dialect::Postgresql => found.columns.iter().map(|column| column.name.clone()).collect(),
        Dialect::Redshift => {
            before.first().map_or(&none, |branch| &branch.columns).iter().map(|one| dialect.comparable(one)).collect()
        }
    };
    let new: Vec<String> = columns.iter().map(|column| dialect.comparable(column)).collect();
    let keeps = if dialect == Dialect::Postgresql { new.starts_with(&old) } else { new == old };
    if !keeps {
        let list = |names: &[String]| names.iter().map(|name| Shown(name).to_string()).collect::<Vec<_>>().join(", ");
        return Some(format!("its columns are {}, and would be {}", list(&old), list(&new)));
    }
    found.columns.iter().find_map(|column| {
        let types = types_of(&column.name, members, dialect);
        // Redshift's rules for types that differ are not documented.
        let is_known = dialect == Dialect::Postgresql || types.windows(2).all(|pair| pair[0] == pair[1]);
        let UnionType::Of(after) = union_type(&types) else { return None };
        if !is_known {
            return None;
        }
        let name = Shown(&column.name);
        (after != column.type_name).then(|| format!("its column {name} is {}, and would be {after}", column.type_name))
    })
}

/// Returns the types of a column in the tables of a view.
fn types_of<'a>(column: &str, members: &'a [Member], dialect: Dialect) -> Vec<&'a str> {
    members.iter().filter_map(|member| Some(member.column(column, dialect)?.type_name.as_str())).collect()
}

/// Returns why PostgreSQL would refuse the UNION ALL, if that is known: a column has types in two tables that have none in common.
/// On Redshift nothing is checked before the view is read.
fn refused_union(
    view: &TableName,
    found: Option<&Relation>,
    columns: &[String],
    parent: &Relation,
    members: &[Member],
    catalog: &Catalog,
) -> Option<Failure> {
    if catalog.dialect != Dialect::Postgresql {
        return None;
    }
    let (column, left, right) = columns.iter().find_map(|column| {
        let UnionType::None(left, right) = union_type(&types_of(column, members, catalog.dialect)) else { return None };
        Some((column, members.get(left)?, members.get(right)?))
    })?;
    let type_in = |member: &Member| {
        let type_name = member.column(column, catalog.dialect).map(|column| column.type_name.clone());
        format!("{} in {}", type_name.unwrap_or_default(), member.table)
    };
    let verb = if found.is_some() { "replaced" } else { "created" };
    let failure = Failure::new(format!(
        "view {view} cannot be {verb}: column {} is {}, but {}, and a UNION ALL needs a common type",
        Shown(column),
        type_in(left),
        type_in(right)
    ));
    Some(failure.hint(same_type(view, found, column, parent, members, catalog)))
}

/// Returns the remedy that gives a column the type of the parent in every table.
fn same_type(
    view: &TableName,
    found: Option<&Relation>,
    column: &str,
    parent: &Relation,
    members: &[Member],
    catalog: &Catalog,
) -> String {
    let wanted = parent.columns.iter().find(|one| one.name == column).map_or("", |one| &one.type_name);
    let (mut users, mut alter, mut renamed) = (Vec::new(), Vec::new(), Vec::new());
    for member in members {
        let Some(own) = member.column(column, catalog.dialect).filter(|own| own.type_name != wanted) else { continue };
        let table = member.table.sql();
        if fit(&own.type_name, wanted) == Fit::Keeps {
            alter.push(format!("ALTER TABLE {table} ALTER COLUMN {} TYPE {wanted};", own.sql_name()));
        } else {
            let aside = format!("{}_drifted", member.table.name);
            alter.push(format!("ALTER TABLE {table} RENAME TO {};", escape_identifier(&aside)));
            renamed.push(TableName::new(&member.table.schema, aside).to_string());
        }
        let in_the_way = catalog.relation(&member.table).and_then(|table| table.used_by.get(&own.name));
        for user in in_the_way.into_iter().flatten() {
            if !users.contains(user) {
                users.push(user.clone());
            }
        }
    }
    // A view continues to read a table that is renamed.
    for user in found.map(|found| with_its_readers(view, found)).unwrap_or_default() {
        if !users.contains(&user) {
            users.push(user);
        }
    }
    let Drops { sql, then } = Drops::of(&users, Some(view));
    let statements: Vec<String> = Some(sql).filter(|sql| !sql.is_empty()).into_iter().chain(alter).collect();
    let copy = match renamed.as_slice() {
        [] => String::new(),
        names => format!(", and copy the rows of {} into the new table by column name", names.join(" and of ")),
    };
    format!("`{}`, {then}{copy}", statements.join(" "))
}

/// Returns everything that has to be dropped with the view, in order.
fn with_its_readers(view: &TableName, found: &Relation) -> Vec<String> {
    found.read_by.iter().cloned().chain([named(view)]).collect()
}
