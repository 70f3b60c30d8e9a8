//! Remotes by http that want a password, or a proxy, or have a certificate of their own: reached where git reaches them,
//! and sent what git sends them.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::bench::{Bench, apply, git, plan, refusal};
use super::https::certificate;
use super::https_git::{Site, answer, serve};
use crate::resource::repository::Repository;

const PASSWORD: &str = "r1ght-p4ss";

/// What a process of its own runs, with an environment of its own.
#[test]
#[ignore = "the other tests of this file start it"]
fn child() {
    let mut desired = super::bench::desired(&std::env::current_dir().unwrap().join("cloned"));
    desired.url = Some(fs::read_to_string("url").unwrap());
    match plan(&desired) {
        Ok(planned) => println!("answer: reached {}", planned.unwrap().changes.len()),
        Err(failure) => println!("answer: {} / {}", failure.message, failure.hint.unwrap_or_default()),
    }
}

fn login(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

/// Serves a folder by http without TLS; as a proxy it takes what is meant for `far.invalid`.
fn serve_plain(folder: &Path) -> (u16, Arc<Site>) {
    let login = login("deploy", PASSWORD);
    let site = Arc::new(Site { login, folder: folder.to_owned(), seen: Mutex::default() });
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let served = Arc::clone(&site);
    std::thread::spawn(move || {
        for connection in listener.incoming().map_while(Result::ok) {
            let site = Arc::clone(&served);
            std::thread::spawn(move || drop(answer(connection, &site)));
        }
    });
    (port, site)
}

struct Case {
    url: String,
    config: String,
    files: Vec<(&'static str, String)>,
    env: Vec<(&'static str, String)>,
    reached: bool,
}

impl Case {
    fn new(url: &str, config: &str, reached: bool) -> Self {
        Self { url: url.to_owned(), config: config.to_owned(), files: Vec::new(), env: Vec::new(), reached }
    }

    fn file(mut self, name: &'static str, content: &str) -> Self {
        self.files.push((name, content.to_owned()));
        self
    }

    fn env(mut self, name: &'static str, value: &str) -> Self {
        self.env.push((name, value.to_owned()));
        self
    }
}

/// Runs git, and then a plan, in the same environment: both reach the remote or both do not.
fn compare(folder: &Path, case: &Case, seen: &dyn Fn() -> BTreeSet<String>) {
    let home = folder.join("home");
    let _ = fs::remove_dir_all(&home);
    fs::create_dir(&home).unwrap();
    fs::write(home.join(".gitconfig"), &case.config).unwrap();
    let write = || {
        for (name, content) in &case.files {
            fs::write(home.join(name), content).unwrap();
            fs::set_permissions(home.join(name), fs::Permissions::from_mode(0o700)).unwrap();
        }
    };
    write();
    fs::write(folder.join("url"), &case.url).unwrap();
    let what = format!("{} {} {:?}", case.url, case.config, case.env);
    let with = |mut command: Command| {
        command.current_dir(folder).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        command.env("HOME", &home).envs(case.env.iter().map(|(name, value)| (name, value)));
        command.env("GIT_TERMINAL_PROMPT", "0").output().unwrap()
    };
    let mut command = Command::new("git");
    command.args(["ls-remote", &case.url]);
    let output = with(command);
    assert_eq!(output.status.success(), case.reached, "{what}: {}", String::from_utf8_lossy(&output.stderr));
    let sent = seen();
    // git has stored the password that was right, and erased the one that was wrong.
    write();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "resource::repository::tests::credentials::child", "--ignored", "--nocapture"]);
    let output = with(command);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(text.contains("answer: reached 1"), case.reached, "{what}: {text}");
    assert!(!text.contains(PASSWORD), "{what}: {text}");
    assert_eq!(seen(), sent, "{what}");
    // Helpers are asked and told nothing.
    for (name, content) in &case.files {
        assert_eq!(&fs::read_to_string(home.join(name)).unwrap(), content, "{what}");
    }
}

#[test]
fn a_remote_by_http_is_reached_as_git_reaches_it_and_sent_what_git_sends() {
    let bench = Bench::new();
    let folder = bench.dir.path();
    let (port, site) = serve_plain(folder);
    let here = format!("http://127.0.0.1:{port}");
    let url = format!("{here}/remote.git");
    let far = "http://far.invalid/remote.git";
    let store = "[credential]\n\thelper = store\n";
    let other = "http://svc:0ther@git.corp.example\n";
    let right = format!("http://deploy:{PASSWORD}@127.0.0.1:{port}\n");
    let header = format!("extraHeader = \"Authorization: {}\"", site.login);
    let helper =
        format!("helper = \"!f() {{ test $1 = get && echo username=deploy && echo password={PASSWORD}; }}; f\"");
    let askpass = format!("#!/bin/sh\ncase $1 in Username*) echo deploy;; *) echo {PASSWORD};; esac\n");
    let askpass_at = folder.join("home/askpass").display().to_string();
    let cases = [
        Case::new(&url, "", false),
        // The password of another host is for that host.
        Case::new(&url, store, false).file(".git-credentials", other),
        Case::new(&url, store, true).file(".git-credentials", &format!("{other}{right}")),
        Case::new(&url, store, false).file(".git-credentials", &format!("http://deploy:{PASSWORD}@127.0.0.1:1\n")),
        Case::new(&url, store, false).file(".git-credentials", &format!("http://deploy:wr0ng@127.0.0.1:{port}\n")),
        Case::new(&url, "", true).file(".netrc", &format!("machine 127.0.0.1 login deploy password {PASSWORD}\n")),
        Case::new(&url, "", false).file(".netrc", &format!("machine h.example login deploy password {PASSWORD}\n")),
        Case::new(&url, &format!("[http]\n\t{header}\n"), true),
        Case::new(&url, &format!("[http \"{here}\"]\n\t{header}\n"), true),
        Case::new(&url, &format!("[http \"http://127.0.0.1:1\"]\n\t{header}\n"), false),
        Case::new(&url, &format!("[credential \"{here}\"]\n\t{helper}\n"), true),
        Case::new(&url, &format!("[credential \"{here}/\"]\n\t{helper}\n"), true),
        Case::new(&url, &format!("[credential \"{here}/remote.git\"]\n\t{helper}\n"), true),
        Case::new(&url, &format!("[credential \"{here}/other.git\"]\n\t{helper}\n"), false),
        Case::new(&url, &format!("[credential \"http://127.0.0.1\"]\n\t{helper}\n"), false),
        Case::new(&url, "", true).file("askpass", &askpass).env("GIT_ASKPASS", &askpass_at),
        Case::new(&url, "", true)
            .env("GIT_CONFIG_COUNT", "1")
            .env("GIT_CONFIG_KEY_0", "http.extraHeader")
            .env("GIT_CONFIG_VALUE_0", &format!("Authorization: {}", site.login)),
        Case::new(&format!("http://deploy:{PASSWORD}@127.0.0.1:{port}/remote.git"), "", true),
        Case::new(
            "corp:remote.git",
            &format!("[url \"http://deploy:{PASSWORD}@127.0.0.1:{port}/\"]\n\tinsteadOf = corp:\n"),
            true,
        ),
        Case::new(far, &format!("[http]\n\tproxy = {here}\n\t{header}\n"), true),
        Case::new(far, &format!("[http \"http://far.invalid\"]\n\tproxy = {here}\n\t{header}\n"), true),
        Case::new(far, &format!("[http]\n\t{header}\n"), true).env("http_proxy", &here),
        Case::new(far, &format!("[http]\n\t{header}\n"), true).env("ALL_PROXY", &here),
        Case::new(far, &format!("[http]\n\t{header}\n"), false).env("http_proxy", &here).env("no_proxy", "far.invalid"),
        Case::new(&url, &format!("[http]\n\tproxy = http://127.0.0.1:1\n\t{header}\n"), false),
    ];
    let seen = || site.seen.lock().unwrap().drain(..).collect::<BTreeSet<String>>();
    for case in &cases {
        compare(folder, case, &seen);
    }
}

/// The checkout keeps the login that it was cloned with.
#[test]
fn a_rotated_login_in_the_steps_url_is_used_for_the_checkout() {
    let bench = Bench::new();
    let (port, site) = serve_plain(bench.dir.path());
    let url = |login: &str| format!("http://{login}127.0.0.1:{port}/remote.git");
    let step = |login: &str| Repository { url: Some(url(login)), ..bench.desired() };
    for kept in ["deploy:0ld@", "other:0ld@", "deploy@", ""] {
        git(&bench.checkout(), &["remote", "set-url", "origin", &url(kept)]);
        bench.push(&format!("with {kept}"), &[("a", Some(&format!("{kept}\n")))]);
        assert!(plan(&step("")).is_err() && plan(&step("deploy:wr0ng@")).is_err(), "{kept}");
        let login = format!("deploy:{PASSWORD}@");
        apply(&step(&login), "run-1");
        assert!(plan(&step(&login)).unwrap().unwrap().changes.is_empty(), "{kept}");
        assert_eq!(git(&bench.checkout(), &["config", "remote.origin.url"]).trim(), url(kept));
    }
    // It is for that server alone.
    site.seen.lock().unwrap().clear();
    let elsewhere = format!("http://localhost:{port}/remote.git");
    git(&bench.checkout(), &["remote", "set-url", "origin", "corp:remote.git"]);
    git(
        &bench.checkout(),
        &["config", &format!("url.http://localhost:{port}/.insteadOf"), &format!("http://127.0.0.1:{port}/")],
    );
    git(&bench.checkout(), &["remote", "set-url", "origin", &url("")]);
    assert!(plan(&step(&format!("deploy:{PASSWORD}@"))).is_err(), "{elsewhere}");
    assert!(site.seen.lock().unwrap().iter().all(|line| !line.to_ascii_lowercase().contains("authorization")));
}

#[test]
fn a_password_that_ends_the_host_is_reported() {
    let bench = Bench::new();
    git(&bench.checkout(), &["remote", "set-url", "origin", "http://127.0.0.1:1/remote.git"]);
    let step = Repository { url: Some("http://u:a/b@127.0.0.1:1/remote.git".to_owned()), ..bench.desired() };
    let refusal = refusal(&step);
    assert!(refusal.hint.as_deref().unwrap_or_default().contains("%2F"), "{refusal:?}");
}

#[test]
fn a_certificate_is_judged_as_git_judges_it() {
    let bench = Bench::new();
    let folder = bench.dir.path();
    certificate(folder);
    let port = serve(folder, PASSWORD);
    let header = format!("[http]\n\textraHeader = \"Authorization: {}\"\n", login("deploy", PASSWORD));
    let url = format!("https://localhost:{port}/remote.git");
    let known = folder.join("cert").display().to_string();
    let with = |config: &str, reached: bool| Case::new(&url, &format!("{header}{config}"), reached);
    let here = format!("http \"https://localhost:{port}\"");
    for case in [
        with("", false),
        with(&format!("[http]\n\tsslCAInfo = {known}\n"), true),
        with(&format!("[{here}]\n\tsslCAInfo = {known}\n"), true),
        with("[http]\n\tsslVerify = false\n", true),
        with(&format!("[{here}]\n\tsslVerify = false\n"), true),
        with("[http \"https://localhost:1\"]\n\tsslVerify = false\n", false),
        with("", true).env("GIT_SSL_CAINFO", &known),
        with("", true).env("GIT_SSL_NO_VERIFY", "1"),
        // git's https library reads none of these.
        with("", false).env("SSL_CERT_FILE", &known),
        with("", false).env("SSL_CERT_DIR", &folder.display().to_string()),
        with("", true).env("GIT_SSL_CAINFO", &known).env("SSL_CERT_FILE", "/nowhere"),
        with(&format!("[{here}]\n\tsslCAInfo = {known}\n"), true).env("SSL_CERT_FILE", "/nowhere"),
    ] {
        compare(folder, &case, &BTreeSet::new);
    }
}
