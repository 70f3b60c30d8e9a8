//! The kind `period_tables`: history tables for each mart, one per period, created before they are needed.
//!
//! Every period from `from` to `through`, and `ahead` more, has a table, including gaps in the middle. A table that has
//! drifted or cannot be created does not prevent the others from being created.

use crate::failure::Failure;

use serde::{Deserialize, Deserializer};

mod actual;
mod adopt;
mod decide;
mod dependents;
mod drift;
mod outlook;
#[cfg(test)]
mod properties;
mod reference;
mod spec;
mod view;

use super::relation::TableChange;
use super::{
    Claim, Claims, Database, Diff, ExecuteContext, Host, KeyError, KindInfo, Need, ObserveContext, Resource, Site,
};
use crate::host::warehouse::{Catalog, Dialect, TableName};
use crate::plan::claim;
use crate::plan::period::Period;
pub use actual::Actual;
pub use spec::{OnDrift, PeriodTables};
use spec::{Series, Spec, Start, Through};

impl Resource for PeriodTables {
    const INFO: KindInfo = KindInfo { notes_describe_state: true, ..KindInfo::on_warehouse("period_tables") };
    const REFERENCE: &'static super::reference::Reference = &reference::REFERENCE;
    const ADOPTION: super::adopt::Adoption<Self, Self::Actual> = super::adopt::Adoption::Warehouse(adopt::FROM_CATALOG);

    type Actual = Actual;
    type Change = TableChange;

    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Result<Self, KeyError>, D::Error> {
        Spec::deserialize(from).map(Self::try_from)
    }

    fn site(&self) -> Site<'_> {
        Site::Warehouse { connection: &self.spec.connection, query: Box::new(|as_of| self.query(as_of)) }
    }

    /// Claims all periods that the series will ever have. Which of them already exist depends on the date.
    fn claims(&self, _host: &dyn Host) -> Claims {
        self.claims_of(TableName::clone)
    }

    /// On Redshift, quoted names that differ only in case are the same table.
    fn observed_claims(&self, actual: &Actual) -> Vec<Claim> {
        match actual.catalog.dialect {
            Dialect::Redshift => self.claims_of(TableName::folded).owns,
            Dialect::Postgresql => Vec::new(),
        }
    }

    fn remarks(&self) -> Vec<KeyError> {
        self.always_warns().into_iter().collect()
    }

    fn manual(&self) -> Vec<String> {
        let ahead = match self.spec.ahead {
            0 => String::new(),
            ahead => format!(" and {ahead} more"),
        };
        let through = match self.through {
            Through::Current => "the current one".to_owned(),
            Through::Period(period) => period.to_string(),
        };
        let example = match self.from {
            Start::Period(period) => period,
            Start::Before(_) => Period::parse(self.spec.every, self.spec.every.example()).unwrap_or(self.earliest()),
        };
        let first: Vec<String> = example.through(example.plus(2)).map(|period| period.to_string()).collect();
        let mut lines = vec![
            format!(
                "-- one for each {} from {} to {through}{ahead}: {}, …",
                self.spec.every.word(),
                self.from,
                first.join(", ")
            ),
            "-- create only those that do not exist yet".to_owned(),
        ];
        for series in &self.series {
            let table = series.table(example);
            lines.push(format!("CREATE TABLE {table} (LIKE {});", series.parent));
            if let Some(view) = &series.view {
                lines.push(format!(
                    "CREATE OR REPLACE VIEW {view} AS SELECT … FROM {table} UNION ALL …; -- one SELECT for each table, on \
                     Redshift WITH NO SCHEMA BINDING"
                ));
            }
            for table in std::iter::once(&table).chain(&series.view) {
                lines.extend(self.access().manual(table));
            }
        }
        lines
    }

    async fn observe(&self, cx: &ObserveContext) -> Result<Actual, Failure> {
        let as_of = cx.as_of()?;
        Ok(Actual { as_of, catalog: cx.warehouse()?.restricted_catalog(&self.query(as_of)).await? })
    }

    fn diff(&self, actual: &Actual) -> Result<Diff<TableChange>, Failure> {
        decide::diff(self, actual)
    }

    async fn execute(&self, change: &TableChange, cx: &ExecuteContext) -> Result<(), Failure> {
        let as_of = cx.as_of()?;
        let query = self.query(as_of);
        let is_still_needed =
            |catalog: &Catalog| match self.diff(&Actual { as_of, catalog: catalog.restrict_to(&query) }) {
                Ok(diff) => Ok(diff.changes.iter().any(|needed| needed.same_purpose(change))),
                Err(failure) => Err(failure),
            };
        change.execute(cx.warehouse()?, is_still_needed).await
    }
}

impl PeriodTables {
    /// Returns the claims, with all names as a server spells them.
    fn claims_of(&self, spelled: impl Fn(&TableName) -> TableName) -> Claims {
        let database = || Database::Connection(self.spec.connection.clone());
        let through = match self.through {
            Through::Current => None,
            Through::Period(period) => Some(period.plus(self.spec.ahead)),
        };
        let owns = self.series.iter().map(|series| {
            let pattern = spelled(series.template()).claimed();
            let (before, after) = pattern.split_once("{period}").unwrap_or((&pattern, ""));
            let (before, after) = (before.to_owned(), after.to_owned());
            let series = claim::Series { before, after, every: self.spec.every, from: self.earliest(), through };
            Claim::Series { database: database(), series }
        });
        let views = self.series.iter().filter_map(|series| series.view.as_ref());
        let views = views.map(|view| Claim::Table { database: database(), name: spelled(view).claimed() });
        let parent = |series: &Series| spelled(&series.parent).claimed();
        let needs = self.series.iter().map(|series| Need::Table { database: database(), name: parent(series) });
        Claims { owns: owns.chain(views).collect(), needs: needs.collect(), ..Claims::default() }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn fixtures() {
        crate::resource::fixtures::check::<super::PeriodTables>();
    }
}
