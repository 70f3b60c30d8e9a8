//! `provision adopt`: what it writes plans empty, is the same the next time, and holds no secret.

use crate::sandbox::{CHECKOUT, COMPOSE, KEY, LOGS, Outcome, Sandbox, Snapshot};

/// The day of the runs: adopt counts periods by today, whatever a test says.
fn today() -> String {
    jiff::Timestamp::now().to_zoned_datetime(jiff::tz::TimeZone::UTC).date().to_string()
}

fn adopt(sandbox: &Sandbox, user: &str, args: &[&str]) -> Outcome {
    sandbox.provision(user, [&["adopt"], args].concat()).run()
}

/// Adopts, and checks the law: the plan file is valid, a plan of it shows nothing to change and nothing failed, and adopting
/// again gives the same text.
#[track_caller]
fn adopted(sandbox: &Sandbox, user: &str, args: &[&str]) -> String {
    let first = adopt(sandbox, user, args).exits(0);
    assert_eq!(first.stderr, "", "{first}");
    let again = adopt(sandbox, user, args).exits(0);
    assert_eq!(first.stdout, again.stdout, "adopting again gives the same text");
    let home = if user == "root" { "/root" } else { "/home/ubuntu" };
    let file = format!("{home}/adopted.yaml");
    sandbox.write(&file, user, &first.stdout);
    sandbox.provision(user, ["validate", &file]).run().exits(0);
    let day = today();
    // The option in front keeps the harness from adding the shipped plan file's variables.
    let plan = ["--log-format=text", "plan", file.as_str(), "--json", "--detailed-exitcode", "--as-of", &day];
    let mut plan = sandbox.provision(user, plan);
    for name in secrets(&first.stdout) {
        plan = plan.without_env(&name);
    }
    let plan = plan.run().exits(0);
    for (step, outcome) in plan.outcomes() {
        assert!(["unchanged", "unchecked"].contains(&outcome.as_str()), "{step} is {outcome}\n{plan}\n{first}");
    }
    first.stdout
}

/// The variables that a plan file takes secrets from, but for the connection's.
fn secrets(text: &str) -> Vec<String> {
    let steps = text.split("\nsteps:\n").nth(1).unwrap();
    let names = steps.lines().filter_map(|line| line.trim().strip_prefix("env: "));
    names.map(str::to_owned).collect()
}

#[track_caller]
fn refused(sandbox: &Sandbox, user: &str, args: &[&str], said: &[&str]) {
    let outcome = adopt(sandbox, user, args).exits(1);
    assert_eq!(outcome.stdout, "", "nothing is printed\n{outcome}");
    for said in said {
        assert!(outcome.stderr.contains(said), "{said:?} was to be read\n{outcome}");
    }
}

#[test]
fn adopts_every_kind_of_a_host_and_plans_it_empty() {
    for user in ["ubuntu", "root"] {
        let mut sandbox = Sandbox::converged();
        let password = sandbox.env_of("REDSHIFT_PASSWORD");
        // A password in the URL, which must not be shown either.
        let url = sandbox.env_of("REDSHIFT_URL").replace("etl@", &format!("etl:{password}@"));
        sandbox.set_env("WITH_PASSWORD", url);
        make_current_periods(&sandbox);
        let variable = format!("{COMPOSE}:ALERT_SMTP_PASSWORD");
        let args = [
            "/home/ubuntu/etl",
            CHECKOUT,
            KEY,
            "--variable",
            &variable,
            "--table",
            "settlement_ods.order_tracking_exceptions",
            "--series",
            "settlement_ods.hist_ecs_order_info_{period}=settlement_ods.mart_ecs_order_info",
            "--url-env",
        ];
        let before = (Snapshot::whole(&sandbox), sandbox.catalog());
        for connection in [&["WITH_PASSWORD"][..], &["REDSHIFT_URL", "--password-env", "REDSHIFT_PASSWORD"]] {
            let outcome = adopt(&sandbox, user, &[&args, connection].concat()).exits(0);
            let key = sandbox.read(KEY).lines().nth(2).unwrap().to_owned();
            for canary in [password.clone(), sandbox.env_of("ALERT_SMTP_PASSWORD"), key] {
                assert!(!outcome.all().contains(&canary), "as {user}: a secret was printed\n{outcome}");
            }
        }
        before.0.is_same_as(&Snapshot::whole(&sandbox), "adopt left a trace");
        assert_eq!(before.1, sandbox.catalog(), "adopt left a trace in the warehouse");
        let text =
            adopted(&sandbox, user, &[&args[..], &["REDSHIFT_URL", "--password-env", "REDSHIFT_PASSWORD"]].concat());
        assert_eq!(secrets(&text), ["JASLEENTUNG", "ALERT_SMTP_PASSWORD"]);
        for part in [
            "url: \"{{ env_var('REDSHIFT_URL') }}\"\n    password: { env: REDSHIFT_PASSWORD }\n",
            &format!("repository:\n      path: {CHECKOUT}\n"),
            "branch: jasleen_qa",
            "mode: '0400'",
            "every: half_year",
            "like: settlement_ods.mart_ecs_order_info",
            "CREATE TABLE settlement_ods.order_tracking_exceptions (",
            "owner: etl",
        ] {
            assert!(text.contains(part), "{part:?} was to be read\n{text}");
        }
        assert_eq!(text.contains("run_as: ubuntu"), user == "root", "{text}");
    }
}

