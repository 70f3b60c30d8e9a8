//! A host that is reset between two runs within hundredths of a second, with a comparable description of its state.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use git2::Oid;

use super::states::{self, States};
use crate::sandbox::{BARE, CHECKOUT, KEY, PLAN, Run, Sandbox, Snapshot};

/// What is not compared: the journal and the lock, which every run has.
pub const RECORDS: [&str; 2] = ["/home/ubuntu/.local", "/var/lib/provision"];

/// What no run changes, and what the tests and the server store.
pub const UNCHANGING: [&str; 4] = ["/var/lib/postgresql", "/opt/provision/bin", "/var/saved", "/var/log"];

/// Anything that takes this long hangs, and is reported instead of waited for.
pub const LIMIT: Duration = Duration::from_secs(90);

/// Everything that two converged hosts have in common.
#[derive(Debug, Clone)]
pub struct State {
    files: Snapshot,
    repository: String,
    /// The files of `.git` except objects.
    git_files: BTreeSet<String>,
    tables: String,
}

/// A host with work to do.
pub struct Bench {
    pub sandbox: Sandbox,
    /// The user who runs the program.
    user: &'static str,
    /// The allowed content of files in between: before the first change, and after the checkout has been updated.
    stages: Vec<Snapshot>,
    relations: Vec<String>,
    warehouse: Warehouse,
    unbroken: Option<State>,
    /// The objects that exist before a run.
    objects: HashSet<Oid>,
    /// The states from which a rerun has converged. Empty if all reruns are done.
    pub states: Option<States>,
}

impl Bench {
    /// Creates a new server, provisioned by root.
    pub fn fresh() -> Self {
        Self::new(Sandbox::order_tracking(), "root")
    }

    /// Creates a server that people have worked on, with everything to be done, provisioned by its operator: local
    /// changes, some of them in the way, an old key, an old password, and only some of the tables.
    pub fn conflicting() -> Self {
        let sandbox = Sandbox::order_tracking();
        sandbox.checkout();
        sandbox.commit("airflow_poc/dags/order_tracking.py", "LAG_LIMIT_MINUTES = 60\n");
        sandbox.commit("airflow_poc/dags/late.py", "LATE = True\n");
        let file =
            |name: &str, content: &str| sandbox.write(&format!("{CHECKOUT}/airflow_poc/{name}"), "ubuntu", content);
        file("dags/order_tracking.py", "# hot fix, straight onto the server\n");
        file("dags/late.py", "made by hand\n");
        file("dags/notes.txt", "made by hand, and not in the way\n");
        file("logs/old.log", "a log\n");
        sandbox.bash(
            "ubuntu",
            &format!("cd {CHECKOUT}/airflow_poc; sed -i 's/\"change-me\"/\"an old password\"/' docker-compose.yml"),
        );
        sandbox.write(KEY, "ubuntu", "an old key\n");
        sandbox.sql(
            "SET ROLE etl; CREATE TABLE settlement_ods.hist_ecs_order_info_2025_h2 (LIKE settlement_ods.mart_ecs_order_info);",
        );
        Self::new(sandbox, "ubuntu")
    }

    fn new(sandbox: Sandbox, user: &'static str) -> Self {
        sandbox.bash("root", "cp -a --reflink=auto /home /var/saved");
        let mut warehouse = Warehouse::connect(&sandbox);
        let relations = warehouse.relations();
        let objects = [sandbox.path(BARE).join("objects"), sandbox.path(CHECKOUT).join(".git/objects")];
        let objects = objects.iter().flat_map(|folder| states::objects(folder)).collect();
        let (stages, unbroken, states) = (Vec::new(), None, None);
        let mut bench = Self { sandbox, user, stages, relations, warehouse, unbroken, objects, states };
        bench.stages.push(files(&bench.sandbox));
        bench.run().args(["--only", "repository"]).run().exits(0);
        bench.stages.push(files(&bench.sandbox));
        bench.reset();
        bench.run().run().exits(0);
        bench.unbroken = Some(bench.state());
        bench
    }

