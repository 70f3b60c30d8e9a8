//! A key is proven before it replaces another, on a real sshd. The host never ends up with a broken key after a working
//! one.

use crate::sandbox::{AUTHORIZED, BASTION, KEY, KEY_SOURCE, KNOWN_HOSTS, Outcome, PLAN, Rotation, Snapshot, channels};

/// Asserts that plan and apply are blocked for a reason, and that nothing has changed.
#[track_caller]
fn is_blocked(rotation: &Rotation, more: &str, reason: &str, hint: &str) {
    for command in ["plan", "apply"] {
        let outcome = rotation.run(command, more).exits(1);
        assert_eq!(outcome.outcomes(), [("key".to_owned(), "blocked".to_owned())], "{outcome}");
        let event = outcome.step("step_planned", "key");
        let field = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
        assert!(field("reason").contains(reason), "{reason}\n{outcome}");
        assert!(field("hint").contains(hint), "{hint}\n{outcome}");
        rotation.left_no_litter(reason);
    }
}

fn texts(outcome: &Outcome, key: &str) -> String {
    let events = outcome.events();
    events.iter().filter_map(|event| event[key].as_array()).flatten().filter_map(|text| text.as_str()).collect()
}

#[test]
fn an_accepted_key_replaces_the_old_one() {
    let rotation = Rotation::new();
    let before = Snapshot::take(&rotation.sandbox, "/home", &[]);
    let log = rotation.logged(|| drop(rotation.run("plan", "").exits(0)));
    before.is_same_as(&Snapshot::take(&rotation.sandbox, "/home", &[]), "plan left a trace");
    assert_eq!(log.matches("Accepted publickey for git").count(), 1, "{log}");
    let log = rotation.logged(|| {
        let outcome = rotation.run("apply", "").exits(0);
        assert!(texts(&outcome, "notes").contains("git@127.0.0.1:2222 accepts the key SHA256:"), "{outcome}");
        assert_eq!(texts(&outcome, "warnings"), "", "{outcome}");
        let secret = rotation.sandbox.read(KEY_SOURCE);
        assert!(secret.lines().all(|line| !outcome.all().contains(line)), "the key is printed\n{outcome}");
    });
    // Logins happen for the plan, before the write, with the installed file, and for the final check.
    assert_eq!(log.matches("Accepted publickey for git").count(), 4, "{log}");
    assert!(channels(&log).is_empty(), "nothing but authentication: {:?}\n{log}", channels(&log));
    let log = rotation.logged(|| rotation.took_the_new_key("a good key"));
    assert!(channels(&log).len() > 2, "a login that runs something is seen in the log\n{log}");
    let inode = rotation.key().1;
    assert_eq!(rotation.run("apply", "").exits(0).outcomes(), [("key".to_owned(), "unchanged".to_owned())]);
    assert_eq!(rotation.key().1, inode);
}

#[test]
fn the_shipped_plan_file_proves_the_key_as_the_operator() {
    for user in ["ubuntu", "root"] {
        let mut rotation = Rotation::new();
        rotation.sandbox.set_var("key_source", KEY_SOURCE);
        let args = ["apply", PLAN, "--yes", "--json", "--only", "bastion-key"];
        rotation.sandbox.set_var("bastion", BASTION);
        rotation.authorize(&["old"]);
        rotation.sandbox.provision(user, args).run().exits(1);
        rotation.kept_the_old_key("the shipped plan file");
        rotation.authorize(&["old", "new"]);
        let outcome = rotation.sandbox.provision(user, args).run().exits(0);
        assert!(outcome.all().contains("accepts the key"), "{outcome}");
        rotation.took_the_new_key("the shipped plan file");
        // Without a bastion nothing is tested.
        rotation.sandbox.unset_var("bastion");
        rotation.stop();
        let outcome = rotation.sandbox.provision(user, args).run().exits(0);
        assert_eq!(texts(&outcome, "warnings"), "", "{outcome}");
    }
}

#[test]
fn a_wrong_key_is_blocked_and_the_old_one_stays() {
    let rotation = Rotation::new();
    rotation.authorize(&["old"]);
    let log = rotation.logged(|| is_blocked(&rotation, "", "rejected the key", "authorized_keys of git"));
    assert!(channels(&log).is_empty(), "{log}");
    rotation.kept_the_old_key("a wrong key");
    for more in ["required: true", "retire: true"] {
        is_blocked(&rotation, more, "rejected the key", "authorized_keys of git");
    }
    rotation.kept_the_old_key("a wrong key");
}

