//! Peers that misbehave at each stage of their protocol: silent, slow, endless, or garbage. Each ends a plan within the bounds,
//! in time and in memory. Takes minutes and prints a table: `cargo test --test warehouse hostile_peers -- --ignored --nocapture`.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// What a peer does once it has come to its stage.
#[derive(Debug, Clone)]
enum Then {
    Silent,
    /// A byte every 100 ms, without end.
    Slow(Vec<u8>),
    /// As fast as it is read, without end.
    Endless(Vec<u8>),
    /// A head, and after it a text without end.
    Announced(Vec<u8>),
    Garbage,
}

impl Then {
    fn word(&self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::Slow(_) => "slow",
            Self::Endless(_) => "endless",
            Self::Announced(_) => "one endless message",
            Self::Garbage => "garbage",
        }
    }

    fn run(&self, mut stream: &TcpStream) -> std::io::Result<()> {
        match self {
            Self::Silent => while stream.read(&mut [0; 4096])? > 0 {},
            Self::Slow(bytes) => {
                for byte in bytes.iter().cycle() {
                    stream.write_all(&[*byte])?;
                    std::thread::sleep(Duration::from_millis(100));
                }
            }
            Self::Endless(bytes) => {
                let block = bytes.repeat(1 + (64 << 10) / bytes.len());
                loop {
                    stream.write_all(&block)?;
                }
            }
            Self::Announced(head) => {
                stream.write_all(head)?;
                loop {
                    stream.write_all(&[b'x'; 64 << 10])?;
                }
            }
            Self::Garbage => {
                let noise: Vec<u8> = (0..4096u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
                stream.write_all(&noise)?;
            }
        }
        Ok(())
    }
}

/// What comes before the misbehaviour: bytes are sent after something has been read.
#[derive(Debug, Clone)]
enum Act {
    /// Reads until this has come, or anything if it is empty.
    Read(&'static [u8]),
    Write(Vec<u8>),
}

/// Writes the plan file for a port and a folder.
type PlanFile = fn(u16, &Path) -> String;

/// A case of the table.
struct Case {
    peer: &'static str,
    stage: &'static str,
    acts: Vec<Act>,
    then: Then,
    /// The longest time that the plan may take.
    limit: Duration,
    plan: PlanFile,
}

/// Serves each connection with the acts and the misbehaviour.
fn serve(acts: Vec<Act>, then: Then) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (acts, then) = (acts.clone(), then.clone());
            std::thread::spawn(move || -> std::io::Result<()> {
                for act in &acts {
                    match act {
                        Act::Write(bytes) => (&stream).write_all(bytes)?,
                        Act::Read(wanted) => {
                            let mut seen = Vec::new();
                            let mut buffer = [0; 4096];
                            while seen.is_empty()
                                || !seen.windows(wanted.len().max(1)).any(|part| part == *wanted) && !wanted.is_empty()
                            {
                                let count = (&stream).read(&mut buffer)?;
                                if count == 0 {
                                    return Ok(());
                                }
                                seen.extend_from_slice(&buffer[..count]);
                            }
                        }
                    }
                }
                then.run(&stream)
            });
        }
    });
    port
}

/// A message of PostgreSQL's protocol.
fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    [&[tag][..], &length, body].concat()
}

