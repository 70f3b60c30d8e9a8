//! Tests the remedies by texts of git and ssh.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;

use super::failure::{cut_off, failure};
use super::remedy::Remote;
use super::ssh::SshCommand;
use crate::host::program::Ended;

const WEB: &str = "https://h/x.git";

fn ended(said: &str) -> Ended {
    Ended { status: ExitStatus::from_raw(128 << 8), cut: None, said: said.lines().map(str::to_owned).collect() }
}

fn hint(url: &str, said: &str) -> String {
    let failure = failure(Remote { url, resolved: url, ssh: &SshCommand::default() }, &ended(said));
    assert!(!failure.message.contains("you have requested"), "{failure:?}");
    failure.hint.unwrap()
}

#[test]
fn what_helps_by_what_git_says() {
    let cut = "fatal: early EOF";
    for (url, said, words) in [
        (WEB, "fatal: transport 'file' not allowed", "`git config --global protocol.file.allow always`"),
        (WEB, "fatal: transport 'ext' not allowed", "use a path"),
        (WEB, "error: object 1f: zeroPaddedFilemode: x\nfatal: fsck error in packed object", "fetch.fsckObjects"),
        (WEB, "The requested URL returned error: 401", "requires a login"),
        (WEB, "The requested URL returned error: 403", "forbids it"),
        (WEB, "error: RPC failed; HTTP 403 curl 22 The requested URL returned error: 403", "forbids it"),
        (WEB, "The requested URL returned error: 429", "limits the number of requests"),
        (WEB, "The requested URL returned error: 502", "try again later"),
        (WEB, "Maximum (20) redirects followed", "redirects endlessly"),
        (
            WEB,
            "Protocol \"file\" not supported or disabled in libcurl",
            "redirects git to something that is not a repository",
        ),
        (WEB, "Protocol \"file\" disabled", "redirects git to something that is not a repository"),
        (WEB, "unable to update url base from redirection:\n asked for: x\n redirect: y", "redirects git to something"),
        (WEB, "Received HTTP code 407 from proxy after CONNECT", "the proxy refuses"),
        (WEB, "CONNECT tunnel failed, response 403", "the proxy refuses"),
        (WEB, "https://h/x.git/info/refs not valid: is this a git repository?", "not a git server"),
        (WEB, "protocol error: bad line length character: <htm", "not a git server"),
        (WEB, "could not read Username for 'https://h': terminal prompts disabled", "http.extraHeader"),
        (WEB, "server certificate verification failed. CAfile: none CRLfile: none", "certificate is not trusted"),
        (WEB, "OpenSSL SSL_read: error:0A000126:SSL routines::unexpected eof while reading", "was cut"),
        (WEB, "error:0A00010B:SSL routines::wrong version number", "does not speak TLS"),
        (WEB, "gnutls_handshake() failed: An unexpected TLS packet was received.", "does not speak TLS"),
        (WEB, "Empty reply from server", "was cut"),
        (
            "https://h/ssl-403/401.git",
            "unable to access 'https://h/ssl-403/401.git/': Could not resolve host: h",
            "name",
        ),
        ("git://h/x", "fatal: remote error: access denied or repository not exported: /x", "does not exist"),
        (WEB, "error: inflate: data stream error (incorrect header check)\nfatal: pack has bad object", "damaged"),
        (WEB, "fetch-pack: unexpected disconnect while reading sideband packet\nfatal: early EOF", "damaged"),
        (WEB, cut, "ask its owner to run `git fsck` in it"),
        (WEB, "29 bytes of body are still expected\nfatal: expected flush after ref listing", "damaged: try again"),
        (WEB, "remote-curl: bad line length character: x\nfatal: early EOF", "damaged: try again"),
        ("/srv/x", "error: loose object 1f (stored in ./objects/1f) is corrupt", "objects of the remote are missing"),
        ("/srv/a b", cut, "as its owner: `git -C '/srv/a b' fsck`"),
        ("git@h:x.git", cut, "on h, as its owner: `git -C x.git fsck`"),
        ("git@h:x", "remote: aborting due to possible repository corruption on the remote side.", "`git -C x fsck`"),
        (WEB, "fatal: remote error: upload-pack: not our ref 1f", "run again"),
    ] {
        let hint = hint(url, said);
        assert!(hint.contains(words), "{said}: {hint}");
    }
}

