//! A private PostgreSQL with its own folder, a socket and a free port on 127.0.0.1. It ends with the test process.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// The superuser's password, required over TCP.
pub const PASSWORD: &str = "s3cret of the 't\\est' @/:";

/// A running server.
pub struct Cluster {
    /// The server's folder, and the supervisor that ends the server when its standard input closes.
    supervisor: Child,
    pub folder: PathBuf,
    pub port: u16,
    settings: Vec<String>,
}

/// Returns the server that the tests of this process share.
pub fn shared() -> &'static Cluster {
    static SHARED: OnceLock<Cluster> = OnceLock::new();
    SHARED.get_or_init(|| Cluster::start(&[]))
}

impl Cluster {
    /// Starts a new server with more settings (`name=value`).
    pub fn start(settings: &[&str]) -> Self {
        let folder = tempfile::Builder::new().prefix("provision-pg-").tempdir().unwrap().keep();
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).unwrap();
        let data = folder.join("data");
        std::fs::create_dir(&data).unwrap();
        let passwords = folder.join("password");
        std::fs::write(&passwords, PASSWORD).unwrap();
        let given = Command::new("chown").arg("-R").arg("postgres:postgres").arg(&folder).status().unwrap();
        assert!(given.success());
        let made = as_postgres(&program("initdb"))
            .args(["-U", "postgres", "--auth-local=trust", "--auth-host=scram-sha-256", "-E", "UTF8", "--no-sync"])
            .arg("--pwfile")
            .arg(&passwords)
            .arg(&data)
            .output()
            .unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let port = free_port();
        let settings: Vec<_> = settings.iter().map(ToString::to_string).collect();
        let supervisor = supervise(&folder, port, &settings);
        let cluster = Self { supervisor, folder, port, settings };
        cluster.wait();
        cluster
    }

    /// Starts a hot standby of the server.
    pub fn standby(&self) -> Self {
        let folder = tempfile::Builder::new().prefix("provision-pg-").tempdir().unwrap().keep();
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(Command::new("chown").arg("postgres:postgres").arg(&folder).status().unwrap().success());
        let copied = as_postgres(&program("pg_basebackup"))
            .args(["-U", "postgres", "-R", "-c", "fast", "-p", &self.port.to_string(), "-h"])
            .arg(&self.folder)
            .arg("-D")
            .arg(folder.join("data"))
            .output()
            .unwrap();
        assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
        let port = free_port();
        let supervisor = supervise(&folder, port, &self.settings);
        let standby = Self { supervisor, folder, port, settings: self.settings.clone() };
        standby.wait();
        standby
    }

    /// Stops the server immediately and starts it again on the same port.
    pub fn restart(&mut self) {
        self.stop();
        self.supervisor = supervise(&self.folder, self.port, &self.settings);
        self.wait();
    }

    /// Stops the server and keeps its folder.
    pub fn stop(&mut self) {
        std::fs::write(self.folder.join("keep"), "").unwrap();
        drop(self.supervisor.stdin.take());
        self.supervisor.wait().unwrap();
        std::fs::remove_file(self.folder.join("keep")).unwrap();
    }

    fn wait(&self) {
        let ready = || {
            let mut probe = Command::new(program("pg_isready"));
            probe.args(["-q", "-h"]).arg(&self.folder).args(["-p", &self.port.to_string()]);
            probe.status().unwrap().success()
        };
        let start = std::time::Instant::now();
        while !ready() {
            assert!(start.elapsed().as_secs() < 60, "{}", self.log());
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    /// Makes the server reload its settings, and waits until it has.
    pub fn reload(&self) {
        let loaded = || self.psql("postgres", "SELECT pg_conf_load_time()");
        let before = loaded();
        self.psql("postgres", "SELECT pg_reload_conf()");
        while loaded() == before {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Runs SQL as the superuser over the socket, each statement on its own. Returns the unaligned output.
    pub fn psql(&self, database: &str, sql: &str) -> String {
        let output = Command::new(program("psql"))
            .args(["-XqAt", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database, "-h"])
            .arg(&self.folder)
            .args(["-p", &self.port.to_string(), "-c", sql])
            .output()
            .unwrap();
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// Creates a new, empty database.
    pub fn database(&self) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("t{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.psql("postgres", &format!("CREATE DATABASE {name}"));
        name
    }

    /// Returns the URL of a database by its socket, where no password is required.
    pub fn socket_url(&self, database: &str) -> String {
        let folder = self.folder.to_str().unwrap().replace('/', "%2F");
        format!("postgresql://postgres@{folder}:{}/{database}", self.port)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.supervisor.stdin.take());
        let _ended = self.supervisor.wait();
    }
}

/// Starts the server under a shell that waits for its standard input to close. However this process ends, the server
/// ends too, and its folder is removed.
fn supervise(folder: &Path, port: u16, settings: &[String]) -> Child {
    let drop_rights =
        if nix::unistd::geteuid().is_root() { "setpriv --reuid=postgres --regid=postgres --clear-groups" } else { "" };
    let settings: Vec<_> = settings.iter().map(|setting| format!("-c '{setting}'")).collect();
    let postgres = program("postgres");
    let script = format!(
        "{drop_rights} {postgres} -D \"$0/data\" -k \"$0\" -p {port} -c listen_addresses=127.0.0.1 -c fsync=off \
         {} >>\"$0/log\" 2>&1 </dev/null & server=$!; cat >/dev/null; kill -INT $server; wait $server; \
         [ -e \"$0/keep\" ] || rm -rf \"$0\"",
        settings.join(" ")
    );
    Command::new("sh").args(["-c", &script]).arg(folder).stdin(Stdio::piped()).spawn().unwrap()
}

fn as_postgres(program: &str) -> Command {
    if !nix::unistd::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", program]).current_dir("/");
    command
}

/// Returns the path of a program of the newest PostgreSQL that is installed.
pub fn program(name: &str) -> String {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let newest = || {
        let versions = std::fs::read_dir("/usr/lib/postgresql").expect("scripts/setup installs PostgreSQL").flatten();
        let folders = versions.map(|version| version.path().join("bin")).filter(|bin| bin.join("initdb").exists());
        let version = |bin: &PathBuf| bin.parent()?.file_name()?.to_str()?.parse::<u32>().ok();
        folders.max_by_key(version).expect("scripts/setup installs PostgreSQL")
    };
    FOLDER.get_or_init(newest).join(name).display().to_string()
}

pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