#[test]
fn a_locked_account_blocks_and_the_old_key_stays() {
    let rotation = Rotation::new();
    let edit = |path: &str, from: &str, to: &str| {
        let text = rotation.sandbox.read(path);
        assert!(text.contains(from), "{text}");
        std::fs::write(rotation.sandbox.path(path), text.replace(from, to)).unwrap();
    };
    for (path, right, wrong) in
        [("/etc/shadow", "git:*:", "git:!:"), ("/etc/passwd", "/home/git:/bin/bash", "/home/git:/bin/gone")]
    {
        edit(path, right, wrong);
        assert!(!rotation.opens(KEY), "{wrong} locks the account");
        is_blocked(&rotation, "", "rejected the key", "locked");
        edit(path, wrong, right);
        rotation.kept_the_old_key(wrong);
    }
    rotation.serve("DenyUsers git");
    is_blocked(&rotation, "", "rejected the key", "this user may log in");
    rotation.serve("");
    rotation.kept_the_old_key("DenyUsers");
    rotation.sandbox.bash("root", &format!("chmod 777 {AUTHORIZED}"));
    is_blocked(&rotation, "", "rejected the key", "authorized_keys of git");
}

#[test]
fn a_wrong_host_key_blocks() {
    let rotation = Rotation::new();
    // Another host answers at the address. The offered public key is not secret, and the host's answer is not believed.
    rotation.sandbox.bash("root", "ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/bastion_other");
    rotation.know("other");
    let log =
        rotation.logged(|| is_blocked(&rotation, "", "host key of git@127.0.0.1:2222 has changed", "intercepted"));
    assert!(!log.contains("publickey for git"), "no login is tried at a wrong host\n{log}");
    rotation.sandbox.bash("root", &format!("rm {KNOWN_HOSTS}"));
    is_blocked(&rotation, "", "is unknown (SHA256:", "host_key");
    let pin = |algorithm: &str| format!("host_key: '{}'", rotation.fingerprint(algorithm));
    is_blocked(&rotation, &pin("other"), "expected SHA256:", "intercepted");
    rotation.kept_the_old_key("a wrong host key");
    for algorithm in ["ed25519", "ecdsa", "rsa"] {
        rotation.run("plan", &pin(algorithm)).exits(0);
    }
    rotation.run("apply", &pin("rsa")).exits(0);
    rotation.took_the_new_key("a pinned host key");
    // A fingerprint is validated with the plan file.
    let outcome = rotation.run("plan", "host_key: 'MD5:aa:bb'").exits(1);
    assert!(outcome.stderr.contains("ssh-keygen -lf") && outcome.stderr.contains("rotation.yaml:"), "{outcome}");
}

#[test]
fn every_known_host_key_is_accepted() {
    let rotation = Rotation::new();
    for algorithm in ["ed25519", "ecdsa", "rsa"] {
        rotation.know(algorithm);
        rotation.run("plan", "").exits(0);
    }
}

#[test]
fn an_unreachable_bastion_warns_or_blocks() {
    let rotation = Rotation::new();
    rotation.stop();
    is_blocked(&rotation, "required: true", "cannot reach 127.0.0.1:2222", "firewall");
    let unknown = rotation.at("git@no-such-host.invalid", "plan", "required: true").exits(1);
    assert!(unknown.all().contains("unknown host: no-such-host.invalid"), "{unknown}");
    rotation.serve("");
    rotation.kept_the_old_key("required");
    rotation.stop();
    let outcome = rotation.run("apply", "").exits(0);
    assert!(texts(&outcome, "warnings").contains("is not proven: cannot reach 127.0.0.1:2222"), "{outcome}");
    // A correct key stays unchanged with the same warning. If a proof is required, the step is blocked.
    let outcome = rotation.run("plan", "").exits(0);
    assert_eq!(outcome.outcomes(), [("key".to_owned(), "unchanged".to_owned())]);
    assert!(texts(&outcome, "warnings").contains("is not proven"), "{outcome}");
    is_blocked(&rotation, "required: true", "cannot reach 127.0.0.1:2222", "firewall");
    rotation.serve("");
    rotation.took_the_new_key("a bastion that was down");
}

#[test]
fn a_key_with_a_passphrase_is_blocked_and_the_old_one_stays() {
    let rotation = Rotation::new();
    for format in ["", "-m PEM -t rsa", "-m PKCS8 -t ecdsa"] {
        let line = format!("rm -f {KEY_SOURCE}*; ssh-keygen -q {format} -N secret -f {KEY_SOURCE}");
        rotation.sandbox.bash("ubuntu", &line);
        rotation.authorize(&["old", "new"]);
        is_blocked(&rotation, "", "is protected by a passphrase", "ssh-keygen -p");
        rotation.kept_the_old_key(format);
    }
}