    /// Returns `provision apply`, ready to run.
    pub fn run(&self) -> Run<'_> {
        self.sandbox.provision(self.user, ["apply", PLAN, "--yes", "--json", "--as-of", "2026-03-01"])
    }

    /// Resets everything to the start.
    pub fn reset(&mut self) {
        let script =
            "cd \"$0\"; find home var/lib/provision tmp -mindepth 1 -delete; cp -a --reflink=auto var/saved/. home/
             rm -rf \"$1\"/dev/shm/provision-*";
        let done = Command::new("sh")
            .args(["-euc", script])
            .args([self.sandbox.dir(), &self.sandbox.root()])
            .status()
            .unwrap();
        assert!(done.success());
        self.warehouse.reset(&self.relations);
    }

    /// Returns the state of the host.
    fn state(&mut self) -> State {
        let checkout = self.sandbox.path(CHECKOUT);
        let script = "
            cd \"$0\"; git() { command git -c safe.directory='*' --no-optional-locks \"$@\"; }
            echo head; cat .git/HEAD; git rev-parse HEAD
            echo index; git ls-files --stage
            echo status; git status --porcelain=v1 --untracked-files=all
            echo stashes; git stash list
            echo branches; git for-each-ref refs/heads refs/remotes --format='%(refname) %(objectname) %(upstream)'
            echo config; cat .git/config
            echo rescues
            for ref in $(git for-each-ref refs/provision --format='%(refname)'); do
                echo worktree; git ls-tree -r $ref
                echo index; git ls-tree -r $ref^2
                echo untracked; git ls-tree -r $ref^3 || true
            done
            git fsck --no-dangling --no-progress";
        let limit = LIMIT.as_secs().to_string();
        let shown = Command::new("timeout").args([&limit, "bash", "-euc", script]).arg(&checkout).output().unwrap();
        let repository = String::from_utf8_lossy(&shown.stdout).into_owned() + &String::from_utf8_lossy(&shown.stderr);
        let mut git_files = BTreeSet::new();
        list(&checkout.join(".git"), "", &mut git_files);
        State { files: files(&self.sandbox), repository, git_files, tables: self.warehouse.definitions() }
    }

    /// Returns everything that a rerun could notice, as a digest. `None` if the state cannot be compared with others, or
    /// the server still executes a statement.
    pub fn state_before_rerun(&mut self) -> Option<blake3::Hash> {
        let files = states::describe(&self.sandbox, &self.objects)?;
        let busy = self.warehouse.rows("SELECT pid FROM pg_stat_activity WHERE usename = 'etl'");
        let tables = self.warehouse.definitions() + &self.warehouse.rights();
        busy.is_empty().then(|| blake3::hash(format!("{files}{tables}").as_bytes()))
    }

    /// Calls `rerun`, which does what follows a fault and returns what is wrong, unless the same was done from the same
    /// state and nothing was wrong.
    pub fn unless_known(&mut self, rerun: impl FnOnce(&mut Self) -> Result<(), String>) -> Result<(), String> {
        let state = if self.states.is_some() { self.state_before_rerun() } else { None };
        if let (Some(state), Some(states)) = (&state, &mut self.states)
            && states.has(state)
        {
            return Ok(());
        }
        rerun(self)?;
        if let (Some(state), Some(states)) = (state, &mut self.states) {
            states.add(state);
        }
        Ok(())
    }

    /// Returns the differences from the result of an undisturbed run.
    pub fn difference(&mut self) -> String {
        let found = self.state();
        let Some(expected) = &self.unbroken else { return String::new() };
        let mut text = expected.files.difference(&found.files);
        for (what, expected, found) in
            [("repository", &expected.repository, &found.repository), ("tables", &expected.tables, &found.tables)]
        {
            if expected != found {
                text += &format!("{what}: wanted\n{expected}found\n{found}");
            }
        }
        for name in expected.git_files.symmetric_difference(&found.git_files) {
            text += &format!(".git{name}: on one side alone\n");
        }
        text
    }

    /// Returns files with neither their old nor their new content, and the key if it is missing.
    pub fn torn(&self) -> String {
        let found = files(&self.sandbox);
        let Some(expected) = &self.unbroken else { return String::new() };
        let mut text = String::new();
        for (path, entry) in &found.0 {
            let known: Vec<_> =
                self.stages.iter().chain([&expected.files]).filter_map(|state| state.0.get(path)).collect();
            let temporary = path.iter().any(|name| name.to_string_lossy().starts_with(".provision-"));
            let whole = known.iter().any(|known| (known.kind, &known.content) == (entry.kind, &entry.content));
            if !(whole || known.is_empty() && temporary) {
                text += &format!("{}: {} {} is neither old nor new\n", path.display(), entry.kind, entry.content);
            }
        }
        let key = Path::new(KEY);
        if self.stages[0].0.contains_key(key) && !found.0.contains_key(key) {
            text += "the key is gone\n";
        }
        text
    }
}

