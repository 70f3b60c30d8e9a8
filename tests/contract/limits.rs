//! Limits of the process that leave too little to work with: one error each, with a remedy, and no panic.

use crate::sandbox::{PROVISION, Sandbox};

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
        assert!(!outcome.all().contains("panicked"), "{count} threads\n{outcome}");
        failed += usize::from(outcome.code == 1);
    }
    assert!(failed > 0);
}