#[test]
fn names_are_not_taken_for_the_reason() {
    let gone = "the repository does not exist";
    let here = "/srv/refused/it's an ssl/x";
    for (url, said, words) in [
        ("/srv/ssl-tools.git", "fatal: '/srv/ssl-tools.git' does not appear to be a git repository", gone),
        ("/srv/refused/x", "fatal: '/srv/refused/x' does not appear to be a git repository", gone),
        (here, &*format!("fatal: '{here}' does not appear to be a git repository"), gone),
        ("git@h:timed out", "fatal: 'timed out' does not appear to be a git repository", gone),
        ("git@h:ssl", "fatal: 'ssl' does not appear to be a git repository", gone),
        ("git@refused.h:x", "git@refused.h: usage: x\nfatal: 'x' does not exist", gone),
        (WEB, "fatal: couldn't connect to '/x/y'", "the host does not answer"),
        (WEB, "error: RPC failed; HTTP 404 curl 22 The requested URL returned error: 404", gone),
        (
            WEB,
            "error: RPC failed; HTTP 502 curl 22 The requested URL returned error: 502\nfatal: early EOF",
            "try again later",
        ),
        ("ssh://h/x", "fatal: detected dubious ownership in repository at '/x'", "belongs to another user there"),
    ] {
        let hint = hint(url, said);
        assert!(hint.contains(words), "{said}: {hint}");
    }
}

#[test]
fn what_helps_by_what_ssh_says() {
    let denied = "git@h: Permission denied (publickey).";
    for (said, words) in [
        (format!("Load key \"/k\": error in libcrypto\n{denied}"), "copy it again, as a whole"),
        (format!("Load key \"/k\": Permission denied\n{denied}"), "key /k is not readable for "),
        (denied.to_owned(), "accepts none of the keys of the step's user"),
        ("/root/.ssh/config: line 3: Bad configuration option: x".to_owned(), "correct that line"),
        ("fatal: protocol error: bad line length character: HELL".to_owned(), "`ssh git@h true` shows it"),
        ("ssh -F 'x' \"$@\": 1: ssh: not found".to_owned(), "install ssh; git needs it"),
        (
            "fatal: ssh variant 'simple' does not support setting port".to_owned(),
            "those of OpenSSH: `git config --global ssh.variant ssh`",
        ),
        ("usage: ssh [-46AaCfGgKkMNnqsTtVvXxYy]".to_owned(), "check whether ssh can connect: `ssh git@h true`"),
    ] {
        let hint = hint("git@h:x", &said);
        assert!(hint.contains(words), "{said}: {hint}");
    }
}

#[test]
fn files_that_ssh_refuses_are_closed_only_if_they_are_open() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str, mode: u32| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path.display().to_string()
    };
    let key = "-----BEGIN OPENSSH PRIVATE KEY-----\n";
    let denied = "git@h: Permission denied (publickey).";
    let of_key = |path: &str| {
        hint(
            "git@h:x",
            &format!("Permissions 0644 for '{path}' are too open.\nLoad key \"{path}\": bad permissions\n{denied}"),
        )
    };
    let open = file("my key", key, 0o644);
    assert!(of_key(&open).ends_with(&format!("close it: `chmod 600 '{open}'`")), "{}", of_key(&open));
    for other in [file("closed", key, 0o600), file("text", "a\n", 0o644), "/etc/passwd".into(), "/none".into()] {
        assert!(of_key(&other).contains("accepts none of the keys"), "{}", of_key(&other));
    }

    let of_config = |path: &str| hint("git@h:x", &format!("Bad owner or permissions on {path}"));
    let shared = file("config", "", 0o664);
    assert!(of_config(&shared).ends_with(&format!("write it: `chmod go-w {shared}`")), "{}", of_config(&shared));
    let other = file("other", "", 0o664);
    chown(&other, Some(4_000_000), None).unwrap();
    assert!(of_config(&other).ends_with("write it; it belongs to 4000000"), "{}", of_config(&other));
    for path in [file("right", "", 0o644), dir.path().display().to_string(), "/none".into()] {
        assert!(of_config(&path).ends_with("nobody else can write it"), "{}", of_config(&path));
    }
    for greeting in ["remote: Load key \"/etc/passwd\": Permission denied", "x Permissions 0644 for '/k' are too open."]
    {
        let hint = hint("git@h:x", &format!("{greeting}\n{denied}"));
        assert!(hint.contains("accepts none of the keys"), "{hint}");
    }
}

