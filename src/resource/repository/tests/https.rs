//! https remotes: the server's certificate is verified, against the certificates that the environment names.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use super::bench::{Bench, git, plan};

/// What a process of its own runs, with an environment of its own.
#[test]
#[ignore = "the other test of this file starts it"]
fn child() {
    let desired = super::bench::desired(&std::env::current_dir().unwrap().join("checkout"));
    println!("answer: {}", plan(&desired).unwrap_err().message);
}

fn openssl(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("openssl");
    command.args(args).current_dir(folder).stdin(Stdio::null()).stderr(Stdio::null());
    command
}

/// Makes `key` and `cert`, a certificate for localhost that signs itself.
pub fn certificate(folder: &Path) {
    let key = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
    let name = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", "key", "-out", "cert"];
    assert!(openssl(folder, &[&key[..], &name[..]].concat()).status().unwrap().success());
}

#[test]
fn a_certificate_is_verified_and_a_known_one_is_taken() {
    let bench = Bench::new();
    let folder = bench.dir.path();
    certificate(folder);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut server =
        openssl(folder, &["s_server", "-WWW", "-cert", "cert", "-key", "key", "-accept", &format!("127.0.0.1:{port}")])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("ACCEPT")), "openssl s_server does not start");
    git(&bench.checkout(), &["remote", "set-url", "origin", &format!("https://localhost:{port}/none.git")]);
    for (known, word) in [(false, "certificate"), (true, "is this a git repository")] {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "resource::repository::tests::https::child", "--ignored", "--nocapture"]);
        command.current_dir(folder).env_remove("SSL_CERT_FILE").env_remove("SSL_CERT_DIR").env_remove("GIT_SSL_CAINFO");
        if known {
            command.env("GIT_SSL_CAINFO", folder.join("cert"));
        }
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains("cannot reach the remote https://localhost") && text.contains(word), "{known} {text}");
    }
    server.kill().unwrap();
    server.wait().unwrap();
}
