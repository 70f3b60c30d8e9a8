//! Limits of the process that leave too little to work with: one error each, with a remedy, and no panic.

use crate::sandbox::{Outcome, PROVISION, Sandbox};

#[test]
fn too_small_limits_are_one_error_with_a_remedy() {
    let sandbox = Sandbox::new();
    let plan = "name: small\nsteps:\n  - { id: data, directory: { path: /home/ubuntu/data } }\n";
    sandbox.write("/home/ubuntu/provision.yaml", "ubuntu", plan);
    for (limit, message, remedy) in [
        ("-s 64", "cannot run with a stack of 64 KiB", "ulimit -s 8192"),
        ("-u 1", "resource temporarily unavailable", "ulimit -u"),
        ("-n 10", "too many open files", "ulimit -n"),
    ] {
        let line = format!("ulimit {limit}; exec {PROVISION} plan");
        let outcome = sandbox.command("ubuntu", ["bash", "-c", &line]).run().exits(1);
        for text in [message, remedy] {
            assert!(outcome.all().contains(text), "{text:?} is missing\n{outcome}");
        }
        assert!(!outcome.all().contains("panicked") && !outcome.all().contains("os error"), "{outcome}");
    }
}

#[test]
fn a_limit_on_file_sizes_is_reported_before_any_change() {
    let sandbox = Sandbox::new();
    let plan = "name: small\nsteps:\n  - { id: data, directory: { path: /home/ubuntu/data } }\n";
    sandbox.write("/home/ubuntu/provision.yaml", "ubuntu", plan);
    let line = format!("ulimit -f 0; exec {PROVISION} apply --yes | cat; exit ${{PIPESTATUS[0]}}");
    let outcome = sandbox.command("ubuntu", ["bash", "-c", &line]).run().exits(1);
    for text in ["nothing was changed: ", "file too large", "ulimit -f unlimited"] {
        assert!(outcome.stderr.contains(text), "{text:?} is missing\n{outcome}");
    }
    assert!(!sandbox.path("/home/ubuntu/data").exists());
}

#[test]
fn help_that_cannot_be_written_has_its_own_hint() {
    let sandbox = Sandbox::new();
    let full = sandbox.command("ubuntu", ["bash", "-c", &format!("{PROVISION} --help >/dev/full")]).run().exits(1);
    assert!(full.stderr.contains("write it to another place"), "{full}");
    assert!(!full.stderr.contains("history"), "{full}");
}

/// Wherever the threads run out: at the start, for a resolver, a tunnel or a proof. Each is an error, never a panic.
#[test]
fn a_thread_that_cannot_be_started_is_no_panic() {
    let sandbox = Sandbox::new();
    let plan = "name: threads
connections:
  w:
    url: postgresql://u:p@nowhere.invalid/d
    tunnel: { ssh: 'op@127.0.0.1:1', key: /home/ubuntu/key }
  x: { url: 'postgresql://u:p@nowhere.invalid/d', connect_timeout: 1 }
steps:
  - { id: a, table: { connection: w, ddl: 'CREATE TABLE s.a (a INT)' } }
  - { id: b, table: { connection: x, ddl: 'CREATE TABLE s.b (a INT)' } }
  - { id: c, key_file: { path: /home/ubuntu/k, source: { file: /home/ubuntu/key }, mode: '0400', verify: { ssh: 'op@127.0.0.1:1' } } }
";
    sandbox.write("/home/ubuntu/provision.yaml", "ubuntu", plan);
    sandbox.bash("ubuntu", "ssh-keygen -q -t ed25519 -N '' -f key");
    let mut failed = 0;
    for count in 1..=12 {
        let line = format!("ulimit -u {count}; exec {PROVISION} plan");
        let outcome = sandbox.command("ubuntu", ["bash", "-c", &line]).run();
        assert!([0, 1].contains(&outcome.code), "{count} threads\n{outcome}");
        has_no_defect(&outcome, count);
        failed += usize::from(outcome.code == 1);
    }
    assert!(failed > 0);
}

#[track_caller]
fn has_no_defect(outcome: &Outcome, count: u32) {
    for words in ["panicked", "bug in provision", "ended unexpectedly"] {
        assert!(!outcome.all().contains(words), "{count} threads\n{outcome}");
    }
}

/// Checkouts and large trees are read by several threads. With any limit on threads, a plan works with fewer of them or reports
/// the limit.
#[test]
fn checkouts_and_large_trees_work_with_few_threads_or_report_the_limit() {
    let mut sandbox = Sandbox::new();
    ["key_source", "repo_url"].into_iter().for_each(|name| sandbox.unset_var(name));
    let plan = "name: threads
steps:
  - { id: new, repository: { path: /home/ubuntu/new, url: /home/ubuntu/up.git, branch: main } }
  - { id: old, repository: { path: /home/ubuntu/old, url: /home/ubuntu/up.git, branch: main } }
  - { id: tree, directory: { path: /home/ubuntu/tree, owner: ubuntu, recursive: true } }
";
    sandbox.write("/home/ubuntu/provision.yaml", "ubuntu", plan);
    sandbox.bash(
        "ubuntu",
        "git init -q --bare -b main up.git; git clone -q up.git old 2>/dev/null
        git -C old -c user.name=u -c user.email=u commit -q --allow-empty -m one; git -C old push -q origin HEAD:main
        mkdir -p tree/{1..40}/{1..25}; touch tree/{1..40}/{1..25}/f",
    );
    let mut done = 0;
    for count in (1..=14).chain([18, 24, 32, 48, 64]) {
        let line = format!("ulimit -u {count}; exec {PROVISION} plan");
        let outcome = sandbox.command("ubuntu", ["bash", "-c", &line]).run();
        assert!([0, 1].contains(&outcome.code), "{count} threads\n{outcome}");
        has_no_defect(&outcome, count);
        done += usize::from(outcome.code == 0);
    }
    let outcome = sandbox.provision("ubuntu", ["plan", "provision.yaml"]).run().exits(0);
    assert!(outcome.stdout.contains("clone"), "{outcome}");
    assert!(done > 0, "with all of these limits the plan failed");
}
