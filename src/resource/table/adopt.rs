//! A step for an existing table: its columns as DDL in the server's own spelling, and who may use it.

use jiff::civil::Date;
use serde_json::{Map, Value, json};

use super::ddl::{Ddl, Shape};
use super::reserved::is_reserved;
use crate::failure::Failure;
use crate::host::warehouse::{
    Account, Catalog, CatalogQuery, Column, Computed, Dialect, Dist, Relation, Shown, Sort, TableName,
};
use crate::resource::adopt::{Adopted, AdoptedSteps, FromCatalog, Subject, cannot};
use crate::resource::relation::{Grant, compare};

pub(super) const FROM_CATALOG: FromCatalog = FromCatalog { query, steps };

fn query(subject: &Subject) -> Option<Result<CatalogQuery, Failure>> {
    let Subject::Table(table) = subject else { return None };
    Some(Ok(CatalogQuery { relations: [table.clone()].into(), ..CatalogQuery::default() }))
}

fn steps(subjects: &[Subject], catalog: &Catalog, _as_of: Date) -> AdoptedSteps {
    let (mut adopted, mut failures) = (Vec::new(), Vec::new());
    for subject in subjects {
        let Subject::Table(table) = subject else { continue };
        match step(table, catalog) {
            Ok(step) => adopted.push(step),
            Err(failure) => failures.push(cannot(&subject.to_string(), failure)),
        }
    }
    if failures.is_empty() { Ok(adopted) } else { Err(failures) }
}

fn step(wanted: &TableName, catalog: &Catalog) -> Result<Adopted, Failure> {
    // Redshift stores names folded, including quoted ones.
    let table = if catalog.relations.contains_key(wanted) { wanted.clone() } else { wanted.folded() };
    let Some(found) = catalog.relation(wanted) else {
        return Err(match catalog.schema(wanted) {
            None => Failure::new(format!("there is no schema {}", Shown(&wanted.schema))),
            Some(_) => Failure::new("it does not exist"),
        });
    };
    if !found.kind.is_table() {
        return Err(Failure::new(format!("it is {}, and no step makes one", found.kind)));
    }
    let ddl = ddl(&table, found);
    let mut keys = Map::new();
    let reads_back =
        |columns: Option<&[Column]>| match Ddl::parse(&ddl, columns).map_err(|error| error.failure.message)? {
            Ddl { shape: Shape::Columns(read), .. } if same(&read, found, catalog.dialect) => Ok(()),
            _ => Err("its DDL does not read back as it was written".to_owned()),
        };
    let needs_columns = reads_back(None).is_err();
    if needs_columns {
        reads_back(Some(&found.columns)).map_err(|error| Failure::new(error.lines().next().unwrap_or_default()))?;
    }
    keys.insert("ddl".to_owned(), ddl.clone().into());
    if needs_columns {
        // `null: true` is the default.
        let column = |column: &Column| match column.null {
            true => json!({ "name": column.name, "type": column.type_name }),
            false => json!({ "name": column.name, "type": column.type_name, "null": false }),
        };
        keys.insert("columns".to_owned(), found.columns.iter().map(column).collect());
    }
    keys.extend(access(found, catalog.dialect));
    Ok(Adopted {
        subject: format!("table {table}"),
        name: table.name.clone(),
        title: format!("Table {table}"),
        keys,
        secret: None,
        comments: comments(found, catalog.dialect),
    })
}

fn same(read: &[Column], found: &Relation, dialect: Dialect) -> bool {
    compare::columns(read, &found.columns, dialect).is_empty()
}

/// Returns who may use the table, as keys of a step: `owner`, and `grants` if there are any.
pub(in crate::resource) fn access(found: &Relation, dialect: Dialect) -> Map<String, Value> {
    let mut keys = Map::new();
    let held = found.grants.iter().filter(|(_, privileges)| !privileges.is_empty());
    let grants: Vec<Value> = held
        .filter_map(|(holder, privileges)| {
            let grant = Grant { to: account(holder, dialect), privileges: privileges.clone() };
            serde_json::to_value(grant).ok()
        })
        .collect();
    if !grants.is_empty() {
        keys.insert("grants".to_owned(), grants.into());
    }
    keys.insert("owner".to_owned(), found.owner.clone().into());
    keys
}

/// Returns the account of a holder in an access list.
fn account(holder: &str, dialect: Dialect) -> Account {
    match holder.strip_prefix("group ") {
        _ if holder == "public" => Account::Public,
        Some(group) if dialect == Dialect::Redshift => Account::Group(group.to_owned()),
        _ => Account::User(holder.to_owned()),
    }
}

