//! Hostile neighbours: unexpected files, names and sizes where a run of root or a user encounters them. The run ends
//! soon, reports what it found, and changes nothing else.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::sandbox::{CHECKOUT, COMPOSE, KEY, KEY_SOURCE, Outcome, PLAN, Run, Sandbox, Snapshot};

/// Longer than any run here takes. The command of a secret source may take a minute.
const SOON: Duration = Duration::from_secs(30);

/// Runs a command that has to end by itself.
#[track_caller]
fn ends(run: Run<'_>) -> Outcome {
    let start = Instant::now();
    let outcome = run.within(SOON).run();
    assert!(start.elapsed() < SOON, "it hangs\n{outcome}");
    assert!(!outcome.all().contains("panicked"), "{outcome}");
    for letter in outcome.all().chars() {
        assert!(!letter.is_control() || letter == '\n', "{letter:?} reaches the terminal\n{outcome}");
    }
    outcome
}

/// Lines of bash that create something odd at `$at`, and a description.
const ODD: [(&str, &str); 8] = [
    ("a FIFO", "mkfifo $at"),
    ("a socket", "python3 -c 'import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])' $at"),
    ("an endless device", "mknod $at c 1 5"),
    ("a silent device", "mknod $at c 5 0"),
    ("a directory", "mkdir $at"),
    ("a link to an endless device", "ln -s /dev/zero $at"),
    ("a link to a FIFO", "mkfifo $at.fifo; ln -s $at.fifo $at"),
    ("a link to itself", "ln -s $at $at"),
];

#[test]
fn unusual_entries_instead_of_files_never_hang_a_run() {
    let sandbox = Sandbox::converged();
    sandbox.bash(
        "root",
        "cp /opt/provision/plans/order_tracking.yaml /home/ubuntu/plan.yaml; chown ubuntu /home/ubuntu/plan.yaml",
    );
    let env_file = COMPOSE.replace("docker-compose.yml", ".env");
    let compose = sandbox.read(COMPOSE);
    let referring = compose.lines().map(|line| match line.contains("ALERT_SMTP_PASSWORD:") {
        true => "    ALERT_SMTP_PASSWORD: ${ALERT_SMTP_PASSWORD}\n".to_owned(),
        false => format!("{line}\n"),
    });
    let referring: String = referring.collect();
    let git = COMPOSE.replace("airflow_poc/docker-compose.yml", ".git");
    for (place, step) in [
        (KEY, "bastion-key"),
        (KEY_SOURCE, "bastion-key"),
        (COMPOSE, "smtp-password"),
        (env_file.as_str(), "smtp-password"),
        (git.as_str(), "repository"),
        ("/home/ubuntu/plan.yaml", "bastion-key"),
        ("/home/ubuntu/.ssh/known_hosts", "bastion-key"),
    ] {
        sandbox.write(COMPOSE, "ubuntu", if place == env_file { &referring } else { &compose });
        for (what, make) in ODD {
            sandbox.bash(
                "root",
                &format!(
                    "at={place}; mkdir -p $(dirname $at); rm -rf $at.saved; [ ! -e $at ] || mv $at $at.saved; {make}
                    chown -h ubuntu: $at"
                ),
            );
            for user in ["ubuntu", "root"] {
                let arguments = ["apply", "/home/ubuntu/plan.yaml", "--yes", "--only", step];
                let outcome = ends(sandbox.provision(user, arguments));
                let harmless = place.ends_with("known_hosts");
                assert!(outcome.code == if harmless { 0 } else { 1 }, "{what} at {place}, as {user}\n{outcome}");
                assert!(
                    harmless || outcome.all().contains(place.trim_end_matches("/.git")),
                    "{what} is not named\n{outcome}"
                );
            }
            let kind = sandbox.bash("root", &format!("stat -c %F {place}"));
            assert!(!kind.starts_with("regular"), "{what} at {place} was replaced: {kind}");
            sandbox.bash("root", &format!("at={place}; rm -rf $at $at.fifo; [ ! -e $at.saved ] || mv $at.saved $at"));
        }
    }
    sandbox.write(COMPOSE, "ubuntu", &compose);
    ends(sandbox.provision("ubuntu", ["plan", PLAN, "--detailed-exitcode"])).exits(0);
}

#[test]
fn unusual_entries_in_a_repository_never_hang_a_run() {
    let sandbox = Sandbox::converged();
    sandbox.commit("airflow_poc/dags/order_tracking.py", "LAG_LIMIT_MINUTES = 60\n");
    let repository = ["plan", PLAN, "--only", "repository"];
    for place in [
        ".git/HEAD",
        ".git/config",
        ".git/index",
        ".git/packed-refs",
        ".git/info/exclude",
        ".git/info/attributes",
        ".git/refs/heads/jasleen_qa",
        ".git/refs/stash",
        ".git/logs/HEAD",
        ".git/objects/info/alternates",
        ".gitignore",
        "airflow_poc/.gitattributes",
        "airflow_poc/dags/order_tracking.py",
        "airflow_poc/dags/untracked",
        "../../../.gitconfig",
    ] {
        let at = format!("{CHECKOUT}/{place}");
        sandbox.bash(
            "ubuntu",
            &format!("at={at}; [ ! -e $at ] || mv $at /tmp/saved; mkdir -p $(dirname $at); mkfifo $at"),
        );
        for user in ["ubuntu", "root"] {
            let outcome = ends(sandbox.provision(user, repository));
            if outcome.code == 1 {
                assert!(outcome.all().contains("is a FIFO"), "{place}\n{outcome}");
            }
        }
        sandbox.bash("ubuntu", &format!("at={at}; rm $at; [ ! -e /tmp/saved ] || mv /tmp/saved $at"));
    }
    ends(sandbox.provision("ubuntu", ["apply", PLAN, "--yes", "--only", "repository"])).exits(0);
}