fn postgresql() -> Vec<Case> {
    let plain = |port: u16, _: &Path| {
        let url = format!("postgresql://u:p@127.0.0.1:{port}/d?sslmode=disable");
        on_warehouse(&url, "")
    };
    let tls = |port: u16, _: &Path| on_warehouse(&format!("postgresql://u:p@127.0.0.1:{port}/d?sslmode=require"), "");
    let notice = message(b'N', b"SNOTICE\0C00000\0Mx\0\0");
    let parameter = message(b'S', b"name\0value\0");
    let ready = message(b'Z', b"I");
    let login =
        [message(b'R', &[0; 4]), message(b'S', b"server_version\x0015.0\0"), message(b'K', &[0; 8]), ready].concat();
    let columns = message(b'T', &[&[0, 1][..], b"a\0", &[0; 18]].concat());
    let row = message(b'D', &[&[0, 1, 0, 0, 0, 100][..], &[b'x'; 100]].concat());
    let empty = message(b'D', &[0, 0]);
    let huge = |tag: u8| [&[tag][..], &0x7fff_ffff_u32.to_be_bytes()].concat();
    let answer =
        |then: Vec<u8>| vec![Act::Read(b""), Act::Write(login.clone()), Act::Read(b"SELECT"), Act::Write(then)];
    let all = |noise: &Vec<u8>| [Then::Silent, Then::Slow(noise.clone()), Then::Endless(noise.clone()), Then::Garbage];
    let mut cases = Vec::new();
    let mut add = |stage, acts: Vec<Act>, then, plan: PlanFile| {
        cases.push(Case { peer: "PostgreSQL", stage, acts, then, limit: Duration::from_secs(5 + 4), plan });
    };
    for then in all(&notice) {
        add("accepted", vec![], then, plain);
    }
    for then in all(&b"S".to_vec()) {
        add("TLS request", vec![Act::Read(b"")], then, tls);
    }
    for then in all(&vec![22, 3, 3, 0, 4, 0, 0, 0, 0]) {
        add("TLS handshake", vec![Act::Read(b""), Act::Write(b"S".to_vec()), Act::Read(b"")], then, tls);
    }
    for then in all(&notice).into_iter().chain([Then::Announced(huge(b'E'))]) {
        add("login", vec![Act::Read(b"")], then, plain);
    }
    for then in all(&parameter).into_iter().chain([Then::Announced(huge(b'S'))]) {
        add("logged in", vec![Act::Read(b""), Act::Write(message(b'R', &[0; 4]))], then, plain);
    }
    for then in all(&row).into_iter().chain([Then::Endless(empty), Then::Endless(notice), Then::Announced(huge(b'D'))])
    {
        add("catalog", answer(columns.clone()), then, plain);
    }
    cases
}

fn on_warehouse(url: &str, more: &str) -> String {
    format!(
        "name: x\nconnections:\n  w:\n    url: '{url}'\n    connect_timeout: 2\n    statement_timeout: 3\n{more}steps:\n  - id: t\n    \
         table: {{ connection: w, ddl: 'CREATE TABLE s.t (a INT)' }}\n"
    )
}

fn ssh() -> Vec<Case> {
    let git = |port: u16, folder: &Path| {
        let path = folder.join("checkout");
        format!(
            "name: x\nsteps:\n  - id: r\n    repository: {{ path: '{}', url: 'ssh://git@127.0.0.1:{port}/r.git', branch: main }}\n",
            path.display()
        )
    };
    let verify = |port: u16, folder: &Path| {
        format!(
            "name: x\nsteps:\n  - id: k\n    key_file: {{ path: '{}', source: {{ file: '{}' }}, mode: '0400', verify: {{ ssh: \
             'u@127.0.0.1:{port}', timeout: 3 }} }}\n",
            folder.join("installed").display(),
            folder.join("key").display()
        )
    };
    let tunnel = |port: u16, folder: &Path| {
        let key = folder.join("key");
        let tunnel = format!("    tunnel: {{ ssh: 'u@127.0.0.1:{port}', key: '{}' }}\n", key.display());
        on_warehouse("postgresql://u:p@db.example:5432/d?sslmode=disable", &tunnel)
    };
    let banner = b"SSH-2.0-OpenSSH_9.2\r\n".to_vec();
    // A packet that announces 32 KiB of padding and text.
    let packet = [&0x8000_u32.to_be_bytes()[..], &[4, 20]].concat();
    let mut cases = Vec::new();
    let clients: [(_, _, PlanFile); 3] =
        [("git over ssh", 75, git), ("verify", 3 + 12, verify), ("tunnel", 5 + 12, tunnel)];
    for (peer, seconds, plan) in clients {
        let mut add = |stage, acts: Vec<Act>, then| {
            cases.push(Case { peer, stage, acts, then, limit: Duration::from_secs(seconds), plan });
        };
        for then in [
            Then::Silent,
            Then::Slow(b"hello\r\n".to_vec()),
            Then::Endless(b"hello\r\n".to_vec()),
            Then::Announced(vec![]),
            Then::Garbage,
        ] {
            add("banner", vec![], then);
        }
        for then in [Then::Silent, Then::Slow(packet.clone()), Then::Endless(packet.clone()), Then::Garbage] {
            add("key exchange", vec![Act::Write(banner.clone()), Act::Read(b"")], then);
        }
    }
    cases
}