/// The history tables are of the day of the tests; adopt counts by today.
fn make_current_periods(sandbox: &Sandbox) {
    sandbox.sql(
        "DO $$ DECLARE day date := '2025-07-01'; BEGIN
           WHILE day < now() + interval '7 months' LOOP
             EXECUTE format('CREATE TABLE IF NOT EXISTS settlement_ods.hist_ecs_order_info_%s_h%s (LIKE settlement_ods.mart_ecs_order_info)',
                            to_char(day, 'YYYY'), CASE WHEN extract(month FROM day) < 7 THEN 1 ELSE 2 END);
             EXECUTE format('ALTER TABLE settlement_ods.hist_ecs_order_info_%s_h%s OWNER TO etl',
                            to_char(day, 'YYYY'), CASE WHEN extract(month FROM day) < 7 THEN 1 ELSE 2 END);
             day := day + interval '6 months';
           END LOOP; END $$",
    );
}

#[test]
fn a_series_needs_its_parent_named_only_where_it_is_not_plain() {
    let sandbox = Sandbox::new().warehouse();
    let with_url =
        |args: &[&'static str]| [args, &["--url-env", "REDSHIFT_URL", "--password-env", "REDSHIFT_PASSWORD"]].concat();
    sandbox.sql(
        "CREATE SCHEMA a; CREATE TABLE a.mart (id integer PRIMARY KEY, \"order\" text, mood text DEFAULT 'x');
         CREATE ROLE dbt; CREATE ROLE bi; CREATE INDEX ON a.mart (mood); GRANT USAGE ON SCHEMA a TO public;
         GRANT SELECT, INSERT ON a.mart TO dbt; GRANT SELECT ON a.mart TO public;",
    );
    sandbox.sql(
        "DO $$ DECLARE day date := date_trunc('quarter', now()) - interval '1 year'; BEGIN
           FOR n IN 1..7 LOOP
             EXECUTE format('CREATE TABLE a.hist_%s (LIKE a.mart)', to_char(day, 'YYYY\"_q\"Q'));
             EXECUTE format('GRANT SELECT ON a.hist_%s TO dbt, bi', to_char(day, 'YYYY\"_q\"Q'));
             day := day + interval '3 months';
           END LOOP; END $$",
    );
    let text = adopted(&sandbox, "ubuntu", &with_url(&["--table", "a.mart", "--series", "a.hist_{period}"]));
    for part in [
        "every: quarter",
        "ahead: 2",
        "# a.mart is the only other table of its schema with the same columns, so it was taken for the parent.",
        "# The table has more than its DDL below says: mood has a default; PRIMARY KEY (id).",
        "\"order\" text",
        "id integer NOT NULL,",
        "- to: bi\n        privileges:\n        - select",
        "- to: public",
    ] {
        assert!(text.contains(part), "{part:?} was to be read\n{text}");
    }
    sandbox.sql("CREATE TABLE a.copy (LIKE a.mart)");
    let hint = "--series 'a.hist_{period}=PARENT'";
    refused(&sandbox, "ubuntu", &with_url(&["--series", "a.hist_{period}"]), &["a.copy, a.mart", hint]);
    adopted(&sandbox, "ubuntu", &with_url(&["--series", "a.hist_{period}=a.mart"]));
    let first = sandbox.sql("SELECT relname FROM pg_class WHERE relname LIKE 'hist\\_%' ORDER BY 1 OFFSET 2 LIMIT 1");
    let gap = format!("a.{}", first.trim());
    sandbox.sql(&format!("DROP TABLE {gap}"));
    let create = format!("CREATE TABLE \"a\".\"{}\" (LIKE \"a\".\"mart\");", first.trim());
    refused(&sandbox, "ubuntu", &with_url(&["--series", "a.hist_{period}=a.mart"]), &[&gap, "does not exist", &create]);
    refused(
        &sandbox,
        "ubuntu",
        &with_url(&["--table", "a.nowhere", "b.x"]),
        &["table a.nowhere: it does not exist", "no schema b"],
    );
    sandbox.sql("CREATE VIEW a.v AS SELECT 1 AS x");
    refused(&sandbox, "ubuntu", &with_url(&["--table", "a.v"]), &["a.v: it is a view"]);
    refused(&sandbox, "ubuntu", &["--table", "a.mart"], &["DATABASE_URL is not set", "--url-env NAME"]);
    refused(&sandbox, "ubuntu", &["--table", "a.mart", "--url-env", "postgresql://u:p@h/d"], &["environment variable"]);
    for url in
        ["postgresql://etl:hunter2@127.0.0.1:notaport/x", "postgresql://etl:hunter2@127.0.0.1:1/x", "host='hunter2"]
    {
        let run = sandbox.provision("ubuntu", ["adopt", "--table", "a.mart"]).env("DATABASE_URL", url).run().exits(1);
        assert!(!run.all().contains("hunter2"), "{run}");
    }
}

#[test]
fn a_checkout_that_is_not_at_its_remotes_head_is_refused() {
    let sandbox = Sandbox::converged();
    sandbox.git("checkout -q -- .");
    let hook = "a plan would change it";
    sandbox.commit("airflow_poc/dags/order_tracking.py", "LAG_LIMIT_MINUTES = 60\n");
    refused(&sandbox, "ubuntu", &[CHECKOUT], &[&format!("cannot adopt {CHECKOUT}: {hook}"), "jasleen_qa"]);
    sandbox.git("pull -q --ff-only");
    adopted(&sandbox, "root", &[CHECKOUT]);
    sandbox.git("commit -q --allow-empty -m local");
    refused(&sandbox, "ubuntu", &[CHECKOUT], &["1 commit of jasleen_qa", "not at the remote", "local"]);
    sandbox.git("checkout -q --detach");
    refused(&sandbox, "root", &[CHECKOUT], &["HEAD is detached", "switch BRANCH"]);
    sandbox
        .git("checkout -q jasleen_qa; cd /home/ubuntu/etl/etl_dw/s3-redshift-backup-tool; git reset -q --hard HEAD~1");
    sandbox.git("remote rename origin upstream");
    let text = adopted(&sandbox, "ubuntu", &[CHECKOUT]);
    assert!(text.contains("remote: upstream"), "{text}");
    sandbox.git("remote remove upstream");
    refused(&sandbox, "ubuntu", &[CHECKOUT], &["follows no remote"]);
}

#[test]
fn a_login_in_a_remotes_url_is_left_out() {
    let sandbox = Sandbox::converged();
    // The server is not reached: what is printed matters.
    sandbox.git("remote set-url origin https://me:hunter2@127.0.0.1:1/x.git");
    let outcome = adopt(&sandbox, "ubuntu", &[CHECKOUT]).exits(1);
    assert!(!outcome.all().contains("hunter2"), "{outcome}");
    assert!(outcome.stderr.contains("https://127.0.0.1:1/x.git"), "{outcome}");
}

#[test]
fn paths_of_every_spelling_are_adopted_once() {
    let sandbox = Sandbox::new();
    sandbox.bash(
        "ubuntu",
        "mkdir -p 'with space' \"quo'te\\\"s\" '{{ x }}' \"$(printf 'new\\nline')\" app/logs/.hidden; chmod 2750 app/logs; \
         ln -s app link; ln -s app/logs logs; ln -s nowhere broken; mkfifo fifo; mkdir \"$(printf 'bad\\377')\"",
    );
    let args = [
        "with space",
        "quo'te\"s",
        "{{ x }}",
        "new\nline",
        "app/logs",
        "/home/ubuntu/app/logs",
        "./app/../app/logs/",
        "link/logs",
        "app/logs/.hidden",
        ".",
    ];
    let text = adopted(&sandbox, "ubuntu", &args);
    let ids: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("  - id: ")).collect();
    assert_eq!(ids, ["with-space", "quo-te-s", "x", "new-line", "logs", "hidden", "ubuntu"], "{text}");
    assert!(
        text.contains("path: /home/ubuntu/app/logs\n      owner: ubuntu\n      group: ubuntu\n      mode: '2750'"),
        "{text}"
    );
    for (path, said) in [
        ("logs", &["symlink", "leads to /home/ubuntu/app/logs"][..]),
        ("broken", &["symlink that leads nowhere"]),
        ("fifo", &["a FIFO"]),
        ("missing", &["cannot adopt missing: it does not exist"]),
        ("missing/below", &["it does not exist"]),
        ("/", &["/ cannot be managed"]),
        ("", &["a value is required"]),
    ] {
        refused(&sandbox, "ubuntu", &[path], said);
    }
    let bad = sandbox.bash("ubuntu", "/opt/provision/bin/provision adopt bad* 2>&1 || true");
    assert!(bad.contains("not UTF-8") && bad.contains("bad\\xff") && bad.contains("hint: rename it"), "{bad}");
    // All that is wrong is told at once.
    refused(&sandbox, "ubuntu", &["missing", "fifo", "app"], &["missing: it does not exist", "fifo: it is a FIFO"]);
    refused(&sandbox, "ubuntu", &[], &["nothing to adopt was given"]);
    // A number that no account has is given as it is.
    sandbox.bash("root", "chown 54321:54322 '/home/ubuntu/with space'");
    let text = adopted(&sandbox, "root", &["/home/ubuntu/with space"]);
    assert!(text.contains("owner: '54321'\n      group: '54322'"), "{text}");
}

