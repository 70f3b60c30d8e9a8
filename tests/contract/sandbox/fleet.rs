//! Several hosts on a network with a controller that runs ansible. The controller has its own network and the machine's
//! files; it reaches each host over ssh.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::{PROVISION, Sandbox};

/// The controller's address.
const CONTROLLER: &str = "10.77.0.1";

/// Hosts `h1`, `h2`, … with an sshd each, and their controller. `ubuntu` and `root` accept the controller's key.
pub struct Fleet {
    pub hosts: Vec<Sandbox>,
    /// Holds the controller's network.
    network: Child,
    /// The controller's files.
    dir: tempfile::TempDir,
}

impl Fleet {
    /// Creates the hosts and connects them.
    pub fn new(count: usize) -> Self {
        let dir = tempfile::Builder::new().prefix("controller-").tempdir().unwrap();
        let mut network = Command::new("unshare")
            .args(["--net", "--kill-child", "--fork", "sh", "-c", "ip link set lo up && echo ready && cat >/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare starts");
        let mut line = String::new();
        BufReader::new(network.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "the controller's network is up");
        let fleet = Self { hosts: (0..count).map(|_| Sandbox::new()).collect(), network, dir };
        fleet.prepare_controller();
        for number in 1..=count {
            fleet.connect(number);
        }
        fleet
    }

    fn host(&self, number: usize) -> &Sandbox {
        &self.hosts[number - 1]
    }

    /// The process whose network the controller uses.
    fn controller_pid(&self) -> String {
        let children = format!("/proc/{0}/task/{0}/children", self.network.id());
        fs::read_to_string(children).unwrap().trim().to_owned()
    }

    fn prepare_controller(&self) {
        let key = self.dir.path().join("key");
        let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status();
        assert!(made.unwrap().success());
        let hosts: String =
            (1..=self.hosts.len()).map(|n| format!("Host h{n}\nHostName {}\nUser ubuntu\n", address(n))).collect();
        let config = format!(
            "{hosts}Host *\nBatchMode yes\nIdentityFile {key}\nIdentitiesOnly yes\nUserKnownHostsFile {known}\n\
             GlobalKnownHostsFile /dev/null\nStrictHostKeyChecking yes\nLogLevel ERROR\n",
            key = key.display(),
            known = self.dir.path().join("known_hosts").display(),
        );
        self.write("ssh_config", &config);
        self.write("ansible.cfg", "");
        let collections = self.dir.path().join("collections/ansible_collections/provision");
        fs::create_dir_all(&collections).unwrap();
        std::os::unix::fs::symlink(collection(), collections.join("core")).unwrap();
        let inventory = (1..=self.hosts.len())
            .fold("[all]\n".to_owned(), |text, number| format!("{text}h{number} ansible_host={}\n", address(number)));
        let variables = format!(
            "[all:vars]\nansible_user=ubuntu\nansible_python_interpreter=/nonexistent/python\n\
             ansible_ssh_common_args=-F {}\n",
            self.dir.path().join("ssh_config").display()
        );
        self.write("inventory", &(inventory + &variables));
    }

    fn connect(&self, number: usize) {
        let (host, address) = (self.host(number), address(number));
        let (name, controller, pid) = (format!("h{number}"), self.controller_pid(), host.pid.to_string());
        let line = ["link", "add", &name, "netns", &controller, "type", "veth", "peer", "name", "eth0", "netns", &pid];
        assert!(Command::new("ip").args(line).status().unwrap().success(), "{name} is connected");
        for line in [format!("ip address add {CONTROLLER} peer {address} dev {name}"), format!("ip link set {name} up")]
        {
            self.on_controller("sh").args(["-c", &line]).status().unwrap();
        }
        host.bash(
            "root",
            &format!(
                "hostname {name}; ip address add {address} peer {CONTROLLER} dev eth0; ip link set eth0 up
                 /opt/provision/scripts/services sshd {address}"
            ),
        );
        let key = fs::read_to_string(self.dir.path().join("key.pub")).unwrap();
        for (user, home) in [("ubuntu", "/home/ubuntu"), ("root", "/root")] {
            host.write(&format!("{home}/.ssh/authorized_keys"), user, &key);
        }
        let host_key = host.read("/etc/ssh/host_key.pub");
        let known = self.dir.path().join("known_hosts");
        let others = fs::read_to_string(&known).unwrap_or_default();
        fs::write(&known, format!("{others}{address} {host_key}")).unwrap();
    }

    /// Returns a command of the controller.
    pub fn on_controller(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", tools().display());
        command
            .arg(format!("--net=/proc/{}/ns/net", self.controller_pid()))
            .arg("--")
            .arg(program)
            .env_clear()
            .env("PATH", path)
            .env("HOME", self.dir.path())
            .env("LANG", "C.UTF-8")
            .current_dir(self.dir.path());
        command
    }

    /// Returns a path of the controller.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file of the controller.
    pub fn write(&self, name: &str, content: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Runs a playbook to its end.
    pub fn playbook(&self, text: &str, args: &[&str]) -> PlaybookRun {
        self.playbook_with(text, args, &[])
    }

    /// Runs a playbook with additional variables in the environment of ansible.
    pub fn playbook_with(&self, text: &str, args: &[&str], env: &[(&str, &str)]) -> PlaybookRun {
        self.write("playbook.yml", text);
        let results = self.path("results");
        let _ = fs::remove_file(&results);
        let output = self
            .on_controller(tools().join("ansible-playbook"))
            .args(["--inventory", "inventory", "playbook.yml"])
            .args(args)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("ANSIBLE_HOME", self.path("ansible"))
            .env("ANSIBLE_CONFIG", self.path("ansible.cfg"))
            .env("ANSIBLE_COLLECTIONS_PATH", self.path("collections"))
            .env("ANSIBLE_SSH_CONTROL_PATH_DIR", self.path("cp"))
            .env("ANSIBLE_NOCOLOR", "1")
            .env("ANSIBLE_DEPRECATION_WARNINGS", "0")
            .env("ANSIBLE_CALLBACK_PLUGINS", collection().join("tests/integration/callback_plugins"))
            .env("ANSIBLE_CALLBACKS_ENABLED", "record_results")
            .env("RECORD_RESULTS", &results)
            .envs(env.iter().copied())
            .output()
            .expect("ansible-playbook starts (scripts/setup --tests installs it)");
        PlaybookRun {
            code: output.status.code().unwrap_or(-1),
            output: String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr),
            results: fs::read_to_string(&results).unwrap_or_default(),
        }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        drop(self.network.stdin.take());
        let _ = self.network.wait();
    }
}

/// How a playbook ended.
pub struct PlaybookRun {
    pub code: i32,
    pub output: String,
    /// The results of its tasks as JSON lines.
    pub results: String,
}

impl std::fmt::Display for PlaybookRun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit code {}\n{}\n{}", self.code, self.output, self.results)
    }
}