/// Writes a plan file with one key whose value comes from `source`.
fn key_from(sandbox: &Sandbox, source: &str) {
    let text = format!(
        "name: key\nsteps:\n  - id: key\n    run_as: ubuntu\n    key_file: {{ path: /home/ubuntu/key, source: {source} }}\n"
    );
    sandbox.write("/home/ubuntu/key.yaml", "ubuntu", text);
}

#[test]
fn huge_sources_are_limited() {
    let sandbox = Sandbox::new();
    sandbox.bash("ubuntu", "truncate -s 10G sparse; truncate -s 10G sparse.yaml");
    for (source, expected) in [
        ("{ file: /home/ubuntu/sparse }", "it is larger than 1 MiB, the maximum for a secret"),
        ("{ file: /dev/zero }", "is a device, not a file"),
        ("{ command: [cat, /dev/zero] }", "printed more than 1 MiB"),
        ("{ command: ['yes'] }", "printed more than 1 MiB"),
    ] {
        key_from(&sandbox, source);
        let outcome = ends(sandbox.provision("ubuntu", ["apply", "key.yaml", "--yes"])).exits(1);
        assert!(outcome.all().contains(expected), "{source}: {expected:?} is missing\n{outcome}");
        assert!(!sandbox.path("/home/ubuntu/key").exists());
    }
    let outcome = ends(sandbox.provision("ubuntu", ["plan", "sparse.yaml"])).exits(1);
    assert!(outcome.stderr.contains("sparse.yaml: it is larger than"), "{outcome}");
    // A huge target is not a key, and is not read to find that out.
    key_from(&sandbox, &format!("{{ file: {KEY_SOURCE} }}"));
    sandbox.new_key();
    sandbox.bash("ubuntu", "mv sparse key; chmod 400 key");
    let outcome = ends(sandbox.provision("ubuntu", ["plan", "key.yaml"]));
    assert!(outcome.all().contains("/home/ubuntu/key"), "{outcome}");
}

#[test]
fn signals_end_the_wait_for_a_secret() {
    let sandbox = Sandbox::new();
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        key_from(&sandbox, "{ command: [bash, -c, 'touch /tmp/asked; exec sleep 1000'] }");
        sandbox.bash("root", "rm -f /tmp/asked");
        let run = sandbox.provision("ubuntu", ["apply", "key.yaml", "--yes"]).start();
        let start = Instant::now();
        while !sandbox.path("/tmp/asked").exists() {
            assert!(start.elapsed() < SOON, "the command was never started");
        }
        run.signal(signal);
        let outcome = run.wait().exits(code);
        assert!(start.elapsed() < SOON, "it waits on");
        assert!(outcome.stderr.contains("nothing was changed"), "{outcome}");
        assert_eq!(sandbox.bash("root", "pgrep -c sleep || true"), "0\n", "the command outlives the run");
    }
}

#[test]
fn root_reads_no_secret_source_through_a_symlink_of_another_user() {
    let sandbox = Sandbox::new();
    sandbox.bash("root", "ssh-keygen -q -t ed25519 -N '' -f /root/key; chmod 600 /root/key");
    sandbox.bash("ubuntu", "ln -s /root/key source; mkdir folder; ln -s /root folder/link");
    for source in ["/home/ubuntu/source", "/home/ubuntu/folder/link/key"] {
        key_from(&sandbox, &format!("{{ file: {source} }}"));
        let outcome = ends(sandbox.provision("root", ["apply", "/home/ubuntu/key.yaml", "--yes"])).exits(1);
        assert!(outcome.all().contains("root does not follow it"), "{outcome}");
        assert!(!sandbox.path("/home/ubuntu/key").exists(), "root's key was given away");
    }
    // A user's own links are followed, and so are root's.
    sandbox.new_key();
    sandbox.bash("root", &format!("ln -s /root/key /root/link; ln -sf {KEY_SOURCE} /home/ubuntu/source"));
    for (user, source) in [("ubuntu", "/home/ubuntu/source"), ("root", "/root/link"), ("root", "/srv/../root/./link")] {
        key_from(&sandbox, &format!("{{ file: {source} }}"));
        sandbox.bash("root", "rm -f /home/ubuntu/key");
        ends(sandbox.provision(user, ["apply", "/home/ubuntu/key.yaml", "--yes"]).directory("/srv")).exits(0);
        assert!(sandbox.path("/home/ubuntu/key").exists());
    }
}

