//! Runs commands on a host: user, environment, input and outcome.

use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::{PROVISION, Sandbox, remedies};

pub(super) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A command to run. Its environment contains what a login sets, and what the test adds.
pub struct Run<'a> {
    pub(super) sandbox: &'a Sandbox,
    pub(super) user: String,
    pub(super) argv: Vec<String>,
    env: Vec<(String, String)>,
    /// Names that are unset even if a login sets them.
    unset: Vec<String>,
    stdin: Option<String>,
    terminal: bool,
    directory: Option<String>,
    limit: Option<Duration>,
    tracer: Vec<String>,
    /// A shell line that runs the command in its arguments.
    shell: Option<String>,
}

impl<'a> Run<'a> {
    pub(super) fn new(sandbox: &'a Sandbox, user: &str, argv: Vec<String>) -> Self {
        Self {
            sandbox,
            user: user.into(),
            argv,
            env: Vec::new(),
            unset: Vec::new(),
            stdin: None,
            terminal: false,
            directory: None,
            limit: None,
            tracer: Vec::new(),
            shell: None,
        }
    }

    pub fn args<'b>(mut self, args: impl IntoIterator<Item = &'b str>) -> Self {
        self.argv.extend(args.into_iter().map(str::to_owned));
        self
    }

    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.retain(|(known, _)| known != name);
        self.env.push((name.into(), value.into()));
        self
    }

    pub fn without_env(mut self, name: &str) -> Self {
        self.env.retain(|(known, _)| known != name);
        self.unset.push(name.into());
        self
    }

    /// Runs through another program, which takes the command as its last arguments.
    pub fn through(mut self, argv: &[&str]) -> Self {
        self.argv.splice(0..0, argv.iter().map(|word| (*word).to_owned()));
        self
    }

    /// Sets the standard input of the command. The default is `/dev/null`.
    pub fn stdin(mut self, text: &str) -> Self {
        self.stdin = Some(text.into());
        self
    }

    /// Runs on a terminal on which `typed` is typed. All output of the command is returned as `stdout`.
    pub fn terminal(mut self, typed: &str) -> Self {
        self.stdin = Some(typed.into());
        self.terminal = true;
        self
    }

    /// Runs in a directory of the host. The default is the user's home directory.
    pub fn directory(mut self, path: &str) -> Self {
        self.directory = Some(path.into());
        self
    }

    /// Kills the command if it takes longer. Its exit code is then 137.
    pub fn within(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Runs under a tracer (a command line that takes the command as its last arguments), started by root.
    pub(super) fn tracer(mut self, argv: Vec<String>) -> Self {
        self.tracer = argv;
        self
    }

    /// Starts a session whose terminal is standard input, and runs a line of bash in which `"$@"` is the command.
    pub(super) fn in_session(mut self, line: &str) -> Self {
        self.shell = Some(line.into());
        self
    }

    /// Runs the command to its end.
    pub fn run(self) -> Outcome {
        self.start().wait()
    }

    /// Starts the command.
    pub fn start(self) -> Running {
        let mut child = self.command().spawn().expect("nsenter starts");
        if let (Some(text), Some(mut pipe)) = (&self.stdin, child.stdin.take()) {
            // A command that does not read its input may have ended already.
            let _ = pipe.write_all(text.as_bytes());
            if self.terminal {
                // The terminal stays open while the command runs, because closing it would be an answer too.
                std::mem::forget(pipe);
            }
        }
        let mut stderr = child.stderr.take().unwrap();
        let stderr = std::thread::spawn(move || {
            let mut text = Vec::new();
            let _ = stderr.read_to_end(&mut text);
            text
        });
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Running { child, stdout, seen: String::new(), stderr, argv: self.argv }
    }

    /// The command line that enters the host and changes to the user.
    pub(super) fn command(&self) -> Command {
        let account = self.sandbox.account(&self.user);
        let mut argv: Vec<String> = vec![
            "--target".into(),
            self.sandbox.pid.to_string(),
            "--mount".into(),
            "--uts".into(),
            "--net".into(),
            "--ipc".into(),
            "--pid".into(),
            "--".into(),
        ];
        if self.tracer.is_empty() {
            let id = account.id.to_string();
            argv.extend(["setpriv", "--reuid", &id, "--regid", &id, "--init-groups", "--"].map(String::from));
        }
        // A caller such as nohup ignores SIGHUP, and its children inherit that.
        argv.extend(
            ["env", "--default-signal=HUP", "-i", "-C", self.directory.as_ref().unwrap_or(&account.home)]
                .map(String::from),
        );
        let login = [("HOME", account.home.as_str()), ("USER", &self.user), ("LOGNAME", &self.user), ("PATH", PATH)];
        let fixed = [("LANG", "C.UTF-8"), ("NO_COLOR", "1"), ("TERM", "dumb")];
        argv.extend(
            login
                .iter()
                .chain(&fixed)
                .filter(|(name, _)| !self.unset.iter().any(|unset| unset == name))
                .map(|(name, value)| format!("{name}={value}")),
        );
        argv.extend(self.env.iter().map(|(name, value)| format!("{name}={value}")));
        argv.extend(self.tracer.iter().cloned());
        if let Some(limit) = self.limit {
            argv.extend(["timeout", "--signal=KILL", &limit.as_secs().to_string()].map(String::from));
        }
        if self.terminal {
            let line = self.argv.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" ");
            argv.extend(
                ["script", "--quiet", "--return", "--echo", "never", "--command", &line, "/dev/null"].map(String::from),
            );
        } else {
            if let Some(line) = &self.shell {
                argv.extend(["setsid", "--ctty", "--wait", "bash", "-c", line, "bash"].map(String::from));
            }
            argv.extend(self.argv.iter().cloned());
        }
        // A caller such as nohup ignores SIGHUP, and its children inherit that.
        let mut command = Command::new("env");
        command
            .args(["--default-signal=HUP", "nsenter"])
            .args(&argv)
            .stdin(if self.stdin.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }
}

