//! Converts the answers to the queries into a [`Catalog`].

use std::collections::{BTreeMap, BTreeSet, HashMap};

use postgres_protocol::escape::escape_identifier;
use tokio_postgres::{SimpleQueryMessage, SimpleQueryRow};

use super::account::{Account, Inheritance, Privilege, Rights};
use super::acl;
use super::catalog::{Catalog, CatalogQuery, Computed, Inserts, ReadOnly, Relation, RelationKind, Schema};
use super::column::Column;
use super::dialect::Dialect;
use super::layout::{Dist, Sort};
use super::name::{Shown, TableName};
use super::query::{MAX_FAMILY_COLUMNS, Part, names, parts};
use super::union_view;

/// An incomplete answer, which has to be queried again.
#[derive(Debug, PartialEq)]
pub(super) struct Incomplete(pub String);

/// Returns the rows of each statement, in order.
pub(super) fn results(messages: Vec<SimpleQueryMessage>) -> Vec<Vec<SimpleQueryRow>> {
    let mut results = Vec::new();
    let mut rows = Vec::new();
    for message in messages {
        match message {
            SimpleQueryMessage::Row(row) => rows.push(row),
            SimpleQueryMessage::CommandComplete(_) => results.push(std::mem::take(&mut rows)),
            _ => {}
        }
    }
    results
}

/// Returns the dialect for a version text.
pub(super) fn dialect_of(version: &str) -> Dialect {
    if version.contains("Redshift") { Dialect::Redshift } else { Dialect::Postgresql }
}

/// Converts the answers to the statements of the query, one list of rows for each.
pub(super) fn catalog(
    query: &CatalogQuery,
    dialect: Dialect,
    results: &[Vec<SimpleQueryRow>],
) -> Result<Catalog, Incomplete> {
    let answers = Answers { parts: parts(query, dialect), results };
    let user = answers.rows(Part::Version).first().and_then(|row| field(row, 1)).unwrap_or_default().to_owned();
    let mut catalog = Catalog::empty(dialect, user);
    catalog.is_cut = answers.rows(Part::Columns).len() > MAX_FAMILY_COLUMNS;
    schemas(&answers, &mut catalog)?;
    relations(query, &answers, &mut catalog)?;
    for row in answers.rows(Part::Accounts) {
        let (sort, name) = (text(row, 0)?, text(row, 1)?);
        catalog.accounts.extend(accounts(query, sort, name));
        if let Some(possible) = field(row, 2) {
            let owners = catalog.possible_owners.get_or_insert_default();
            owners.extend((possible == "t").then(|| name.to_owned()));
        }
    }
    for row in answers.rows(Part::NamedTypes) {
        catalog.types.insert(text(row, 0)?.to_owned(), text(row, 1)?.to_owned());
    }
    for row in answers.rows(Part::Roles) {
        catalog.accounts.extend(accounts(query, "role", text(row, 0)?));
    }
    if query.accounts.contains(&Account::Public) {
        catalog.accounts.insert(Account::Public);
    }
    if let Some(row) = answers.rows(Part::State).first() {
        catalog.read_only = read_only(row, &catalog.user);
        catalog.single_byte = field(row, 4) == Some("1");
        catalog.inheritance = Inheritance { of_user: field(row, 6) != Some("f"), in_grants: flag(row, 7) };
        if flag(row, 5) {
            // Superusers pass all of these checks.
            catalog.possible_owners = None;
            catalog.schemas.values_mut().for_each(|schema| schema.create_by = None);
        }
    }
    Ok(catalog)
}

/// The rows of each statement.
struct Answers<'a> {
    parts: Vec<Part>,
    results: &'a [Vec<SimpleQueryRow>],
}

impl<'a> Answers<'a> {
    fn rows(&self, part: Part) -> &'a [SimpleQueryRow] {
        let at = self.parts.iter().position(|one| *one == part);
        at.and_then(|at| self.results.get(at)).map(Vec::as_slice).unwrap_or_default()
    }
}

