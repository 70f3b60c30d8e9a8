//! Saved plans: `apply SAVED` does only what was planned, once, on the host that it was planned for.

use crate::sandbox::{COMPOSE, Outcome, PLAN, Sandbox, Snapshot, random_word};

const TWO: &str = "
name: small
vars:
  mode: \"0750\"
  owner: \"{{ env_var('OWNER', 'ubuntu') }}\"
steps:
  - id: one
    directory: { path: /home/ubuntu/one, mode: \"{{ mode }}\", owner: \"{{ owner }}\" }
  - id: two
    directory: { path: /home/ubuntu/two, mode: \"0750\" }
";
const SAVED: &str = "/home/ubuntu/saved";

fn small() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("/home/ubuntu/provision.yaml", "ubuntu", TWO);
    sandbox
}

fn save(sandbox: &Sandbox) {
    sandbox.provision("ubuntu", ["plan", "--out", "saved"]).run().exits(0);
}

fn apply(sandbox: &Sandbox, user: &str) -> Outcome {
    sandbox.provision(user, ["apply", SAVED, "--yes", "--json"]).run()
}

/// Asserts that the saved plan is refused as a whole with these words, and that nothing is changed.
#[track_caller]
fn refuses(sandbox: &Sandbox, user: &str, words: &[&str]) {
    let before = Snapshot::whole(sandbox);
    let outcome = apply(sandbox, user).exits(1);
    for word in words {
        assert!(outcome.all().contains(word), "{word:?} was to be read\n{outcome}");
    }
    assert!(outcome.all().contains("hint"), "{outcome}");
    before.is_same_as(&Snapshot::whole(sandbox), &format!("refused: {outcome}"));
}

#[test]
fn a_saved_plan_is_the_only_trace_of_plan() {
    let sandbox = small();
    let before = Snapshot::whole(&sandbox);
    let outcome = sandbox.provision("ubuntu", ["plan", "--out", "saved", "--json"]).run().exits(0);
    assert_eq!(outcome.events_of("plan_saved")[0]["path"], "saved", "{outcome}");
    assert_eq!(sandbox.bash("root", &format!("stat -c '%a %U:%G %F' {SAVED}")), "600 ubuntu:ubuntu regular file\n");
    let apart = |snapshot: Snapshot| {
        let mut snapshot = snapshot.without(SAVED);
        snapshot.0.remove(std::path::Path::new("/home/ubuntu"));
        snapshot
    };
    apart(before).is_same_as(&apart(Snapshot::whole(&sandbox)), "a plan that is saved");
}

#[test]
fn a_saved_plan_is_applied_exactly_once() {
    let sandbox = small();
    let planned =
        sandbox.provision("ubuntu", ["plan", "--out", "saved", "--json", "--var", "mode=0700"]).run().exits(0);
    sandbox.bash("ubuntu", "cp -p saved copy");
    let applied = apply(&sandbox, "ubuntu").exits(0);
    assert_eq!(sandbox.bash("root", "stat -c %a /home/ubuntu/one /home/ubuntu/two"), "700\n750\n");
    let id = &planned.events_of("plan_saved")[0]["id"];
    assert_eq!(&applied.events()[0]["saved"], id, "{applied}");
    let changes = |outcome: &Outcome| {
        outcome.events_of("step_planned").iter().map(|event| event["changes"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(changes(&planned), changes(&applied));
    // It can be used only once: not again for repeated work, and not from a copy.
    sandbox.bash("ubuntu", "rmdir one");
    let run = applied.events()[0]["run"].as_str().unwrap().to_owned();
    refuses(&sandbox, "ubuntu", &["already applied", &run]);
    sandbox.bash("ubuntu", "mv copy saved");
    refuses(&sandbox, "ubuntu", &["already applied", &run]);
    let history = sandbox.provision("ubuntu", ["history", "--json"]).run().stdout;
    assert!(history.contains(id.as_str().unwrap()), "{history}");
}

#[test]
fn a_plan_without_changes_can_be_saved() {
    let sandbox = small();
    let shown = |name: &str| sandbox.provision("ubuntu", ["plan", "--out", name]).run().exits(0).stdout;
    assert!(shown("first").contains("saved: `provision apply first` applies exactly these changes, once"));
    sandbox.provision("ubuntu", ["apply", "--yes"]).run().exits(0);
    let second = shown("second");
    assert!(second.contains("saved: `provision apply second` changes nothing"), "{second}");
}

#[test]
fn a_saved_plan_needs_confirmation_and_a_no_does_not_use_it_up() {
    let sandbox = small();
    save(&sandbox);
    let before = Snapshot::whole(&sandbox);
    let outcome = sandbox.provision("ubuntu", ["apply", SAVED]).run().exits(1);
    assert!(outcome.stderr.contains("--yes"), "{outcome}");
    let outcome = sandbox.provision("ubuntu", ["apply", SAVED]).terminal("n\n").run().exits(1);
    assert!(outcome.stdout.contains("/home/ubuntu/one") && outcome.stdout.contains("[y/N]"), "{outcome}");
    before.is_same_as(&Snapshot::whole(&sandbox), "the plan was not confirmed");
    sandbox.provision("ubuntu", ["apply", SAVED]).terminal("y\n").run().exits(0);
    assert!(sandbox.path("/home/ubuntu/two").exists());
}

#[test]
fn existing_files_are_not_overwritten_by_saved_plans() {
    let sandbox = small();
    sandbox.bash("ubuntu", "echo mine > saved; ln -s nowhere link; mkfifo fifo");
    let before = Snapshot::whole(&sandbox);
    for target in ["saved", "link", "fifo", "/home/ubuntu", "nowhere/saved", "/home/mallory/saved", "."] {
        let outcome = sandbox.provision("ubuntu", ["plan", "--out", target]).run().exits(1);
        assert!(outcome.stderr.contains("hint: "), "{target}\n{outcome}");
        before.is_same_as(&Snapshot::whole(&sandbox), target);
    }
    // A folder in which nothing can be written is found before the host is read.
    let outcome = sandbox.provision("ubuntu", ["plan", "--out", "/usr/saved"]).run().exits(1);
    assert!(outcome.stdout.is_empty() && outcome.stderr.contains("ubuntu may not write to /usr"), "{outcome}");
    assert!(outcome.stderr.contains("hint: name a file in a folder"), "{outcome}");
}

#[test]
fn a_saved_plan_for_another_host_or_version_is_refused_with_the_differences() {
    let sandbox = small();
    save(&sandbox);
    sandbox.bash("root", "hostname elsewhere");
    refuses(&sandbox, "ubuntu", &["throwaway", "elsewhere"]);
    sandbox.bash("root", "hostname throwaway; echo 0123456789abcdef0123456789abcdef > /tmp/id");
    sandbox.bash("root", "mount --bind /tmp/id /etc/machine-id");
    refuses(&sandbox, "ubuntu", &["another machine"]);
    sandbox.bash("root", "umount /etc/machine-id");

    sandbox.bash("ubuntu", "cp -p provision.yaml kept; echo '# a remark' >> provision.yaml");
    refuses(&sandbox, "ubuntu", &["/home/ubuntu/provision.yaml", "changed"]);
    sandbox.bash("ubuntu", "rm provision.yaml");
    refuses(&sandbox, "ubuntu", &["/home/ubuntu/provision.yaml"]);
    sandbox.bash("ubuntu", "mv kept provision.yaml");

    let outcome = sandbox.provision("ubuntu", ["apply", SAVED, "--yes"]).env("OWNER", "1000").run().exits(1);
    assert!(outcome.stderr.contains("step `one`") && !outcome.stderr.contains("`two`"), "{outcome}");
    for args in [["--only", "one"], ["--skip", "one"], ["--as-of", "2020-01-01"], ["--var", "mode=0700"]] {
        let outcome = sandbox.provision("ubuntu", ["apply", SAVED, "--yes"]).args(args).run().exits(1);
        assert!(outcome.stderr.contains(args[0]), "{outcome}");
    }
    // Root's file in the user's place, and the reverse.
    refuses(&sandbox, "root", &["belongs to another user"]);
    sandbox.bash("root", &format!("chown root: {SAVED}"));
    refuses(&sandbox, "root", &["made by ubuntu", "root"]);
    sandbox.bash("root", &format!("chown ubuntu: {SAVED}"));
    // After all of this it still works.
    apply(&sandbox, "ubuntu").exits(0);
}

#[test]
fn saved_plans_writable_by_others_are_refused() {
    let sandbox = small();
    save(&sandbox);
    sandbox.bash("ubuntu", "cp -p saved kept");
    for (spoil, word) in [
        ("chmod 644 saved", "0644"),
        ("chmod 620 saved", "0620"),
        ("ln -sf kept saved", "symlink"),
        ("truncate -s -1 saved", "cut off or altered"),
        ("truncate -s -100 saved", "cut off or altered"),
        ("truncate -s 300 saved", "cut off or altered"),
        ("truncate -s 10 saved", "cut off or altered"),
        ("sed -i s,/home/ubuntu/two,/home/ubuntu/six, saved; chmod 600 saved", "cut off or altered"),
        ("sed -i 1s/1/2/ saved; chmod 600 saved", "format 2"),
    ] {
        sandbox.bash("ubuntu", &format!("rm saved; cp -p kept saved; {spoil}"));
        refuses(&sandbox, "ubuntu", &[word]);
    }
    sandbox.bash("ubuntu", "rm saved; cp -p kept saved");
    // A saved plan is only accepted by apply.
    for command in ["plan", "validate", "explain"] {
        let outcome = sandbox.provision("ubuntu", [command, SAVED]).run().exits(1);
        assert!(outcome.stderr.contains("saved plan") && outcome.stderr.contains("apply"), "{outcome}");
    }
    apply(&sandbox, "ubuntu").exits(0);
}

#[test]
fn a_saved_plan_blocks_only_the_steps_whose_host_state_changed() {
    let sandbox = small();
    save(&sandbox);
    sandbox.bash("ubuntu", "mkdir -m 777 one");
    let outcome = apply(&sandbox, "ubuntu").exits(1);
    let moved = outcome.step("step_finished", "one");
    assert_eq!(moved["outcome"], "blocked", "{outcome}");
    assert!(moved["reason"].as_str().unwrap().contains("changed after the plan was saved"), "{moved}");
    assert_eq!(outcome.step("step_finished", "two")["outcome"], "changed", "{outcome}");
    assert_eq!(sandbox.bash("root", "stat -c %a /home/ubuntu/one /home/ubuntu/two"), "777\n750\n");
    // What matched when the plan was made, and no longer does, is not part of it.
    let sandbox = small();
    sandbox.bash("ubuntu", "mkdir -m 750 one");
    save(&sandbox);
    sandbox.bash("ubuntu", "chmod 755 one");
    let outcome = apply(&sandbox, "ubuntu").exits(1);
    assert_eq!(outcome.step("step_finished", "one")["outcome"], "blocked", "{outcome}");
    assert_eq!(sandbox.bash("root", "stat -c %a /home/ubuntu/one"), "755\n");
    // What has been done meanwhile need not be done again.
    let sandbox = small();
    save(&sandbox);
    sandbox.bash("ubuntu", "mkdir -m 750 one two");
    let outcome = apply(&sandbox, "ubuntu").exits(0);
    assert_eq!(outcome.events().pop().unwrap()["counts"]["unchanged"], 2, "{outcome}");
    assert!(!sandbox.path("/home/ubuntu/.local").exists(), "nothing was changed, and nothing written");
}

#[test]
fn the_whole_runbook_is_saved_and_applied() {
    let mut sandbox = Sandbox::order_tracking();
    sandbox.provision("ubuntu", ["plan", PLAN, "--out", SAVED]).run().exits(0);
    sandbox.unset_var("key_source");
    sandbox.unset_var("repo_url");
    apply(&sandbox, "ubuntu").exits(0);
    sandbox.provision("ubuntu", ["plan", PLAN, "--detailed-exitcode"]).run().exits(0);
}

#[test]
fn a_changed_secret_blocks_only_its_steps() {
    let mut sandbox = Sandbox::converged();
    let before = sandbox.read(COMPOSE);
    sandbox.set_env("ALERT_SMTP_PASSWORD", random_word());
    sandbox.sql("DROP TABLE settlement_ods.order_tracking_exceptions");
    sandbox.provision("ubuntu", ["plan", PLAN, "--out", SAVED]).run().exits(0);
    sandbox.set_env("ALERT_SMTP_PASSWORD", random_word());
    let outcome = apply(&sandbox, "ubuntu").exits(1);
    let refused = outcome.step("step_finished", "smtp-password");
    assert_eq!(refused["outcome"], "blocked", "{outcome}");
    assert!(refused["reason"].as_str().unwrap().contains("secret"), "{refused}");
    assert_eq!(before, sandbox.read(COMPOSE));
    assert_eq!(outcome.step("step_finished", "exceptions-table")["outcome"], "changed", "{outcome}");
}

#[test]
fn blocked_steps_of_a_saved_plan_stay_blocked() {
    let sandbox = small();
    sandbox.bash("ubuntu", "touch one");
    sandbox.provision("ubuntu", ["plan", "--out", "saved"]).run().exits(1);
    sandbox.bash("ubuntu", "rm one");
    let outcome = apply(&sandbox, "ubuntu").exits(1);
    assert_eq!(outcome.step("step_finished", "one")["outcome"], "blocked", "{outcome}");
    assert!(!sandbox.path("/home/ubuntu/one").exists() && sandbox.path("/home/ubuntu/two").exists(), "{outcome}");
}

#[test]
fn only_one_of_several_concurrent_copies_is_applied() {
    for _ in 0..5 {
        let sandbox = small();
        save(&sandbox);
        sandbox.bash("ubuntu", "cp -p saved copy");
        let start =
            |file: &'static str| sandbox.provision("ubuntu", ["apply", file, "--yes", "--json", "--wait"]).start();
        let ended = [start(SAVED), start("/home/ubuntu/copy")].map(crate::sandbox::Running::wait);
        let mut codes = ended.iter().map(|outcome| outcome.code).collect::<Vec<_>>();
        codes.sort_unstable();
        assert_eq!(codes, [0, 1], "{ended:?}");
        assert!(ended.iter().any(|outcome| outcome.stdout.contains("already applied")), "{ended:?}");
    }
}

#[test]
fn a_secret_source_that_becomes_unreadable_is_reported() {
    let sandbox = Sandbox::order_tracking();
    sandbox.checkout();
    let only = ["--only", "bastion-key"];
    sandbox.provision("ubuntu", ["plan", PLAN, "--out", SAVED]).args(only).run().exits(0);
    sandbox.bash("ubuntu", "mv jasleentung.pem elsewhere");
    let outcome = apply(&sandbox, "ubuntu").exits(1);
    let failed = outcome.step("step_finished", "bastion-key");
    assert!(failed["reason"].as_str().unwrap().contains("jasleentung.pem"), "{outcome}");
    // Nothing was changed, so the plan was not used.
    sandbox.bash("ubuntu", "mv elsewhere jasleentung.pem");
    apply(&sandbox, "ubuntu").exits(0);
}

#[test]
fn variables_that_look_like_passwords_must_be_given_again() {
    let sandbox = small();
    let plan = TWO.replace("vars:\n", "vars:\n  login: null\n");
    sandbox.write("/home/ubuntu/provision.yaml", "ubuntu", plan);
    let login = "login=https://me:hunter2@example.com/";
    sandbox.provision("ubuntu", ["plan", "--out", "saved", "--var", login]).run().exits(0);
    assert!(!sandbox.read(SAVED).contains("hunter2"));
    refuses(&sandbox, "ubuntu", &["--var login"]);
    for wrong in ["login=https://me:hunter3@example.com/", "other=1"] {
        let outcome = sandbox.provision("ubuntu", ["apply", SAVED, "--yes", "--var", wrong]).run().exits(1);
        assert!(outcome.stderr.contains("--var"), "{outcome}");
    }
    sandbox.provision("ubuntu", ["apply", SAVED, "--yes", "--var", login]).run().exits(0);
}
