//! The laws on generated plan files: two to five steps of all kinds on nested paths, shared files, links and tables, as one or two
//! users, over one or two connections to one database, on hosts in random states.
//!
//! For every plan file that `validate` accepts: if apply exits with 0, plan is empty afterwards and a second apply
//! writes nothing (laws 3 and 10). What plan showed as exact was made, and nothing else (law 2). Nothing outside the
//! claims of the steps has changed. What the steps own is adopted, and plans empty.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use crate::sandbox::{Outcome, Sandbox, Snapshot};

const FILE: &str = "/root/generated.yaml";
/// The path of the remote. It has a commit with compose files, and a second one that changes, tracks and adds files.
const REMOTE: &str = "/var/tmp/app.git";

/// The paths of the steps: nested, and some of them in other spellings.
const PATHS: [&str; 9] =
    ["/srv/a", "/srv/a/b", "/srv/a/b/c", "/srv/a/d", "/srv/e", "/srv/link", "/srv/link/b", "/srv/a/d/", "/srv/./a/b"];

#[derive(Debug, Clone)]
struct Case {
    host: Vec<State>,
    steps: Vec<Step>,
}

/// One thing that exists on the host beforehand.
#[derive(Debug, Clone)]
enum State {
    /// `/srv/link` is a symlink to `/srv/a`.
    Link,
    Directory {
        path: &'static str,
        owner: u32,
    },
    Compose {
        path: &'static str,
        file: u8,
        form: Form,
    },
    EnvFile {
        path: &'static str,
        mode: &'static str,
    },
    /// A checkout, possibly one commit behind.
    Checkout {
        path: &'static str,
        behind: bool,
    },
    Key {
        path: &'static str,
    },
    /// What somebody wrote, where a step may want something else.
    Conf {
        path: &'static str,
        mode: &'static str,
    },
    /// A table, possibly with other columns than a step wants.
    Table {
        name: &'static str,
        columns: &'static str,
    },
}

#[derive(Debug, Clone, Copy)]
enum Form {
    Literal,
    Referred,
    ByAnotherName,
}

#[derive(Debug, Clone)]
struct Step {
    /// The indices of the steps in `after`.
    after: Vec<usize>,
    resource: Resource,
    /// Whether and in which form the prerequisites of the step exist.
    ready: Option<(Form, bool)>,
    /// Whether a step on the host runs as another user than root.
    as_ubuntu: bool,
}

#[derive(Debug, Clone)]
enum Resource {
    Directory {
        path: &'static str,
        owner: Option<u32>,
        group: Option<u32>,
        mode: Option<&'static str>,
        /// `recursive` and the keys that need it. Empty if it is not set.
        below: &'static str,
    },
    Key {
        path: &'static str,
        owner: u32,
    },
    Compose {
        path: &'static str,
        file: u8,
        variable: &'static str,
        source: &'static str,
        service: Option<&'static str>,
    },
    Repository {
        path: &'static str,
    },
    File {
        path: &'static str,
        name: &'static str,
        content: &'static str,
        owner: Option<u32>,
        mode: Option<&'static str>,
    },
    Table {
        connection: &'static str,
        name: &'static str,
        columns: &'static str,
        grant: bool,
    },
    Series {
        connection: &'static str,
        name: &'static str,
        every: &'static str,
        on_drift: &'static str,
    },
}

impl Resource {
    fn yaml(&self) -> String {
        match self {
            Self::Directory { path, owner, group, mode, below } => {
                let id = |name: &str, id: Option<u32>| id.map(|id| format!(", {name}: \"{id}\"")).unwrap_or_default();
                let mode = mode.map(|mode| format!(", mode: \"{mode}\"")).unwrap_or_default();
                format!("directory: {{ path: {path}{}{}{mode}{below} }}", id("owner", *owner), id("group", *group))
            }
            Self::Key { path, owner } => {
                format!("key_file: {{ path: {path}/key.pem, source: {{ file: /var/tmp/key }}, owner: \"{owner}\" }}")
            }
            Self::Compose { path, file, variable, source, service } => {
                let service = service.map(|service| format!(", service: {service}")).unwrap_or_default();
                format!(
                    "compose_env: {{ file: {path}/dc{file}.yml, variable: {variable}, value: {{ env: {source} }}{service} }}"
                )
            }
            Self::Repository { path } => format!("repository: {{ path: {path}, url: {REMOTE}, branch: main }}"),
            Self::File { path, name, content, owner, mode } => {
                let owner = owner.map(|id| format!(", owner: \"{id}\"")).unwrap_or_default();
                let mode = mode.map(|mode| format!(", mode: \"{mode}\"")).unwrap_or_default();
                format!("file: {{ path: {path}/{name}, {content}{owner}{mode} }}")
            }
            Self::Table { connection, name, columns, grant } => {
                let grants = if *grant { ", grants: [{ to: reader, privileges: [select] }]" } else { "" };
                format!("table: {{ connection: {connection}, ddl: \"CREATE TABLE gen.{name} ({columns})\"{grants} }}")
            }
            Self::Series { connection, name, every, on_drift } => format!(
                "period_tables: {{ connection: {connection}, {every}, tables: [{{ name: \"gen.{name}\", like: gen.parent }}]{on_drift} }}"
            ),
        }
    }

