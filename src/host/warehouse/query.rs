//! The SQL queries on the catalog.
//!
//! All statements are sent as one simple query, so that one round trip returns everything. They do not filter on
//! `relkind`, because anything with the name of a table matters. `pg_table_def` and `svv_table_info` are not used,
//! because both silently omit tables.

use std::collections::BTreeSet;

use postgres_protocol::escape::escape_literal;

use super::account::Account;
use super::catalog::{CatalogQuery, Family};
use super::dialect::Dialect;
use super::name::TableName;

/// More columns than these are not read for the families of one query.
pub(super) const MAX_FAMILY_COLUMNS: usize = 300_000;

/// Views that read each other are followed no deeper. They can form a circle.
const MAX_VIEW_DEPTH: usize = 32;

/// One statement of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// The server's version and the connected user. It works on every server, and comes first.
    Version,
    Schemas,
    Relations,
    Columns,
    Accounts,
    /// Who has privileges on the schemas.
    SchemaPrivileges,
    /// PostgreSQL: whether the server accepts changes, and its encoding.
    State,
    /// PostgreSQL: constraints and the like that rows have to pass.
    Guards,
    /// PostgreSQL: types with the name of a table.
    Types,
    /// PostgreSQL, if queried: the qualified names of types.
    NamedTypes,
    /// If queried: the definitions of views, and their options.
    Definitions,
    /// PostgreSQL, if queried: what uses columns.
    Uses,
    /// Redshift: schemas whose tables are stored elsewhere.
    ExternalSchemas,
    /// Redshift, only if a plan file has roles, because access lists do not contain them.
    Roles,
    RolePrivileges,
    RoleSchemas,
}

/// Returns the parts of the query, in the order of the statements and of their answers.
pub(super) fn parts(query: &CatalogQuery, dialect: Dialect) -> Vec<Part> {
    let mut parts = vec![Part::Version, Part::Schemas, Part::Relations, Part::Columns, Part::Accounts];
    parts.push(Part::SchemaPrivileges);
    match dialect {
        Dialect::Postgresql => parts.extend([Part::State, Part::Guards, Part::Types]),
        Dialect::Redshift => {
            parts.push(Part::ExternalSchemas);
            if query.accounts.iter().any(|account| matches!(account, Account::Role(_))) {
                parts.extend([Part::Roles, Part::RolePrivileges, Part::RoleSchemas]);
            }
        }
    }
    if dialect == Dialect::Postgresql && !query.types.is_empty() {
        parts.push(Part::NamedTypes);
    }
    if query.views {
        parts.push(Part::Definitions);
        parts.extend((dialect == Dialect::Postgresql).then_some(Part::Uses));
    }
    parts
}

/// Returns the statement of each part.
pub(super) fn statements(query: &CatalogQuery, dialect: Dialect) -> Vec<String> {
    let lists = Lists::of(query);
    parts(query, dialect).into_iter().map(|part| lists.statement(part, query, dialect)).collect()
}

/// The names of the query as lists of SQL literals.
struct Lists {
    schemas: String,
    tables: String,
    accounts: String,
    /// The relations of the query, from FROM on.
    relation: String,
}

impl Lists {
    fn of(query: &CatalogQuery) -> Self {
        let families = || query.families.iter().flat_map(|family| [family.clone(), family.folded()]);
        let schemas = list(names(query).map(|name| name.schema.clone()).chain(families().map(|family| family.schema)));
        let tables = list(names(query).map(|name| name.name.clone()));
        let accounts = list(query.accounts.iter().map(|account| account.name().to_owned()));
        let in_families = list_of(families().map(|family| in_family(&family)));
        let relation = format!(
            "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE ((n.nspname IN ({schemas}) AND c.relname IN ({tables})){in_families})"
        );
        Self { schemas, tables, accounts, relation }
    }

