//! The host's warehouse: PostgreSQL with the three marts, and the content of its catalog.

use super::Sandbox;

/// The program itself. The one in the path is a wrapper script of Debian.
const PSQL: &str = "/opt/provision/bin/psql";

impl Sandbox {
    /// Starts PostgreSQL with the marts, and sets `REDSHIFT_URL` and `REDSHIFT_PASSWORD`.
    pub fn warehouse(self) -> Self {
        self.place_cluster();
        self.start_warehouse()
    }

    /// Starts the existing cluster with a new password.
    pub(super) fn start_warehouse(self) -> Self {
        let password = random_word();
        let script = format!("WAREHOUSE_PASSWORD={password} /opt/provision/scripts/services postgres");
        self.bash("root", &script);
        self.env("REDSHIFT_URL", "postgresql://etl@127.0.0.1:5432/warehouse?sslmode=disable")
            .env("REDSHIFT_PASSWORD", password)
    }

    /// Runs SQL as the server's superuser. Rows are returned as lines with fields separated by `|`.
    pub fn sql(&self, sql: &str) -> String {
        self.sql_in("warehouse", sql)
    }

    fn sql_in(&self, database: &str, sql: &str) -> String {
        let argv = [PSQL, "-h", "/run/postgresql", "-U", "postgres", "-d", database, "-XAtq", "-v", "ON_ERROR_STOP=1"];
        let outcome = self.command("root", argv).stdin(sql).run();
        assert!(outcome.code == 0, "{sql}\n{outcome}");
        outcome.stdout
    }

    /// All relations outside the system schemas, column by column.
    pub const DEFINITIONS: &str =
        "SELECT n.nspname, c.relname, c.relkind, pg_get_userbyid(c.relowner), a.attnum, a.attname,
                    format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_get_expr(d.adbin, d.adrelid)
             FROM pg_class c
             JOIN pg_namespace n ON n.oid = c.relnamespace
             LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
             LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
             WHERE n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
             ORDER BY 1, 2, 5";

    /// Returns the result of [`Sandbox::DEFINITIONS`], which two warehouses can have in common.
    pub fn definitions(&self) -> String {
        self.sql(Self::DEFINITIONS)
    }

    /// Returns the tables of the pipeline's schema.
    pub fn tables(&self) -> Vec<String> {
        let sql = "SELECT relname FROM pg_class WHERE relnamespace = 'settlement_ods'::regnamespace AND relkind = 'r'
                   ORDER BY 1";
        self.sql(sql).lines().map(str::to_owned).collect()
    }

    /// Returns everything that a write would change: object ids and versions, row counts, and the next transaction id,
    /// which only writing transactions consume.
    pub fn catalog(&self) -> String {
        self.sql(
            "SELECT 'class', oid, xmin, relname, relfilenode, relacl FROM pg_class ORDER BY oid;
             SELECT 'attribute', attrelid, attnum, xmin, attname FROM pg_attribute ORDER BY attrelid, attnum;
             SELECT 'namespace', oid, xmin, nspname FROM pg_namespace ORDER BY oid;
             SELECT 'role', oid, xmin, rolname FROM pg_authid ORDER BY oid;
             SELECT 'table', relid, n_tup_ins, n_tup_upd, n_tup_del FROM pg_stat_user_tables ORDER BY relid;
             SELECT 'next', pg_snapshot_xmax(pg_current_snapshot());",
        )
    }

    fn has_warehouse(&self) -> bool {
        self.path("/var/lib/postgresql/data").exists()
    }

    pub(super) fn save_warehouse(&self) {
        if self.has_warehouse() {
            self.sql_in("postgres", "DROP DATABASE IF EXISTS saved");
            self.sql_in("postgres", "CREATE DATABASE saved TEMPLATE warehouse STRATEGY file_copy OWNER etl");
        }
    }

    pub(super) fn restore_warehouse(&self) {
        if self.has_warehouse() {
            self.sql_in("postgres", "DROP DATABASE warehouse WITH (FORCE)");
            self.sql_in("postgres", "CREATE DATABASE warehouse TEMPLATE saved STRATEGY file_copy OWNER etl");
        }
    }
}

/// Returns a random word, for use as a password and as a canary.
pub fn random_word() -> String {
    let mut bytes = [0; 12];
    openssl::rand::rand_bytes(&mut bytes).unwrap();
    bytes.iter().fold(String::from("canary"), |word, byte| word + &format!("{byte:02x}"))
}