    fn is_on_warehouse(&self) -> bool {
        matches!(self, Self::Table { .. } | Self::Series { .. })
    }

    /// Returns the beginning of the names of the tables that the step may create or change.
    fn tables(&self) -> Option<&'static str> {
        match self {
            Self::Table { name, .. } => Some(name),
            Self::Series { name, .. } => name.split('{').next(),
            _ => None,
        }
    }

    /// Returns the paths that the step may change, and whether everything below is included.
    fn claimed(&self) -> Vec<(PathBuf, bool)> {
        match self {
            Self::Directory { path, below, .. } => vec![(located(path), !below.is_empty())],
            Self::Key { path, .. } => vec![(located(path).join("key.pem"), false)],
            Self::Compose { path, file, .. } => {
                vec![(located(path).join(format!("dc{file}.yml")), false), (located(path).join(".env"), false)]
            }
            Self::Repository { path } => vec![(located(path), true)],
            Self::File { path, name, .. } => vec![(located(path).join(name), false)],
            Self::Table { .. } | Self::Series { .. } => Vec::new(),
        }
    }
}

/// Returns the path without the link.
fn located(path: &str) -> PathBuf {
    let path: PathBuf = Path::new(path).components().collect();
    match path.strip_prefix("/srv/link") {
        Ok(rest) => Path::new("/srv/a").join(rest).components().collect(),
        Err(_) => path,
    }
}

fn path() -> impl Strategy<Value = &'static str> {
    select(&PATHS[..])
}

fn states() -> impl Strategy<Value = Vec<State>> {
    let form = select(&[Form::Literal, Form::Referred, Form::ByAnotherName][..]);
    let state = prop_oneof![
        (path(), select(&[0u32, 7, 1000][..])).prop_map(|(path, owner)| State::Directory { path, owner }),
        (path(), 1u8..3, form).prop_map(|(path, file, form)| State::Compose { path, file, form }),
        (path(), select(&["600", "644"][..])).prop_map(|(path, mode)| State::EnvFile { path, mode }),
        (path(), any::<bool>()).prop_map(|(path, behind)| State::Checkout { path, behind }),
        path().prop_map(|path| State::Key { path }),
        (path(), select(&["600", "644"][..])).prop_map(|(path, mode)| State::Conf { path, mode }),
        (select(&TABLES[..]), select(&COLUMNS[..])).prop_map(|(name, columns)| State::Table { name, columns }),
    ];
    prop::collection::vec(state, 0..3).prop_map(|mut states| {
        states.insert(0, State::Link);
        states
    })
}

const BELOW: [&str; 6] = [
    "",
    "",
    ", recursive: true",
    ", recursive: owner",
    ", recursive: true, dir_mode: \"0750\", file_mode: \"u=rwX,g=rX,o=\"",
    ", recursive: owner, file_mode: \"0640\", exclude: [\"inner/**\", \"*.pem\"]",
];

const TABLES: [&str; 5] = ["t1", "t2", "h_2025_h2", "h_2026_h1", "q_2026_q1"];
const COLUMNS: [&str; 3] = ["id int, at date", "id int, at date", "id int, at date, note text"];
const CONNECTIONS: [&str; 3] = ["one", "one", "two"];
const EVERY: [&str; 3] = [
    "every: half_year, from: 2025_h2",
    "every: half_year, from: 2025_h2, through: current, ahead: 1",
    "every: quarter, from: 2026_q1",
];

/// What a `file` step writes: nothing, text, and a secret; twice the text that [`State::Conf`] has.
const CONTENTS: [&str; 6] = [
    "template: app.j2",
    "content: \"\"",
    "content: \"mine\\n\"",
    "content: \"mine\\n\"",
    "content: \"port = {{ 80 + 1 }}\\n\"",
    "content: \"{{ secret('one') }}\", secrets: { one: { env: ONE } }",
];