fn schemas(answers: &Answers<'_>, catalog: &mut Catalog) -> Result<(), Incomplete> {
    let external: BTreeSet<&str> = answers.rows(Part::ExternalSchemas).iter().filter_map(|row| field(row, 0)).collect();
    for row in answers.rows(Part::Schemas) {
        let name = text(row, 0)?;
        // On Redshift, groups and everyone are found in the access list.
        let listed = field(row, 3).map(|list| acl::holders(list, 'U')).unwrap_or_default();
        let schema = Schema {
            usage: flag(row, 1),
            create: flag(row, 2),
            external: external.contains(name),
            usage_by: Some(if catalog.dialect == Dialect::Redshift { listed } else { BTreeSet::new() }),
            create_by: (catalog.dialect == Dialect::Postgresql).then(BTreeSet::new),
        };
        catalog.schemas.insert(name.to_owned(), schema);
    }
    for row in answers.rows(Part::SchemaPrivileges) {
        let Some(schema) = catalog.schemas.get_mut(text(row, 0)?) else { continue };
        let account = text(row, 1)?;
        if flag(row, 2) {
            schema.usage_by.get_or_insert_default().insert(account.to_owned());
        }
        if flag(row, 3) {
            schema.create_by.get_or_insert_default().insert(account.to_owned());
        }
    }
    for row in answers.rows(Part::RoleSchemas) {
        if let Some(schema) = catalog.schemas.get_mut(text(row, 0)?) {
            schema.usage_by.get_or_insert_default().insert(Account::Role(text(row, 1)?.to_owned()).to_string());
        }
    }
    Ok(())
}

fn relations(query: &CatalogQuery, answers: &Answers<'_>, catalog: &mut Catalog) -> Result<(), Incomplete> {
    let queried: BTreeSet<TableName> = names(query).collect();
    let mut guards: HashMap<&str, BTreeSet<String>> = HashMap::new();
    for row in answers.rows(Part::Guards) {
        guards.entry(text(row, 0)?).or_default().insert(text(row, 1)?.to_owned());
    }
    let mut columns = columns(answers.rows(Part::Columns))?;
    let (mut unions, mut options) = (HashMap::new(), HashMap::new());
    for row in answers.rows(Part::Definitions) {
        let reads = field(row, 2).unwrap_or_default().lines().filter_map(|name| name.parse().ok()).collect();
        let union = field(row, 1).and_then(|definition| union_view::parse(definition, &reads, catalog.dialect));
        unions.insert(text(row, 0)?, union);
        let given = field(row, 3).unwrap_or_default().lines().filter_map(|option| option.split_once('='));
        let given = given.map(|(name, value)| (name.to_owned(), value.to_owned()));
        options.insert(text(row, 0)?, given.collect::<BTreeMap<_, _>>());
    }
    let mut uses = uses(answers.rows(Part::Uses))?;
    for row in answers.rows(Part::Relations) {
        let name = TableName::new(text(row, 1)?, text(row, 2)?);
        // Two IN lists also match pairs that were not queried.
        if !queried.contains(&name) && !query.has_in_family(&name) {
            continue;
        }
        let found = columns.remove(text(row, 0)?).unwrap_or_default();
        let kind = RelationKind::from_relkind(text(row, 3)?);
        // In PostgreSQL the last column of a table can be dropped, and Redshift shows no columns of a late-binding
        // view.
        if catalog.dialect == Dialect::Redshift && kind.is_table() && found.columns.is_empty() && text(row, 6)? != "0" {
            catalog.incomplete.insert(name.clone());
        }
        let guards = guards.remove(text(row, 0)?).unwrap_or_default();
        let used = uses.remove(text(row, 0)?).unwrap_or_default();
        let relation = Relation {
            inserts: Inserts { defaults: found.defaults.clone(), computed: found.computed.clone(), guards },
            owner: text(row, 4)?.to_owned(),
            rights: rights(row),
            grants: field(row, 5).map(|list| acl::read(list, field(row, 4).unwrap_or_default())).unwrap_or_default(),
            sort: found.sort_key(),
            union: unions.remove(text(row, 0)?).flatten(),
            partition_of: field(row, 12).and_then(|root| root.parse().ok()),
            options: options.remove(text(row, 0)?).unwrap_or_default(),
            used_by: used.columns,
            read_by: if kind == RelationKind::View { used.whole } else { Vec::new() },
            kind,
            dist: field(row, 7).map(|style| dist(style, found.dist_key)),
            columns: found.columns,
        };
        catalog.relations.insert(name, relation);
    }
    for row in answers.rows(Part::Types) {
        let name = TableName::new(text(row, 0)?, text(row, 1)?);
        if queried.contains(&name) {
            let owner = text(row, 2)?.to_owned();
            catalog.relations.entry(name).or_insert_with(|| Relation {
                kind: RelationKind::Type,
                owner,
                rights: Rights::default(),
                grants: BTreeMap::new(),
                columns: Vec::new(),
                inserts: Inserts::default(),
                union: None,
                partition_of: None,
                options: BTreeMap::new(),
                used_by: BTreeMap::new(),
                read_by: Vec::new(),
                dist: None,
                sort: None,
            });
        }
    }
    for row in answers.rows(Part::RolePrivileges) {
        let name = TableName::new(text(row, 0)?, text(row, 1)?);
        let held = Privilege::from_word(text(row, 2)?);
        if let (Some(relation), Some(privilege)) = (catalog.relations.get_mut(&name), held) {
            let role = Account::Role(text(row, 3)?.to_owned());
            relation.grants.entry(role.to_string()).or_default().insert(privilege);
        }
    }
    Ok(())
}

