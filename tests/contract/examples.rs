//! The plan files under plans/examples: each is applied to a host, and in order afterwards.

use std::path::Path;

use crate::sandbox::{DAY, Outcome, Sandbox, random_word};

/// Where the examples are on the host.
const FOLDER: &str = "/opt/provision/plans/examples";

/// Copies the examples with their templates.
fn with_examples(sandbox: Sandbox) -> Sandbox {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("plans/examples");
    for folder in [source.clone(), source.join("templates")] {
        for file in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file())
        {
            let name = file.strip_prefix(&source).unwrap().display().to_string();
            sandbox.write(&format!("{FOLDER}/{name}"), "root", std::fs::read(&file).unwrap());
        }
    }
    sandbox
}

fn run(sandbox: &Sandbox, command: &str, example: &str, arguments: &[&str]) -> Outcome {
    let file = format!("{FOLDER}/{example}.yaml");
    let run = sandbox.provision("root", [command, file.as_str()]).args(arguments.iter().copied());
    let run = if command == "apply" { run.args(["--yes"]) } else { run };
    run.run()
}

/// Applies an example twice. The second time there is nothing to change.
#[track_caller]
fn applies(sandbox: &Sandbox, example: &str, arguments: &[&str]) {
    let planned = run(sandbox, "plan", example, &[arguments, &["--detailed-exitcode"]].concat()).exits(2);
    let step_needs_nothing = planned.stdout.contains("in order:");
    assert!(!step_needs_nothing, "each step has something to do\n{planned}");
    run(sandbox, "apply", example, arguments).exits(0);
    run(sandbox, "plan", example, &[arguments, &["--detailed-exitcode"]].concat()).exits(0);
}

#[test]
fn a_django_server_is_set_up() {
    let (key, database) = (random_word(), random_word());
    let sandbox = with_examples(Sandbox::new().remote())
        .env("SHOP_SECRET_KEY", &key)
        .env("SHOP_DATABASE_URL", format!("postgresql://shop:{database}@db.example/shop"));
    sandbox.bash("root", "mkdir -p /srv/shop/media/2026; touch /srv/shop/media/2026/one.jpg; chown ubuntu: /srv/shop");
    let remote = "repo_url=/srv/git/s3-redshift-backup-tool.git";
    applies(&sandbox, "django", &["--var", "deploy=ubuntu", "--var", remote, "--var", "branch=jasleen_qa"]);
    let settings = sandbox.read("/etc/shop/environment");
    assert!(settings.contains(&format!("DJANGO_SECRET_KEY={key}\n")) && settings.contains(&database), "{settings}");
    let shown = sandbox.bash(
        "root",
        "stat -c '%a %U:%G %n' /etc/shop/environment /srv/shop/media/2026 /srv/shop/media/2026/one.jpg; stat -c %U /srv/shop/code",
    );
    let expected = "640 root:www-data /etc/shop/environment\n2750 www-data:www-data /srv/shop/media/2026\n\
                    640 www-data:www-data /srv/shop/media/2026/one.jpg\nubuntu\n";
    assert_eq!(shown, expected);
    assert!(sandbox.read("/etc/systemd/system/shop.service").contains("WorkingDirectory=/srv/shop/code\n"));
}

#[test]
fn a_metrics_host_is_set_up() {
    let password = random_word();
    let sandbox = with_examples(Sandbox::new()).env("GRAFANA_PASSWORD", &password);
    applies(&sandbox, "metrics", &[]);
    assert_eq!(sandbox.read("/srv/metrics/.env"), format!("GRAFANA_PASSWORD='{password}'\n"));
    let owners =
        sandbox.bash("root", "cd /srv/metrics; stat -c '%a %u:%g %n' prometheus grafana .env docker-compose.yml");
    assert_eq!(owners, "750 65534:65534 prometheus\n770 472:0 grafana\n600 0:0 .env\n644 0:0 docker-compose.yml\n");
    let compose = sandbox.read("/srv/metrics/docker-compose.yml");
    assert!(compose.contains("${GRAFANA_PASSWORD}") && compose.contains("retention.time=90d"), "{compose}");
    // A restored backup belongs to somebody else.
    sandbox.bash("root", "touch /srv/metrics/grafana/grafana.db");
    applies(&sandbox, "metrics", &["--only", "grafana-data"]);
}

#[test]
fn a_warehouse_gets_monthly_archives_and_grants() {
    let mut sandbox = with_examples(Sandbox::new().warehouse());
    let (url, password) = (sandbox.env_of("REDSHIFT_URL"), sandbox.env_of("REDSHIFT_PASSWORD"));
    sandbox.set_env("WAREHOUSE_URL", url);
    sandbox.set_env("WAREHOUSE_PASSWORD", password);
    sandbox.sql(
        "CREATE ROLE dbt; CREATE ROLE reporting; CREATE SCHEMA shop AUTHORIZATION etl; CREATE SCHEMA archive AUTHORIZATION etl;",
    );
    applies(&sandbox, "archives", &[]);
    let tables = sandbox.sql("SELECT relname FROM pg_class WHERE relnamespace = 'archive'::regnamespace ORDER BY 1");
    let months: Vec<String> = (1..=5).map(|month| format!("orders_2026_{month:02}")).collect();
    assert_eq!(tables.lines().collect::<Vec<_>>(), months, "up to two months after {DAY}");
    let may = |role: &str, privilege: &str| {
        sandbox.sql(&format!("SELECT has_table_privilege('{role}', 'archive.orders_2026_05', '{privilege}')")) == "t\n"
    };
    assert_eq!([may("reporting", "select"), may("reporting", "insert"), may("dbt", "insert")], [true, false, true]);
    // A new column of the orders reaches the archives.
    sandbox.sql("ALTER TABLE shop.orders ADD COLUMN note VARCHAR(20)");
    run(&sandbox, "apply", "archives", &["--only", "monthly-archives"]).exits(0);
    let columns =
        "SELECT count(*) FROM information_schema.columns WHERE table_schema = 'archive' AND column_name = 'note'";
    assert_eq!(sandbox.sql(columns), "5\n");
}
