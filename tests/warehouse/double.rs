//! A dialect double of Redshift: a proxy in front of a real PostgreSQL that rejects what Redshift rejects, stores dist
//! and sort settings, and injects errors on demand.
//!
//! It is based on the documentation and on reports of users. The texts of its errors are invented, and it does not
//! model visibility. What passes here has not been tested on Redshift.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::{Sink, SinkExt as _};
use pgwire::api::auth::StartupHandler;
use pgwire::api::auth::noop::NoopStartupHandler;
use pgwire::api::query::SimpleQueryHandler;
use pgwire::api::results::{DataRowEncoder, FieldFormat, FieldInfo, QueryResponse, Response, Tag};
use pgwire::api::{ClientInfo, PgWireServerHandlers, Type};
use pgwire::error::{ErrorInfo, PgWireError, PgWireResult};
use pgwire::messages::startup::ParameterStatus;
use pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::cluster::Cluster;

/// Comes first on the search path and hides PostgreSQL's own catalog.
const SHADOWS: &str = "
CREATE SCHEMA shadow;
CREATE TABLE shadow.styles (relation oid PRIMARY KEY, style int NOT NULL);
CREATE TABLE shadow.keys (relation oid, attname name, dist boolean NOT NULL, sort int NOT NULL, PRIMARY KEY (relation, attname));
CREATE FUNCTION shadow.version() RETURNS text LANGUAGE sql AS
  $$ SELECT 'PostgreSQL 8.0.2 on i686-pc-linux-gnu, compiled by GCC gcc (GCC) 3.4.2 20041017, Redshift 1.0.double' $$;
CREATE FUNCTION shadow.acl(list aclitem[]) RETURNS text[] LANGUAGE sql AS
  $$ SELECT array_agg(CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE NOT r.rolcanlogin
       AND item::text LIKE r.rolname || '=%') THEN '\"group ' || replace(item::text, '=', '\"=') ELSE item::text END)
     FROM unnest(list) item WHERE item::text NOT LIKE 'role\\_%' $$;
CREATE VIEW shadow.pg_class AS SELECT c.oid, c.relname, c.relnamespace, c.relkind, c.relowner, shadow.acl(c.relacl) AS relacl,
  c.relnatts, coalesce(s.style, 9) AS reldiststyle FROM pg_catalog.pg_class c LEFT JOIN shadow.styles s ON s.relation = c.oid;
CREATE VIEW shadow.pg_attrdef AS SELECT adrelid, adnum, pg_catalog.pg_get_expr(adbin, adrelid) AS adbin FROM pg_catalog.pg_attrdef
  UNION ALL SELECT attrelid, attnum, '\"identity\"(1, 0, ''1,1''::text)' FROM pg_catalog.pg_attribute WHERE attidentity = 'a';
CREATE FUNCTION shadow.pg_get_expr(expression text, relation oid) RETURNS text LANGUAGE sql AS $$ SELECT expression $$;
CREATE VIEW shadow.pg_attribute AS SELECT a.attrelid, a.attname, a.atttypid, a.atttypmod, a.attnotnull, a.attnum, a.attisdropped,
  coalesce(k.dist, false) AS attisdistkey, coalesce(k.sort, 0) AS attsortkeyord
  FROM pg_catalog.pg_attribute a LEFT JOIN shadow.keys k ON k.relation = a.attrelid AND k.attname = a.attname;
CREATE VIEW shadow.pg_group AS SELECT * FROM pg_catalog.pg_group WHERE groname NOT LIKE 'role\\_%';
CREATE VIEW shadow.svv_roles AS SELECT rolname::text AS role_name FROM pg_catalog.pg_roles WHERE rolname LIKE 'role\\_%';
CREATE VIEW shadow.svv_relation_privileges AS SELECT n.nspname::text AS namespace_name, c.relname::text AS relation_name,
  x.privilege_type, r.rolname::text AS identity_name, 'role'::text AS identity_type
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace, aclexplode(c.relacl) x
  JOIN pg_catalog.pg_roles r ON r.oid = x.grantee WHERE r.rolname LIKE 'role\\_%';
CREATE VIEW shadow.pg_namespace AS SELECT oid, nspname, shadow.acl(nspacl) AS nspacl FROM pg_catalog.pg_namespace;
CREATE VIEW shadow.svv_schema_privileges AS SELECT n.nspname::text AS namespace_name, x.privilege_type,
  r.rolname::text AS identity_name, 'role'::text AS identity_type FROM pg_catalog.pg_namespace n, aclexplode(n.nspacl) x
  JOIN pg_catalog.pg_roles r ON r.oid = x.grantee WHERE r.rolname LIKE 'role\\_%';
CREATE VIEW shadow.svv_external_schemas AS SELECT 'spectrum'::text AS schemaname;
GRANT USAGE ON SCHEMA shadow TO PUBLIC;
GRANT SELECT ON ALL TABLES IN SCHEMA shadow TO PUBLIC;
";

