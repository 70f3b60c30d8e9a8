//! Workers: what they accept from a launcher, what they refuse, and that their memory is private.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use nix::sys::signal::Signal;
use provision::resource::{AnyActual, AnyChange, AnyResource};
use provision::worker::Task;
use provision::worker::frame::{Answer, Frame, Request, VERSION, receive, send, send_secret};
use serde_json::json;

use crate::sandbox::{PLAN, Sandbox};

/// A worker and its pipes, used without a launcher.
struct Worker {
    child: Child,
    input: ChildStdin,
    output: ChildStdout,
    ticket: u64,
}

fn block<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
}

impl Worker {
    fn start() -> Self {
        let program = Command::new(env!("CARGO_BIN_EXE_provision"))
            .arg("worker")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = program.unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, input, output, ticket: 0 }
    }

    fn greeted(tasks: Vec<Task>) -> Self {
        let mut worker = Self::start();
        let mut key = Vec::new();
        block(send_secret(&mut key, "", &[7; 32])).unwrap();
        worker.input.write_all(&key).unwrap();
        worker.say(&Request::Greeting {
            version: VERSION,
            run: "test".to_owned(),
            steps: tasks,
            makes_changes: true,
            recording: None,
            variables: Vec::new(),
        });
        assert!(matches!(worker.hear(), Answer::Ready { version: VERSION }));
        worker
    }

    fn say(&mut self, request: &Request) {
        let mut bytes = Vec::new();
        block(send(&mut bytes, request)).unwrap();
        self.input.write_all(&bytes).unwrap();
    }

    fn hear(&mut self) -> Answer {
        let mut frame = vec![0; 5];
        self.output.read_exact(&mut frame).unwrap();
        let length = u32::from_be_bytes(frame[..4].try_into().unwrap()) as usize;
        frame.resize(5 + length, 0);
        self.output.read_exact(&mut frame[5..]).unwrap();
        match block(receive(&mut &frame[..])).unwrap() {
            Some(Frame::Message(answer)) => answer,
            _ => panic!("a worker sends messages alone"),
        }
    }

    fn observe(&mut self, step: &str) -> AnyActual {
        self.ticket += 1;
        self.say(&Request::Observe { ticket: self.ticket, step: step.to_owned(), span: None });
        let Answer::Observed { ticket, result } = self.hear() else { panic!("an observation was asked for") };
        assert_eq!(ticket, self.ticket);
        result.unwrap()
    }

    fn execute(&mut self, step: &str, change: &AnyChange) -> Result<(), String> {
        self.ticket += 1;
        self.say(&Request::Execute { ticket: self.ticket, step: step.to_owned(), change: change.clone(), span: None });
        let Answer::Executed { result, .. } = self.hear() else { panic!("a change was asked for") };
        result.map_err(|failure| failure.message)
    }

    /// Closes its input, and returns its exit code and its standard error.
    fn end(self) -> (Option<i32>, String) {
        let Self { child, input, output, .. } = self;
        drop((input, output));
        let output = child.wait_with_output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    }
}

fn directory(path: &Path) -> AnyResource {
    serde_json::from_value(json!({ "directory": { "path": path, "mode": "0700" } })).unwrap()
}

fn task(id: &str, path: &Path) -> Task {
    Task { id: id.to_owned(), resource: directory(path), max_changes: None, below: Vec::new(), above: Vec::new() }
}

fn changes(task: &Task, actual: &AnyActual) -> Vec<AnyChange> {
    task.resource.diff(actual).unwrap().changes
}

#[test]
fn a_worker_makes_only_the_changes_of_its_steps() {
    let folder = tempfile::tempdir().unwrap();
    let [one, two, other] = ["one", "two", "other"].map(|name| folder.path().join(name));
    let tasks = vec![task("one", &one), task("two", &two)];
    let mut worker = Worker::greeted(tasks.clone());
    let [of_one, of_two] = [0, 1].map(|at| changes(&tasks[at], &Worker::greeted(tasks.clone()).observe(&tasks[at].id)));
    let refused = |result: Result<(), String>, why: &str| {
        let message = result.expect_err(why);
        assert!(message.contains("refuses") || message.contains("has no step"), "{message}");
    };
    refused(worker.execute("one", &of_one[0]), "nothing was observed yet");
    worker.observe("one");
    worker.observe("two");
    refused(worker.execute("one", &of_two[0]), "the change of another step");
    refused(worker.execute("three", &of_one[0]), "a step that it does not have");
    let forged = serde_json::to_string(&of_one[0]).unwrap().replace(one.to_str().unwrap(), other.to_str().unwrap());
    refused(worker.execute("one", &serde_json::from_str(&forged).unwrap()), "a change of another path");
    let forged = serde_json::to_string(&of_one[0]).unwrap().replace("0700", "4777");
    refused(worker.execute("one", &serde_json::from_str(&forged).unwrap()), "a change to another mode");
    assert!(!one.exists() && !two.exists() && !other.exists());
    worker.execute("one", &of_one[0]).unwrap();
    assert!(one.is_dir() && !two.exists());
    std::fs::remove_dir(&one).unwrap();
    refused(worker.execute("one", &of_one[0]), "it was made already");
    assert!(!one.exists());
    worker.observe("one");
    worker.execute("one", &of_one[0]).unwrap();
    assert_eq!(worker.end(), (Some(0), String::new()));
}