#[test]
fn of_files_only_private_keys_are_adopted() {
    let sandbox = Sandbox::new();
    sandbox.bash(
        "ubuntu",
        "mkdir k; ssh-keygen -q -t ed25519 -N '' -f k/id; ssh-keygen -q -t rsa -N '' -f k/path.pem; ssh-keygen -q -t ed25519 -N x \
         -f k/locked; cp k/id id; chmod 600 id k/*; echo text > text",
    );
    let text = adopted(&sandbox, "ubuntu", &["k/id", "id", "k/path.pem"]);
    assert_eq!(secrets(&text), ["ID", "ID_2", "PATH_2"]);
    assert!(text.contains("# The key is ssh-ed25519 SHA256:"), "{text}");
    for (path, said) in [("k/id.pub", "is a public key"), ("text", "private key"), ("k/locked", "passphrase")] {
        refused(&sandbox, "ubuntu", &[path], &[&format!("cannot adopt /home/ubuntu/{path}: it "), said]);
    }
    // No remedy edits a file that is no key.
    sandbox.bash(
        "ubuntu",
        "printf 'port = 1\\r\\nhost = a\\r\\n' > crlf.ini; printf '\\357\\273\\277a = 1\\n' > bom.ini; head -c 99 /dev/zero > binary; \
         printf 'a = 1\\n' | iconv -t UTF-16 > utf-16.ini; printf '<a/>\\n' > page; > empty",
    );
    for path in ["crlf.ini", "bom.ini", "binary", "utf-16.ini", "page", "empty", "text"] {
        let said = [
            "of files, adopt supports only private keys",
            "hint: write a step of the kind `file` for it: `provision init file`",
        ];
        refused(&sandbox, "ubuntu", &[path], &said);
    }
    refused(&sandbox, "ubuntu", &["crlf.ini"], &["it is not a private key: no BEGIN … PRIVATE KEY line"]);
    // A key with the same line endings is converted by its remedy.
    sandbox.bash("ubuntu", "sed 's/$/\\r/' k/id > k/crlf; chmod 600 k/crlf");
    refused(
        &sandbox,
        "ubuntu",
        &["k/crlf"],
        &["it has CRLF line endings", "convert it: `sed -i 's/\\r$//' /home/ubuntu/k/crlf`"],
    );
    sandbox.bash("ubuntu", "sed -i 's/\\r$//' /home/ubuntu/k/crlf");
    adopted(&sandbox, "ubuntu", &["k/crlf"]);
    sandbox.bash("root", "chown root: /home/ubuntu/id; chmod 600 /home/ubuntu/id");
    refused(&sandbox, "ubuntu", &["id"], &["ubuntu may not read it", "sudo provision adopt /home/ubuntu/id"]);
    adopted(&sandbox, "root", &["/home/ubuntu/id"]);
}

