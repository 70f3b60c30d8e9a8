//! A throwaway host for one test: `scripts/host` kept open, and what a test does with it.
//!
//! All files of the host are under one directory, which [`Sandbox::path`] accesses from outside. The host ends when its
//! standard input closes, at the latest when the test process ends.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

mod bastion;
#[cfg(target_arch = "x86_64")]
mod call_filter;
#[cfg(target_arch = "x86_64")]
mod calls;
mod checkout;
mod fleet;
mod language_server;
mod midway;
mod remedies;
mod run;
mod snapshot;
#[cfg(target_arch = "x86_64")]
mod supervisor;
mod template;
mod terminal;
mod trace;
mod warehouse;

pub use bastion::{AUTHORIZED, BASTION, KNOWN_HOSTS, Rotation, channels};
pub use checkout::{BARE, CHECKOUT, COMPOSE, KEY, KEY_SOURCE, LOGS};
pub use fleet::{Fleet, apply_task};
pub use language_server::{LanguageServer, tools};
pub use midway::own_plan;
pub use run::{Outcome, Run, Running};
pub use snapshot::Snapshot;
#[cfg(target_arch = "x86_64")]
pub use supervisor::{Fault, Point};
pub use terminal::Terminal;
pub use trace::Tracing;
pub use warehouse::random_word;

/// The path of the plan file under test on the host.
pub const PLAN: &str = "/opt/provision/plans/order_tracking.yaml";
/// The path of the program under test on the host: outside every home directory, readable by all.
pub const PROVISION: &str = "/opt/provision/bin/provision";

/// The directory of the hosts.
const PLACE: &str = env!("CARGO_TARGET_TMPDIR");

/// The date of the runs unless a test sets another. The content of a host must not depend on when the tests run.
pub const DAY: &str = "2026-03-01";

/// Waits until something is so, for at most a minute.
#[track_caller]
pub fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(60), "it did not come to this: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A throwaway host. Its files are removed on drop, unless the test has failed.
pub struct Sandbox {
    dir: PathBuf,
    holder: Child,
    /// The host's first process, as seen from outside.
    pid: u32,
    env: BTreeMap<String, String>,
    vars: BTreeMap<String, String>,
}

