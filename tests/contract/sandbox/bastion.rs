//! The bastion for the key: a real sshd on the host with its own account, and servers that are not SSH servers.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;

use super::{KEY, KEY_SOURCE, Outcome, Sandbox};

/// The login: the account is `git`, whose home has the authorized keys.
pub const BASTION: &str = "git@127.0.0.1:2222";
/// The account's authorized keys.
pub const AUTHORIZED: &str = "/home/git/.ssh/authorized_keys";
/// The host keys that the operator knows.
pub const KNOWN_HOSTS: &str = "/home/ubuntu/.ssh/known_hosts";
const LOG: &str = "/var/log/bastion";
const CONFIG: &str = "/etc/ssh/bastion_config";
/// The default of `ssh` takes a hundred milliseconds of both processors for each login.
const FAST_KEX: &str = "KexAlgorithms curve25519-sha256";

/// A host with a bastion that accepts the current key, and another key for a rotation.
pub struct Rotation {
    pub sandbox: Sandbox,
    old: (String, u64),
}

impl Rotation {
    pub fn new() -> Self {
        let sandbox = Sandbox::new();
        sandbox.place_bastion_keys();
        sandbox.bash("git", "mkdir -m 700 .ssh");
        sandbox.bash("ubuntu", &format!("mkdir -m 700 .ssh; mkdir -p $(dirname {KEY}); ssh-keygen -q -t ed25519 -N '' -f old; cp old {KEY}; chmod 400 {KEY}"));
        sandbox.new_key();
        let mut rotation = Self { old: (String::new(), 0), sandbox };
        rotation.old = rotation.key();
        rotation.serve("");
        rotation.authorize(&["old", "new"]);
        rotation.know("ed25519");
        rotation
    }

    /// Starts or restarts the bastion. The given lines of configuration take precedence.
    pub fn serve(&self, more: &str) {
        // Of this setting the last line counts.
        let startups = if more.contains("MaxStartups") { "" } else { "MaxStartups 100\n" };
        let config = format!(
            "{more}\nPort 2222\nListenAddress 127.0.0.1\nHostKey /etc/ssh/bastion_ed25519\nHostKey /etc/ssh/bastion_ecdsa\n\
             HostKey /etc/ssh/bastion_rsa\nPidFile /run/bastion.pid\nUsePAM no\nPasswordAuthentication no\n\
             KbdInteractiveAuthentication no\nLogLevel DEBUG1\n{FAST_KEX}\n{startups}"
        );
        fs::write(self.sandbox.path(CONFIG), config).unwrap();
        self.stop();
        self.sandbox.bash(
            "root",
            &format!("/usr/sbin/sshd -f {CONFIG} -E {LOG}; until ss -ltn | grep -q :2222; do sleep 0.02; done"),
        );
    }

    pub fn stop(&self) {
        let script = "[ ! -e /run/bastion.pid ] || kill $(cat /run/bastion.pid); while ss -ltn | grep -q :2222; do sleep 0.02; done";
        self.sandbox.bash("root", script);
    }

    /// Makes the account accept only these keys: `old`, `new`.
    pub fn authorize(&self, keys: &[&str]) {
        let keys: Vec<String> = keys.iter().map(|key| self.public(key)).collect();
        self.sandbox.write(AUTHORIZED, "git", keys.concat());
    }

    /// Returns the public half of a key: `old`, `new`.
    pub fn public(&self, key: &str) -> String {
        let path = if key == "new" { KEY_SOURCE.to_owned() } else { format!("/home/ubuntu/{key}") };
        self.sandbox.read(&format!("{path}.pub"))
    }

    /// Makes one of the bastion's host keys known to the operator.
    pub fn know(&self, algorithm: &str) {
        let key = self.sandbox.read(&format!("/etc/ssh/bastion_{algorithm}.pub"));
        self.sandbox.write(KNOWN_HOSTS, "ubuntu", format!("[127.0.0.1]:2222 {key}"));
    }

    /// Returns the fingerprint of a host key.
    pub fn fingerprint(&self, algorithm: &str) -> String {
        let printed = self.sandbox.bash("root", &format!("ssh-keygen -lf /etc/ssh/bastion_{algorithm}.pub"));
        printed.split(' ').nth(1).unwrap().to_owned()
    }

    /// Runs `plan` or `apply` for only the key. `more` are more keys of `verify`.
    pub fn run(&self, command: &str, more: &str) -> Outcome {
        self.at(BASTION, command, more)
    }

    /// The same with another bastion.
    pub fn at(&self, bastion: &str, command: &str, more: &str) -> Outcome {
        self.command(bastion, command, more).run()
    }

    /// The same, ready to run.
    pub fn command<'a>(&'a self, bastion: &str, command: &'a str, more: &str) -> super::Run<'a> {
        let plan = format!(
            "name: rotation\nsteps:\n  - id: key\n    run_as: ubuntu\n    key_file:\n      path: {KEY}\n      \
             source: {{ file: {KEY_SOURCE} }}\n      verify: {{ ssh: '{bastion}', {more} }}\n"
        );
        self.sandbox.write("/srv/rotation.yaml", "root", plan);
        let args = if command == "apply" { vec!["--yes", "--json"] } else { vec!["--json"] };
        self.sandbox.provision("ubuntu", [command, "/srv/rotation.yaml"]).args(args)
    }