#[test]
fn a_url_with_a_port_in_the_wrong_place_is_written_right() {
    let refused = "ssh: connect to host h port 22: Connection refused";
    for (url, right) in [
        ("git@h:2200:/srv/x.git", "part of the path: write ssh://git@h:2200/srv/x.git"),
        ("h:2200:x.git", "write ssh://h:2200/~/x.git"),
        ("[::1]:2200:/x", "write ssh://[::1]:2200/x"),
        ("git@h:2200/srv/x.git", "or, if 2200 is a port, write ssh://git@h:2200/srv/x.git"),
        ("ssh://git@h:team/x.git", "as a port: write ssh://git@h/team/x.git"),
        ("ssh://u:s3cret@h:team/x.git", "as a port: write ssh://u@h/team/x.git"),
        ("ssh://u:s3c/ret@h/x", "as a port: correct the url"),
    ] {
        let hint = hint(url, refused);
        assert!(hint.ends_with(right), "{url}: {hint}");
    }
    for url in [
        "git@h:x.git",
        "git@h:70000/x",
        "git@h:22x/y",
        "ssh://h:22/x",
        "ssh://[::1]/x",
        "ssh://[::1]:22/x",
        "ssh://u:s3cret@h/x",
        "ssh://u:s3cret@[::1]:22/x",
        "u:1234/5@h:x",
        "u:1234:5@h:x",
    ] {
        let hint = hint(url, refused);
        assert!(hint.ends_with("and the firewall"), "{url}: {hint}");
    }
}

#[test]
fn the_command_of_the_user_is_named_and_used() {
    let hint = |text: &str, said: &str| {
        let folder = PathBuf::from("/srv/my app");
        let ssh = SshCommand { text: text.to_owned(), source: Some("core.sshCommand"), folder };
        let failure = failure(Remote { url: "git@h:x", resolved: "git@h:x", ssh: &ssh }, &ended(said));
        failure.hint.unwrap()
    };
    let denied = "git@h: Permission denied (publickey).";
    let home = std::env::var("HOME").unwrap();
    for (own, words) in [
        ("ssh -F 'a b' -ikey", "-F '/srv/my app/a b' -i '/srv/my app/key'"),
        ("ssh -F none -i ~/deploy -i '~/other'", &format!("-F none -i {home}/deploy -i '~/other'")),
        ("/usr/bin/ssh -4 -vv -p 22 -J u@h:1,k", "/usr/bin/ssh -4 -vv -p 22 -J u@h:1,k"),
        ("../ssh -q", "'/srv/my app/../ssh'"),
        ("ssh -o StrictHostKeyChecking=yes -oBatchMode=yes -4", "ssh -4"),
        (
            "ssh -o UserKnownHostsFile=hosts -o IdentityFile=~/k",
            "ssh -o 'UserKnownHostsFile=/srv/my app/hosts' -o 'IdentityFile=~/k'",
        ),
        ("ssh -oPort=22 -o 'identitiesonly yes'", "ssh -o Port=22 -o identitiesonly=yes"),
    ] {
        let words = format!("{words} git@h true`");
        assert!(hint(own, denied).ends_with(&words), "{own}: {}", hint(own, denied));
    }
    for own in [
        "sshpass -p s3cret ssh",
        "ssh; true",
        "ssh -o ProxyCommand=\"sshpass -p s3cret ssh jump\"",
        "ssh -o SetEnv=TOKEN=s3cret",
        "ssh -oSetEnv=TOKEN=s3cret -4",
        "ssh -J u:s3cret@h",
        "ssh -l u:s3cret",
        "ssh -i",
        "ssh -p -oSetEnv=s3cret",
        "ssh s3cret",
    ] {
        assert!(hint(own, denied).ends_with("try `ssh git@h true`"), "{own}: {}", hint(own, denied));
    }
    for (own, said) in [
        ("/opt/my-ssh -4", "/opt/my-ssh -4 -o BatchMode=yes \"$@\": 1: /opt/my-ssh: not found"),
        ("A=b my-ssh", "sh: line 1: my-ssh: command not found"),
        ("'/opt/my-ssh'", "error: cannot run /opt/my-ssh: No such file or directory"),
        ("/opt/ssh", "/tmp/x/own/ssh: 14: exec: /opt/ssh: Permission denied"),
        ("'/opt/my ssh'", "'/opt/my ssh' -o BatchMode=yes \"$@\": 1: /opt/my ssh: not found"),
    ] {
        let hint = hint(own, said);
        assert!(hint.starts_with("core.sshCommand names ") && hint.contains("cannot be run here"), "{said}: {hint}");
    }
    for own in ["/opt/my-ssh", "'/opt/my ssh'"] {
        assert!(!hint(own, denied).contains("cannot be run"), "{own}: nothing says so");
    }
}

