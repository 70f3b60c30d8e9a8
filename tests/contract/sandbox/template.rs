//! The common parts of hosts are created once per test process and copied to each host that needs them: the files of a
//! new host, the remote, the database cluster, the bastion's host keys, and the result of the runbook.
//!
//! A copy takes hundredths of a second, while `initdb`, `git` and `ssh-keygen` take seconds.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use super::checkout::BARE;
use super::{PLACE, Sandbox};

const CLUSTER: &str = "/var/lib/postgresql/data";
const COLLEAGUE: &str = "/home/git/work";
const OPERATOR: &str = "/home/ubuntu";

/// The state of a host after the runbook.
pub struct Converged {
    folder: PathBuf,
    /// The password of the alert mails in the compose file.
    pub smtp_password: String,
}

/// The directory of the parts. Hosts see it as `/run/parts`.
pub fn parts() -> &'static Path {
    static PARTS: OnceLock<(PathBuf, Child)> = OnceLock::new();
    &PARTS
        .get_or_init(|| {
            let parts = Path::new(PLACE).join(format!("parts-{}", std::process::id()));
            fs::create_dir_all(&parts).unwrap();
            // Its standard input closes at the latest when this process ends.
            let script = "cat >/dev/null; rm -rf \"$0\"";
            let mut remover = Command::new("sh");
            remover.args(["-c", script]).arg(&parts).stdin(Stdio::piped()).process_group(0);
            (parts, remover.spawn().expect("sh starts"))
        })
        .0
}

/// Returns the folder of a part and creates it if necessary. A part exists completely or not at all.
fn part(name: &str, make: impl FnOnce(&Path)) -> PathBuf {
    let parts = parts();
    let (begun, done) = (parts.join(format!("{name}.begun")), parts.join(name));
    if begun.exists() {
        fs::remove_dir_all(&begun).unwrap();
    }
    fs::create_dir_all(&begun).unwrap();
    make(&begun);
    fs::rename(&begun, &done).unwrap();
    done
}

/// Copies a folder with all attributes. Files in the way are replaced.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    let copied = Command::new("cp").args(["-aT", "--reflink=auto"]).arg(from).arg(to).status().expect("cp starts");
    assert!(copied.success(), "{} is copied to {}", from.display(), to.display());
}

/// Creates the files of a new host.
pub fn new_host(dir: &Path) {
    static PARTS: OnceLock<[PathBuf; 2]> = OnceLock::new();
    let [files, program] = PARTS.get_or_init(|| {
        let files = part("host", |folder| {
            let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/host");
            let made = Command::new(script).arg(folder).arg("true").status().expect("scripts/host starts");
            assert!(made.success(), "scripts/host makes a host");
        });
        let program = part("program", |folder| {
            let (built, program) = (env!("CARGO_BIN_EXE_provision"), folder.join("provision"));
            fs::hard_link(built, &program).or_else(|_| fs::copy(built, &program).map(drop)).unwrap();
        });
        [files, program.join("provision")]
    });
    copy(files, dir);
    // One file for all hosts, because a copy of a debug build takes longer than everything else.
    fs::hard_link(program, dir.join(super::PROVISION.trim_start_matches('/'))).unwrap();
}

impl Sandbox {
    /// Adds the remote.
    pub(super) fn place_remote(&self) {
        static PART: OnceLock<PathBuf> = OnceLock::new();
        let part = PART.get_or_init(|| {
            part("remote", |folder| {
                let maker = Self::new();
                maker.bash("root", "/opt/provision/scripts/services remote");
                copy(&maker.path(BARE), &folder.join("bare"));
                copy(&maker.path(COLLEAGUE), &folder.join("work"));
            })
        });
        copy(&part.join("bare"), &self.path(BARE));
        copy(&part.join("work"), &self.path(COLLEAGUE));
    }

    /// Adds a cluster with the marts, without starting it.
    pub fn place_cluster(&self) {
        static PART: OnceLock<PathBuf> = OnceLock::new();
        let part = PART.get_or_init(|| {
            part("cluster", |folder| {
                let maker = Self::new();
                maker.bash("root", "/opt/provision/scripts/services postgres; /opt/provision/scripts/services stop");
                copy(&maker.path(CLUSTER), folder);
            })
        });
        self.layer_cluster(part);
    }

    /// Adds the bastion's host keys.
    pub(super) fn place_bastion_keys(&self) {
        static PART: OnceLock<PathBuf> = OnceLock::new();
        let part = PART.get_or_init(|| {
            part("bastion", |folder| {
                let maker = Self::new();
                for algorithm in ["ed25519", "ecdsa", "rsa"] {
                    maker.bash("root", &format!("ssh-keygen -q -t {algorithm} -N '' -f /etc/ssh/bastion_{algorithm}"));
                }
                copy(&maker.path("/etc/ssh"), folder);
            })
        });
        copy(part, &self.path("/etc/ssh"));
    }

    /// Adds the checkout, the key and the tables as left by the runbook. Starts nothing.
    pub(super) fn place_converged(&self) -> &'static Converged {
        static PART: OnceLock<Converged> = OnceLock::new();
        let converged = PART.get_or_init(|| {
            let maker = Self::order_tracking();
            maker.runbook().exits(0);
            maker.bash("root", "/opt/provision/scripts/services stop");
            let folder = part("converged", |folder| {
                copy(&maker.path(OPERATOR), &folder.join("home"));
                copy(&maker.root().join(CLUSTER.trim_start_matches('/')), &folder.join("cluster"));
            });
            Converged { folder, smtp_password: maker.env_of("ALERT_SMTP_PASSWORD") }
        });
        copy(&converged.folder.join("home"), &self.path(OPERATOR));
        self.layer_cluster(&converged.folder.join("cluster"));
        converged
    }

    /// The cluster starts as a copy of a part.
    fn layer_cluster(&self, part: &Path) {
        let part = part.strip_prefix(parts()).unwrap();
        self.bash("root", &format!("/opt/provision/scripts/services cluster /run/parts/{}", part.display()));
    }
}
