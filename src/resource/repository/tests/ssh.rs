//! Remotes by ssh, through a real sshd on loopback.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::bench::{Bench, apply, git, plan, write};

struct Server {
    child: Child,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn keygen(path: &Path) {
    let _ = fs::remove_file(path);
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path).status().unwrap();
    assert!(made.success());
}

/// Starts sshd with its own host key; it takes the key `client`.
fn serve(folder: &Path) -> Server {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    // sshd as root insists on its empty directory.
    if rustix::process::geteuid().is_root() {
        fs::create_dir_all("/run/sshd").unwrap();
    }
    let at = folder.display();
    let config = format!(
        "ListenAddress 127.0.0.1:{port}\nHostKey {at}/host\nAuthorizedKeysFile {at}/client.pub\nStrictModes no\n\
         UsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPidFile none\nPermitRootLogin yes\n\
         KexAlgorithms curve25519-sha256\n"
    );
    fs::write(folder.join("sshd_config"), config).unwrap();
    let mut child = Command::new("/usr/sbin/sshd")
        .args(["-D", "-e", "-f"])
        .arg(folder.join("sshd_config"))
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("Server listening")), "sshd does not start");
    std::thread::spawn(move || lines.for_each(drop));
    Server { child, port }
}

fn known(folder: &Path, port: u16) {
    let key = fs::read_to_string(folder.join("host.pub")).unwrap();
    fs::write(folder.join("known_hosts"), format!("[127.0.0.1]:{port} {key}")).unwrap();
}

/// A bench whose checkout reaches its remote by ssh, with keys and known hosts in the bench's own folder.
fn bench() -> (Bench, Server) {
    let bench = Bench::new();
    let folder = bench.dir.path();
    keygen(&folder.join("host"));
    keygen(&folder.join("client"));
    let server = serve(folder);
    known(folder, server.port);
    let at = folder.display();
    // A master connection that the user's configuration asks for would outlive the plan.
    let master = format!("ControlMaster auto\nControlPath {at}/master-%C\nControlPersist 20\n");
    fs::write(folder.join("config"), master).unwrap();
    let known_hosts = format!("-o UserKnownHostsFile={at}/known_hosts -o GlobalKnownHostsFile=none");
    let command = format!("ssh -F '{at}/config' -i '{at}/client' -o IdentitiesOnly=yes {known_hosts}");
    git(&bench.checkout(), &["config", "core.sshCommand", &command]);
    let user = users::get_current_username().unwrap().into_string().unwrap();
    let url = format!("ssh://{user}@127.0.0.1:{}{}", server.port, bench.remote().display());
    git(&bench.checkout(), &["remote", "set-url", "origin", &url]);
    (bench, server)
}

fn failure(bench: &Bench, words: &[&str]) {
    let failure = plan(&bench.desired()).unwrap_err();
    let text = format!("{} / {}", failure.message, failure.hint.as_deref().expect("a remedy"));
    for word in words {
        assert!(text.contains(word), "{word}: {text}");
    }
}