fn resource() -> impl Strategy<Value = Resource> {
    let id = || prop::option::weighted(0.7, select(&[0u32, 7, 8, 1000][..]));
    let mode = prop::option::weighted(0.3, select(&["0755", "0700", "2775"][..]));
    prop_oneof![
        4 => (path(), id(), id(), mode, select(&BELOW[..]))
            .prop_map(|(path, owner, group, mode, below)| Resource::Directory { path, owner, group, mode, below }),
        2 => (path(), select(&[0u32, 7][..])).prop_map(|(path, owner)| Resource::Key { path, owner }),
        4 => (path(), 1u8..3, select(&["P", "Q"][..]), select(&["ONE", "TWO"][..]),
              prop::option::weighted(0.2, select(&["web", "db"][..])))
            .prop_map(|(path, file, variable, source, service)| Resource::Compose { path, file, variable, source, service }),
        3 => path().prop_map(|path| Resource::Repository { path }),
        3 => (path(), select(&["app.conf", "app.conf", "kept", ".env", "dc1.yml", "x/app.conf"][..]), select(&CONTENTS[..]),
              prop::option::weighted(0.4, select(&[0u32, 7][..])),
              prop::option::weighted(0.3, select(&["0600", "0644"][..])))
            .prop_map(|(path, name, content, owner, mode)| Resource::File { path, name, content, owner, mode }),
        1 => (select(&CONNECTIONS[..]), select(&["t1", "t2", "h_2026_h1"][..]), select(&COLUMNS[..]), any::<bool>())
            .prop_map(|(connection, name, columns, grant)| Resource::Table { connection, name, columns, grant }),
        1 => (select(&CONNECTIONS[..]), select(&["h_{period}", "q_{period}"][..]), select(&EVERY[..]),
              select(&["", ", on_drift: report", ", on_drift: add_columns"][..]))
            .prop_map(|(connection, name, every, on_drift)| Resource::Series { connection, name, every, on_drift }),
    ]
}

fn cases() -> impl Strategy<Value = Case> {
    let form = select(&[Form::Literal, Form::Referred, Form::ByAnotherName][..]);
    let ready = prop::option::weighted(0.85, (form, any::<bool>()));
    let after = prop_oneof![4 => Just(Vec::new()), 1 => prop::collection::vec(0usize..5, 1)];
    let step = (after, resource(), ready, prop::bool::weighted(0.1))
        .prop_map(|(after, resource, ready, as_ubuntu)| Step { after, resource, ready, as_ubuntu });
    (states(), prop::collection::vec(step, 2..6)).prop_map(|(host, steps)| Case { host, steps })
}

fn plan_file(steps: &[Step]) -> String {
    let mut text = "name: generated\n".to_owned();
    if steps.iter().any(|step| step.resource.is_on_warehouse()) {
        text += "connections:\n";
        for name in ["one", "two"] {
            let url = "{{ env_var('REDSHIFT_URL') }}";
            text += &format!("  {name}: {{ url: \"{url}\", password: {{ env: REDSHIFT_PASSWORD }} }}\n");
        }
    }
    text += "steps:\n";
    for (index, step) in steps.iter().enumerate() {
        let after: Vec<String> = step
            .after
            .iter()
            .filter(|other| **other < steps.len() && **other != index)
            .map(|other| format!("s{other}"))
            .collect();
        let after = if after.is_empty() { String::new() } else { format!(", after: [{}]", after.join(", ")) };
        let as_user = if step.as_ubuntu && !step.resource.is_on_warehouse() { ", run_as: ubuntu" } else { "" };
        text += &format!("  - {{ id: s{index}{after}{as_user}, {} }}\n", step.resource.yaml());
    }
    text
}

