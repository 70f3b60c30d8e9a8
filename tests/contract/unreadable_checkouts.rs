//! What the step's user may not read of a checkout or its remote: an update leaves it alone, or plan names it with a remedy that works.

use crate::checkout_denials::Host;
use crate::sandbox::PROVISION;

#[test]
fn an_entry_in_a_directory_that_the_user_may_not_enter_is_left_alone() {
    for mode in ["700", "744", "711"] {
        let host = Host::new();
        host.root(&format!("chown -R root: d; chmod 600 d/b.txt; chmod {mode} d"));
        host.push("echo 2 > a.txt");
        let plan = host.run("plan --detailed-exitcode").exits(2);
        assert!(!plan.stdout.contains("deleted"), "{plan}");
        assert!(plan.stdout.contains("unreadable"), "{plan}");
        host.run("apply --yes").exits(0);
        host.run("plan --detailed-exitcode").exits(0);
        assert_eq!(host.git("cat app/a.txt; git -C app rev-list HEAD..origin/main"), "2\n");
        host.root("chown -R ubuntu: d; chmod 755 d; chmod 644 d/b.txt");
        assert_eq!(host.git("git -C app status --porcelain"), "");
    }
}

#[test]
fn a_tracked_file_that_the_user_may_not_read_is_left_alone() {
    let host = Host::new();
    host.root("echo x > a.txt; chown root a.txt; chmod 600 a.txt; echo x > own");
    let plan = host.run("plan --detailed-exitcode").exits(0);
    assert!(plan.stdout.contains("a.txt (unreadable)") && plan.stdout.contains("own (untracked)"), "{plan}");
    // Nothing else in its directory is tracked.
    host.root("chown root d/sub/c.txt; chmod 600 d/sub/c.txt");
    let plan = host.run("plan --detailed-exitcode").exits(0);
    assert!(plan.stdout.contains("a.txt (unreadable), d/sub/c.txt (unreadable), own (untracked)"), "{plan}");
    host.root("echo x > d/sub/own");
    let plan = host.run("plan --detailed-exitcode").exits(0);
    assert!(plan.stdout.contains("d/sub/c.txt (unreadable), d/sub/own (untracked), own (untracked)"), "{plan}");
    host.push("echo 2 > d/b.txt");
    host.run("plan --detailed-exitcode").exits(2);
    host.run("apply --yes").exits(0);
    host.run("plan --detailed-exitcode").exits(0);
    assert_eq!(host.git("cat app/d/b.txt; git -C app rev-list HEAD..origin/main"), "2\n");
    assert_eq!(host.root("cat a.txt"), "x\n");
}

#[test]
fn plan_reports_files_in_the_way_that_the_user_may_not_read() {
    let push = "echo 2 > a.txt; echo 2 > new; mkdir -p e; echo 2 > e/f; git rm -q d/b.txt";
    for (before, words) in [
        ("echo mine > a.txt; chown root a.txt; chmod 600 a.txt", "cannot read /home/ubuntu/app/a.txt"),
        ("echo mine > a.txt; chmod 0 a.txt", "cannot read /home/ubuntu/app/a.txt"),
        ("echo x > new; chmod 600 new", "cannot read /home/ubuntu/app/new"),
        ("mkdir -p new; echo x > new/x; chmod 700 new", "cannot read /home/ubuntu/app/new"),
        ("mkdir -p new/x; touch new/x/y; chmod 700 new/x; chown ubuntu new", "cannot read /home/ubuntu/app/new/x"),
        (
            "mkdir -p new/x; touch new/x/y; chmod 600 new/x/y; chown ubuntu new new/x",
            "cannot read /home/ubuntu/app/new/x/y",
        ),
        ("mkdir e; chmod 700 e", "cannot read /home/ubuntu/app/e"),
        ("chown root d; chmod 700 d", "cannot read /home/ubuntu/app/d"),
        ("chmod 600 d", "cannot read /home/ubuntu/app/d"),
    ] {
        let host = Host::new();
        host.root(before);
        host.push(push);
        let hint = host.is_blocked(words);
        assert!(hint.contains("chown -R --reference=") || hint.contains("chmod -R u+rwX "), "{hint}");
        host.is_remedied_by(&hint);
    }
}