/// Returns comments on what the step does not contain, and a table that it creates would lack.
fn comments(found: &Relation, dialect: Dialect) -> Vec<String> {
    let mut lacks = Vec::new();
    for (column, computed) in &found.inserts.computed {
        lacks.push(match computed {
            Computed::Identity => format!("{} is an identity column", Shown(column)),
            Computed::Generated => format!("{} is a generated column", Shown(column)),
        });
    }
    lacks.extend(found.inserts.defaults.iter().map(|column| format!("{} has a default", Shown(column))));
    lacks.extend(found.inserts.guards.iter().cloned());
    if found.kind == crate::host::warehouse::RelationKind::PartitionedTable {
        lacks.push("it is partitioned".to_owned());
    }
    let mut comments = Vec::new();
    if !lacks.is_empty() {
        comments.push(format!("The table has more than its DDL below says: {}.", lacks.join("; ")));
    }
    comments.push(match dialect {
        Dialect::Postgresql => "Indexes and settings of the table were not read.".to_owned(),
        Dialect::Redshift => "Keys and encodings of the table, and grants to roles, were not read.".to_owned(),
    });
    if let Some(Dist::Other { number }) = &found.dist {
        comments.push(format!("Its dist style ({number}) is not known here."));
    }
    comments
}

/// Returns the CREATE TABLE with the columns, and with dist style and sort key if the server has them.
fn ddl(table: &TableName, found: &Relation) -> String {
    let column = |column: &Column| {
        let null = if column.null { "" } else { " NOT NULL" };
        format!("  {} {}{null}", identifier(&column.name), column.type_name)
    };
    let columns: Vec<String> = found.columns.iter().map(column).collect();
    let name = format!("{}.{}", identifier(&table.schema), identifier(&table.name));
    let mut lines = vec![format!("CREATE TABLE {name} ("), columns.join(",\n"), ")".to_owned()];
    let list = |columns: &[String]| columns.iter().map(|name| identifier(name)).collect::<Vec<_>>().join(", ");
    lines.extend(match &found.dist {
        Some(Dist::Key { column }) => Some(format!("DISTSTYLE KEY DISTKEY ({})", identifier(column))),
        Some(Dist::Even | Dist::All | Dist::Auto) => found.dist.as_ref().map(ToString::to_string),
        Some(Dist::Other { .. }) | None => None,
    });
    lines.extend(found.sort.as_ref().map(|Sort { columns, interleaved }| {
        let style = if *interleaved { "INTERLEAVED" } else { "COMPOUND" };
        format!("{style} SORTKEY ({})", list(columns))
    }));
    lines.join("\n")
}