/// Returns shell lines that create the state of the case.
fn prepare(case: &Case) -> String {
    let mut lines = "cd /; find /srv -mindepth 1 -delete; rm -rf /var/lib/provision/*; mkdir -p /srv/a\n".to_owned();
    // Checkouts come first, because git only clones into a missing or empty directory.
    for step in &case.steps {
        if let (Resource::Repository { path }, Some((_, behind))) = (&step.resource, step.ready) {
            lines += &format!("{}\n", clone(&located(path).display().to_string(), behind));
        }
    }
    for state in &case.host {
        lines += &match state {
            State::Link => "ln -s a /srv/link".to_owned(),
            State::Directory { path, owner } => {
                format!("mkdir -p {path}/x; touch {path}/x/f; chown {owner}:{owner} {path}/x {path}/x/f {path}")
            }
            State::Compose { path, file, form } => compose(path, *file, *form),
            State::EnvFile { path, mode } => {
                format!("mkdir -p {path}; echo OTHER=1 > {path}/.env; chmod {mode} {path}/.env")
            }
            State::Checkout { path, behind } => clone(path, *behind),
            State::Key { path } => format!("mkdir -p {path}; install -m 444 /var/tmp/old {path}/key.pem"),
            State::Conf { path, mode } => {
                format!("mkdir -p {path}; echo mine > {path}/app.conf; chmod {mode} {path}/app.conf")
            }
            State::Table { .. } => continue,
        };
        lines.push('\n');
    }
    for step in &case.steps {
        if let (Resource::Compose { path, file, .. }, Some((form, _))) = (&step.resource, step.ready) {
            lines += &format!("[ -e {path}/dc{file}.yml ] || {{ {}; }}\n", compose(path, *file, form));
        }
    }
    lines
}

/// Returns the statements that create the tables of the case.
fn tables(case: &Case) -> String {
    let mut statements = "SET client_min_messages = warning; DROP SCHEMA IF EXISTS gen CASCADE; CREATE SCHEMA gen; \
                          CREATE TABLE gen.parent (id int, at date); CREATE TABLE gen.other (id int);"
        .to_owned();
    for state in &case.host {
        if let State::Table { name, columns } = state {
            statements += &format!("CREATE TABLE IF NOT EXISTS gen.{name} ({columns});");
        }
    }
    statements
        + "ALTER SCHEMA gen OWNER TO etl; DO $$ DECLARE t record; BEGIN FOR t IN SELECT relname FROM pg_class WHERE relnamespace = 'gen'::regnamespace \
         AND relkind = 'r' LOOP EXECUTE format('ALTER TABLE gen.%I OWNER TO etl', t.relname); END LOOP; END $$;"
}

/// Returns a line for each table of the case: its name, columns, rights and the transaction that wrote it last.
fn relations(sandbox: &Sandbox) -> BTreeSet<String> {
    let lines = sandbox.sql(
        "SELECT c.relname, c.xmin, c.relacl, (SELECT string_agg(a.attname || ' ' || a.atttypid::regtype, ', ' ORDER BY a.attnum) \
         FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) \
         FROM pg_class c WHERE c.relnamespace = 'gen'::regnamespace AND c.relkind = 'r'",
    );
    lines.lines().map(str::to_owned).collect()
}

fn clone(path: &str, behind: bool) -> String {
    let back = if behind { format!("; git -C {path} reset -q --hard HEAD~1") } else { String::new() };
    format!("[ -n \"$(ls -A {path} 2>/dev/null)\" ] || {{ git clone -q {REMOTE} {path}{back}; }}")
}

fn compose(path: &str, file: u8, form: Form) -> String {
    let value = |name: &str| match form {
        Form::Literal => "old".to_owned(),
        Form::Referred => format!("${{{name}}}"),
        Form::ByAnotherName => "${SHARED}".to_owned(),
    };
    let (p, q) = (value("P"), value("Q"));
    format!(
        "mkdir -p {path}; printf '%s\\n' 'services:' '  web: {{ environment: {{ P: \"{p}\", Q: \"{q}\" }} }}' \
         '  db: {{ environment: {{ P: \"{p}\" }} }}' > {path}/dc{file}.yml"
    )
}

const REMOTE_SCRIPT: &str = "
git config --global user.name up; git config --global user.email up@example; git config --global init.defaultBranch main
ssh-keygen -q -t ed25519 -N '' -f /var/tmp/key; ssh-keygen -q -t ed25519 -N '' -f /var/tmp/old
git init -q --bare -b main /var/tmp/app.git; git clone -q /var/tmp/app.git /root/up 2>/dev/null; cd /root/up
printf '%s\\n' 'services:' '  web: { environment: { P: \"${P}\", Q: old } }' '  db: { environment: { P: x } }' > dc1.yml
mkdir b d; echo 1 > b/kept; echo 1 > d/kept
git add -A; git commit -qm first; git push -q origin HEAD:main
echo OTHER=2 > .env; echo '# more' >> dc1.yml; echo 2 > b/new; git rm -q d/kept
git add -Af; git commit -qm second; git push -q origin HEAD:main
";