#[test]
fn a_hard_link_gives_no_access_to_files_of_other_users() {
    let sandbox = Sandbox::new();
    sandbox.bash(
        "root",
        "mkdir /home/mallory/theirs; cd /home/mallory/theirs; echo A=secret > env; ssh-keygen -q -t ed25519 -N '' -f key
        printf 'services: { web: { environment: { A: $A, B: old } } }\n' > compose
        chmod 644 env key compose; mkdir ../mine; chown mallory ../mine
        cd ../mine; ln ../theirs/env .env; ln ../theirs/key key; ln ../theirs/compose docker-compose.yml",
    );
    let theirs = || Snapshot::take(&sandbox, "/home/mallory/theirs", &[]).without_traces();
    let before = theirs();
    sandbox.write(
        "/root/plan.yaml",
        "root",
        "
name: links
steps:
  - id: private
    run_as: root
    compose_env: { file: /home/mallory/mine/docker-compose.yml, variable: A }
  - id: literal
    run_as: root
    compose_env: { file: /home/mallory/mine/docker-compose.yml, variable: B, value: { env: VALUE } }
  - id: key
    run_as: root
    key_file: { path: /home/mallory/mine/key, owner: mallory, mode: \"0400\" }
",
    );
    for _ in 0..2 {
        ends(sandbox.provision("root", ["apply", "plan.yaml", "--yes"]).env("VALUE", "new"));
        before.is_same_as(&theirs(), "the file was reached by its second name");
    }
    assert_eq!(sandbox.bash("root", "stat -c %a /home/mallory/mine/.env"), "600\n");
    assert!(sandbox.read("/home/mallory/mine/docker-compose.yml").contains("B: new"));
}

const TREE: &str = "
name: tree
steps:
  - id: tree
    run_as: root
    directory: { path: /srv/tree, owner: ubuntu, group: ubuntu, recursive: true }
";

#[test]
fn a_tree_with_unusual_entries_is_walked_completely() {
    let sandbox = Sandbox::new();
    sandbox.write("/root/tree.yaml", "root", TREE);
    sandbox.bash(
        "root",
        r"mkdir /srv/tree; cd /srv/tree
        touch $'new\nline' $'invalid \xff\xfe' $'\e[31mred' $'tab\t' ' ' ./-rf $(printf 'n%.0s' {1..255})
        mkdir $'a directory\nof two lines'; touch $'a directory\nof two lines'/x
        mkfifo fifo; mknod null c 1 3; ln -s /root dangling; ln -s nowhere nowhere
        python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(`socket`)'"
            .replace('`', "\"")
            .as_str(),
    );
    // The tree is deeper than any path that the kernel accepts (PATH_MAX is 4096).
    sandbox.bash(
        "root",
        "cd /srv/tree; name=$(printf 'd%.0s' {1..200}); for n in {1..40}; do mkdir $name; cd -P $name; done; touch bottom",
    );
    let outside = Snapshot::take(&sandbox, "/root", &[]);
    let plan = ends(sandbox.provision("root", ["plan", "tree.yaml"])).exits(0);
    assert!(!plan.all().contains("\u{fffd}"), "names are distinguishable\n{plan}");
    ends(sandbox.provision("root", ["plan", "tree.yaml", "--json"])).events();
    ends(sandbox.provision("root", ["apply", "tree.yaml", "--yes", "--json"])).exits(0).events();
    assert_eq!(sandbox.bash("root", "find /srv/tree ! -user ubuntu -o ! -group ubuntu"), "");
    assert_eq!(sandbox.bash("root", "find /srv/tree -name bottom -user ubuntu | wc -l"), "1\n");
    outside.is_same_as(&Snapshot::take(&sandbox, "/root", &[]), "a link's target was changed");
    ends(sandbox.provision("root", ["plan", "tree.yaml", "--detailed-exitcode"])).exits(0);
    sandbox.bash("root", "rm -rf /srv/tree");
}

#[test]
fn root_refuses_to_clone_into_a_directory_of_another_user() {
    let mut sandbox = Sandbox::new().remote();
    sandbox.unset_var("repo_url");
    sandbox
        .bash("root", "mkdir /srv/victim; ln -s /srv/victim /home/mallory/link; chown -h mallory /home/mallory/link");
    let before = Snapshot::take(&sandbox, "/srv/victim", &[]);
    for path in ["/home/mallory/repo", "/home/mallory/link/repo", "/home/mallory/link"] {
        sandbox.write(
            "/root/clone.yaml",
            "root",
            format!(
                "name: clone\nsteps:\n  - id: clone\n    run_as: root\n    repository: {{ path: {path}, url: {}, branch: jasleen_qa }}\n",
                crate::sandbox::BARE
            ),
        );
        let outcome = ends(sandbox.provision("root", ["apply", "clone.yaml", "--yes"])).exits(1);
        assert!(outcome.all().contains("/home/mallory"), "{outcome}");
    }
    before.is_same_as(&Snapshot::take(&sandbox, "/srv/victim", &[]), "the link's target was changed");
}