/// Returns the connected user's rights on a relation. What the server does not tell is not held against the user.
fn rights(row: &SimpleQueryRow) -> Rights {
    let grant = field(row, 10).unwrap_or_default().split(',').filter_map(Privilege::from_word).collect();
    let own = field(row, 9) != Some("f");
    Rights { select: field(row, 8) != Some("f"), own, grant, is_member: !own && flag(row, 11) }
}

/// Returns why the server accepts no changes, with the statement that turns the setting off.
fn read_only(row: &SimpleQueryRow, user: &str) -> Option<ReadOnly> {
    if flag(row, 0) {
        return Some(ReadOnly::Standby);
    }
    if field(row, 1) != Some("on") {
        return None;
    }
    let (user, database) = (escape_identifier(user), escape_identifier(field(row, 3).unwrap_or_default()));
    const SETTING: &str = "default_transaction_read_only";
    Some(ReadOnly::Setting(match field(row, 2) {
        Some("user") => format!("turn it off: `BEGIN READ WRITE; ALTER ROLE {user} RESET {SETTING}; COMMIT;`"),
        Some("database") => {
            format!("turn it off: `BEGIN READ WRITE; ALTER DATABASE {database} RESET {SETTING}; COMMIT;`")
        }
        Some("database user") => {
            format!(
                "turn it off: `BEGIN READ WRITE; ALTER ROLE {user} IN DATABASE {database} RESET {SETTING}; COMMIT;`"
            )
        }
        Some("configuration file") => {
            format!("turn it off: `ALTER SYSTEM SET {SETTING} = off; SELECT pg_reload_conf();`")
        }
        // From `options` of the connection, from a pooler or from the server's command line.
        _ => format!("remove {SETTING} from the `options` of the connection, or from the pooler's settings"),
    }))
}

/// Returns the queried accounts that a row proves to exist. PostgreSQL's roles stand for all three types.
fn accounts<'a>(query: &'a CatalogQuery, sort: &'a str, name: &'a str) -> impl Iterator<Item = Account> + 'a {
    let everything = !query.accounts.is_empty() && sort == "role";
    query
        .accounts
        .iter()
        .filter(move |account| {
            account.name() == name
                && match account {
                    Account::Public => false,
                    Account::User(_) => sort == "user" || everything,
                    Account::Group(_) => sort == "group" || everything,
                    Account::Role(_) => sort == "role",
                }
        })
        .cloned()
}