#[test]
fn variables_of_compose_files_are_adopted_without_their_values() {
    let sandbox = Sandbox::new();
    sandbox.bash(
        "ubuntu",
        "mkdir 'a:b'; cd 'a:b'; printf '%s\\n' 'x-env: &env { SHARED: canary-one }' 'services:' \
         '  web: { environment: { <<: *env, SMTP_PASSWORD: \"canary two\", PATH: /bin, REF: \"${REF}\" } }' \
         '  db: { environment: [\"LISTED=canary-three\"] }' > dc.yml; echo REF=canary-four > .env; chmod 600 .env",
    );
    let named = |name: &str| format!("a:b/dc.yml:{name}");
    let names = ["SHARED", "SMTP_PASSWORD", "PATH", "REF", "LISTED"].map(named);
    let mut args = vec!["--variable"];
    args.extend(names.iter().map(String::as_str));
    let text = adopted(&sandbox, "ubuntu", &args);
    assert!(!text.contains("canary"), "{text}");
    assert_eq!(secrets(&text), ["SHARED", "SMTP_PASSWORD", "PATH_2", "REF", "LISTED"]);
    refused(
        &sandbox,
        "ubuntu",
        &["--variable", &named("SMTP_PASWORD")],
        &["did you mean SMTP_PASSWORD?", "dc.yml:SMTP_PASSWORD"],
    );
    refused(&sandbox, "ubuntu", &["--variable", &named("LISTD")], &["did you mean LISTED?"]);
    refused(&sandbox, "ubuntu", &["--variable", "nowhere.yml:X"], &["nowhere.yml: it does not exist"]);
    refused(&sandbox, "ubuntu", &["--variable", &named("1 X")], &["is not a valid variable name"]);
    refused(&sandbox, "ubuntu", &["--variable", "X"], &["FILE:NAME"]);
    // What a plan would change is no description of what is there.
    sandbox.bash("ubuntu", "chmod 644 a:b/.env");
    refused(
        &sandbox,
        "ubuntu",
        &["--variable", &named("REF")],
        &["REF in /home/ubuntu/a:b/dc.yml", "a plan would change it", "0600"],
    );
    // Paths may stand after an option that takes several words.
    sandbox.bash("ubuntu", "chmod 600 a:b/.env; mkdir -p x/y");
    adopted(&sandbox, "ubuntu", &["--variable", &named("SHARED"), "x/y"]);
}