    /// Returns the content and the inode of the installed key.
    pub fn key(&self) -> (String, u64) {
        (self.sandbox.read(KEY), self.sandbox.path(KEY).metadata().unwrap().ino())
    }

    /// Returns whether OpenSSH's own client can log in with a key.
    pub fn opens(&self, key: &str) -> bool {
        let line = format!(
            "ssh -F none -i {key} -o IdentitiesOnly=yes -o BatchMode=yes -o StrictHostKeyChecking=no \
             -o UserKnownHostsFile=/dev/null -p 2222 git@127.0.0.1 true"
        );
        self.sandbox.command("ubuntu", ["bash", "-c", &line]).run().code == 0
    }

    /// Asserts that the old key is in place unchanged, with the same inode, without other files, and works.
    #[track_caller]
    pub fn kept_the_old_key(&self, what: &str) {
        assert!(self.key() == self.old, "{what}: another key is in place");
        assert!(self.opens(KEY), "{what}: the key in place does not work");
        self.left_no_litter(what);
    }

    /// Asserts that the new key is in place, without other files, and works.
    #[track_caller]
    pub fn took_the_new_key(&self, what: &str) {
        assert!(self.sandbox.read(KEY) == self.sandbox.read(KEY_SOURCE), "{what}: another key is in place");
        assert!(self.opens(KEY), "{what}: the key in place does not work");
        self.left_no_litter(what);
    }

    #[track_caller]
    pub fn left_no_litter(&self, what: &str) {
        let listed = self.sandbox.bash("root", &format!("ls -A $(dirname {KEY})"));
        assert_eq!(listed, "jasleentung.pem\n", "{what}");
    }

    /// Returns whether the new key is in place, with the old one as backup.
    pub fn holds_both(&self) -> bool {
        let listed = self.sandbox.bash("root", &format!("ls -A $(dirname {KEY})"));
        listed.contains(".kept\n") && self.sandbox.read(KEY) == self.sandbox.read(KEY_SOURCE)
    }

    /// Restores the old key with the same inode for another round.
    pub fn again(&mut self) {
        self.sandbox.bash(
            "ubuntu",
            &format!("cd $(dirname {KEY}); rm -rf .provision-* {KEY}; cp ~/old {KEY}; chmod 400 {KEY}"),
        );
        self.old = self.key();
    }

    /// Returns the bastion's log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.sandbox.path(LOG)).unwrap_or_default()
    }

    /// Returns what the bastion logs during an action, until all its connections are closed.
    pub fn logged(&self, action: impl FnOnce()) -> String {
        let before = self.log().len();
        action();
        self.sandbox.bash("root", "while pgrep -f 'sshd: [g]it' > /dev/null; do sleep 0.02; done");
        self.log()[before..].to_owned()
    }

    /// From now on the bastion runs a script as root to get the accepted keys. `$KEY`, `$OLD` and `$NEW` are paths, and
    /// `in_place` tells whether the new key is installed.
    pub fn decides(&self, script: &str) {
        let script = format!(
            "#!/bin/bash\nKEY={KEY} OLD=/home/ubuntu/old.pub NEW={KEY_SOURCE}.pub\n\
             in_place() {{ cmp -s {KEY} {KEY_SOURCE}; }}\n{script}\n"
        );
        fs::write(self.sandbox.path("/etc/ssh/decide"), script).unwrap();
        self.sandbox.bash("root", "chmod 755 /etc/ssh/decide");
        self.serve("AuthorizedKeysFile none\nAuthorizedKeysCommand /etc/ssh/decide\nAuthorizedKeysCommandUser root");
    }

    /// Starts a server on a port, with perl code for a connection `$c`.
    pub fn impostor(&self, port: u16, perl: &str) {
        let code = format!(
            "use IO::Socket::INET; $SIG{{PIPE}} = 'IGNORE'; $SIG{{CHLD}} = 'IGNORE'; $| = 1;
             my $s = IO::Socket::INET->new(LocalAddr => '127.0.0.1:{port}', Listen => 9, ReuseAddr => 1) or die;
             while (my $c = $s->accept) {{ next if fork; {perl}; exit }}"
        );
        fs::write(self.sandbox.path(format!("/root/impostor-{port}")), code).unwrap();
        self.sandbox.bash(
            "root",
            &format!(
                "setsid perl /root/impostor-{port} < /dev/null > /root/impostor-{port}.log 2>&1 &
                 until ss -ltn | grep -q :{port}; do sleep 0.02; done"
            ),
        );
    }
}

/// Returns what sshd logs about channels and what runs in them.
pub fn channels(log: &str) -> BTreeSet<&'static str> {
    let words =
        ["server_input_channel_open", "session_new", "session_open", "Starting session", "server_input_channel_req"];
    words.into_iter().filter(|word| log.contains(word)).collect()
}