#[test]
fn a_worker_enforces_max_changes() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a"), "").unwrap();
    std::fs::write(folder.path().join("b"), "").unwrap();
    let tree = json!({ "directory": { "path": folder.path(), "owner": "1234", "recursive": true } });
    let task = |most| Task {
        id: "tree".to_owned(),
        resource: serde_json::from_value(tree.clone()).unwrap(),
        max_changes: Some(most),
        below: Vec::new(),
        above: Vec::new(),
    };
    // The two files and the directory itself.
    for (most, allowed) in [(2, false), (3, true)] {
        let mut worker = Worker::greeted(vec![task(most)]);
        let planned = changes(&task(most), &worker.observe("tree"));
        assert_eq!(worker.execute("tree", &planned[0]).is_ok(), allowed, "{most}");
    }
}

#[test]
fn workers_reject_launchers_of_another_version() {
    let mut worker = Worker::start();
    let run = "test".to_owned();
    let (steps, makes_changes) = (Vec::new(), false);
    worker.say(&Request::Greeting {
        version: VERSION + 1,
        run,
        steps,
        makes_changes,
        recording: None,
        variables: Vec::new(),
    });
    assert!(matches!(worker.hear(), Answer::Ready { version: VERSION }), "the worker reports its version");
    worker.say(&Request::Observe { ticket: 1, step: "one".to_owned(), span: None });
    let (code, output) = worker.end();
    assert_eq!(code, Some(1));
    assert!(output.contains("a request arrived before the handshake"), "{output}");
}

#[test]
fn invalid_frames_end_a_worker() {
    for (bytes, expected) in [
        (&b"\xff\xff\xff\xffM"[..], "a frame of 4294967295 bytes is too long"),
        (b"\xff\xff\xff\xffS", "a frame of 4294967295 bytes is too long"),
        (b"GET / HTTP/1.1\r\n\r\n", "unknown kind"),
        (b"\0\0\0\x02M{}", "expected"),
        (b"\0\0\0\x12M{\"Shell\":\"whoami\"}", "unknown variant"),
        (b"\0\0\0\x01Sx", "malformed secret"),
        (b"\0\0\0\x7fM{\"Gree", "end of file"),
        (b"\0\0", "eof"),
    ] {
        let mut worker = Worker::start();
        worker.input.write_all(bytes).unwrap();
        let (code, output) = worker.end();
        assert_eq!(code, Some(1), "{bytes:?}: {output}");
        assert!(
            output.contains("lost the connection to its launcher") && output.contains(expected),
            "{bytes:?}: {output}"
        );
        assert!(!output.contains("panicked"), "{output}");
    }
    assert_eq!(Worker::start().end(), (Some(0), String::new()), "no request was sent");
}

