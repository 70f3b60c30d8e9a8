//! The kind `table`: a table as defined by its DDL.
//!
//! It is created if it does not exist. An existing table with a different shape is reported column by column and left
//! alone. Nothing is ever dropped, recreated or altered.

use crate::failure::Failure;
use std::collections::BTreeSet;

use serde::{Deserialize, Deserializer, Serialize};

mod adopt;
mod attributes;
mod clauses;
pub(crate) mod ddl;
mod included;
mod reference;
mod reserved;
mod tokens;

pub(super) use adopt::access;

use super::relation::types::canonical;
use super::relation::{
    self, Access, Grant, NamedType, TableChange, cannot_copy_from, cannot_create_in, compare, folded_by_locale,
    missing_accounts, missing_parent, refuses_changes, truncated,
};
use super::{
    Claim, Claims, Database, Diff, ExecuteContext, Host, KeyError, KindInfo, Need, ObserveContext, Resource, Site,
};
use crate::host::warehouse::{Catalog, CatalogQuery, Column, Dialect, Dist, Relation, Shown, TableName};
use ddl::{Ddl, Shape};

/// A table as written in the plan file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "Spec", into = "Spec")]
pub struct Table {
    spec: Spec,
    ddl: Box<Ddl>,
}

/// The mapping in the plan file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Spec {
    /// A connection of the plan file.
    connection: String,
    /// One CREATE TABLE.
    ddl: String,
    /// What to compare if the DDL cannot be parsed: name, type, null (defaults to true).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    columns: Option<Vec<Column>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    grants: Vec<Grant>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    owner: Option<String>,
}

impl TryFrom<Spec> for Table {
    type Error = KeyError;

    fn try_from(spec: Spec) -> Result<Self, KeyError> {
        let ddl = Ddl::parse(&spec.ddl, spec.columns.as_deref())?;
        let table = Self { spec, ddl: Box::new(ddl) };
        table.access().check()?;
        Ok(table)
    }
}

impl From<Table> for Spec {
    fn from(table: Table) -> Self {
        table.spec
    }
}

impl Table {
    fn name(&self) -> &TableName {
        &self.ddl.outline.table
    }

    fn access(&self) -> Access<'_> {
        Access { grants: &self.spec.grants, owner: self.spec.owner.as_deref() }
    }

    /// Returns the differences between the actual and the desired table.
    fn differences(&self, found: &Relation, columns: &[Column], dialect: Dialect) -> Vec<String> {
        let unknown = |difference: &compare::Difference| match difference {
            compare::Difference::Type { expected, found, .. } if is_not_understood(expected) => {
                format!("{difference} (write `{found}`, as the server spells it)")
            }
            other => other.to_string(),
        };
        let mut differences: Vec<_> = compare::columns(columns, &found.columns, dialect).iter().map(unknown).collect();
        if dialect == Dialect::Redshift {
            differences.extend(self.layout(found));
        }
        differences
    }

    /// Compares the dist style and sort key if the DDL declares them. With AUTO, Redshift chooses freely.
    fn layout(&self, found: &Relation) -> Vec<String> {
        let mut differences = Vec::new();
        match (&self.ddl.outline.dist, &found.dist) {
            (None | Some(Dist::Auto), _) => {}
            (Some(desired), Some(found)) if desired.is_like(found) => {}
            (Some(desired), found) => {
                let found = found.as_ref().map_or("unknown".to_owned(), ToString::to_string);
                differences.push(format!("the dist style is {found}, expected {desired}"));
            }
        }
        if let Some(desired) = &self.ddl.outline.sort
            && !found.sort.as_ref().is_some_and(|found| found.is_like(desired))
        {
            let found = found.sort.as_ref().map_or("none".to_owned(), ToString::to_string);
            differences.push(format!("the sort key is {found}, expected {desired}"));
        }
        differences
    }
}

/// Returns whether a type of the plan file is unknown, so that it is compared as text.
fn is_not_understood(type_name: &str) -> bool {
    [Dialect::Postgresql, Dialect::Redshift].iter().all(|dialect| canonical(type_name, *dialect).is_none())
}

impl Resource for Table {
    const INFO: KindInfo = KindInfo::on_warehouse("table");
    const REFERENCE: &'static super::reference::Reference = &reference::REFERENCE;
    const ADOPTION: super::adopt::Adoption<Self, Self::Actual> = super::adopt::Adoption::Warehouse(adopt::FROM_CATALOG);

    type Actual = Catalog;
    type Change = TableChange;

    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Result<Self, KeyError>, D::Error> {
        Spec::deserialize(from).map(Self::try_from)
    }