/// An error to return once, instead of a statement that contains `when`.
#[derive(Clone)]
pub struct Fault {
    pub when: &'static str,
    /// The SQLSTATE of the error. `00000` is an answer without rows, and `02000` is no answer to that statement at all.
    pub code: &'static str,
    pub message: &'static str,
    /// Whether the statement is executed nevertheless.
    pub done: bool,
}

pub struct Double {
    port: u16,
    faults: Arc<Mutex<Vec<Fault>>>,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for Double {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Double {
    pub async fn start(cluster: &Cluster, database: &str) -> Self {
        cluster.psql(database, SHADOWS);
        let upstream = cluster.socket_url(database);
        let faults = Arc::new(Mutex::new(Vec::new()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::clone(&faults);
        let server = tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let (client, connection) = tokio_postgres::connect(&upstream, NoTls).await.unwrap();
                tokio::spawn(connection);
                client.batch_execute("SET search_path TO shadow, pg_catalog").await.unwrap();
                let handlers = Handlers(Arc::new(Session { client, faults: Arc::clone(&shared) }));
                tokio::spawn(pgwire::tokio::process_socket(socket, None, handlers));
            }
        });
        Self { port, faults, server }
    }

    pub fn url(&self) -> String {
        format!("postgresql://postgres@127.0.0.1:{}/dev?sslmode=disable", self.port)
    }

    /// Returns an error for the next matching statement.
    pub fn inject(&self, fault: Fault) {
        self.faults.lock().unwrap().push(fault);
    }

    /// Returns the number of injected errors that have not been used.
    pub fn left(&self) -> usize {
        self.faults.lock().unwrap().len()
    }
}

struct Handlers(Arc<Session>);

impl PgWireServerHandlers for Handlers {
    fn simple_query_handler(&self) -> Arc<impl SimpleQueryHandler> {
        Arc::clone(&self.0)
    }

    fn startup_handler(&self) -> Arc<impl StartupHandler> {
        Arc::clone(&self.0)
    }
    // The extended protocol is left at pgwire's default, which rejects it.
}

struct Session {
    client: Client,
    faults: Arc<Mutex<Vec<Fault>>>,
}

#[async_trait]
impl NoopStartupHandler for Session {
    async fn post_startup<C>(&self, client: &mut C, _: PgWireFrontendMessage) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let version = ParameterStatus::new("server_version".into(), "8.0.2".into());
        client.send(PgWireBackendMessage::ParameterStatus(version)).await?;
        Ok(())
    }
}

#[async_trait]
impl SimpleQueryHandler for Session {
    async fn do_query<C>(&self, _: &mut C, query: &str) -> PgWireResult<Vec<Response>>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let statements: Vec<_> = query.split(';').map(str::trim).filter(|statement| !statement.is_empty()).collect();
        let mut responses = Vec::new();
        for statement in &statements {
            refuse(statement, statements.len() > 1).map_err(|(code, message)| error(code, &message))?;
            let fault = {
                let mut faults = self.faults.lock().unwrap();
                let at = faults.iter().position(|fault| statement.contains(fault.when));
                at.map(|at| faults.remove(at))
            };
            if let Some(fault) = fault.as_ref().filter(|fault| !fault.done) {
                return Err(error(fault.code, fault.message));
            }
            let done = self.client.simple_query(&rewritten(statement)).await;
            let mut messages = done.map_err(|failed| match failed.as_db_error() {
                Some(answer) => error(answer.code().code(), answer.message()),
                None => error("08006", &failed.to_string()),
            })?;
            match fault.as_ref().map(|fault| fault.code) {
                Some("00000") => messages.retain(|message| !matches!(message, SimpleQueryMessage::Row(_))),
                Some("02000") => continue,
                _ => {}
            }
            if let Some(fault) = fault.filter(|fault| fault.code != "00000") {
                return Err(error(fault.code, fault.message));
            }
            responses.push(response(messages)?);
        }
        Ok(responses)
    }
}

fn error(code: &str, message: &str) -> PgWireError {
    PgWireError::UserError(Box::new(ErrorInfo::new("ERROR".into(), code.into(), message.into())))
}

fn response(messages: Vec<SimpleQueryMessage>) -> PgWireResult<Response> {
    let mut fields = None;
    let mut rows = Vec::new();
    for message in messages {
        match message {
            SimpleQueryMessage::RowDescription(columns) => {
                let named = columns
                    .iter()
                    .map(|column| FieldInfo::new(column.name().into(), None, None, Type::TEXT, FieldFormat::Text));
                fields = Some(Arc::new(named.collect::<Vec<_>>()));
            }
            SimpleQueryMessage::Row(row) => rows.push(row),
            _ => {}
        }
    }
    let Some(fields) = fields else { return Ok(Response::Execution(Tag::new("OK"))) };
    let mut encoder = DataRowEncoder::new(Arc::clone(&fields));
    let mut encoded = Vec::new();
    for row in &rows {
        for at in 0..fields.len() {
            encoder.encode_field(&row.get(at))?;
        }
        encoded.push(Ok(encoder.take_row()));
    }
    Ok(Response::Query(QueryResponse::new(fields, futures::stream::iter(encoded))))
}