/// A running command.
pub struct Running {
    child: Child,
    stdout: BufReader<std::process::ChildStdout>,
    seen: String,
    stderr: JoinHandle<Vec<u8>>,
    argv: Vec<String>,
}

impl Running {
    /// Reads standard output up to the first line for which `wanted` returns true.
    pub fn until(&mut self, matches: impl Fn(&str) -> bool) -> String {
        loop {
            let mut line = String::new();
            let read = self.stdout.read_line(&mut line).unwrap();
            assert!(read > 0, "the command ended before the line that was waited for:\n{}", self.seen);
            self.seen.push_str(&line);
            if matches(&line) {
                return line;
            }
        }
    }

    /// Sends a signal to the command itself.
    pub fn signal(&self, signal: Signal) {
        let children = format!("/proc/{0}/task/{0}/children", self.child.id());
        let pid: i32 = std::fs::read_to_string(children).unwrap().trim().parse().expect("nsenter's one child");
        kill(Pid::from_raw(pid), signal).unwrap();
    }

    /// Waits for the end.
    pub fn wait(mut self) -> Outcome {
        let mut rest = Vec::new();
        self.stdout.read_to_end(&mut rest).unwrap();
        let status = self.child.wait().unwrap();
        // Death by signal n is reported as 128 + n, as in a shell. nsenter dies of the same signal.
        let code =
            status.code().unwrap_or_else(|| 128 + std::os::unix::process::ExitStatusExt::signal(&status).unwrap());
        let stderr = self.stderr.join().unwrap();
        Outcome::new(code, [self.seen.into_bytes(), rest].concat(), stderr, self.argv)
    }
}

/// The outcome of a command.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
    argv: Vec<String>,
}

impl Outcome {
    pub(super) fn new(code: i32, stdout: Vec<u8>, stderr: Vec<u8>, argv: Vec<String>) -> Self {
        let stdout = String::from_utf8(stdout).expect("output is UTF-8");
        let stderr = String::from_utf8(stderr).expect("messages are UTF-8");
        let outcome = Self { code, stdout, stderr, argv };
        for text in [&outcome.stdout, &outcome.stderr] {
            assert!(!text.contains("panicked at"), "a panic is never an answer\n{outcome}");
        }
        if outcome.argv.iter().any(|word| word == PROVISION) {
            remedies::check(&outcome.argv, &outcome.stdout, &outcome.stderr);
        }
        outcome
    }

    /// Asserts the exit code.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert!(self.code == code, "exit code {code} was expected\n{self}");
        self
    }

    /// Returns the events of a run with `--json`. Standard output must contain nothing else.
    #[track_caller]
    pub fn events(&self) -> Vec<Value> {
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}\n{self}"));
        self.stdout.lines().map(parse).collect()
    }

    /// Returns the events with a name.
    #[track_caller]
    pub fn events_of(&self, name: &str) -> Vec<Value> {
        self.events().into_iter().filter(|event| event["event"] == name).collect()
    }

    /// Returns the event with a name about a step.
    #[track_caller]
    pub fn step(&self, event: &str, step: &str) -> Value {
        let found = self.events_of(event).into_iter().find(|event| event["step"] == step);
        found.unwrap_or_else(|| panic!("no {event} of step {step}\n{self}"))
    }

    /// Returns the outcome of each step by id: the planned one, or the final one if the run got that far.
    #[track_caller]
    pub fn outcomes(&self) -> Vec<(String, String)> {
        let finished = self.events_of("step_finished");
        let events = if finished.is_empty() { self.events_of("step_planned") } else { finished };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        events.iter().map(|event| (text(&event["step"]), text(&event["outcome"]))).collect()
    }

    /// Returns the commands in the output, as a shell of the host runs them.
    pub fn commands(&self) -> Vec<String> {
        let found = remedies::commands(&self.all()).into_iter();
        found.map(|command| remedies::at(&command, PROVISION)).collect()
    }

    /// Returns all output of the command, for searching.
    pub fn all(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}\nexit code {}\n--- stdout\n{}--- stderr\n{}", self.argv, self.code, self.stdout, self.stderr)
    }
}

struct Account {
    id: u32,
    home: String,
}

impl Sandbox {
    fn account(&self, user: &str) -> Account {
        let passwd = self.read("/etc/passwd");
        let line = passwd.lines().find(|line| line.split(':').next() == Some(user)).expect("a user of the host");
        let fields: Vec<_> = line.split(':').collect();
        Account { id: fields[2].parse().unwrap(), home: fields[5].into() }
    }
}

fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}