/// Returns a name as it is written in a statement, in quotation marks if it needs them.
fn identifier(name: &str) -> String {
    if is_reserved(name) { format!("\"{name}\"") } else { Shown(name).to_string() }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::host::warehouse::{Inserts, Privilege, RelationKind, Schema};
    use crate::resource::Resource;

    fn column(name: &str, type_name: &str, null: bool) -> Column {
        Column { name: name.into(), type_name: type_name.into(), null }
    }

    fn catalog(dialect: Dialect, table: &TableName, columns: Vec<Column>) -> Catalog {
        let relation = Relation {
            kind: RelationKind::Table,
            owner: "etl".into(),
            rights: Default::default(),
            grants: BTreeMap::from([
                ("dbt".into(), BTreeSet::from([Privilege::Select, Privilege::Insert])),
                ("group bi".into(), BTreeSet::from([Privilege::Select])),
                ("nobody".into(), BTreeSet::new()),
                ("public".into(), BTreeSet::from([Privilege::Select])),
            ]),
            columns,
            inserts: Inserts::default(),
            union: None,
            partition_of: None,
            options: BTreeMap::new(),
            used_by: BTreeMap::new(),
            read_by: Vec::new(),
            dist: (dialect == Dialect::Redshift).then(|| Dist::Key { column: "id".into() }),
            sort: (dialect == Dialect::Redshift)
                .then(|| Sort { columns: vec!["id".into(), "order".into()], interleaved: false }),
        };
        let users = ["etl", "dbt", "group bi"].map(|name| Account::User(name.into()));
        Catalog {
            schemas: BTreeMap::from([(
                table.schema.clone(),
                Schema { usage: true, create: true, ..Schema::default() },
            )]),
            relations: BTreeMap::from([(table.clone(), relation)]),
            accounts: users.into_iter().chain([Account::Public, Account::Group("bi".into())]).collect(),
            ..Catalog::empty(dialect, "etl".into())
        }
    }

    /// Checks that the step converges on the catalog that it was written from.
    fn converges(mut keys: Map<String, Value>, catalog: &Catalog) -> super::super::Table {
        keys.insert("connection".into(), "warehouse".into());
        let table: super::super::Table = serde_json::from_value(keys.into()).unwrap();
        let diff = table.diff(catalog).unwrap();
        assert!(diff.changes.is_empty(), "{:?}", diff.changes);
        table
    }

    #[test]
    fn a_table_is_adopted_with_its_columns_in_the_servers_spelling() {
        let name = TableName::new("s", "t");
        let columns = vec![
            column("id", "integer", false),
            column("order", "character varying(64)", true),
            column("Two words", "timestamp without time zone", true),
        ];
        for dialect in [Dialect::Postgresql, Dialect::Redshift] {
            let catalog = catalog(dialect, &name, columns.clone());
            let adopted = step(&name, &catalog).unwrap();
            let wanted = "CREATE TABLE s.t (\n  id integer NOT NULL,\n  \"order\" character varying(64),\n  \
                          \"Two words\" timestamp without time zone\n)";
            let layout = "\nDISTSTYLE KEY DISTKEY (id)\nCOMPOUND SORTKEY (id, \"order\")";
            let layout = if dialect == Dialect::Redshift { layout } else { "" };
            assert_eq!(adopted.keys["ddl"], format!("{wanted}{layout}"));
            let bi = if dialect == Dialect::Redshift { json!({ "group": "bi" }) } else { json!("group bi") };
            let grants = json!([
                { "to": "dbt", "privileges": ["select", "insert"] },
                { "to": bi, "privileges": ["select"] },
                { "to": "public", "privileges": ["select"] },
            ]);
            assert_eq!(adopted.keys["grants"], grants);
            assert_eq!(adopted.keys["owner"], "etl");
            converges(adopted.keys, &catalog);
        }
    }

    #[test]
    fn types_that_the_ddl_cannot_be_read_with_are_listed_beside_it() {
        let name = TableName::new("s", "t");
        let columns = vec![column("id", "integer", false), column("c", "\"char\"", true), column("a", "text[]", true)];
        let other = catalog(Dialect::Postgresql, &name, vec![column("mood", "s.mood", true)]);
        let adopted = step(&name, &other).unwrap();
        assert_eq!(adopted.keys.get("columns"), None, "a type with its schema can be read");
        converges(adopted.keys, &other);
        let catalog = catalog(Dialect::Postgresql, &name, columns);
        let adopted = step(&name, &catalog).unwrap();
        assert_eq!(
            adopted.keys["columns"],
            json!([
                { "name": "id", "type": "integer", "null": false },
                { "name": "c", "type": "\"char\"" },
                { "name": "a", "type": "text[]" },
            ])
        );
        converges(adopted.keys, &catalog);
    }

    #[test]
    fn what_the_ddl_does_not_say_is_a_comment() {
        let name = TableName::new("s", "t");
        let mut catalog = catalog(Dialect::Postgresql, &name, vec![column("id", "integer", false)]);
        let inserts = &mut catalog.relations.get_mut(&name).unwrap().inserts;
        inserts.computed.insert("id".into(), Computed::Identity);
        inserts.defaults.insert("at".into());
        inserts.guards.insert("PRIMARY KEY (id)".into());
        let comments = step(&name, &catalog).unwrap().comments;
        let said =
            "The table has more than its DDL below says: id is an identity column; at has a default; PRIMARY KEY (id).";
        assert_eq!(comments[0], said);
    }

    #[test]
    fn what_is_no_table_is_refused() {
        let name = TableName::new("s", "t");
        let mut catalog = catalog(Dialect::Postgresql, &name, Vec::new());
        catalog.relations.get_mut(&name).unwrap().kind = RelationKind::View;
        assert_eq!(step(&name, &catalog).unwrap_err().message, "it is a view, and no step makes one");
        assert_eq!(step(&TableName::new("s", "u"), &catalog).unwrap_err().message, "it does not exist");
        assert_eq!(step(&TableName::new("v", "u"), &catalog).unwrap_err().message, "there is no schema v");
    }
}