impl Sandbox {
    /// Creates a host with only users and programs.
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        assert!(
            users::get_effective_uid() == 0,
            "these tests make namespaces and act as several users: run them as root (`make test` does)"
        );
        let name = format!("host-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let dir = Path::new(PLACE).join(name);
        template::new_host(&dir);
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/host");
        let mut holder = Command::new(script)
            .arg(&dir)
            .arg("--hold")
            .env("HOST_PARTS", template::parts())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("scripts/host starts");
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "scripts/host did not come up; its message is above");
        let children = format!("/proc/{0}/task/{0}/children", holder.id());
        let pid = fs::read_to_string(children).unwrap().trim().parse().expect("one first process");
        Self { dir, holder, pid, env: BTreeMap::new(), vars: BTreeMap::new() }
    }

    /// Returns a path of the host as seen from outside. `/run`, `/dev` and the machine's programs are not there.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.dir.join(path.as_ref().strip_prefix("/").expect("a path of the host is absolute"))
    }

    /// Returns the host's root directory as its own processes see it, including `/run`.
    pub fn root(&self) -> PathBuf {
        format!("/proc/{}/root", self.pid).into()
    }

    /// Returns the host's whole tree as seen from outside.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Adds a variable to the environment of every `provision` that is run here.
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// Adds a `--var` to every `provision` that accepts one.
    pub fn var(mut self, name: &str, value: impl Into<String>) -> Self {
        self.vars.insert(name.into(), value.into());
        self
    }

    /// Returns whether a variable is in the environment of the runs.
    pub fn has_env(&self, name: &str) -> bool {
        self.env.contains_key(name)
    }

    /// Returns the value of a variable in the environment of the runs.
    pub fn env_of(&self, name: &str) -> String {
        self.env[name].clone()
    }

    /// Changes a variable in the environment of later runs.
    pub fn set_env(&mut self, name: &str, value: impl Into<String>) {
        self.env.insert(name.into(), value.into());
    }

    /// Changes a `--var` of later runs.
    pub fn set_var(&mut self, name: &str, value: impl Into<String>) {
        self.vars.insert(name.into(), value.into());
    }

    /// Writes a file as root and creates its directories. All belong to `owner`.
    pub fn write(&self, path: &str, owner: &str, content: impl AsRef<[u8]>) {
        let parent = Path::new(path).parent().unwrap();
        self.bash(owner, &format!("mkdir -p '{}'", parent.display()));
        let outside = self.path(path);
        fs::write(&outside, content).unwrap_or_else(|error| panic!("{}: {error}", outside.display()));
        self.bash("root", &format!("chown {owner}: '{path}'"));
    }

    /// Reads a file as root.
    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Runs lines of bash as `user`, in the user's home directory with a clean environment. They have to succeed.
    pub fn bash(&self, user: &str, script: &str) -> String {
        let outcome = self.command(user, ["bash", "-euo", "pipefail", "-c", script]).run();
        assert!(outcome.code == 0, "as {user}: {script}\n{outcome}");
        outcome.stdout
    }

    /// Locks a plan file as an apply does, until [`Sandbox::release_lock`].
    pub fn hold_lock(&self, file: &str) {
        let hold = "touch /tmp/held; while [ -e /tmp/held ]; do sleep 0.05; done";
        self.bash("root", &format!("setsid flock {file} sh -c '{hold}' > /dev/null 2>&1 &"));
        eventually("the lock is held", || self.path("/tmp/held").exists());
    }

    /// Lets go of what [`Sandbox::hold_lock`] locked.
    pub fn release_lock(&self) {
        self.bash("root", "rm /tmp/held");
    }

    /// Returns any command of the host, run as `user`.
    pub fn command<'a>(&'a self, user: &str, argv: impl IntoIterator<Item = &'a str>) -> Run<'a> {
        Run::new(self, user, argv.into_iter().map(str::to_owned).collect())
    }

    /// Returns `provision` with a command and its arguments, run as `user`. `--var`, `--as-of` and the environment of
    /// this host are added.
    pub fn provision<'a>(&'a self, user: &str, args: impl IntoIterator<Item = &'a str>) -> Run<'a> {
        let mut argv = vec![PROVISION.to_owned()];
        argv.extend(args.into_iter().map(str::to_owned));
        if argv.get(1).is_some_and(|command| command == "plan" || command == "apply") {
            for (name, value) in &self.vars {
                if argv.iter().any(|word| word.starts_with(&format!("{name}="))) {
                    continue;
                }
                argv.extend(["--var".to_owned(), format!("{name}={value}")]);
            }
            if !argv.iter().any(|word| word == "--as-of") {
                argv.extend(["--as-of".to_owned(), DAY.to_owned()]);
            }
        }
        let mut run = Run::new(self, user, argv);
        for (name, value) in &self.env {
            run = run.env(name, value);
        }
        run
    }

    /// Runs `provision plan --json` on the shipped plan file.
    pub fn plan(&self, user: &str) -> Outcome {
        self.provision(user, ["plan", PLAN, "--json"]).run()
    }

    /// Runs `provision apply --yes --json` on the shipped plan file.
    pub fn apply(&self, user: &str) -> Outcome {
        self.provision(user, ["apply", PLAN, "--yes", "--json"]).run()
    }

    /// Removes a `--var` from later runs.
    pub fn unset_var(&mut self, name: &str) {
        self.vars.remove(name);
    }

    /// Saves `/home` and the warehouse for [`Sandbox::restore`].
    pub fn save(&self) {
        self.bash("root", "rm -rf /var/saved; cp -a --reflink=auto /home /var/saved");
        self.save_warehouse();
    }

    /// Restores `/home` and the warehouse from the saved copy.
    pub fn restore(&self) {
        // The content is removed first: neither the mount point itself nor what `cp` considers newer may remain.
        self.bash("root", "find /home -mindepth 1 -delete; cp -a --reflink=auto /var/saved/. /home/");
        self.restore_warehouse();
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
        if std::thread::panicking() {
            eprintln!("the host's files are left in {}", self.dir.display());
        } else if let Err(error) = fs::remove_dir_all(&self.dir) {
            eprintln!("{}: {error}", self.dir.display());
        }
    }
}