#[test]
fn access_control_lists_are_named_in_comments() {
    let sandbox = Sandbox::new();
    sandbox.bash(
        "ubuntu",
        "mkdir d plain; ssh-keygen -q -t ed25519 -N '' -f id; setfacl -m u:nobody:r id; setfacl -m u:nobody:rx,d:g:daemon:rwx d",
    );
    let text = adopted(&sandbox, "ubuntu", &["id", "d", "plain"]);
    for part in [
        "# It has an access control list, which the step does not set: user::rw-, user:nobody:r--, group::---, mask::r--, other::---. \
         The group bits of its mode are the mask of the list; without the list, its mode would be 0600.\n",
        "mode: '0640'",
        "# It has an access control list, which the step does not set: user::rwx, user:nobody:r-x,",
        "# New entries in it get an access control list, which the step does not set: user::rwx,",
        "group:daemon:rwx",
    ] {
        assert!(text.contains(part), "{part:?} was to be read\n{text}");
    }
    assert_eq!(text.matches("access control list, which").count(), 3, "{text}");
}

#[test]
fn the_first_line_says_what_an_apply_with_secrets_changes() {
    let sandbox = Sandbox::new();
    sandbox.bash(
        "ubuntu",
        "printf '%s\n' 'services:' '  web: { environment: { PW: \"canary-one\" } }' \
         '  api: { environment: { PW: \"canary-two\" } }' '  db: { environment: { PW: \"canary-one\", OTHER: x } }' > dc.yml",
    );
    let args = ["--variable", "dc.yml:PW", "dc.yml:OTHER"];
    let text = adopted(&sandbox, "ubuntu", &args);
    let different = "# Services have different values here: web and db, api. One source gives all of them the same";
    assert_eq!(text.matches("different values").count(), 1, "{text}");
    assert!(text.contains(different) && !text.contains("canary"), "{text}");
    assert!(
        text.contains("applying this changes nothing while the\n# environment variables of its secrets are not set")
    );
    // A variable that is set can have another value.
    let set = sandbox.provision("ubuntu", [&["adopt"], &args[..]].concat()).env("PW", "canary-three").run().exits(0);
    let is_set = "environment variable PW. It is set now: an apply replaces the current value if it differs.";
    assert!(set.stdout.contains(is_set) && set.stdout.matches("It is set now").count() == 1, "{set}");
    assert!(!set.all().contains("canary"), "{set}");
    sandbox.bash("ubuntu", "mkdir only");
    assert!(adopted(&sandbox, "ubuntu", &["only"]).contains("applying this changes nothing.\n"));
}

#[test]
fn logs_of_another_user_are_adopted_by_number() {
    let sandbox = Sandbox::converged();
    let text = adopted(&sandbox, "ubuntu", &[LOGS]);
    assert!(text.contains("owner: '50000'") && !text.contains("recursive"), "{text}");
}