/// All files except those of the database, of this run, and of `.git`.
fn files(sandbox: &Sandbox) -> Snapshot {
    let git = format!("{CHECKOUT}/.git");
    let except = ["/var/lib/postgresql", "/opt/provision", "/var/saved", "/var/log", RECORDS[0], RECORDS[1], &git];
    Snapshot::take(sandbox, "/", &except).without_traces()
}

fn list(folder: &Path, name: &str, names: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let inside = format!("{name}/{}", entry.file_name().to_string_lossy());
        // Objects reachable from refs are covered by comparing refs. Others are garbage.
        if name.starts_with("/objects") && !inside.contains("tmp") && !inside.contains(".provision-") {
            if entry.path().is_dir() {
                list(&entry.path(), &inside, names);
            }
            continue;
        }
        // Rescues are named after their run.
        let shown = if name.ends_with("/refs/provision/rescue") { format!("{name}/RUN") } else { inside.clone() };
        names.insert(shown);
        if entry.path().is_dir() {
            list(&entry.path(), &inside, names);
        }
    }
}

/// A connection to the host's PostgreSQL through its socket, from outside.
struct Warehouse {
    runtime: tokio::runtime::Runtime,
    client: tokio_postgres::Client,
}

impl Warehouse {
    fn connect(sandbox: &Sandbox) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut config = tokio_postgres::Config::new();
        config.host_path(sandbox.root().join("run/postgresql")).user("postgres").dbname("warehouse");
        let client = runtime.block_on(async {
            let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
            tokio::spawn(connection);
            client
        });
        Self { runtime, client }
    }

    /// Returns rows with fields separated by `|`.
    fn rows(&mut self, sql: &str) -> Vec<String> {
        let messages = self.runtime.block_on(self.client.simple_query(sql)).unwrap();
        let row = |message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|at| row.get(at).unwrap_or("")).collect::<Vec<_>>().join("|"))
            }
            _ => None,
        };
        messages.into_iter().filter_map(row).collect()
    }

    fn relations(&mut self) -> Vec<String> {
        self.rows(
            "SELECT oid::regclass FROM pg_class WHERE relnamespace = 'settlement_ods'::regnamespace AND relkind = 'r'",
        )
    }

    fn definitions(&mut self) -> String {
        self.rows(Sandbox::DEFINITIONS).join("\n") + "\n"
    }

    /// Returns the rights on tables and schemas.
    fn rights(&mut self) -> String {
        self.rows("SELECT oid::regclass, relacl FROM pg_class WHERE relacl IS NOT NULL ORDER BY 1").join("\n")
            + &self.rows("SELECT nspname, nspacl FROM pg_namespace ORDER BY 1").join("\n")
    }

    fn reset(&mut self, kept: &[String]) {
        // A server process of a killed client may still execute its last statement.
        let others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'etl'";
        let begun = Instant::now();
        while !self.rows(others).is_empty() {
            assert!(begun.elapsed() < LIMIT, "the server keeps sessions of etl");
            std::thread::sleep(Duration::from_millis(2));
        }
        for relation in self.relations() {
            if !kept.contains(&relation) {
                self.rows(&format!("DROP TABLE {relation}"));
            }
        }
    }
}
