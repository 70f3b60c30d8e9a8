//! A server for the suite: an empty schema, and a user and a group to grant to.

use provision::resource::period_tables::PeriodTables;
use provision::resource::table::Table;

use crate::cluster;
use crate::double::{Double, cut};
use crate::kit;

pub struct Target {
    pub url: String,
    pub user: String,
    pub group: String,
    /// Starts with `role_`, by which the dialect double distinguishes Redshift's roles from groups.
    pub role: String,
    /// Whether it stores dist and sort settings.
    pub redshift: bool,
    /// The schema used for `settlement_ods`.
    schema: String,
    /// The database of the shared PostgreSQL. `None` on a live cluster.
    database: Option<String>,
    pub double: Option<Double>,
}

impl Target {
    /// A new database of the shared PostgreSQL.
    pub fn postgresql() -> Self {
        let cluster = cluster::shared();
        let database = cluster.database();
        cluster.psql(&database, "CREATE SCHEMA settlement_ods");
        let user = format!("dbt_{database}");
        let group = format!("etl_{database}");
        cluster.psql(&database, &format!("CREATE USER {user}"));
        cluster.psql(&database, &format!("CREATE GROUP {group}"));
        let role = format!("role_{database}");
        cluster.psql(&database, &format!("CREATE ROLE {role}"));
        let (url, schema) = (cluster.socket_url(&database), "settlement_ods".into());
        Self { url, user, group, role, redshift: false, schema, database: Some(database), double: None }
    }

    /// The same behind the dialect double.
    pub async fn double() -> Self {
        let mut target = Self::postgresql();
        let double = Double::start(cluster::shared(), target.database.as_deref().unwrap()).await;
        target.url = double.url();
        target.redshift = true;
        target.double = Some(double);
        target
    }

    /// A new schema on the cluster in `REDSHIFT_TEST_URL`, which is removed afterwards.
    pub async fn live() -> Self {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        #[expect(clippy::disallowed_methods, reason = "the environment sets the address of a live cluster")]
        let url = std::env::var("REDSHIFT_TEST_URL").expect("REDSHIFT_TEST_URL names the live cluster");
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let schema = format!("provision_test_{}_{number}", std::process::id());
        let (user, group) = (format!("{schema}_user"), format!("{schema}_group"));
        let role = format!("role_{schema}");
        let target = Self { url, user, group, role, redshift: true, schema, database: None, double: None };
        let (schema, user, group, role) = (&target.schema, &target.user, &target.group, &target.role);
        target.sql(&format!("CREATE SCHEMA {schema}")).await;
        target.sql(&format!("CREATE USER {user} PASSWORD DISABLE")).await;
        target.sql(&format!("CREATE GROUP {group}")).await;
        target.sql(&format!("CREATE ROLE {role}")).await;
        target
    }

    /// Changes the objects that hide PostgreSQL's own catalog.
    pub fn shadow(&self, sql: &str) {
        cluster::shared().psql(self.database.as_deref().unwrap(), sql);
    }

    /// Returns a text with this target's schema.
    pub fn text(&self, text: &str) -> String {
        text.replace("settlement_ods", &self.schema)
    }

    pub fn table(&self, ddl: &str) -> Table {
        self.table_with(ddl, "")
    }

    pub fn table_with(&self, ddl: &str, lines: &str) -> Table {
        kit::table(&self.text(ddl), lines)
    }

    /// Returns whether this is a server of the tests instead of a live cluster.
    pub fn is_ours(&self) -> bool {
        self.database.is_some()
    }

    pub fn periods(&self, lines: &str) -> PeriodTables {
        kit::periods(&self.text(lines))
    }

    /// Runs the setup statement by statement. On PostgreSQL, parts that only Redshift supports are removed.
    pub async fn sql(&self, sql: &str) {
        let sql = self.text(sql);
        for statement in sql.split(';').map(str::trim).filter(|statement| !statement.is_empty()) {
            match (&self.database, &self.double) {
                (Some(database), None) => {
                    cluster::shared().psql(database, &cut(statement).0);
                }
                _ => statement_on(&self.url, statement).await,
            }
        }
    }

    /// Returns everything that a plan could have changed, with the transactions that wrote it.
    pub async fn fingerprint(&self) -> String {
        let Some(database) = &self.database else { return String::new() };
        cluster::shared().psql(
            database,
            "SELECT c.xmin, c.* FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE n.nspname = 'settlement_ods' ORDER BY c.oid; \
             SELECT max(xmin::text::bigint) FROM pg_attribute; SELECT max(xmin::text::bigint) FROM pg_depend",
        )
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if self.database.is_some() {
            return;
        }
        let (url, schema, user, group) = (&self.url, &self.schema, &self.user, &self.group);
        let cleanup = async {
            for sql in [
                format!("DROP SCHEMA {schema} CASCADE"),
                format!("DROP USER {user}"),
                format!("DROP GROUP {group}"),
                format!("DROP ROLE {}", self.role),
            ] {
                statement_on(url, &sql).await;
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(cleanup)
            });
        });
    }
}

/// Executes one statement through the program's own connection.
async fn statement_on(url: &str, sql: &str) {
    let done = kit::connect(url).execute("cannot set up the test", sql, |_| Ok(false)).await;
    done.unwrap_or_else(|failure| panic!("{sql}: {failure:?}"));
}