/// An unreadable list of rescues is not reported as empty.
#[test]
fn rescues_that_the_user_may_not_list_are_a_failure_with_its_remedy() {
    let host = Host::new();
    host.git("echo mine > app/a.txt");
    host.push("echo 2 > a.txt");
    host.run("apply --yes").exits(0);
    for closed in ["refs", "refs/provision", "refs/provision/rescue", "refs/provision/rescue/*"] {
        let list = || host.sandbox.command("ubuntu", [PROVISION, "rescue", "list", "m.yaml"]).run();
        host.root(&format!("chown root .git/{closed}; chmod go= .git/{closed}"));
        let listed = list();
        assert!(listed.code == 1 && !listed.all().contains("no rescues"), "{listed}");
        assert!(
            listed.stderr.contains(&format!("cannot read /home/ubuntu/app/.git/{}", closed.trim_end_matches('*'))),
            "{listed}"
        );
        let command = listed.commands();
        assert_eq!(command.len(), 1, "{listed}");
        host.root(&command[0]);
        assert!(list().exits(0).stdout.contains("a.txt"));
    }
}

/// git takes what it may not read for missing.
#[test]
fn parts_of_a_remote_on_the_host_that_the_user_may_not_read_are_named() {
    let host = Host::new();
    host.push("echo 2 > a.txt");
    let remote = "/srv/git/app.git";
    host.git("git config --global --add safe.directory '*'");
    for closed in ["", "/objects", "/objects/??/*", "/HEAD"] {
        host.root(&format!("chown root {remote}{closed}; chmod go= {remote}{closed}"));
        let plan = host.run("plan").exits(1);
        let planned = plan.step("step_planned", "code");
        let hint = planned["hint"].as_str().unwrap();
        let named = format!("the step's user may not read {remote}{}", closed.split('?').next().unwrap());
        assert!(hint.starts_with(&named), "{named}: {plan}");
        host.root(&format!("chmod -R a+rX {remote}"));
    }
    // What a fetch does not read is not the reason, and a symlink is followed.
    host.root(&format!("mkdir {remote}/logs; chmod 700 {remote}/logs {remote}/hooks"));
    for (broken, undone, words) in [
        ("mv HEAD gone", "mv gone HEAD", "the repository does not exist"),
        (
            "cd ..; mv app.git real; ln -s real app.git; chmod go= real/objects",
            "cd ..; chmod a+rX real/objects",
            "may not read /srv/git/real/objects",
        ),
    ] {
        host.root(&format!("cd {remote}; {broken}"));
        let plan = host.run("plan").exits(1);
        let hint = plan.step("step_planned", "code")["hint"].as_str().unwrap().to_owned();
        assert!(hint.contains(words), "{words}: {hint}");
        host.root(&format!("cd {remote}; {undone}"));
    }
    host.converges();
}

/// The checkout is sound, so no message advises to move it aside.
#[test]
fn plan_reports_parts_of_git_directories_that_the_user_may_not_read() {
    let gc = "git -C app gc -q 2>&1";
    for (by_user, before) in [
        (gc, "chown root .git/objects/pack/*; chmod 400 .git/objects/pack/*"),
        (gc, "chown root .git/objects/pack/*.pack; chmod 400 .git/objects/pack/*.pack"),
        (gc, "chown root .git/objects/pack/*.idx; chmod 400 .git/objects/pack/*.idx"),
        (gc, "chmod 0 .git/objects/pack/*.idx"),
        (gc, "chown root .git/objects/pack; chmod 700 .git/objects/pack"),
        ("true", "chown root .git/objects; chmod 700 .git/objects"),
        ("true", "chown root .git/objects/??; chmod 700 .git/objects/??"),
        ("true", "chown root .git/objects/*/*; chmod 400 .git/objects/*/*"),
        ("true", "chmod 0 .git/objects/*/*"),
        ("true", "chmod 0 .git/objects/??"),
        ("true", "chown root .git/index; chmod 600 .git/index"),
        ("true", "chown root .git/HEAD; chmod 600 .git/HEAD"),
        ("true", "chown root .git/refs/heads/main; chmod 600 .git/refs/heads/main"),
        ("true", "chown root .git/refs; chmod 700 .git/refs"),
        ("true", "chown root .git/logs/HEAD; chmod 600 .git/logs/HEAD"),
        ("true", "chmod 0 .git/config"),
    ] {
        for push in ["echo 2 > a.txt", "echo 2 > d/b.txt; git rm -q a.txt"] {
            let host = Host::new();
            host.git(by_user);
            host.root(before);
            host.push(push);
            let hint = host.is_blocked("/home/ubuntu/app/.git");
            assert!(!hint.contains("aside"), "{before}: {hint}");
            host.is_remedied_by(&hint);
        }
    }
}