fn http() -> Vec<Case> {
    let plan = |port: u16, folder: &Path| {
        let path = folder.join("checkout");
        format!(
            "name: x\nsteps:\n  - id: r\n    repository: {{ path: '{}', url: 'http://127.0.0.1:{port}/r.git', branch: main }}\n",
            path.display()
        )
    };
    let line = "x-header: value\r\n";
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/x-git-upload-pack-advertisement\r\n\r\n001e# service=git-upload-pack\n0000";
    let hash = "0123456789012345678901234567890123456789";
    let reference = format!("003d{hash} refs/heads/x\n");
    let reference = format!("{:04x}{}", reference.len(), &reference[4..]);
    let mut cases = Vec::new();
    let mut add = |stage, acts: Vec<Act>, then| {
        cases.push(Case { peer: "git over http", stage, acts, then, limit: Duration::from_secs(75), plan });
    };
    let request = || Act::Read(b"\r\n\r\n");
    let write = |text: &str| Act::Write(text.as_bytes().to_vec());
    let all = |noise: &str| {
        [
            Then::Silent,
            Then::Slow(noise.into()),
            Then::Endless(noise.into()),
            Then::Announced(noise.trim_end().into()),
            Then::Garbage,
        ]
    };
    for then in all("HTTP/1.1 100 Continue\r\n\r\n") {
        add("request", vec![request()], then);
    }
    for then in all(line) {
        add("headers", vec![request(), write("HTTP/1.1 200 OK\r\n")], then);
    }
    for then in all(&reference) {
        add("refs", vec![request(), write(head)], then);
    }
    cases
}

/// Time, memory and message of one run.
struct Measured {
    took: Duration,
    peak: u64,
    code: Option<i32>,
    shown: String,
}

fn measure(case: &Case) -> Measured {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    std::fs::create_dir_all(home.join(".ssh")).unwrap();
    let key = folder.path().join("key");
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status().unwrap();
    assert!(made.success());
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let port = serve(case.acts.clone(), case.then.clone());
    let plan = folder.path().join("p.yaml");
    std::fs::write(&plan, (case.plan)(port, folder.path())).unwrap();
    let (out, start) = (folder.path().join("out"), Instant::now());
    let output = std::fs::File::create(&out).unwrap();
    // GNU time reports the largest of the process and of those that it has waited for.
    let peak = folder.path().join("peak");
    let mut child = Command::new("/usr/bin/time")
        .args(["-q", "-f", "%M", "-o"])
        .arg(&peak)
        .arg(env!("CARGO_BIN_EXE_provision"))
        .arg("plan")
        .arg(&plan)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", &home)
        .stdin(Stdio::null())
        .stdout(output.try_clone().unwrap())
        .stderr(output)
        .spawn()
        .unwrap();
    let code = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status.code();
        }
        if start.elapsed() > Duration::from_secs(180) {
            let _ended = child.kill();
            break None;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let took = start.elapsed();
    let text = std::fs::read_to_string(&out).unwrap();
    let shown =
        text.lines().find(|line| line.contains("127.0.0.1") || line.contains("connection `w`")).or(text.lines().last());
    let peak = std::fs::read_to_string(&peak).unwrap_or_default().trim().parse().unwrap_or(0);
    Measured { took, peak, code, shown: shown.unwrap_or_default().trim().chars().take(150).collect() }
}

/// The most memory that a plan may take, in KiB. The program itself takes 40 MiB of it in a build for tests.
const MAX_PEAK: u64 = 400 << 10;