#[test]
fn a_checkout_follows_its_remote_by_ssh() {
    let (bench, _server) = bench();
    assert_eq!(plan(&bench.desired()).unwrap().unwrap().changes, []);
    let names = fs::read_dir(bench.dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(!names.into_iter().any(|name| name.to_string_lossy().starts_with("master-")));
    bench.push("more", &[("a", Some(&"a line\n".repeat(100_000))), ("new", Some("theirs\n"))]);
    write(&bench.checkout(), "new", Some("mine\n"));
    apply(&bench.desired(), "run-1");
    assert_eq!(git(&bench.checkout(), &["status", "--porcelain"]), "");
    assert_eq!(git(&bench.checkout(), &["rev-parse", "HEAD"]), git(&bench.seed(), &["rev-parse", "qa"]));
    git(&bench.checkout(), &["fsck"]);
}

#[test]
fn what_ssh_refuses_is_said_with_its_remedy() {
    let (bench, server) = bench();
    let folder = bench.dir.path();
    fs::remove_file(folder.join("known_hosts")).unwrap();
    failure(&bench, &["Host key verification failed", "known_hosts"]);
    fs::rename(folder.join("host.pub"), folder.join("host.pub.right")).unwrap();
    keygen(&folder.join("other"));
    fs::copy(folder.join("other.pub"), folder.join("host.pub")).unwrap();
    known(folder, server.port);
    failure(&bench, &["IDENTIFICATION HAS CHANGED", "ask its owner"]);
    fs::rename(folder.join("host.pub.right"), folder.join("host.pub")).unwrap();
    known(folder, server.port);
    fs::remove_file(folder.join("client")).unwrap();
    keygen(&folder.join("client-2"));
    fs::copy(folder.join("client-2"), folder.join("client")).unwrap();
    failure(&bench, &["Permission denied", "accepts none of the keys of the step's user"]);
    drop(server);
    failure(&bench, &["refused", "does not answer"]);
}

#[test]
fn what_helps_with_ssh_works_when_it_is_pasted() {
    let (bench, _server) = bench();
    let (key, line) = (bench.dir.path().join("client"), bench.dir.path().join("client.pub"));
    let paste = || {
        let hint = plan(&bench.desired()).unwrap_err().hint.unwrap();
        let command = hint.split('`').nth(1).unwrap();
        let output = Command::new("sh").args(["-c", command]).output().unwrap();
        assert!(output.status.success(), "{hint}: {output:?}");
        (hint, String::from_utf8(output.stdout).unwrap())
    };
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let (hint, _) = paste();
    assert!(hint.contains(&format!("`chmod 600 {}`", key.display())), "{hint}");
    plan(&bench.desired()).unwrap().unwrap();

    let quiet = fs::read_to_string(&line).unwrap();
    fs::write(&line, format!("command=\"echo HELLO; eval $SSH_ORIGINAL_COMMAND\" {quiet}")).unwrap();
    let (hint, shown) = paste();
    assert!(hint.contains("prints a text before git answers") && hint.contains(".bashrc"), "{hint}");
    assert_eq!(shown, "HELLO\n");

    fs::write(&line, quiet).unwrap();
    for (command, words) in [
        ("/nowhere/my-ssh -4", "core.sshCommand names /nowhere/my-ssh, which cannot be run here"),
        ("ssh -F /nowhere/config", "core.sshCommand names it"),
    ] {
        git(&bench.checkout(), &["config", "core.sshCommand", command]);
        failure(&bench, &[words]);
    }
}

/// `-F /dev/null` is a usual way to have no configuration at all.
#[test]
fn a_configuration_that_is_not_a_regular_file_is_read_as_ssh_reads_it() {
    let (bench, server) = bench();
    let folder = bench.dir.path();
    let command = git(&bench.checkout(), &["config", "core.sshCommand"]);
    let (_, options) = command.trim().split_once("config' ").unwrap();
    let pipe = folder.join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let commands = |file: &Path| {
        let file = file.display();
        [format!("ssh -F {file} {options}"), format!("ssh {options} -F{file}")]
    };
    let set = |command: &str| git(&bench.checkout(), &["config", "core.sshCommand", command]);
    for command in [Path::new("/dev/null"), folder].into_iter().flat_map(commands) {
        set(&command);
        assert_eq!(plan(&bench.desired()).unwrap().unwrap().changes, [], "{command}");
    }
    let user = users::get_current_username().unwrap().into_string().unwrap();
    let text = format!("Host piped\n HostName 127.0.0.1\n User {user}\n Port {}\n", server.port);
    git(&bench.checkout(), &["remote", "set-url", "origin", &format!("piped:{}", bench.remote().display())]);
    for command in commands(&pipe) {
        set(&command);
        let (pipe, text) = (pipe.clone(), text.clone());
        std::thread::spawn(move || fs::write(pipe, text));
        assert_eq!(plan(&bench.desired()).unwrap().unwrap().changes, [], "{command}");
    }
    // ssh would wait forever.
    failure(&bench, &["nothing is written to this pipe", "core.sshCommand names it"]);
}

#[test]
fn a_jump_that_leads_back_to_itself_ends() {
    let (bench, server) = bench();
    let folder = bench.dir.path();
    let at = folder.display();
    let config = format!(
        "Host *\n ProxyJump gitbox\n HostName 127.0.0.1\n Port {}\n UserKnownHostsFile {at}/known_hosts\n",
        server.port
    );
    fs::write(folder.join("config"), config).unwrap();
    git(&bench.checkout(), &["config", "core.sshCommand", &format!("ssh -F {at}/config")]);
    failure(&bench, &["jumphost loop via"]);
}

/// A program of the user's that calls ssh with a configuration file of its own, by its name or by its path.
#[test]
fn the_configuration_that_a_program_of_the_users_names_is_kept() {
    let (bench, server) = bench();
    let folder = bench.dir.path();
    let at = folder.display();
    let user = users::get_current_username().unwrap().into_string().unwrap();
    let config = |way: &str| {
        format!(
            "Host far\n {way}\nHost *\n HostName 127.0.0.1\n Port {}\n User {user}\n IdentityFile {at}/client\n \
             IdentitiesOnly yes\n UserKnownHostsFile {at}/known_hosts\n ControlMaster auto\n \
             ControlPath {at}/master-%C\n ControlPersist 20\n",
            server.port
        )
    };
    let wrapper = folder.join("my wrapper");
    git(&bench.checkout(), &["config", "core.sshCommand", &format!("'{}'", wrapper.display())]);
    git(&bench.checkout(), &["remote", "set-url", "origin", &format!("far:{}", bench.remote().display())]);
    for (command, way) in [
        (format!("/usr/bin/ssh -F {at}/own \"$@\""), ""),
        (format!("ssh -F '{at}/own' \"$@\""), ""),
        (format!("ssh -4 -F{at}/own \"$@\""), "ProxyJump gitbox"),
        (format!("ssh -F {at}/own -o ConnectTimeout=9 \"$@\""), "ProxyCommand ssh -F %d/nowhere -W %h:%p gitbox"),
        (format!("ssh -F {at}/own \"$@\""), &format!("ProxyCommand ssh -F {at}/own -W %h:%p gitbox")),
    ] {
        let reached = !way.contains("nowhere");
        fs::write(folder.join("own"), config(way)).unwrap();
        fs::write(&wrapper, format!("#!/bin/sh\n# deploy\nexec {command}\n")).unwrap();
        fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
        match plan(&bench.desired()) {
            Ok(_) => assert!(reached, "{command} {way}"),
            Err(failure) => assert!(!reached, "{command} {way}: {failure:?}"),
        }
        let left = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        assert!(!left.into_iter().any(|name| name.to_string_lossy().starts_with("master-")), "{command} {way}");
    }
}

/// If the user's ssh accepts unknown hosts, provision reaches them as git does. A plan does not write known_hosts.
#[test]
fn an_unknown_host_is_accepted_where_ssh_is_configured_to_accept_it() {
    let (bench, server) = bench();
    let folder = bench.dir.path();
    let at = folder.display();
    let user = users::get_current_username().unwrap().into_string().unwrap();
    let known_hosts = folder.join("known_hosts");
    let set = |options: &str, lines: &str, way: &str| {
        let config = format!(
            "Host far\n {way}\nHost *\n HostName 127.0.0.1\n Port {}\n User {user}\n IdentityFile {at}/client\n \
             IdentitiesOnly yes\n GlobalKnownHostsFile none\n{lines}",
            server.port
        );
        fs::write(folder.join("config"), config).unwrap();
        git(&bench.checkout(), &["config", "core.sshCommand", &format!("ssh -F {at}/config {options}")]);
    };
    git(&bench.checkout(), &["remote", "set-url", "origin", &format!("far:{}", bench.remote().display())]);
    fs::remove_file(&known_hosts).unwrap();
    let own = format!("UserKnownHostsFile {at}/known_hosts\n");
    let command = format!("ProxyCommand ssh -F {at}/config -W %h:%p gitbox");
    for (options, lines, way) in [
        ("", format!("StrictHostKeyChecking no\n{own}"), ""),
        ("", format!("StrictHostKeyChecking accept-new\n{own}"), "ProxyJump gitbox,second"),
        ("", format!("StrictHostKeyChecking off\n{own}"), command.as_str()),
        ("", "StrictHostKeyChecking no\nUserKnownHostsFile /dev/null\n".to_owned(), "ProxyJump gitbox"),
        ("", "StrictHostKeyChecking accept-new\nUserKnownHostsFile none\n".to_owned(), ""),
        ("-o StrictHostKeyChecking=no", own.clone(), ""),
        ("-oStrictHostKeyChecking=accept-new -o UserKnownHostsFile=/dev/null", String::new(), ""),
    ] {
        set(options, &lines, way);
        let planned = plan(&bench.desired());
        assert!(planned.is_ok(), "{options} {lines} {way}: {planned:?}");
        assert!(!known_hosts.exists(), "{options} {lines} {way}");
    }
    // Otherwise ssh would ask the user, and provision lets it ask nothing.
    for strict in ["", "StrictHostKeyChecking ask\n", "StrictHostKeyChecking yes\n"] {
        set("", &format!("{strict}{own}"), "");
        failure(&bench, &["Host key verification failed", "known_hosts"]);
        assert!(!known_hosts.exists(), "{strict}");
    }
    // A file name with a space looks like two names, so nothing is accepted.
    set("", &format!("StrictHostKeyChecking accept-new\nUserKnownHostsFile \"{at}/known hosts\"\n"), "");
    failure(&bench, &["Host key verification failed"]);

    keygen(&folder.join("other"));
    fs::copy(folder.join("other.pub"), folder.join("host.pub")).unwrap();
    known(folder, server.port);
    let before = fs::read_to_string(&known_hosts).unwrap();
    set("", &format!("StrictHostKeyChecking accept-new\n{own}"), "");
    failure(&bench, &["IDENTIFICATION HAS CHANGED"]);
    assert_eq!(fs::read_to_string(&known_hosts).unwrap(), before);
}

#[test]
fn a_repository_that_is_not_there_is_said() {
    let (bench, _server) = bench();
    fs::rename(bench.remote(), bench.dir.path().join("moved.git")).unwrap();
    failure(&bench, &["cannot reach the remote ssh://", "check the url"]);
}

/// What ssh starts by itself, for a jump or a proxy, leaves no more behind than ssh does.
#[test]
fn a_jump_on_the_way_leaves_no_connection_and_writes_no_known_hosts() {
    let (bench, server) = bench();
    let folder = bench.dir.path();
    let (at, port) = (folder.display(), server.port);
    let before = fs::read_to_string(folder.join("known_hosts")).unwrap();
    let user = users::get_current_username().unwrap().into_string().unwrap();
    for (way, program) in [
        "ProxyJump gitbox".to_owned(),
        "ProxyJump gitbox,second".to_owned(),
        format!("ProxyCommand ssh -F {at}/config -W %h:%p gitbox"),
        format!("ProxyCommand /usr/bin/ssh -F {at}/config -W %h:%p gitbox"),
        format!("ProxyCommand sh -c 'cd / && exec /usr/bin/ssh -F {at}/config -W [%h]:%p gitbox'"),
        format!("ProxyCommand sh -c \"/usr/bin/ssh -F {at}/config -W %h:%p gitbox\""),
        format!("ProxyCommand /usr/bin/ssh -F {at}/config -W %h:%p between"),
    ]
    .iter()
    .zip(["ssh", "/usr/bin/ssh"].into_iter().cycle())
    {
        let config = format!(
            "Host far\n {way}\nHost between\n ProxyCommand /usr/bin/ssh -F {at}/config -W %h:%p gitbox\nHost *\n HostName 127.0.0.1\n Port {port}\n User {user}\n IdentityFile {at}/client\n \
             IdentitiesOnly yes\n UserKnownHostsFile {at}/known_hosts\n UpdateHostKeys yes\n ControlMaster auto\n \
             ControlPath {at}/master-%C\n ControlPersist 20\n PermitLocalCommand yes\n LocalCommand touch {at}/master-local\n \
             LocalForward {at}/master-forward 127.0.0.1:1\n RequestTTY force\n"
        );
        fs::write(folder.join("config"), config).unwrap();

        git(&bench.checkout(), &["config", "core.sshCommand", &format!("{program} -F {at}/config")]);
        git(&bench.checkout(), &["remote", "set-url", "origin", &format!("far:{}", bench.remote().display())]);
        bench.push(way, &[("a", Some(&format!("{way} {program}")))]);
        apply(&bench.desired(), "run-1");
        let left = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        let left: Vec<_> = left.filter(|name| name.to_string_lossy().starts_with("master-")).collect();
        assert!(left.is_empty(), "{program}, {way}: {left:?}");
        assert_eq!(fs::read_to_string(folder.join("known_hosts")).unwrap(), before, "{way}");
    }
}