/// The columns of a relation, with the details that Redshift stores with them.
#[derive(Default)]
struct Columns {
    columns: Vec<Column>,
    dist_key: Option<String>,
    /// The position in the sort key, and the column. In an interleaved key the positions alternate in sign.
    sort: Vec<(i64, String)>,
    defaults: BTreeSet<String>,
    computed: BTreeMap<String, Computed>,
}

impl Columns {
    fn sort_key(&self) -> Option<Sort> {
        let mut sort = self.sort.clone();
        sort.sort_by_key(|(position, _)| position.abs());
        let interleaved = sort.iter().any(|(position, _)| *position < 0);
        let columns: Vec<_> = sort.into_iter().map(|(_, column)| column).collect();
        (!columns.is_empty()).then_some(Sort { columns, interleaved })
    }
}

fn columns(rows: &[SimpleQueryRow]) -> Result<HashMap<&str, Columns>, Incomplete> {
    let mut columns: HashMap<&str, Columns> = HashMap::new();
    for row in rows {
        let entry = columns.entry(text(row, 0)?).or_default();
        let name = text(row, 1)?.to_owned();
        if flag(row, 4) {
            entry.dist_key = Some(name.clone());
        }
        let position = field(row, 5).and_then(|position| position.parse().ok()).unwrap_or(0);
        if position != 0 {
            entry.sort.push((position, name.clone()));
        }
        match field(row, 6) {
            Some("identity") => drop(entry.computed.insert(name.clone(), Computed::Identity)),
            Some("generated") => drop(entry.computed.insert(name.clone(), Computed::Generated)),
            Some(_) => drop(entry.defaults.insert(name.clone())),
            None => {}
        }
        entry.columns.push(Column { name, type_name: text(row, 2)?.to_owned(), null: !flag(row, 3) });
    }
    Ok(columns)
}

/// What uses a relation, in the order in which it can be dropped.
#[derive(Default)]
struct Uses {
    columns: BTreeMap<String, Vec<String>>,
    whole: Vec<String>,
}

fn uses(rows: &[SimpleQueryRow]) -> Result<HashMap<&str, Uses>, Incomplete> {
    let mut uses: HashMap<&str, Uses> = HashMap::new();
    for row in rows {
        let relation = TableName::new(text(row, 4)?, text(row, 5)?);
        let user = match field(row, 3) {
            Some(name) => format!("{} {} ON {relation}", text(row, 2)?, Shown(name)),
            None => format!("{} {relation}", text(row, 2)?),
        };
        let of = uses.entry(text(row, 0)?).or_default();
        match text(row, 1)? {
            "" => of.whole.push(user),
            column => of.columns.entry(column.to_owned()).or_default().push(user),
        }
    }
    Ok(uses)
}

/// Converts `pg_class.reldiststyle`. 10 to 12 mean AUTO with its current choice.
fn dist(style: &str, key: Option<String>) -> Dist {
    match (style, key) {
        ("0", _) => Dist::Even,
        ("1", Some(column)) => Dist::Key { column },
        ("8", _) => Dist::All,
        ("9" | "10" | "11" | "12", _) => Dist::Auto,
        (other, _) => Dist::Other { number: other.parse().unwrap_or(-1) },
    }
}

fn text(row: &SimpleQueryRow, at: usize) -> Result<&str, Incomplete> {
    field(row, at).ok_or_else(|| Incomplete(format!("field {at} of a catalog row is empty")))
}

fn flag(row: &SimpleQueryRow, at: usize) -> bool {
    field(row, at) == Some("t")
}

/// Returns a field that may be NULL. A missing field counts as NULL.
fn field(row: &SimpleQueryRow, at: usize) -> Option<&str> {
    row.try_get(at).ok().flatten()
}