#[test]
#[ignore = "takes minutes; run it by hand after a change to what reads from a peer"]
fn hostile_peers_are_bounded_in_time_and_memory() {
    let cases: Vec<Case> = [postgresql(), ssh(), http()].into_iter().flatten().collect();
    let (cases, next) = (Arc::new(cases), Arc::new(AtomicUsize::new(0)));
    let workers: Vec<_> = (0..6)
        .map(|_| {
            let (cases, next) = (Arc::clone(&cases), Arc::clone(&next));
            std::thread::spawn(move || {
                let mut rows = Vec::new();
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    rows.push((case.peer, case.stage, case.then.word(), case.limit, measure(case)));
                }
                rows
            })
        })
        .collect();
    let mut rows: Vec<_> = workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect();
    rows.sort_by_key(|(peer, stage, then, ..)| (*peer, *stage, *then));
    println!("| peer | stage | behaviour | time | peak memory | message |\n|---|---|---|---|---|---|");
    let mut wrong = Vec::new();
    for (peer, stage, then, limit, found) in &rows {
        let (seconds, peak) = (found.took.as_secs_f32(), found.peak >> 10);
        println!("| {peer} | {stage} | {then} | {seconds:.1} s | {peak} MiB | {} |", found.shown);
        let is_bounded = found.took <= *limit && found.peak <= MAX_PEAK && found.peak > 0;
        // A key is verified when it is installed; plan only says that it could not be.
        let names_bastion = found.shown.contains("tunnel: ") && found.shown.contains("u@127.0.0.1:");
        let is_named = *peer != "tunnel" || names_bastion;
        if !is_bounded || !is_named || !matches!(found.code, Some(0 | 1)) || found.shown.contains("panicked") {
            wrong.push(format!("{peer}, {stage}, {then}: {seconds:.1} s of {limit:?}, {peak} MiB, {:?}", found.code));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_silent_or_slow_bastion_is_named_with_what_is_waited_for() {
    let is_quiet = |case: &Case| case.peer == "tunnel" && matches!(case.then, Then::Silent | Then::Slow(_));
    let runs: Vec<_> = ssh()
        .into_iter()
        .filter(is_quiet)
        .map(|case| std::thread::spawn(move || (case.stage, case.then.word(), measure(&case))))
        .collect();
    assert_eq!(runs.len(), 4);
    for run in runs {
        let (stage, then, found) = run.join().unwrap();
        let expected = "s, waiting for its greeting and its host key";
        let is_named = found.shown.contains("tunnel: u@127.0.0.1:") && found.shown.contains(expected);
        assert!(is_named && found.code == Some(1), "{stage}, {then}: {}", found.shown);
    }
}

/// What a server sends without end is cut off by its size, at every stage, before any timeout. The whole table above takes minutes; this takes seconds.
#[tokio::test(flavor = "multi_thread")]
async fn answers_without_end_are_cut_off() {
    let endless =
        |case: &Case| matches!(case.then, Then::Endless(_) | Then::Announced(_)) && !case.stage.starts_with("TLS");
    let mut count = 0;
    for case in postgresql().into_iter().filter(endless) {
        let port = serve(case.acts.clone(), case.then.clone());
        let url = format!("postgresql://u:p@127.0.0.1:{port}/d?sslmode=disable");
        let warehouse = crate::kit::connect_with(&url, "connect_timeout: 60\nstatement_timeout: 60", None);
        let what = format!("{}, {}", case.stage, case.then.word());
        let failure = warehouse.catalog().await.expect_err(&what);
        let limits: &[&str] = match case.stage {
            // A row without columns is no row of the catalog.
            "catalog" => &[
                "the server sends more than 64 MiB",
                "the server sends more than 2000000 rows",
                "does not speak PostgreSQL's protocol",
            ],
            // A notice is no answer to a login, and ends it at once.
            _ => &["sends more than 1 MiB before the login is done", "protocol: unexpected message from server"],
        };
        assert!(limits.iter().any(|limit| failure.message.contains(limit)), "{what}: {failure:?}");
        count += 1;
    }
    assert_eq!(count, 9);
}