    fn site(&self) -> Site<'_> {
        Site::Warehouse { connection: &self.spec.connection, query: Box::new(|_as_of| self.query()) }
    }

    fn claims(&self, _host: &dyn Host) -> Claims {
        let database = || Database::Connection(self.spec.connection.clone());
        let name = TableName::claimed;
        let parent = match &self.ddl.shape {
            Shape::Like(parent) => Some(parent.clone()),
            Shape::Columns(_) => None,
        };
        let others = parent.into_iter().chain(tokens::referenced(&self.spec.ddl));
        let others = others.filter(|other| name(other) != name(self.name()));
        Claims {
            owns: vec![Claim::Table { database: database(), name: name(self.name()) }],
            needs: others.map(|other| Need::Table { database: database(), name: name(&other) }).collect(),
            ..Claims::default()
        }
    }

    /// On Redshift, quoted names that differ only in case are the same table.
    fn observed_claims(&self, catalog: &Catalog) -> Vec<Claim> {
        let database = Database::Connection(self.spec.connection.clone());
        let name = self.name().folded().claimed();
        Some(Claim::Table { database, name }).filter(|_| catalog.dialect == Dialect::Redshift).into_iter().collect()
    }

    fn manual(&self) -> Vec<String> {
        let mut lines: Vec<_> = tokens::terminated(&self.spec.ddl).lines().map(str::to_owned).collect();
        lines.extend(self.access().manual(self.name()));
        lines
    }

    async fn observe(&self, cx: &ObserveContext) -> Result<Catalog, Failure> {
        cx.warehouse()?.restricted_catalog(&self.query()).await
    }

    fn diff(&self, catalog: &Catalog) -> Result<Diff<TableChange>, Failure> {
        let name = self.name();
        if let Some(failure) = self.unusable_name(catalog) {
            return Err(failure);
        }
        let unknown = self.access().unknown(catalog);
        if !unknown.is_empty() {
            return Err(missing_accounts(&unknown, catalog));
        }
        let mut cannot_copy = None;
        let spelled;
        let columns = match &self.ddl.shape {
            Shape::Columns(columns) => {
                spelled = relation::with_catalog_spelling(columns, catalog);
                &spelled
            }
            Shape::Like(parent) => match catalog.relation(parent) {
                Some(found) => {
                    cannot_copy = cannot_copy_from(catalog, parent, found);
                    &found.columns
                }
                None => {
                    return Err(Failure::new(format!("parent {parent} does not exist")).hint(missing_parent(
                        catalog,
                        parent,
                        "the table is created once its parent exists",
                    )));
                }
            },
        };
        let mut diff = Diff::default();
        let Some(found) = catalog.relation(name) else {
            if let Some((reason, hint)) = cannot_create_in(catalog, name) {
                return Err(Failure::new(reason).hint(hint));
            }
            if let Some(failure) = cannot_copy.or_else(|| refuses_changes(catalog)) {
                return Err(failure);
            }
            if let Some(contradiction) = self.ddl.contradiction(catalog.dialect) {
                return Err(contradiction.failure);
            }
            if let Some(failure) = self.unknown_type(catalog).or_else(|| self.clause_of_another(catalog.dialect)) {
                return Err(failure);
            }
            let like = match &self.ddl.shape {
                Shape::Like(parent) => Some(parent.clone()),
                Shape::Columns(_) => None,
            };
            let sql = self.ddl.sql(&self.spec.ddl, catalog.dialect);
            diff.changes.push(TableChange::Create { table: name.clone(), like, sql });
            self.access().plan_access(name, None, catalog, &mut diff);
            return Ok(diff);
        };
        if !found.kind.is_table() {
            return Err(Failure::new(format!("{name} exists, but is {}", found.kind))
                .hint("rename or drop it manually if the table should replace it"));
        }
        let mut differences = self.differences(found, columns, catalog.dialect);
        if let Shape::Like(parent) = &self.ddl.shape
            && let Some(parent) = catalog.relation(parent)
        {
            let included = &self.ddl.outline.clauses.included;
            differences.extend(included::differences(included, parent, found, catalog.dialect));
        }
        if !differences.is_empty() {
            return Err(Failure::new(format!("table {name} has a different shape: {}", differences.join("; ")))
                .hint("tables are never altered: change the table manually, or correct the plan file"));
        }
        if self.ddl.says_more {
            diff.notes.push("defaults, keys and checks of the table are not compared".into());
        }
        self.access().plan_access(name, Some(found), catalog, &mut diff);
        match refuses_changes(catalog) {
            Some(failure) if !diff.changes.is_empty() => Err(failure),
            _ => Ok(diff),
        }
    }

    async fn execute(&self, change: &TableChange, cx: &ExecuteContext) -> Result<(), Failure> {
        let query = self.query();
        let is_still_needed = |catalog: &Catalog| match self.diff(&catalog.restrict_to(&query)) {
            Ok(diff) => Ok(diff.changes.iter().any(|needed| needed.same_purpose(change))),
            Err(failure) => Err(failure),
        };
        change.execute(cx.warehouse()?, is_still_needed).await
    }
}

