//! git over https for real: `git http-backend` behind TLS and a password that a credential helper knows.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use openssl::ssl::{SslAcceptor, SslFiletype, SslMethod};

use super::bench::{Bench, apply, desired, git, plan};
use super::https::certificate;

/// What a process of its own runs, with an environment of its own.
#[test]
#[ignore = "the other test of this file starts it"]
fn child() {
    let mut desired = desired(&std::env::current_dir().unwrap().join("cloned"));
    desired.url = Some(fs::read_to_string("url").unwrap());
    match plan(&desired) {
        Ok(planned) => {
            assert_eq!(planned.unwrap().changes.len(), 1);
            apply(&desired, "run-1");
            println!("answer: applied");
        }
        Err(failure) => println!("answer: {} / {}", failure.message, failure.hint.unwrap_or_default()),
    }
}

#[test]
fn a_checkout_is_made_and_follows_with_a_password_of_a_credential_helper() {
    let bench = Bench::new();
    let folder = bench.dir.path();
    certificate(folder);
    let password = password();
    let port = serve(folder, &password);
    fs::write(folder.join("url"), format!("https://localhost:{port}/remote.git")).unwrap();
    let answer = |helper: &str| {
        fs::write(folder.join(".gitconfig"), format!("[credential]\n\thelper = \"{helper}\"\n")).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "resource::repository::tests::https_git::child", "--ignored", "--nocapture"]);
        command.current_dir(folder).env("HOME", folder).env("GIT_SSL_CAINFO", folder.join("cert"));
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(!text.contains(&password), "{text}");
        text.lines().find_map(|line| line.split_once("answer: ")).unwrap_or_else(|| panic!("{output:?}")).1.to_owned()
    };
    let knows = |password: &str| format!("!f() {{ echo username=deploy; echo password={password}; }}; f");

    let unknown = answer("");
    assert!(unknown.contains("could not read Username") && unknown.contains("credential helper"), "{unknown}");
    let wrong = answer(&knows("wrong"));
    assert!(wrong.contains("Authentication failed") && wrong.contains("credential helper"), "{wrong}");
    assert!(!folder.join("cloned").exists());
    // A server that knows nothing of shallow clones is asked for all of the history.
    fs::write(folder.join("no-shallow"), "").unwrap();
    assert_eq!(answer(&knows(&password)), "applied");
    fs::remove_file(folder.join("no-shallow")).unwrap();
    fs::remove_dir_all(folder.join("cloned")).unwrap();
    assert_eq!(answer(&knows(&password)), "applied");
    let heads = || (git(&folder.join("cloned"), &["rev-parse", "HEAD"]), git(&bench.seed(), &["rev-parse", "qa"]));
    assert_eq!(heads().0, heads().1);
    bench.push("more", &[("a", Some(&"a line\n".repeat(100_000))), ("new", Some("theirs\n"))]);
    assert_eq!(answer(&knows(&password)), "applied");
    assert_eq!(heads().0, heads().1);
    assert_eq!(git(&folder.join("cloned"), &["status", "--porcelain"]), "");
    git(&folder.join("cloned"), &["fsck"]);
}

fn password() -> String {
    let mut bytes = [0; 12];
    fs::File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
    URL_SAFE.encode(bytes)
}

/// A web server of a folder's repositories, for whoever has the login.
pub struct Site {
    pub login: String,
    pub folder: PathBuf,
    /// The `Authorization` of each request that had one.
    pub seen: Mutex<Vec<String>>,
}

/// Serves the repositories of a folder to the user `deploy` until the process ends; gives the port.
pub fn serve(folder: &Path, password: &str) -> u16 {
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls()).unwrap();
    acceptor.set_private_key_file(folder.join("key"), SslFiletype::PEM).unwrap();
    acceptor.set_certificate_chain_file(folder.join("cert")).unwrap();
    let acceptor = Arc::new(acceptor.build());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let login = format!("Basic {}", STANDARD.encode(format!("deploy:{password}")));
    let site = Arc::new(Site { login, folder: folder.to_owned(), seen: Mutex::default() });
    std::thread::spawn(move || {
        for connection in listener.incoming().map_while(Result::ok) {
            let (acceptor, site) = (Arc::clone(&acceptor), Arc::clone(&site));
            std::thread::spawn(move || {
                // A client that gives up is its own affair: what it says of it is looked at.
                if let Ok(stream) = acceptor.accept(connection) {
                    let _ = answer(stream, &site);
                }
            });
        }
    });
    port
}

/// Answers one request by way of git's own CGI program.
pub fn answer(stream: impl Read + Write, site: &Site) -> std::io::Result<()> {
    let folder = &site.folder;
    let mut stream = BufReader::new(stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 || line == "\r\n" {
            break;
        }
        head.push(line.trim_end().to_owned());
    }
    let field = |name: &str| {
        let field =
            head.iter().skip(1).filter_map(|line| line.split_once(": ")).find(|f| f.0.eq_ignore_ascii_case(name));
        field.map(|field| field.1.to_owned()).unwrap_or_default()
    };
    let mut body = vec![0; field("content-length").parse().unwrap_or(0)];
    stream.read_exact(&mut body)?;
    let stream = stream.get_mut();
    let authorization = field("authorization");
    if !authorization.is_empty() {
        site.seen.lock().unwrap().push(authorization.clone());
    }
    if authorization != site.login {
        stream.write_all(
            b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"git\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        )?;
        return stream.flush();
    }
    let mut words = head.first().map(|line| line.split(' ')).into_iter().flatten();
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    // A proxy is asked for the whole url.
    let target = target.strip_prefix("http://far.invalid").unwrap_or(target);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut backend = Command::new("git")
        .arg("http-backend")
        .env_clear()
        .envs([("PATH", "/usr/bin:/bin"), ("GIT_HTTP_EXPORT_ALL", "1"), ("REMOTE_USER", "deploy")])
        .env("GIT_PROJECT_ROOT", folder)
        .envs([("REQUEST_METHOD", method), ("PATH_INFO", path), ("QUERY_STRING", query)])
        .envs([("CONTENT_TYPE", field("content-type")), ("CONTENT_LENGTH", body.len().to_string())])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut input = backend.stdin.take().unwrap();
    let feeding = std::thread::spawn(move || input.write_all(&body));
    let mut output = backend.wait_with_output()?.stdout;
    if folder.join("no-shallow").exists() {
        let capability = b" shallow ";
        let places: Vec<usize> = output
            .windows(capability.len())
            .enumerate()
            .filter(|(_, bytes)| bytes == capability)
            .map(|(at, _)| at)
            .collect();
        for at in places {
            output[at..at + capability.len()].copy_from_slice(b" unknown ");
        }
    }
    let _ = feeding.join();
    let end = output.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap() + 4;
    let fields = String::from_utf8_lossy(&output[..end - 2]).into_owned();
    let status = fields.lines().find_map(|line| line.strip_prefix("Status: ")).unwrap_or("200 OK").to_owned();
    let length = output.len() - end;
    write!(stream, "HTTP/1.1 {status}\r\n{fields}Content-Length: {length}\r\nConnection: close\r\n\r\n")?;
    stream.write_all(&output[end..])?;
    stream.flush()
}