    fn statement(&self, part: Part, query: &CatalogQuery, dialect: Dialect) -> String {
        let Self { schemas, tables, accounts, relation } = self;
        match part {
            Part::Version => "SELECT version(), current_user".to_owned(),
            Part::Schemas => format!(
                "SELECT nspname, has_schema_privilege(nspname, 'USAGE'), has_schema_privilege(nspname, 'CREATE'), \
                 array_to_string(nspacl, ',') FROM pg_namespace WHERE nspname IN ({schemas})"
            ),
            Part::Relations => {
                let (style, rights, root) = match dialect {
                    Dialect::Redshift => ("c.reldiststyle", "NULL, NULL, NULL, NULL", "NULL"),
                    Dialect::Postgresql => ("NULL", POSTGRESQL_RIGHTS, PARTITION_ROOT),
                };
                format!(
                    "SELECT c.oid, n.nspname, c.relname, c.relkind, pg_get_userbyid(c.relowner), \
                     array_to_string(c.relacl, ','), c.relnatts, {style}, {rights}, {root} {relation}"
                )
            }
            Part::Columns => columns(query, dialect, relation),
            Part::Accounts => match dialect {
                // PostgreSQL 16 tells membership from the right to become the role.
                Dialect::Postgresql => format!(
                    "SELECT 'role', rolname, pg_has_role(oid, CASE WHEN current_setting('server_version_num')::int < \
                     160000 THEN 'MEMBER' ELSE 'SET' END) FROM pg_roles WHERE rolname IN ({accounts})"
                ),
                Dialect::Redshift => format!(
                    "SELECT 'user', usename, NULL FROM pg_user WHERE usename IN ({accounts}) \
                     UNION ALL SELECT 'group', groname, NULL FROM pg_group WHERE groname IN ({accounts})"
                ),
            },
            Part::SchemaPrivileges => match dialect {
                Dialect::Postgresql => format!(
                    "SELECT n.nspname, r.rolname, has_schema_privilege(r.oid, n.oid, 'USAGE'), \
                     has_schema_privilege(r.oid, n.oid, 'CREATE') FROM pg_namespace n, pg_roles r \
                     WHERE n.nspname IN ({schemas}) AND r.rolname IN ({accounts}) \
                     UNION ALL SELECT nspname, 'public', has_schema_privilege('public', oid, 'USAGE'), \
                     has_schema_privilege('public', oid, 'CREATE') FROM pg_namespace WHERE nspname IN ({schemas})"
                ),
                // Groups and everyone are in the access list of the schema.
                Dialect::Redshift => format!(
                    "SELECT n.nspname, u.usename, has_schema_privilege(u.usename, n.nspname, 'USAGE'), NULL \
                     FROM pg_namespace n, pg_user u WHERE n.nspname IN ({schemas}) AND u.usename IN ({accounts})"
                ),
            },
            Part::State => STATE.to_owned(),
            Part::Guards => guards(&format!("(SELECT c.oid {relation})")),
            // A table's row type has the name of the table. Array types are renamed automatically.
            Part::Types => format!(
                "SELECT n.nspname, t.typname, pg_get_userbyid(t.typowner) FROM pg_type t \
                 JOIN pg_namespace n ON n.oid = t.typnamespace WHERE t.typrelid = 0 AND t.typcategory <> 'A' \
                 AND n.nspname IN ({schemas}) AND t.typname IN ({tables})"
            ),
            Part::NamedTypes => {
                let types: Vec<String> = query.types.iter().map(|name| format!("({})", escape_literal(name))).collect();
                let spelling = type_name("t.oid", "NULL");
                format!(
                    "SELECT asked.name, {spelling} FROM (VALUES {}) asked(name) JOIN pg_type t ON t.oid = to_regtype(asked.name) \
                     JOIN pg_namespace tn ON tn.oid = t.typnamespace",
                    types.join(", ")
                )
            }
            Part::Definitions => {
                let (reads, options) = match dialect {
                    Dialect::Postgresql => (READ_BY_VIEW, "array_to_string(c.reloptions, chr(10))"),
                    Dialect::Redshift => ("NULL", "NULL"),
                };
                format!("SELECT c.oid, pg_get_viewdef(c.oid), {reads}, {options} {relation} AND c.relkind = 'v'")
            }
            Part::Uses => uses(&format!("(SELECT c.oid {relation})")),
            Part::ExternalSchemas => {
                format!("SELECT schemaname FROM svv_external_schemas WHERE schemaname IN ({schemas})")
            }
            Part::Roles => format!("SELECT role_name FROM svv_roles WHERE role_name IN ({accounts})"),
            Part::RolePrivileges => format!(
                "SELECT namespace_name, relation_name, privilege_type, identity_name FROM svv_relation_privileges \
                 WHERE identity_type = 'role' AND namespace_name IN ({schemas}) AND relation_name IN ({tables}) \
                 AND identity_name IN ({accounts})"
            ),
            Part::RoleSchemas => format!(
                "SELECT namespace_name, identity_name FROM svv_schema_privileges WHERE identity_type = 'role' \
                 AND privilege_type = 'USAGE' AND namespace_name IN ({schemas}) AND identity_name IN ({accounts})"
            ),
        }
    }
}

