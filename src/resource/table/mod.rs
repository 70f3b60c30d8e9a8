//! The kind `table`: a table as defined by its DDL.
//!
//! It is created if it does not exist. An existing table with a different shape is reported column by column and left
//! alone. Nothing is ever dropped, recreated or altered.

use crate::failure::Failure;
use std::collections::BTreeSet;

use serde::{Deserialize, Deserializer, Serialize};

mod adopt;
mod attributes;
pub(crate) mod ddl;
mod reference;
mod reserved;

pub(super) use adopt::access;

use super::relation::{Access, Grant, TableChange, cannot_create_in, compare, missing_accounts};
use super::{
    Claim, Claims, Database, Diff, ExecuteContext, Host, KeyError, KindInfo, Need, ObserveContext, Resource, Site,
};
use crate::host::warehouse::{Catalog, CatalogQuery, Column, Dialect, Dist, Relation, TableName};
use ddl::{Ddl, Shape};

/// A table as written in the plan file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "Spec", into = "Spec")]
pub struct Table {
    spec: Spec,
    ddl: Ddl,
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
        let table = Self { spec, ddl };
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
        let mut differences: Vec<_> =
            compare::columns(columns, &found.columns, dialect).iter().map(ToString::to_string).collect();
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
            (Some(desired), Some(found)) if desired == found => {}
            (Some(desired), found) => {
                let found = found.as_ref().map_or("unknown".to_owned(), ToString::to_string);
                differences.push(format!("the dist style is {found}, expected {desired}"));
            }
        }
        if let Some(desired) = &self.ddl.outline.sort
            && found.sort.as_ref() != Some(desired)
        {
            let found = found.sort.as_ref().map_or("none".to_owned(), ToString::to_string);
            differences.push(format!("the sort key is {found}, expected {desired}"));
        }
        differences
    }
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
        let name = |table: &TableName| table.to_string().to_lowercase();
        Claims {
            owns: vec![Claim::Table { database: database(), name: name(self.name()) }],
            needs: match &self.ddl.shape {
                Shape::Like(parent) => vec![Need::Table { database: database(), name: name(parent) }],
                Shape::Columns(_) => Vec::new(),
            },
            edits: Vec::new(),
        }
    }

    fn manual(&self) -> Vec<String> {
        let mut lines: Vec<_> = self.spec.ddl.trim().lines().map(str::to_owned).collect();
        for grant in &self.spec.grants {
            let privileges: Vec<_> = grant.privileges.iter().map(|one| one.to_string().to_uppercase()).collect();
            lines.push(format!("GRANT {} ON {} TO {};", privileges.join(", "), self.name(), grant.to));
        }
        lines.extend(self.spec.owner.iter().map(|owner| format!("ALTER TABLE {} OWNER TO {owner};", self.name())));
        lines
    }

    async fn observe(&self, cx: &ObserveContext) -> Result<Catalog, Failure> {
        cx.warehouse()?.restricted_catalog(&self.query()).await
    }

    fn diff(&self, catalog: &Catalog) -> Result<Diff<TableChange>, Failure> {
        let name = self.name();
        let unknown = self.access().unknown(catalog);
        if !unknown.is_empty() {
            return Err(Failure::new(missing_accounts(&unknown))
                .hint("create them on the server, or correct `grants` and `owner`"));
        }
        let columns = match &self.ddl.shape {
            Shape::Columns(columns) => columns,
            Shape::Like(parent) => match catalog.relation(parent) {
                Some(found) => &found.columns,
                None => {
                    return Err(Failure::new(format!("parent {parent} does not exist"))
                        .hint("the table is created once its parent exists"));
                }
            },
        };
        let mut diff = Diff::default();
        let Some(found) = catalog.relation(name) else {
            if let Some((reason, hint)) = cannot_create_in(catalog, name) {
                return Err(Failure::new(reason).hint(hint));
            }
            let like = match &self.ddl.shape {
                Shape::Like(parent) => Some(parent.clone()),
                Shape::Columns(_) => None,
            };
            let sql = self.ddl.sql(&self.spec.ddl, catalog.dialect);
            diff.changes.push(TableChange::Create { table: name.clone(), like, sql });
            diff.changes.extend(self.access().changes(name, None, catalog));
            return Ok(diff);
        };
        if !found.kind.is_table() {
            return Err(Failure::new(format!("{name} exists, but is {}", found.kind))
                .hint("rename or drop it manually if the table should replace it"));
        }
        let differences = self.differences(found, columns, catalog.dialect);
        if !differences.is_empty() {
            return Err(Failure::new(format!("table {name} has a different shape: {}", differences.join("; ")))
                .hint("tables are never altered: change the table manually, or correct the plan file"));
        }
        if self.ddl.says_more {
            diff.notes.push("defaults, keys and checks of the table are not compared".into());
        }
        diff.changes = self.access().changes(name, Some(found), catalog);
        Ok(diff)
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
    /// Returns the query for the table, its parent and the accounts.
    fn query(&self) -> CatalogQuery {
        let mut relations = BTreeSet::from([self.name().clone()]);
        if let Shape::Like(parent) = &self.ddl.shape {
            relations.insert(parent.clone());
        }
        CatalogQuery { relations, accounts: self.access().accounts(), ..CatalogQuery::default() }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn fixtures() {
        crate::resource::fixtures::check::<super::Table>();
    }
}