/// The result of one case.
enum Came {
    Refused,
    Failed,
    Converged,
    /// It converged, and what the steps own was adopted.
    Adopted,
}

fn check(sandbox: &Sandbox, case: &Case) -> Result<Came, TestCaseError> {
    sandbox.write(FILE, "root", plan_file(&case.steps));
    sandbox.bash("root", &prepare(case));
    sandbox.sql(&tables(case));
    let run = |arguments: &[&'static str]| {
        let run = sandbox.provision("root", arguments.iter().copied());
        run.env("ONE", "first value").env("TWO", "second value").run()
    };
    let told = |what: &str, outcome: &Outcome| {
        TestCaseError::fail(format!("{what}\n{}\n{}\n{outcome}", plan_file(&case.steps), prepare(case)))
    };
    if run(&["validate", FILE]).code != 0 {
        return Ok(Came::Refused);
    }
    let (before, tables_before) = (Snapshot::take(sandbox, "/srv", &[]), relations(sandbox));
    let planned = run(&["plan", FILE, "--json"]);
    let after_plan = Snapshot::take(sandbox, "/srv", &[]);
    prop_assert_eq!(before.difference(&after_plan), "", "plan left a trace");
    prop_assert_eq!(&tables_before, &relations(sandbox), "plan left a trace");
    let applied = run(&["apply", FILE, "--yes", "--json"]);
    let (after, tables_after) = (Snapshot::take(sandbox, "/srv", &[]), relations(sandbox));
    let claimed: Vec<&str> = case.steps.iter().filter_map(|step| step.resource.tables()).collect();
    for line in tables_before.symmetric_difference(&tables_after) {
        if !claimed.iter().any(|name| line.starts_with(name)) {
            return Err(told(&format!("{line} belongs to no step"), &applied));
        }
    }
    if applied.events_of("run_started").is_empty() {
        return Err(told("apply did not start, but validate accepted the plan file", &applied));
    }
    within_claims(case, &before, &after).map_err(|path| told(&format!("{path} belongs to no step"), &applied))?;
    if applied.code != 0 {
        return Ok(Came::Failed);
    }
    exact_is_exact(&planned, &applied)
        .map_err(|step| told(&format!("{step} did not do what plan showed\n{planned}"), &applied))?;
    let again = run(&["plan", FILE, "--json", "--detailed-exitcode"]);
    if again.code != 0 {
        return Err(told("plan is not empty after a successful apply", &again));
    }
    let second = run(&["apply", FILE, "--yes", "--json"]);
    let last = Snapshot::take(sandbox, "/srv", &[]);
    if relations(sandbox) != tables_after {
        return Err(told("a second apply wrote a table", &second));
    }
    if second.code != 0 || after != last {
        return Err(told(&format!("a second apply wrote\n{}", after.difference(&last)), &second));
    }
    Ok(if adopts(sandbox, case)? { Came::Adopted } else { Came::Converged })
}

/// Adopts what the steps own, unless that cannot be. What is printed plans empty, and is the same the next time.
fn adopts(sandbox: &Sandbox, case: &Case) -> Result<bool, TestCaseError> {
    const ADOPTED: &str = "/root/adopted.yaml";
    let mut arguments: Vec<String> = vec!["adopt".to_owned()];
    let (mut paths, mut variables) = (Vec::new(), Vec::new());
    for step in &case.steps {
        match &step.resource {
            Resource::Directory { path, .. } | Resource::Repository { path } => paths.push((*path).to_owned()),
            Resource::Key { path, .. } => paths.push(format!("{path}/key.pem")),
            Resource::Compose { path, file, variable, .. } => {
                variables.extend(["--variable".to_owned(), format!("{path}/dc{file}.yml:{variable}")]);
            }
            // Adopt writes no steps of the kind `file`. It has tests of its own for tables.
            Resource::File { .. } | Resource::Table { .. } | Resource::Series { .. } => {}
        }
    }
    if paths.is_empty() && variables.is_empty() {
        return Ok(false);
    }
    arguments.extend(paths.into_iter().chain(variables));
    let run = |arguments: &[String]| sandbox.provision("root", arguments.iter().map(String::as_str)).run();
    let before = Snapshot::take(sandbox, "/srv", &[]);
    let adopted = run(&arguments);
    prop_assert_eq!(before.difference(&Snapshot::take(sandbox, "/srv", &[])), "", "adopt left a trace");
    let told = |what: &str, outcome: &Outcome| {
        let (file, host) = (plan_file(&case.steps), prepare(case));
        Err(TestCaseError::fail(format!("{what}\n{file}\n{host}\n{}\n{outcome}", adopted.stdout)))
    };
    if adopted.code != 0 {
        // A checkout that nobody keeps at its remote's head may be one of the directories, and what a step says of one
        // service adopt says of all.
        let excused = case.host.iter().any(|state| matches!(state, State::Checkout { .. }))
            || case.steps.iter().any(|step| matches!(step.resource, Resource::Compose { service: Some(_), .. }));
        return if excused { Ok(false) } else { told("what converged is not adopted", &adopted) };
    }
    sandbox.write(ADOPTED, "root", &adopted.stdout);
    let planned = run(&["plan", ADOPTED, "--json", "--detailed-exitcode"].map(str::to_owned));
    if planned.code != 0 {
        return told("what was adopted does not plan empty", &planned);
    }
    let again = run(&arguments);
    if again.stdout != adopted.stdout {
        return told("adopting again gives another text", &again);
    }
    Ok(true)
}