/// SELECT, the owner's rights, without those the privileges that may be granted, and whether the user is a member of the owner.
const POSTGRESQL_RIGHTS: &str = "has_table_privilege(c.oid, 'SELECT'), pg_has_role(c.relowner, 'USAGE'), \
     CASE WHEN NOT pg_has_role(c.relowner, 'USAGE') THEN array_to_string(ARRAY(SELECT p FROM \
     unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'REFERENCES']) p \
     WHERE has_table_privilege(c.oid, p || ' WITH GRANT OPTION')), ',') END, pg_has_role(c.relowner, 'MEMBER')";

/// The root of a partition's tree.
const PARTITION_ROOT: &str = "CASE WHEN c.relispartition THEN (SELECT quote_ident(tn.nspname) || '.' || quote_ident(t.relname) \
     FROM pg_class t JOIN pg_namespace tn ON tn.oid = t.relnamespace WHERE t.oid = pg_partition_root(c.oid)) END";

/// The spelling of a type, with its schema unless it is built in. `format_type` leaves the schema out if it is on the search path.
fn type_name(oid: &str, modifier: &str) -> String {
    format!(
        "CASE WHEN tn.nspname <> 'pg_catalog' AND pg_type_is_visible({oid}) THEN quote_ident(tn.nspname) || '.' ELSE '' END \
         || format_type({oid}, {modifier})"
    )
}

/// The relations that a view reads, one a line.
const READ_BY_VIEW: &str = "array_to_string(ARRAY(SELECT DISTINCT quote_ident(tn.nspname) || '.' || quote_ident(t.relname) \
     FROM pg_rewrite r JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid \
     AND d.refclassid = 'pg_class'::regclass JOIN pg_class t ON t.oid = d.refobjid AND t.oid <> c.oid \
     JOIN pg_namespace tn ON tn.oid = t.relnamespace WHERE r.ev_class = c.oid), chr(10))";

/// Whether it is a standby, whether transactions are read-only and where that is set, the encoding's longest letter, whether the
/// user is a superuser and inherits privileges, and whether the server has options for that in GRANT.
const STATE: &str = "SELECT pg_is_in_recovery(), current_setting('transaction_read_only'), \
     (SELECT source FROM pg_settings WHERE name = 'default_transaction_read_only'), current_database(), \
     (SELECT pg_encoding_max_length(encoding) FROM pg_database WHERE datname = current_database()), \
     (SELECT rolsuper FROM pg_roles WHERE rolname = current_user), \
     (SELECT rolinherit FROM pg_roles WHERE rolname = current_user), \
     current_setting('server_version_num')::int >= 160000";

fn columns(query: &CatalogQuery, dialect: Dialect, relation: &str) -> String {
    let limit = if query.families.is_empty() { String::new() } else { format!(" LIMIT {}", MAX_FAMILY_COLUMNS + 1) };
    let keys = match dialect {
        Dialect::Redshift => "a.attisdistkey, a.attsortkeyord",
        Dialect::Postgresql => "NULL, NULL",
    };
    // Redshift stores an identity column as a default that calls a function of that name.
    let (value, defaults) = match dialect {
        Dialect::Redshift => (
            "CASE WHEN pg_get_expr(d.adbin, d.adrelid) LIKE '\"identity\"(%' THEN 'identity' \
             WHEN d.adrelid IS NOT NULL THEN 'default' END",
            "LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum",
        ),
        Dialect::Postgresql => (
            "CASE WHEN a.attidentity = 'a' THEN 'identity' WHEN a.attgenerated <> '' THEN 'generated' \
             WHEN a.atthasdef OR a.attidentity = 'd' THEN 'default' END",
            "",
        ),
    };
    let (spelling, types) = match dialect {
        Dialect::Redshift => ("format_type(a.atttypid, a.atttypmod)".to_owned(), ""),
        Dialect::Postgresql => (
            type_name("a.atttypid", "a.atttypmod"),
            "JOIN pg_type t ON t.oid = a.atttypid JOIN pg_namespace tn ON tn.oid = t.typnamespace",
        ),
    };
    format!(
        "SELECT a.attrelid, a.attname, {spelling}, a.attnotnull, {keys}, {value} \
         FROM pg_attribute a {types} {defaults} WHERE a.attnum > 0 AND NOT a.attisdropped \
         AND a.attrelid IN (SELECT c.oid {relation}) ORDER BY a.attrelid, a.attnum{limit}"
    )
}