impl Table {
    /// Returns the failure for a name that the server would truncate or fold in an unknown way.
    fn unusable_name(&self, catalog: &Catalog) -> Option<Failure> {
        let outline = &self.ddl.outline;
        let columns = match &self.ddl.shape {
            Shape::Columns(columns) => columns.as_slice(),
            Shape::Like(_) => &[],
        };
        let names = outline.long_words.iter().map(String::as_str);
        let names = names.chain(columns.iter().map(|column| column.name.as_str())).chain(self.access().names());
        if let Some(word) = outline.locale_word.as_deref().filter(|_| catalog.single_byte) {
            return Some(folded_by_locale(word));
        }
        truncated(names, catalog.dialect)
    }

    /// Returns the failure for a clause that the server does not have.
    fn clause_of_another(&self, dialect: Dialect) -> Option<Failure> {
        let (theirs, clause) = self.ddl.outline.clauses.only_on.as_ref().filter(|(theirs, _)| *theirs != dialect)?;
        let (server, other) = match theirs {
            Dialect::Postgresql => ("Redshift", "PostgreSQL"),
            Dialect::Redshift => ("PostgreSQL", "Redshift"),
        };
        let failure = Failure::new(format!("{server} does not have the clause {clause} of {other}"));
        let identity = clause.contains("IDENTITY") && !clause.starts_with("INCLUDING");
        Some(failure.hint(match (identity, dialect) {
            (true, Dialect::Postgresql) => "write GENERATED BY DEFAULT AS IDENTITY",
            (true, Dialect::Redshift) => "write IDENTITY(1, 1), or GENERATED BY DEFAULT AS IDENTITY(1, 1)",
            (false, _) => "remove the clause",
        }))
    }

    /// Returns the failure for a type of the DDL that the server does not have. Types beside `columns` are its own matter.
    fn unknown_type(&self, catalog: &Catalog) -> Option<Failure> {
        let dialect = catalog.dialect;
        let Shape::Columns(columns) = &self.ddl.shape else { return None };
        let exists = |name: &str| NamedType::parse(name).is_some_and(|named| catalog.types.contains_key(&named.sql()));
        let is_unknown =
            |column: &&Column| canonical(&column.type_name, dialect).is_none() && !exists(&column.type_name);
        let column = columns.iter().find(is_unknown).filter(|_| self.spec.columns.is_none())?;
        let server = match dialect {
            Dialect::Postgresql => "PostgreSQL",
            Dialect::Redshift => "Redshift",
        };
        if dialect == Dialect::Postgresql && NamedType::parse(&column.type_name).is_some() {
            let (name, type_name) = (Shown(&column.name), &column.type_name);
            let failure = Failure::new(format!("column {name} has the type {type_name}, which does not exist"));
            return Some(failure.hint("create the type first, or correct its name"));
        }
        let failure = Failure::new(format!(
            "column {} has the type {}, which {server} does not have",
            Shown(&column.name),
            column.type_name
        ));
        Some(failure.hint("use a type of that server, or add `columns:` next to `ddl` to define what to compare"))
    }

    /// Returns the query for the table, its parent and the accounts.
    fn query(&self) -> CatalogQuery {
        let mut relations = BTreeSet::from([self.name().clone()]);
        let mut expected = BTreeSet::new();
        if let Shape::Like(parent) = &self.ddl.shape {
            relations.insert(parent.clone());
            expected.insert(parent.clone());
        }
        let types = match &self.ddl.shape {
            Shape::Columns(columns) => relation::named_types(columns),
            Shape::Like(_) => BTreeSet::new(),
        };
        CatalogQuery { relations, expected, accounts: self.access().accounts(), types, ..CatalogQuery::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::Table;
    use crate::host::testing::desired;
    use crate::resource::Resource;

    /// All lines together can be pasted into psql.
    #[test]
    fn manual_lines_are_whole_statements() {
        for (ddl, lines) in [
            ("CREATE TABLE s.t (a int)", &["CREATE TABLE s.t (a int);"][..]),
            ("CREATE TABLE s.t (a int);\n", &["CREATE TABLE s.t (a int);"]),
            ("CREATE TABLE s.t (a int) ; -- why;", &["CREATE TABLE s.t (a int) ; -- why;"]),
            ("CREATE TABLE s.t\n  (a int) -- why;", &["CREATE TABLE s.t", "  (a int) -- why;", ";"]),
            ("CREATE TABLE s.t (a int) /* why; */", &["CREATE TABLE s.t (a int) /* why; */;"]),
        ] {
            let step = serde_json::json!({
                "connection": "dw", "ddl": ddl, "owner": "Etl", "grants": [{ "to": "bi-team", "privileges": ["select"] }],
            });
            let table: Table = desired(&step.to_string());
            let after = [r#"GRANT SELECT ON s.t TO "bi-team";"#, r#"ALTER TABLE s.t OWNER TO "Etl";"#];
            assert_eq!(table.manual(), [lines, &after].concat(), "{ddl}");
        }
    }

    #[test]
    fn fixtures() {
        crate::resource::fixtures::check::<super::Table>();
    }
}