#[test]
fn every_type_of_key_that_openssh_makes_is_proven() {
    let mut rotation = Rotation::new();
    let types = "ed25519|rsa|rsa -b 1024|rsa -b 4096|ecdsa|ecdsa -b 384|ecdsa -b 521|rsa -m PEM|rsa -m PKCS8|ecdsa -m PEM|\
                 ecdsa -b 384 -m PEM|ecdsa -b 521 -m PEM|ecdsa -m PKCS8|ecdsa -b 384 -m PKCS8|ecdsa -b 521 -m PKCS8";
    for kind in types.split('|') {
        let line = format!("rm -f {KEY_SOURCE}*; ssh-keygen -q -t {kind} -N '' -f {KEY_SOURCE}");
        rotation.sandbox.bash("ubuntu", &line);
        rotation.authorize(&["old", "new"]);
        let outcome = rotation.run("apply", "required: true").exits(0);
        assert!(texts(&outcome, "notes").contains("accepts the key"), "{kind}\n{outcome}");
        rotation.took_the_new_key(kind);
        rotation.again();
    }
    // Keys that servers no longer accept are not tried.
    rotation.sandbox.bash("ubuntu", &format!("rm -f {KEY_SOURCE}*; ssh-keygen -q -t dsa -N '' -f {KEY_SOURCE}"));
    is_blocked(&rotation, "required: true", "a key of type ssh-dss cannot be tried here", "ssh -i KEY");
    rotation.kept_the_old_key("dsa");
}

#[test]
fn the_old_key_to_be_retired_is_tried_too() {
    let mut rotation = Rotation::new();
    let still = "still accepts the old key SHA256:";
    for command in ["plan", "apply"] {
        let outcome = rotation.run(command, "retire: true").exits(0);
        assert!(texts(&outcome, "warnings").contains(still), "{outcome}");
    }
    rotation.took_the_new_key("retire");
    assert_eq!(texts(&rotation.run("plan", "retire: true").exits(0), "warnings"), "");
    rotation.again();
    rotation.authorize(&["new"]);
    let outcome = rotation.run("apply", "retire: true").exits(0);
    assert!(texts(&outcome, "notes").contains("no longer accepts the old key SHA256:"), "{outcome}");
    assert!(!outcome.all().contains(still), "{outcome}");
    rotation.took_the_new_key("retire");
}

#[test]
fn an_installed_key_that_the_host_no_longer_accepts_is_reported() {
    let rotation = Rotation::new();
    rotation.run("apply", "").exits(0);
    rotation.authorize(&["old"]);
    for command in ["plan", "apply"] {
        let outcome = rotation.run(command, "").exits(0);
        assert_eq!(outcome.outcomes(), [("key".to_owned(), "unchanged".to_owned())]);
        assert!(texts(&outcome, "warnings").contains("rejected the key"), "{outcome}");
    }
    is_blocked(&rotation, "required: true", "rejected the key", "authorized_keys of git");
}

#[test]
fn a_first_key_is_proven_too() {
    let rotation = Rotation::new();
    rotation.sandbox.bash("ubuntu", &format!("rm -f {KEY}"));
    rotation.authorize(&["old"]);
    let outcome = rotation.run("apply", "").exits(1);
    assert!(outcome.all().contains("rejected the key") && !rotation.sandbox.path(KEY).exists(), "{outcome}");
    rotation.decides("in_place || cat $NEW");
    let outcome = rotation.run("apply", "").exits(1);
    assert!(outcome.all().contains("after it was installed; the file was removed again"), "{outcome}");
    assert!(!rotation.sandbox.path(KEY).exists(), "{outcome}");
    rotation.decides("cat $NEW");
    rotation.run("apply", "").exits(0);
    rotation.took_the_new_key("a first key");
}

/// Rotates, with and without a proof, to a key that the bastion accepts. Asserts that it is refused.
#[track_caller]
fn is_refused(rotation: &Rotation, field: &str) {
    let plan = format!(
        "name: rotation\nsteps:\n  - id: key\n    run_as: ubuntu\n    key_file: {{ path: {KEY}, source: {{ file: {KEY_SOURCE} }} }}\n"
    );
    rotation.sandbox.write("/srv/unproven.yaml", "root", plan);
    for outcome in [
        rotation.run("plan", ""),
        rotation.run("apply", ""),
        rotation.sandbox.provision("ubuntu", ["apply", "/srv/unproven.yaml", "--yes", "--json"]).run(),
    ] {
        let outcome = outcome.exits(1);
        let planned = outcome.step("step_planned", "key");
        assert_eq!(planned["outcome"], "blocked", "{outcome}");
        assert!(planned["reason"].as_str().unwrap().contains(field), "{field}\n{outcome}");
        assert!(planned["hint"].is_string(), "{outcome}");
    }
}