/// Returns the query for what prevents the types of columns from being altered, and relations from being dropped (an empty column),
/// in the order in which all of it can be dropped. Views use what is below the views that they read.
fn uses(relations: &str) -> String {
    let kind = |otherwise: &str| {
        format!(
            "CASE {otherwise} WHEN r.rulename <> '_RETURN' THEN 'RULE' WHEN v.relkind = 'm' THEN 'MATERIALIZED VIEW' \
             ELSE 'VIEW' END"
        )
    };
    let (direct, further) =
        (kind("WHEN t.oid IS NOT NULL THEN 'TRIGGER' WHEN p.oid IS NOT NULL THEN 'POLICY'"), kind(""));
    let rule = "CASE WHEN r.rulename <> '_RETURN' THEN r.rulename END";
    format!(
        "WITH RECURSIVE uses AS (SELECT d.refobjid, d.refobjsubid, v.oid AS holder, {direct} AS kind, \
         coalesce(t.tgname, p.polname, {rule}) AS name, 1 AS depth FROM pg_depend d \
         LEFT JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid \
         LEFT JOIN pg_trigger t ON d.classid = 'pg_trigger'::regclass AND t.oid = d.objid AND NOT t.tgisinternal \
         LEFT JOIN pg_policy p ON d.classid = 'pg_policy'::regclass AND p.oid = d.objid \
         JOIN pg_class v ON v.oid = coalesce(r.ev_class, t.tgrelid, p.polrelid) \
         WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid IN {relations} \
         AND (d.refobjsubid > 0 OR v.oid <> d.refobjid) \
         UNION SELECT u.refobjid, u.refobjsubid, v.oid, {further}, {rule}, u.depth + 1 FROM uses u \
         JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = u.holder \
         JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid \
         JOIN pg_class v ON v.oid = r.ev_class AND v.oid <> u.holder \
         WHERE u.kind IN ('VIEW', 'MATERIALIZED VIEW') AND u.depth < {MAX_VIEW_DEPTH}) \
         SELECT u.refobjid, coalesce(a.attname, ''), u.kind, u.name, vn.nspname, v.relname FROM \
         (SELECT refobjid, refobjsubid, holder, kind, name, max(depth) AS depth FROM uses WHERE refobjsubid > 0 \
         GROUP BY 1, 2, 3, 4, 5 UNION ALL \
         SELECT refobjid, 0, holder, kind, name, max(depth) FROM uses WHERE holder <> refobjid GROUP BY 1, 3, 4, 5) u \
         LEFT JOIN pg_attribute a ON a.attrelid = u.refobjid AND a.attnum = u.refobjsubid AND u.refobjsubid > 0 \
         JOIN pg_class v ON v.oid = u.holder JOIN pg_namespace vn ON vn.oid = v.relnamespace \
         ORDER BY u.depth DESC, vn.nspname, v.relname, u.name"
    )
}

/// A partitioned table without partitions rejects all rows.
fn guards(relations: &str) -> String {
    format!(
        "SELECT conrelid, pg_get_constraintdef(oid) FROM pg_constraint \
         WHERE contype IN ('c', 'f', 'p', 'u', 'x') AND conrelid IN {relations} \
         UNION ALL SELECT tgrelid, 'TRIGGER ' || tgname FROM pg_trigger \
         WHERE NOT tgisinternal AND tgenabled <> 'D' AND tgtype & 4 <> 0 AND tgrelid IN {relations} \
         UNION ALL SELECT ev_class, 'RULE ' || rulename || ' for INSERT' FROM pg_rewrite \
         WHERE ev_type = '3' AND ev_enabled <> 'D' AND ev_class IN {relations} \
         UNION ALL SELECT oid, 'row-level security' FROM pg_class WHERE relrowsecurity AND oid IN {relations} \
         UNION ALL SELECT p.partrelid, 'no partition' FROM pg_partitioned_table p \
         WHERE p.partrelid IN {relations} AND NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = p.partrelid)"
    )
}

/// The condition for the relations of a family, which may match others as well.
fn in_family(family: &Family) -> String {
    let part = |text: &str| text.replace(['%', '\\'], "_");
    let (schema, pattern) = (&family.schema, format!("{}%{}", part(&family.before), part(&family.after)));
    format!(
        " OR (n.nspname = {} AND c.relname LIKE {} AND c.relkind IN ('r', 'p', 'v', 'm', 'f'))",
        escape_literal(schema),
        escape_literal(&pattern)
    )
}

fn list_of(conditions: impl Iterator<Item = String>) -> String {
    conditions.collect::<BTreeSet<String>>().into_iter().collect()
}

/// Returns the names to query: as written, and as Redshift would fold them.
pub(super) fn names(query: &CatalogQuery) -> impl Iterator<Item = TableName> {
    query.relations.iter().flat_map(|name| [name.clone(), name.folded()])
}

fn list(values: impl Iterator<Item = String>) -> String {
    let values: BTreeSet<String> = values.map(|value| escape_literal(&value)).collect();
    // An empty list is not valid SQL. `IN (NULL)` matches nothing.
    if values.is_empty() { "NULL".into() } else { values.into_iter().collect::<Vec<_>>().join(", ") }
}
