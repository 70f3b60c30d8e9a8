//! A real sshd that allows nothing but forwarding to the warehouse.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use provision::host::warehouse::{ClientDefaults, Warehouse};

use crate::certificates::Authority;
use crate::cluster::{Cluster, PASSWORD, free_port, shared};
use crate::kit::{DAY, apply, connect_from, observe_context, plan, table};

/// An SSH server on a free port, with its own keys.
struct Bastion {
    folder: tempfile::TempDir,
    port: u16,
    server: Option<Child>,
}

impl Bastion {
    /// Forwards only to this port.
    fn new(permitted: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let path = |name: &str| folder.path().join(name);
        for name in ["host", "user", "stranger"] {
            keygen(&path(name), "ed25519");
        }
        std::fs::copy(path("user.pub"), path("authorized")).unwrap();
        std::fs::create_dir(path(".ssh")).unwrap();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {0}/host\nAuthorizedKeysFile {0}/authorized\nStrictModes no\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no\nPermitRootLogin yes\nPidFile none\n\
             AllowTcpForwarding local\nPermitOpen 127.0.0.1:{permitted}\nPermitTTY no\nX11Forwarding no\n\
             AllowAgentForwarding no\nForceCommand /bin/false\nMaxSessions 0\nLogLevel VERBOSE\nKexAlgorithms curve25519-sha256\n",
            folder.path().display()
        );
        std::fs::write(path("config"), config).unwrap();
        let mut bastion = Self { folder, port, server: None };
        bastion.start();
        bastion.know("host.pub");
        bastion
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn start(&mut self) {
        std::fs::create_dir_all("/run/sshd").unwrap();
        let log = std::fs::File::create(self.path("log")).unwrap();
        let mut command = Command::new("/usr/sbin/sshd");
        command.args(["-D", "-e", "-f"]).arg(self.path("config")).stdin(Stdio::null()).stderr(log);
        // Its own process group, so that the children that serve connections can be ended with it.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        self.server = Some(command.spawn().unwrap());
        let start = std::time::Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(start.elapsed().as_secs() < 30, "{}", self.log());
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    /// Ends the server and all its connections immediately.
    fn die(&mut self) {
        if let Some(mut server) = self.server.take() {
            for process in sessions_of(server.id()) {
                let _gone = Command::new("kill").args(["-KILL", &process.to_string()]).status();
            }
            server.kill().unwrap();
            server.wait().unwrap();
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Makes a public key the known key of this host.
    fn know(&self, public: &str) {
        let key = std::fs::read_to_string(self.path(public)).unwrap();
        std::fs::write(self.path(".ssh/known_hosts"), format!("[127.0.0.1]:{} {key}", self.port)).unwrap();
    }

    fn connect(&self, url: &str, key: &str) -> Arc<Warehouse> {
        let tunnel = format!("tunnel: {{ ssh: 'root@127.0.0.1:{}', key: {} }}", self.port, self.path(key).display());
        let home = ClientDefaults { home: Some(self.folder.path().to_owned()), ..ClientDefaults::default() };
        connect_from(home, url, &tunnel, Some(PASSWORD))
    }

    async fn failure(&self, url: &str, key: &str) -> (String, String) {
        let failure = self.connect(url, key).catalog().await.unwrap_err();
        (failure.message, failure.hint.unwrap_or_default())
    }
}

impl Drop for Bastion {
    fn drop(&mut self) {
        self.die();
    }
}

/// Returns the child processes of a process.
fn sessions_of(process: u32) -> Vec<u32> {
    let children = std::fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap_or_default();
    let children: Vec<u32> = children.split_whitespace().map(|child| child.parse().unwrap()).collect();
    let grandchildren: Vec<u32> = children.iter().flat_map(|child| sessions_of(*child)).collect();
    grandchildren.into_iter().chain(children).collect()
}

fn keygen(path: &PathBuf, algorithm: &str) {
    let mut command = Command::new("ssh-keygen");
    let made = command.args(["-q", "-t", algorithm, "-N", "", "-f"]).arg(path).status().unwrap();
    assert!(made.success());
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

fn url(port: u16, database: &str) -> String {
    format!("postgresql://postgres@127.0.0.1:{port}/{database}?sslmode=disable")
}

#[tokio::test]
async fn tables_are_managed_through_a_forwarding_only_bastion() {
    let database = shared().database();
    shared().psql(&database, "CREATE SCHEMA s");
    let bastion = Bastion::new(shared().port);
    let warehouse = bastion.connect(&url(shared().port, &database), "user");
    let step = table("CREATE TABLE s.t (id INT)", "");
    assert_eq!(apply(&step, &warehouse, DAY).await, ["create table s.t"]);
    assert_eq!(bastion.log().matches("Accepted publickey").count(), 1, "{}", bastion.log());
}

#[tokio::test]
async fn every_kind_of_key_logs_in() {
    let bastion = Bastion::new(shared().port);
    for (name, algorithm) in [("rsa", "rsa"), ("ecdsa", "ecdsa")] {
        keygen(&bastion.path(name), algorithm);
        std::fs::copy(bastion.path(&format!("{name}.pub")), bastion.path("authorized")).unwrap();
        let warehouse = bastion.connect(&url(shared().port, "postgres"), name);
        warehouse.catalog().await.unwrap_or_else(|failure| panic!("{name}: {failure:?} {}", bastion.log()));
    }
}

#[tokio::test]
async fn tls_through_a_tunnel_verifies_the_warehouses_name() {
    let cluster = Cluster::start(&[]);
    let authority = Authority::new();
    let bastion = Bastion::new(cluster.port);
    let root = authority.write(&bastion.path("root.pem"));
    crate::connecting::serve_with(&cluster, &authority, "db.example", false);
    let to = |name: &str| {
        let (port, root) = (cluster.port, root.display());
        format!("host={name} hostaddr=127.0.0.1 port={port} user=postgres dbname=postgres sslrootcert={root}")
    };
    bastion.connect(&to("db.example"), "user").catalog().await.unwrap();
    let (message, _) = bastion.failure(&to("localhost"), "user").await;
    assert!(message.contains("is for another name"), "{message}");
}

#[tokio::test]
async fn bastion_errors_have_specific_reasons() {
    let mut bastion = Bastion::new(shared().port);
    let good = url(shared().port, "postgres");
    let (message, hint) = bastion.failure(&good, "stranger").await;
    assert!(message.contains("rejected the key") && hint.contains("authorized_keys"), "{message}");
    let (message, _) = bastion.failure(&good, "nowhere").await;
    assert!(message.contains("cannot read the key") && message.contains("nowhere"), "{message}");
    let (message, hint) = bastion.failure(&good, "user.pub").await;
    assert!(message.contains("is a public key") && hint.contains("without .pub"), "{message} {hint}");
    let (message, hint) = bastion.failure(&url(1, "postgres"), "user").await;
    assert!(message.contains("does not forward to 127.0.0.1:1") && hint.contains("PermitOpen"), "{message}");
    bastion.know("stranger.pub");
    let (message, hint) = bastion.failure(&good, "user").await;
    assert!(message.contains("has changed: it is SHA256:") && hint.contains("may be intercepted"), "{message}");
    std::fs::remove_file(bastion.path(".ssh/known_hosts")).unwrap();
    let (message, hint) = bastion.failure(&good, "user").await;
    assert!(message.contains("is unknown (SHA256:") && hint.contains("ssh-keyscan"), "{message}");
    bastion.die();
    let (message, _) = bastion.failure(&good, "user").await;
    assert!(message.contains("cannot reach 127.0.0.1"), "{message}");
}

#[tokio::test]
async fn a_restarted_bastion_is_connected_to_again() {
    let database = shared().database();
    shared().psql(&database, "CREATE SCHEMA s");
    let mut bastion = Bastion::new(shared().port);
    let warehouse = bastion.connect(&url(shared().port, &database), "user");
    let step = table("CREATE TABLE s.t (id INT)", "");
    assert_eq!(plan(&step, &warehouse, DAY).await.unwrap().changes.len(), 1);
    bastion.die();
    bastion.start();
    assert_eq!(apply(&step, &warehouse, DAY).await, ["create table s.t"]);
    bastion.die();
    warehouse.invalidate().await;
    let failure = provision::resource::Resource::observe(&step, &observe_context(&warehouse, DAY)).await.err().unwrap();
    assert!(failure.message.contains("cannot reach 127.0.0.1"), "{failure:?}");
}