#[test]
fn a_key_that_ssh_cannot_load_does_not_replace_a_working_one() {
    let rotation = Rotation::new();
    for (make, field) in [
        ("openssl genpkey -algorithm ed25519", "PKCS#8"),
        ("openssl genrsa -traditional 1000", "1000 bits"),
        ("openssl ecparam -name secp256k1 -genkey -noout", "SSH does not support"),
    ] {
        rotation.sandbox.bash("ubuntu", &format!("rm {KEY_SOURCE}; umask 077; {make} > {KEY_SOURCE} 2> /dev/null"));
        is_refused(&rotation, field);
        rotation.kept_the_old_key(field);
    }
}

#[test]
fn a_rotation_keeps_the_access_control_list_and_other_attributes() {
    let rotation = Rotation::new();
    let attributes =
        || rotation.sandbox.bash("root", &format!("getfacl -cn {KEY}; getfattr -d -m - {KEY} | grep -v '^system'"));
    let plan = |verify: &str| {
        let plan = format!(
            "name: rotation\nsteps:\n  - id: key\n    run_as: ubuntu\n    key_file: {{ path: {KEY}, mode: '0440', \
             source: {{ file: {KEY_SOURCE} }}{verify} }}\n"
        );
        rotation.sandbox.write("/srv/kept.yaml", "root", plan);
    };
    rotation.sandbox.bash(
        "ubuntu",
        &format!("chmod 440 {KEY}; setfacl -m u:50000:r {KEY}; chmod u+w {KEY}; setfattr -n user.note -v mine {KEY}; chmod u-w {KEY}"),
    );
    let before = attributes();
    assert!(before.contains("user:50000:r--") && before.contains("user.note"), "{before}");
    for verify in ["", ", verify: { ssh: 'git@127.0.0.1:2222' }"] {
        plan(verify);
        let outcome =
            rotation.sandbox.provision("ubuntu", ["apply", "/srv/kept.yaml", "--yes", "--json"]).run().exits(0);
        assert!(texts(&outcome, "notes").contains("access control list, user.note"), "{outcome}");
        assert_eq!(rotation.sandbox.read(KEY), rotation.sandbox.read(KEY_SOURCE));
        assert_eq!(attributes(), before, "{outcome}");
        rotation.sandbox.new_key();
        rotation.authorize(&["new"]);
    }
}

#[test]
fn a_rotation_by_root_keeps_the_label() {
    let rotation = Rotation::new();
    let sandbox = &rotation.sandbox;
    let label = || sandbox.bash("root", &format!("getfattr --only-values -n security.selinux {KEY}"));
    sandbox.bash("root", &format!("setfattr -n security.selinux -v system_u:object_r:ssh_home_t:s0 {KEY}"));
    let plan = format!(
        "name: rotation\nsteps:\n  - id: key\n    run_as: root\n    key_file: {{ path: {KEY}, source: {{ file: {KEY_SOURCE} }} }}\n"
    );
    sandbox.write("/root/label.yaml", "root", plan);
    // Root follows no path that another user can change.
    sandbox.bash(
        "root",
        &format!("dir={KEY}; while [ \"$dir\" != / ]; do chown root \"$dir\"; dir=$(dirname \"$dir\"); done"),
    );
    sandbox.provision("root", ["apply", "/root/label.yaml", "--yes"]).run().exits(0);
    assert_eq!(sandbox.read(KEY), sandbox.read(KEY_SOURCE));
    assert_eq!(label(), "system_u:object_r:ssh_home_t:s0");
}

#[test]
fn a_new_key_is_readable_only_by_the_users_in_its_mode() {
    let rotation = Rotation::new();
    rotation.sandbox.bash("ubuntu", &format!("rm -f {KEY}; setfacl -d -m u:50000:r $(dirname {KEY})"));
    let plan = format!(
        "name: rotation\nsteps:\n  - id: key\n    run_as: ubuntu\n    key_file: {{ path: {KEY}, mode: '0440', \
         source: {{ file: {KEY_SOURCE} }} }}\n"
    );
    rotation.sandbox.write("/srv/new.yaml", "root", plan);
    rotation.sandbox.provision("ubuntu", ["apply", "/srv/new.yaml", "--yes"]).run().exits(0);
    let list = rotation.sandbox.bash("root", &format!("getfacl -cn {KEY}"));
    assert!(!list.contains("50000"), "{list}");
}
