//! Generates plan files, and hosts for them.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::sample::select;

/// The path of the remote. It has a commit with compose files, and a second one that changes, tracks and adds files.
const REMOTE: &str = "/var/tmp/app.git";

/// The paths of the steps: nested, and some of them in other spellings.
const PATHS: [&str; 9] =
    ["/srv/a", "/srv/a/b", "/srv/a/b/c", "/srv/a/d", "/srv/e", "/srv/link", "/srv/link/b", "/srv/a/d/", "/srv/./a/b"];

#[derive(Debug, Clone)]
pub struct Case {
    pub host: Vec<State>,
    pub steps: Vec<Step>,
}

/// One thing that exists on the host beforehand.
#[derive(Debug, Clone)]
pub enum State {
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
pub enum Form {
    Literal,
    Referred,
    ByAnotherName,
}

#[derive(Debug, Clone)]
pub struct Step {
    /// The indices of the steps in `after`.
    after: Vec<usize>,
    pub resource: Resource,
    /// Whether and in which form the prerequisites of the step exist.
    ready: Option<(Form, bool)>,
    /// Whether a step on the host runs as another user than root.
    as_ubuntu: bool,
}

#[derive(Debug, Clone)]
pub enum Resource {
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
        parent: &'static str,
        every: &'static str,
        on_drift: &'static str,
    },
}

impl Resource {
    pub fn yaml(&self) -> String {
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
            Self::Series { connection, name, parent, every, on_drift } => format!(
                "period_tables: {{ connection: {connection}, {every}, tables: [{{ name: \"gen.{name}\", like: gen.{parent} }}]{on_drift} }}"
            ),
        }
    }

    pub fn is_on_warehouse(&self) -> bool {
        matches!(self, Self::Table { .. } | Self::Series { .. })
    }

    /// Returns the beginning of the names of the tables that the step may create or change.
    pub fn tables(&self) -> Option<&'static str> {
        match self {
            Self::Table { name, .. } => Some(name),
            Self::Series { name, .. } => name.split('{').next(),
            _ => None,
        }
    }

    /// Returns the paths that the step may change, and whether everything below is included.
    pub fn claimed(&self) -> Vec<(PathBuf, bool)> {
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
/// What a `table` step has between its parentheses: columns, or a table that another step may make.
const DDL: [&str; 6] = [COLUMNS[0], COLUMNS[0], COLUMNS[2], "LIKE gen.parent", "LIKE gen.t1", "LIKE gen.h_2025_h2"];
/// What the tables of a series are like: a table that is there, or one that another step may make.
const PARENTS: [&str; 4] = ["parent", "parent", "t1", "t2"];
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
        1 => (select(&CONNECTIONS[..]), select(&["t1", "t2", "h_2026_h1"][..]), select(&DDL[..]), any::<bool>())
            .prop_map(|(connection, name, columns, grant)| Resource::Table { connection, name, columns, grant }),
        1 => (select(&CONNECTIONS[..]), select(&["h_{period}", "q_{period}"][..]), select(&PARENTS[..]), select(&EVERY[..]),
              select(&["", ", on_drift: report", ", on_drift: add_columns"][..]))
            .prop_map(|(connection, name, parent, every, on_drift)| Resource::Series {
                connection, name, parent, every, on_drift,
            }),
    ]
}

pub fn cases() -> impl Strategy<Value = Case> {
    let form = select(&[Form::Literal, Form::Referred, Form::ByAnotherName][..]);
    let ready = prop::option::weighted(0.85, (form, any::<bool>()));
    let after = prop_oneof![4 => Just(Vec::new()), 1 => prop::collection::vec(0usize..5, 1)];
    let step = (after, resource(), ready, prop::bool::weighted(0.1))
        .prop_map(|(after, resource, ready, as_ubuntu)| Step { after, resource, ready, as_ubuntu });
    (states(), prop::collection::vec(step, 2..6)).prop_map(|(host, steps)| Case { host, steps })
}

pub fn plan_file(steps: &[Step]) -> String {
    let mut text = "name: generated\n".to_owned();
    if steps.iter().any(|step| step.resource.is_on_warehouse()) {
        text += "connections:\n";
        // Two spellings of one database.
        for (name, host) in [("one", ""), ("two", " | replace('127.0.0.1', 'localhost')")] {
            let url = format!("{{{{ env_var('REDSHIFT_URL'){host} }}}}");
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
pub fn prepare(case: &Case) -> String {
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
pub fn tables(case: &Case) -> String {
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

pub const REMOTE_SCRIPT: &str = "
git config --global user.name up; git config --global user.email up@example; git config --global init.defaultBranch main
ssh-keygen -q -t ed25519 -N '' -f /var/tmp/key; ssh-keygen -q -t ed25519 -N '' -f /var/tmp/old
git init -q --bare -b main /var/tmp/app.git; git clone -q /var/tmp/app.git /root/up 2>/dev/null; cd /root/up
printf '%s\\n' 'services:' '  web: { environment: { P: \"${P}\", Q: old } }' '  db: { environment: { P: x } }' > dc1.yml
mkdir b d; echo 1 > b/kept; echo 1 > d/kept
git add -A; git commit -qm first; git push -q origin HEAD:main
echo OTHER=2 > .env; echo '# more' >> dc1.yml; echo 2 > b/new; git rm -q d/kept
git add -Af; git commit -qm second; git push -q origin HEAD:main
";