/// Rejects what Redshift does not support.
fn refuse(statement: &str, in_transaction: bool) -> Result<(), (&'static str, String)> {
    let upper = statement.to_uppercase();
    let has = |words: &str| upper.contains(words);
    for function in ["PG_TRY_ADVISORY_LOCK", "PG_ADVISORY_LOCK", "ACLEXPLODE", "TO_JSON", "JSON_AGG", "TO_REGCLASS"] {
        if has(function) {
            return Err(("42883", format!("function {}(\"unknown\") does not exist", function.to_lowercase())));
        }
    }
    if has("PG_RANGE") {
        return Err(("42P01", "relation \"pg_range\" does not exist".into()));
    }
    if has("SAVEPOINT") {
        return Err(("0A000", "SQL command \"SAVEPOINT\" not supported".into()));
    }
    if upper.matches("ADD COLUMN").count() > 1 {
        return Err(("0A000", "ALTER TABLE ADD COLUMN only supports one column".into()));
    }
    if in_transaction && has("ALTER COLUMN") {
        return Err(("25001", "ALTER TABLE ALTER COLUMN cannot run inside a transaction block".into()));
    }
    if has("(LIKE") && !cut(statement).1.is_empty() {
        return Err(("42601", "syntax error: attributes beside LIKE".into()));
    }
    Ok(())
}

/// Rewrites the statement for PostgreSQL, with the settings that are stored separately.
fn rewritten(statement: &str) -> String {
    if statement.starts_with("GRANT") || statement.starts_with("REVOKE") {
        return statement.replace(" TO ROLE ", " TO ").replace(" FROM ROLE ", " FROM ");
    }
    if statement.starts_with("CREATE VIEW") || statement.starts_with("CREATE OR REPLACE VIEW") {
        // PostgreSQL binds every view to its tables.
        return statement.strip_suffix(" WITH NO SCHEMA BINDING").unwrap_or(statement).to_owned();
    }
    if !statement.to_uppercase().starts_with("CREATE TABLE") {
        return statement.to_owned();
    }
    let (plain, attributes) = cut(statement);
    let table = plain["CREATE TABLE".len()..plain.find('(').unwrap()].trim().replace('\'', "''");
    let this = format!("'{table}'::regclass");
    let mut keep = Vec::new();
    if let Some((_, parent)) = plain.split_once("(LIKE ") {
        let parent = parent.trim_end_matches(')').trim();
        keep.push(format!(
            "INSERT INTO shadow.styles SELECT {this}, style FROM shadow.styles WHERE relation = '{parent}'::regclass"
        ));
        keep.push(format!("INSERT INTO shadow.keys SELECT {this}, attname, dist, sort FROM shadow.keys WHERE relation = '{parent}'::regclass"));
    }
    let upsert = "ON CONFLICT (relation, attname) DO UPDATE SET";
    for (word, value) in attributes {
        match word {
            "DISTSTYLE" => {
                let style =
                    ["EVEN", "KEY", "", "", "", "", "", "", "ALL", "AUTO"].iter().position(|known| *known == value);
                let style = style.unwrap();
                keep.push(format!("INSERT INTO shadow.styles VALUES ({this}, {style})"));
            }
            "DISTKEY" => {
                keep.push(format!("INSERT INTO shadow.styles VALUES ({this}, 1) ON CONFLICT DO NOTHING"));
                keep.push(format!("INSERT INTO shadow.keys VALUES ({this}, '{value}', true, 0) {upsert} dist = true"));
            }
            _ => keep.extend(value.split(',').enumerate().map(|(at, column)| {
                let (column, at) = (column.trim(), at + 1);
                format!("INSERT INTO shadow.keys VALUES ({this}, '{column}', false, {at}) {upsert} sort = {at}")
            })),
        }
    }
    std::iter::once(plain).chain(keep).collect::<Vec<_>>().join("; ")
}

/// Returns a statement without DISTSTYLE, DISTKEY and SORTKEY after its columns, and these settings.
pub fn cut(statement: &str) -> (String, Vec<(&'static str, String)>) {
    let mut plain = statement.trim_end_matches(';').to_owned();
    let mut attributes = Vec::new();
    for word in ["SORTKEY", "DISTKEY", "DISTSTYLE"] {
        let Some(at) = plain.to_uppercase().rfind(word) else { continue };
        let rest = plain[at + word.len()..].to_owned();
        let (value, after) = match rest.trim_start().strip_prefix('(') {
            Some(list) => list.split_once(')').unwrap(),
            None => rest.trim_start().split_at(rest.trim_start().find([' ', '\n']).unwrap_or(rest.trim_start().len())),
        };
        attributes.push((word, value.trim().to_owned()));
        plain = format!("{}{after}", plain[..at].trim_end());
    }
    attributes.reverse();
    (plain, attributes)
}