/// Returns the first changed path that no step claims.
fn within_claims(case: &Case, before: &Snapshot, after: &Snapshot) -> Result<(), String> {
    let claimed: Vec<(PathBuf, bool)> = case.steps.iter().flat_map(|step| step.resource.claimed()).collect();
    let (before, after) = (before.clone().without_traces(), after.clone().without_traces());
    let paths: BTreeSet<&PathBuf> = before.0.keys().chain(after.0.keys()).collect();
    let changed = paths.into_iter().filter(|path| before.0.get(*path) != after.0.get(*path));
    let foreign = |path: &&PathBuf| {
        let own = claimed.iter().any(|(own, whole)| *path == own || *whole && path.starts_with(own));
        // Parents are created with the entries in them.
        let parent = !before.0.contains_key(*path) && claimed.iter().any(|(own, _)| own.starts_with(path));
        !own && !parent
    };
    match changed.into_iter().find(foreign) {
        Some(path) => Err(path.display().to_string()),
        None => Ok(()),
    }
}

/// Checks that every change shown as exact was made, and that steps without shown changes made none.
fn exact_is_exact(planned: &Outcome, applied: &Outcome) -> Result<(), String> {
    for step in planned.events_of("step_planned") {
        if step["certainty"] != "exact" {
            continue;
        }
        let id = step["step"].as_str().unwrap_or_default();
        // If two steps set a variable in the same `.env`, the first one to run creates the file.
        let told = |change: &serde_json::Value| match change["target"].as_str() {
            Some(target) if target.ends_with("/.env") => target.to_owned(),
            target => format!("{}: {}", target.unwrap_or_default(), change["summary"]),
        };
        let shown: Vec<String> = step["changes"].as_array().into_iter().flatten().map(told).collect();
        let finished = applied.events_of("change_finished");
        let made: Vec<String> = finished.iter().filter(|change| change["step"] == id).map(told).collect();
        if shown != made {
            return Err(format!("{id}: shown {shown:?}, made {made:?}"));
        }
    }
    Ok(())
}

#[test]
fn accepted_plan_files_converge_in_one_apply() {
    let sandbox = Sandbox::new().warehouse();
    sandbox.bash("root", REMOTE_SCRIPT);
    sandbox.sql("CREATE ROLE reader");
    sandbox.write("/root/app.j2", "root", "port = {{ 80 + 2 }}\n");
    let count = RefCell::new([0; 4]);
    // proptest's default number of cases is meant for tests without hosts.
    let asked = Config::default().cases;
    let cases_wanted = if asked == 256 { 40 } else { asked };
    let config = Config { cases: cases_wanted, max_shrink_iters: 60, failure_persistence: None, ..Config::default() };
    let result = TestRunner::new(config).run(&cases(), |case| {
        let came = check(&sandbox, &case)?;
        count.borrow_mut()[came as usize] += 1;
        Ok(())
    });
    let [refused, failed, not_adopted, adopted] = *count.borrow();
    let converged = not_adopted + adopted;
    eprintln!("{refused} refused, {failed} failed, {converged} converged, {adopted} adopted");
    if let Err(error) = result {
        panic!("{error}");
    }
    assert!(converged * 5 >= cases_wanted, "too few cases converge to say anything: {converged} of {cases_wanted}");
    assert!(adopted * 2 >= converged, "too few cases are adopted to say anything: {adopted} of {converged}");
}
