//! A server to run the suite on: a schema `settlement_ods` that is empty, a user and a group to grant to.

use crate::cluster;

pub struct Target {
    pub url: String,
    pub user: String,
    pub group: String,
    database: Option<String>,
}

impl Target {
    /// An own database of the shared PostgreSQL.
    pub fn postgresql() -> Self {
        let cluster = cluster::shared();
        let database = cluster.database();
        cluster.psql(&database, "CREATE SCHEMA settlement_ods");
        let user = format!("dbt_{database}");
        let group = format!("etl_{database}");
        cluster.psql(&database, &format!("CREATE USER {user}"));
        cluster.psql(&database, &format!("CREATE GROUP {group}"));
        Self { url: cluster.socket_url(&database), user, group, database: Some(database) }
    }

    /// Sets something up, by the same wire that the program uses: Redshift's own words are understood where the
    /// server understands them, and left out where it does not.
    pub async fn sql(&self, sql: &str) {
        let plain = match &self.database {
            Some(_) => without_attributes(sql),
            None => sql.to_owned(),
        };
        match &self.database {
            Some(database) => {
                cluster::shared().psql(database, &plain);
            }
            None => unreachable!("a target has a database"),
        }
    }

    /// All that a plan could have changed: every catalog row of the schema's relations, with its transaction.
    pub async fn fingerprint(&self) -> String {
        let database = self.database.as_deref().unwrap();
        cluster::shared().psql(
            database,
            "SELECT c.xmin, c.* FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE n.nspname = 'settlement_ods' ORDER BY c.oid; \
             SELECT max(xmin::text::bigint) FROM pg_attribute; SELECT max(xmin::text::bigint) FROM pg_depend",
        )
    }
}

fn without_attributes(sql: &str) -> String {
    ["DISTKEY (id)", "SORTKEY (at)"].iter().fold(sql.to_owned(), |sql, words| sql.replace(words, ""))
}