impl PlaybookRun {
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self}");
        self
    }

    /// Returns the results of a host: one for each task, in order. Their `status` is `ok`, `failed` or `unreachable`.
    pub fn results(&self, host: &str) -> Vec<Value> {
        let all = self.results.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let with_status = |mut line: Value| {
            line["result"]["status"] = line["status"].take();
            line["result"].take()
        };
        all.filter(|line| line["host"] == host).map(with_status).collect()
    }

    /// Returns the only result of a host.
    #[track_caller]
    pub fn result(&self, host: &str) -> Value {
        match <[Value; 1]>::try_from(self.results(host)) {
            Ok([result]) => result,
            Err(others) => panic!("{host} has {} results\n{self}", others.len()),
        }
    }
}

/// The directory of the collection.
fn collection() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("ansible")
}

/// The directory of ansible's programs. `ANSIBLE_BIN` names those of another version.
fn tools() -> PathBuf {
    let own = || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/python/bin");
    std::env::var_os("ANSIBLE_BIN").map_or_else(own, PathBuf::from)
}

fn address(number: usize) -> String {
    format!("10.77.0.{}", number + 10)
}

/// The task that applies `plan.yaml` with the program of the host.
pub fn apply_task(more: &str) -> String {
    format!("provision.core.apply: {{ plan_file: plan.yaml, executable: {PROVISION}{more} }}")
}
