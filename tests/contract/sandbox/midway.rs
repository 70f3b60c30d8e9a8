//! An apply that is held in the middle of a change while a test inspects it.

use nix::sys::signal::Signal;

use super::run::{Outcome, Running};
use super::{PLAN, Sandbox};

/// The steps whose first change waits for a lock on its parent table.
const HELD: [&str; 2] = ["--only", "history-tables"];

/// A running apply, in its first CREATE TABLE.
pub struct Midway<'a> {
    sandbox: &'a Sandbox,
    locker: Running,
    apply: Running,
    /// The first event.
    pub started: serde_json::Value,
}

impl Sandbox {
    /// Starts `provision apply` of the history tables as `user`, held in its first change.
    pub fn apply_midway(&self, user: &str, file: &str) -> Midway<'_> {
        let script = "rm -f /tmp/go; mkfifo /tmp/go; (echo 'BEGIN; LOCK settlement_ods.mart_uni_tracking_info; SELECT 1;'; cat /tmp/go) |
            psql -h /run/postgresql -U postgres -XAtq warehouse";
        let mut locker = self.command("root", ["bash", "-c", script]).start();
        locker.until(|line| line == "1\n");
        let mut apply = self.provision(user, ["apply", file, "--yes", "--json"]).args(HELD).start();
        let started = apply.until(|line| line.contains("run_started"));
        apply.until(|line| line.contains("change_started"));
        while self.sql("SELECT count(*) FROM pg_locks WHERE NOT granted") == "0\n" {}
        Midway { sandbox: self, locker, apply, started: serde_json::from_str(&started).unwrap() }
    }

    /// The history tables' steps, applied again with the same arguments.
    pub fn apply_held<'a>(&'a self, user: &str, file: &'a str) -> super::Run<'a> {
        self.provision(user, ["apply", file, "--yes", "--json"]).args(HELD)
    }
}

impl Midway<'_> {
    /// Lets the change continue, and returns the outcome of the run.
    pub fn let_go(self) -> Outcome {
        self.sandbox.bash("root", "echo 'ROLLBACK;' > /tmp/go");
        self.locker.wait();
        self.apply.wait()
    }

    /// Kills the run. The server rolls its change back.
    pub fn kill(self) {
        self.apply.signal(Signal::SIGKILL);
        assert_eq!(self.apply.wait().code, 137);
        self.sandbox.bash("root", "echo 'ROLLBACK;' > /tmp/go");
        self.locker.wait();
    }
}

/// A copy of the shipped plan file that its owner can replace.
pub fn own_plan(sandbox: &Sandbox) -> &'static str {
    sandbox.bash("ubuntu", &format!("cp {PLAN} provision.yaml"));
    "/home/ubuntu/provision.yaml"
}