#[test]
fn no_process_that_holds_a_secret_can_be_read_or_dumped() {
    let sandbox = Sandbox::order_tracking();
    sandbox.checkout();
    let mut apply = sandbox.provision("ubuntu", ["apply", PLAN]).terminal("").start();
    // The plan is shown after all workers have observed. Then they wait for the answer to the question.
    apply.until(|line| line.contains("exceptions-table"));
    let script = "
        for pid in $(pgrep -f '^(/proc/self/exe|provision|/opt/provision/bin/provision|/proc/[0-9]+/exe) (apply|worker)'); do
            [ \"$(awk '/^Max core file size/ { print $5, $6 }' /proc/$pid/limits)\" = '0 0' ] && core=off || core=on
            user=$(awk '/^Uid:/ { print $2 }' /proc/$pid/status)
            command=$(tr '\\0' ' ' < /proc/$pid/cmdline | sed 's/ *$//')
            echo \"$command: $user, core dumps $core, /proc of user $(stat -c %u /proc/$pid/mem)\"
        done";
    let output = sandbox.bash("root", script);
    let lines: BTreeSet<&str> = output.lines().collect();
    // If others of the same user may read a process's memory, its /proc entry belongs to that user.
    for (who, user) in [("apply", 1000), ("worker: ", 1000), ("worker --user root", 0)] {
        let line = lines.iter().find(|line| line.contains(who));
        let line = line.unwrap_or_else(|| panic!("no process {who}: {output}"));
        assert!(line.contains(&format!(": {user}, core dumps off, /proc of user 0")), "{line}");
    }
    apply.signal(Signal::SIGKILL);
}

#[test]
fn secrets_reach_a_worker_only_through_its_pipe() {
    let sandbox = Sandbox::order_tracking();
    sandbox.checkout();
    let mut apply = sandbox.provision("root", ["apply", PLAN]).terminal("").start();
    apply.until(|line| line.contains("exceptions-table"));
    let script = "for pid in $(pgrep -f ' worker'); do cat /proc/$pid/environ /proc/$pid/cmdline | tr '\\0' '\\n'; ls -l /proc/$pid/fd; done";
    let output = sandbox.bash("root", script);
    assert!(output.contains("provision worker"), "a worker was inspected: {output}");
    for name in ["ALERT_SMTP_PASSWORD", "REDSHIFT_PASSWORD"] {
        assert!(!output.contains(name) && !output.contains(&sandbox.env_of(name)), "{name}: {output}");
    }
    let open: Vec<&str> = output.lines().filter_map(|line| line.split_once(" -> ")).map(|(_, to)| to).collect();
    let files: Vec<&&str> = open.iter().filter(|to| to.starts_with('/') && !to.starts_with("/dev/")).collect();
    assert!(files.is_empty(), "{files:?} are open in a worker: {output}");
    apply.signal(Signal::SIGKILL);
}

#[test]
fn the_memory_of_a_forked_worker_has_no_secret_of_the_launcher() {
    let sandbox = Sandbox::order_tracking();
    sandbox.checkout();
    let mut apply = sandbox.provision("ubuntu", ["apply", PLAN]).terminal("").start();
    apply.until(|line| line.contains("exceptions-table"));
    // Prints which of its arguments are in the memory of the processes whose command line matches the first one.
    let script = r#"
        my ($pattern, @secrets) = @ARGV;
        for my $pid (split /\n/, `pgrep -f '$pattern'`) {
            open my $maps, '<', "/proc/$pid/maps" or next;
            open my $memory, '<:raw', "/proc/$pid/mem" or die $!;
            my $all = '';
            while (<$maps>) {
                /^([0-9a-f]+)-([0-9a-f]+) rw/ or next;
                sysseek $memory, hex $1, 0;
                sysread $memory, $all, hex($2) - hex($1), length $all;
            }
            print "$pid ", length $all > 100_000 ? 'read' : 'not read', "\n";
            index($all, $_) >= 0 and print "has $_\n" for @secrets;
        }"#;
    sandbox.write("/root/search.pl", "root", script);
    let found = |pattern: &str, name: &str| {
        let value = sandbox.env_of(name);
        let output = sandbox.bash("root", &format!("perl /root/search.pl '{pattern}' '{value}'"));
        assert!(output.contains(" read\n") && !output.contains("not read"), "{output}");
        output.contains("has ")
    };
    assert!(found("^/opt/provision/bin/provision apply", "REDSHIFT_PASSWORD"), "the search finds what is there");
    // The password of the warehouse is for the launcher, and the other one for a step of the worker.
    assert!(!found("^provision worker", "REDSHIFT_PASSWORD"));
    assert!(found("^provision worker", "ALERT_SMTP_PASSWORD"), "the step's secret was sent to the worker");
    apply.signal(Signal::SIGKILL);
}

#[test]
fn a_killed_worker_is_reported_and_the_next_run_recovers() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "/root/tree.yaml",
        "root",
        "name: tree\nsteps:\n  - id: tree\n    run_as: root\n    directory: { path: /srv/tree, owner: ubuntu, recursive: true }\n",
    );
    sandbox.bash("root", "mkdir /srv/tree; cd /srv/tree; for d in {1..60}; do mkdir $d; touch $d/{1..1000}; done");
    let mut apply = sandbox.provision("root", ["apply", "tree.yaml", "--yes", "--json"]).start();
    apply.until(|line| line.contains("change_started"));
    sandbox.bash("root", "pkill -KILL -f '^provision worker'");
    let outcome = apply.wait().exits(1);
    let finished = outcome.step("step_finished", "tree");
    assert!(finished["reason"].as_str().unwrap().contains("ended unexpectedly"), "{outcome}");
    assert!(finished["hint"].is_string(), "{outcome}");
    sandbox.provision("root", ["apply", "tree.yaml", "--yes"]).run().exits(0);
    assert_eq!(sandbox.bash("root", "find /srv/tree ! -user ubuntu | wc -l"), "0\n");
}
