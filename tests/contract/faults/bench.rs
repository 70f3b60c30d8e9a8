//! A host that is reset between two runs within hundredths of a second, with a comparable description of its state.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ffi::OsString;
use std::fs::{self, File, FileTimes, Metadata};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use git2::Oid;

use super::states::{self, Checked, Digests, Seen, Stamp, States};
use crate::sandbox::{BARE, CHECKOUT, KEY, PLAN, Run, Sandbox, Snapshot};

/// What is not compared: the journal and the lock, which every run has.
pub const RECORDS: [&str; 2] = ["/home/ubuntu/.local", "/var/lib/provision"];

/// What no run changes, and what the tests and the server store.
pub const UNCHANGING: [&str; 8] = [
    "/var/lib/postgresql",
    "/opt/provision/bin",
    "/var/saved",
    "/var/log",
    "/run/cluster",
    "/run/parts",
    "/run/postgresql",
    // The times at which users last authenticated.
    "/run/sudo",
];

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
    digests: Digests,
    home: Saved,
    /// The numbers of the interrupted calls that the last run has repeated.
    pub repeated: Vec<usize>,
    /// The states that were met. `None` if all of them are checked.
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
        let home = Saved::new(&sandbox.path("/var/saved"), &sandbox.path("/home"));
        let (stages, unbroken, digests, states) = (Vec::new(), None, Digests::default(), None);
        let repeated = Vec::new();
        let mut bench =
            Self { sandbox, user, stages, relations, warehouse, unbroken, objects, digests, home, repeated, states };
        let files = bench.look().files;
        bench.stages.push(files);
        bench.run().args(["--only", "repository"]).run().exits(0);
        let files = bench.look().files;
        bench.stages.push(files);
        bench.reset();
        bench.run().run().exits(0);
        let seen = bench.look();
        bench.unbroken = Some(bench.state(&seen));
        bench
    }

    /// Returns `provision apply`, ready to run.
    pub fn run(&self) -> Run<'_> {
        self.sandbox.provision(self.user, ["apply", PLAN, "--yes", "--json", "--as-of", "2026-03-01"])
    }

    /// Resets everything to the start.
    pub fn reset(&mut self) {
        self.home.restore();
        for folder in ["/var/lib/provision", "/tmp"] {
            let folder = self.sandbox.path(folder);
            names(&folder).iter().for_each(|name| remove(&folder.join(name)));
        }
        let memory = self.sandbox.root().join("dev/shm");
        let leftovers = names(&memory).into_iter().filter(|name| name.to_string_lossy().starts_with("provision-"));
        leftovers.for_each(|name| remove(&memory.join(name)));
        self.warehouse.reset(&self.relations);
    }

    /// Returns the files of the host.
    pub fn look(&mut self) -> Seen {
        states::look(&self.sandbox, &self.objects, &mut self.digests)
    }

    /// Returns the state of the host.
    fn state(&mut self, seen: &Seen) -> State {
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
        State { files: seen.files.clone(), repository, git_files, tables: self.warehouse.definitions() }
    }

    /// Returns everything that a rerun could notice, as a digest. `None` if the state cannot be compared with others, or
    /// the server still executes a statement.
    pub fn state_of(&mut self, seen: &Seen) -> Option<blake3::Hash> {
        let files = seen.described.as_ref()?;
        let busy = self.warehouse.rows("SELECT pid FROM pg_stat_activity WHERE usename = 'etl'");
        let tables = self.warehouse.definitions() + &self.warehouse.rights();
        busy.is_empty().then(|| blake3::hash(format!("{files}{tables}").as_bytes()))
    }

    /// Calls `check`, which returns what is wrong in the state that was seen, unless the same was checked in the same
    /// state and nothing was wrong.
    pub fn unless_known(
        &mut self,
        checked: Checked,
        seen: &Seen,
        check: impl FnOnce(&mut Self) -> Result<(), String>,
    ) -> Result<(), String> {
        let state = if self.states.is_some() { self.state_of(seen) } else { None };
        if let (Some(state), Some(states)) = (state, &mut self.states)
            && states.has(checked, state)
        {
            return Ok(());
        }
        check(self)?;
        if let (Some(state), Some(states)) = (state, &mut self.states) {
            states.add(checked, state);
        }
        Ok(())
    }

    /// Returns the differences from the result of an undisturbed run.
    pub fn difference(&mut self, seen: &Seen) -> String {
        let found = self.state(seen);
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
    pub fn torn(&self, seen: &Seen) -> String {
        let found = &seen.files;
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

/// A tree as it was saved, and the stamps of the entries that are like it.
struct Saved {
    from: PathBuf,
    to: PathBuf,
    /// The entries of the saved tree, and the names in its directories.
    entries: BTreeMap<PathBuf, (Metadata, Vec<OsString>)>,
    same: HashMap<PathBuf, Stamp>,
}

impl Saved {
    fn new(from: &Path, to: &Path) -> Self {
        let (entries, same) = (BTreeMap::new(), HashMap::new());
        let mut saved = Self { from: from.to_owned(), to: to.to_owned(), entries, same };
        saved.add(PathBuf::new());
        saved
    }

    fn add(&mut self, path: PathBuf) {
        let at = self.from.join(&path);
        let stat = fs::symlink_metadata(&at).unwrap();
        let kind = stat.file_type();
        assert!(kind.is_dir() || kind.is_file() || kind.is_symlink(), "{}: not restored by tests", at.display());
        assert!(kind.is_dir() || stat.nlink() == 1, "{}: links are not restored by tests", at.display());
        assert_eq!(states::attributes(&at), "", "{}: attributes are not restored by tests", at.display());
        let inside = if stat.is_dir() { names(&at) } else { Vec::new() };
        self.entries.insert(path.clone(), (stat, inside.clone()));
        inside.into_iter().for_each(|name| self.add(path.join(name)));
    }

    /// Removes what was added, and copies what was changed or removed.
    fn restore(&mut self) {
        self.restore_entry(Path::new(""));
    }

    fn restore_entry(&mut self, path: &Path) {
        let at = self.to.join(path);
        let (wanted, inside) = self.entries[path].clone();
        let found = fs::symlink_metadata(&at).ok();
        let same = found.as_ref().is_some_and(|found| self.same.get(path) == Some(&Stamp::of(found)));
        if wanted.is_dir() {
            if !found.as_ref().is_some_and(Metadata::is_dir) {
                remove(&at);
                fs::create_dir(&at).unwrap();
            }
            // The directory may be the same although something below it is not.
            if !same {
                names(&at).iter().filter(|name| !inside.contains(name)).for_each(|name| remove(&at.join(name)));
            }
            inside.iter().for_each(|name| self.restore_entry(&path.join(name)));
        } else if !same {
            remove(&at);
            let from = self.from.join(path);
            if wanted.is_symlink() {
                std::os::unix::fs::symlink(fs::read_link(from).unwrap(), &at).unwrap();
            } else {
                fs::copy(from, &at).unwrap();
            }
        }
        let changed = wanted.is_dir()
            && fs::symlink_metadata(&at).map(|now| Stamp::of(&now)).ok().as_ref() != self.same.get(path);
        if !same || changed {
            std::os::unix::fs::lchown(&at, Some(wanted.uid()), Some(wanted.gid())).unwrap();
            if !wanted.is_symlink() {
                fs::set_permissions(&at, fs::Permissions::from_mode(wanted.mode() & 0o7777)).unwrap();
                let times = FileTimes::new().set_modified(wanted.modified().unwrap());
                File::open(&at).unwrap().set_times(times.set_accessed(wanted.accessed().unwrap())).unwrap();
            }
            self.same.insert(path.to_owned(), Stamp::of(&fs::symlink_metadata(&at).unwrap()));
        }
    }
}

/// Returns the names in a directory. None if it does not exist.
fn names(folder: &Path) -> Vec<OsString> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().file_name()).collect()
}

/// Removes a file or a tree, if it exists.
fn remove(at: &Path) {
    let Ok(found) = fs::symlink_metadata(at) else { return };
    let removed = if found.is_dir() { fs::remove_dir_all(at) } else { fs::remove_file(at) };
    removed.unwrap_or_else(|error| panic!("{}: {error}", at.display()));
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