#[test]
fn what_helps_with_ssh_is_a_command_that_can_be_pasted() {
    let hint = |url: &str, said: &[&str]| hint(url, &said.join("\n"));
    let new = [
        "No ED25519 host key is known for [h]:2222 and you have requested strict checking.",
        "Host key verification failed.",
    ];
    assert!(hint("ssh://git@h:2222/x", &new).ends_with("ssh -p 2222 git@h true`"));
    assert!(hint("git@h:x.git", &new).ends_with("ssh git@h true`"));
    assert!(hint("git@h:x.git", &new).contains("provision accepts no new keys unless ssh is configured to"));
    let changed = [
        "@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @",
        "Offending ED25519 key in /home/u/.ssh/known_hosts:1",
        "Host key for [h]:2222 has changed and you have requested strict checking.",
    ];
    let removed = hint("ssh://h:2222/x", &changed);
    assert!(removed.contains("ssh-keygen -f /home/u/.ssh/known_hosts -R '[h]:2222'`"), "{removed}");
    for way in [
        "Connection closed by UNKNOWN port 65535",
        "stdio forwarding failed",
        "channel 0: open failed: connect failed: No such file or directory",
        "sh: 1: exec: nc: not found",
        "no such identity: /home/u/.ssh/gone: No such file or directory",
    ] {
        let hint = hint("ssh://h/x", &[way]);
        assert!(hint.contains("ssh h true`") && !hint.contains("repository"), "{way}: {hint}");
    }
    assert!(hint("ssh://h/x", &["bash: line 1: git-upload-pack: command not found"]).contains("no git"));
    for gone in ["fatal: '/x' does not appear to be a git repository", "ERROR: Repository not found."] {
        assert!(hint("ssh://h/x", &[gone]).contains("repository does not exist"), "{gone}");
    }
}

#[test]
fn the_shallow_remote_is_named_with_its_path() {
    for (url, command) in [
        ("/srv/a b.git", "`git -C '/srv/a b.git' fetch --unshallow`"),
        ("file:///srv/x", "`git -C /srv/x fetch --unshallow`"),
        ("git@h:x.git", "on h, as its owner: `git -C x.git fetch --unshallow`"),
        ("ssh://h:2222/srv/x", "on h, as its owner: `git -C /srv/x fetch --unshallow`"),
        ("ssh://h/~/x y.git", "`git -C 'x y.git' fetch --unshallow`"),
        ("h:~/x", "`git -C x fetch --unshallow`"),
        ("ssh://h/~u/x", "ask its owner on h to run `git fetch --unshallow` in it"),
        ("https://h/x", "ask its owner"),
    ] {
        let hint = cut_off(url, url).hint.unwrap();
        assert!(hint.contains(command), "{hint}");
    }
}
