//! What cannot be changed in a checkout: plan reports it with a remedy that works. What git can do, an update does too.

#[cfg(target_arch = "x86_64")]
use crate::sandbox::{Fault, Point};
use crate::sandbox::{Outcome, PROVISION, Sandbox};

const PLAN: &str = "name: m
steps:
  - { id: code, repository: { path: /home/ubuntu/app, url: /srv/git/app.git, branch: main } }
";

/// A host with a checkout of ubuntu's.
struct Host {
    sandbox: Sandbox,
}

impl Host {
    fn new() -> Self {
        let host = Self::without_checkout();
        host.git("git clone -q /srv/git/app.git app");
        host
    }

    fn without_checkout() -> Self {
        let sandbox = Sandbox::new();
        sandbox.write("/home/ubuntu/m.yaml", "ubuntu", PLAN);
        sandbox.bash("root", "chown ubuntu: /srv/git");
        let host = Self { sandbox };
        host.git("git config --global user.name u; git config --global user.email u; git init -q --bare -b main /srv/git/app.git; git clone -q /srv/git/app.git up 2>/dev/null");
        host.push("mkdir -p d/sub; echo 1 | tee a.txt d/b.txt d/sub/c.txt");
        host
    }

    fn git(&self, command: &str) -> String {
        self.sandbox.bash("ubuntu", command)
    }

    fn root(&self, command: &str) -> String {
        self.sandbox.bash("root", &format!("cd /home/ubuntu/app 2>/dev/null || cd /home/ubuntu; {command}"))
    }

    /// Commits and pushes as another person.
    fn push(&self, script: &str) {
        self.git(&format!(
            "cd up; {{ {script}; }} >/dev/null; git add -A; git commit -qm more; git push -q origin HEAD:main"
        ));
    }

    fn run(&self, command: &str) -> Outcome {
        self.sandbox.command("ubuntu", ["bash", "-c", &format!("{PROVISION} {command} m.yaml --json")]).run()
    }

    /// Asserts that apply does what plan shows as exact, and that git and a second plan see nothing to do.
    #[track_caller]
    fn converges(&self) {
        let planned = self.run("plan --detailed-exitcode").exits(2);
        assert_eq!(planned.step("step_planned", "code")["outcome"], "changes", "{planned}");
        self.run("apply --yes").exits(0);
        self.run("plan --detailed-exitcode").exits(0);
        assert_eq!(self.git("git -C app status --porcelain; git -C app rev-list HEAD..origin/main"), "");
        assert_eq!(self.git("find app -name '.provision*' -o -path '*.git/provision'"), "");
    }

    /// Asserts that plan blocks with these words and that apply changes nothing. Returns the hint.
    #[track_caller]
    fn is_blocked(&self, words: &str) -> String {
        let state = "cd /home/ubuntu; find app -printf '%p %m %u %g %s %l\n' 2>/dev/null | sort || true; cat app/a.txt app/d/* 2>/dev/null || true";
        let before = self.root(state);
        let plan = self.run("plan").exits(1);
        let planned = plan.step("step_planned", "code");
        assert_eq!(planned["outcome"], "blocked", "{plan}");
        let reason = planned["reason"].as_str().unwrap_or_default();
        assert!(reason.contains(words), "{words:?} was to be read in {reason}\n{plan}");
        self.run("apply --yes").exits(1);
        assert_eq!(self.root(state), before);
        planned["hint"].as_str().unwrap_or_default().to_owned()
    }

    /// Runs the command in a hint as root, and asserts that the step then converges.
    #[track_caller]
    fn is_remedied_by(&self, hint: &str) {
        let command = match hint.split('`').nth(1) {
            Some(command) => command,
            None => hint.split_once(": ").unwrap().1.split(';').next().unwrap(),
        };
        self.root(command);
        self.converges();
    }
}

#[test]
fn files_below_a_mount_in_a_checkout_are_updated() {
    let mounts = [
        "mount --bind d d",
        "cp -a d ../d; mount -t tmpfs -o uid=1000,gid=1000 d d; cp -a ../d/. d",
        "mount --bind .git .git",
    ];
    for mount in mounts {
        let host = Host::new();
        host.root(&format!("{mount}; chown ubuntu: d"));
        host.push("echo 2 > d/b.txt; git rm -q d/sub/c.txt; echo 2 > d/new; ln -s new d/link; mkdir d/more; echo x > d/more/run; chmod 755 d/more/run");
        host.converges();
        assert_eq!(
            host.git("cd app/d; cat b.txt link; readlink link; stat -c %a b.txt more/run; ls"),
            "2\n2\nnew\n644\n755\nb.txt\nlink\nmore\nnew\n"
        );
    }
}

#[test]
fn local_work_below_a_mount_in_a_checkout_is_rescued_and_restored() {
    let host = Host::new();
    host.root("mount --bind d d");
    host.git("echo mine > app/d/b.txt; chmod 600 app/d/b.txt; echo own > app/d/new; ln -sf mine app/d/sub/c.txt");
    host.push("echo 2 > d/b.txt; echo 2 > d/new; git rm -q d/sub/c.txt");
    host.converges();
    let id = host.git("git -C app for-each-ref --format='%(refname:lstrip=3)' refs/provision/rescue");
    host.git(&format!("{PROVISION} rescue restore m.yaml {}", id.trim()));
    let restored = host.git("cd app/d; cat b.txt new; readlink sub/c.txt; stat -c %a b.txt; find . -name '.p*'");
    assert_eq!(restored, "mine\nown\nmine\n600\n");
}

#[test]
fn objects_on_another_mount_are_added() {
    for mount in ["mount --bind .git/objects .git/objects", "mount --bind .git/objects/pack .git/objects/pack"] {
        let host = Host::new();
        host.root(mount);
        host.git("echo mine > app/a.txt");
        host.push("echo 2 > a.txt; seq 1000 > d/b.txt");
        host.converges();
        let rescued = host.git("cd app; git fsck --no-dangling 2>&1; git show $(git for-each-ref --format='%(refname)' refs/provision/rescue):a.txt");
        assert_eq!(rescued, "mine\n");
    }
}

/// An update that fails before it moves anything leaves the file, and does not claim that it was moved.
#[test]
fn an_update_that_moved_nothing_names_no_rescue() {
    let host = Host::new();
    host.root("mount -t tmpfs -o size=64k,uid=1000,gid=1000 d d");
    host.git("echo mine > app/d/b.txt");
    host.push("seq 100000 > d/b.txt");
    let failed =
        host.sandbox.command("ubuntu", ["bash", "-c", &format!("{PROVISION} apply m.yaml --yes")]).run().exits(1);
    assert!(failed.stdout.contains("cannot write /home/ubuntu/app/d/b.txt: no space left"), "{failed}");
    assert!(!failed.stdout.contains("rescued:") && !failed.stdout.contains("rescue restore"), "{failed}");
    assert_eq!(host.git("cat app/d/b.txt; ls -A app/d"), "mine\nb.txt\n");
    host.root("mount -o remount,size=4m d");
    let done = host.run("apply --yes").exits(0);
    assert!(done.stdout.contains("rescue restore"), "{done}");
}

#[cfg(target_arch = "x86_64")]
#[test]
fn killed_below_a_mount_a_rerun_leaves_nothing_behind() {
    let host = Host::new();
    host.root("mount --bind d d");
    let apply = || {
        host.git("echo mine | tee app/d/b.txt > app/d/new");
        host.push("date +%s%N | tee d/b.txt > d/new; ln -sfn $(date +%N) d/link");
        host.sandbox.provision("ubuntu", ["apply", "m.yaml", "--yes", "--json"])
    };
    let counted = apply().counted(Fault::Kill);
    counted.outcome.exits(0);
    let (process, calls) = counted.calls.iter().find(|(process, _)| process.starts_with("worker")).unwrap();
    let mut numbers = std::collections::HashMap::new();
    let points = calls.iter().map(|call| {
        let number = numbers.entry(call.name).or_insert(0);
        *number += 1;
        Point { process: process.clone(), call: call.name, number: *number, fault: Fault::Kill }
    });
    let points: Vec<Point> = points.collect();
    let (mut struck, mut left) = (0, 0);
    for point in points.iter().rev().take(120).step_by(3) {
        struck += usize::from(apply().struck(point).struck.is_some());
        left += host.git("ls -A app/d | grep -c ^.provision- || true").trim().parse::<usize>().unwrap();
        assert_eq!(host.run("apply --yes").code, 0, "{point}");
        let state = host.git("ls -A app/d; git -C app status --porcelain; git -C app rev-list HEAD..origin/main");
        assert_eq!(state, "b.txt\nlink\nnew\nsub\n", "{point}");
    }
    assert!(struck > 20 && left > 0, "{struck} points were struck, {left} copies were left");
}

#[test]
fn plan_reports_a_mount_on_a_tracked_file() {
    for push in ["echo 2 > a.txt", "git rm -q a.txt", "rm a.txt; mkdir a.txt; echo 1 > a.txt/x"] {
        let host = Host::new();
        host.root("echo mounted > ../other; mount --bind ../other a.txt");
        host.push(push);
        let hint = host.is_blocked("/home/ubuntu/app/a.txt is a mount point");
        assert!(hint.contains("unmount it"), "{hint}");
        host.root("umount a.txt");
        host.converges();
    }
    // A file cannot replace a mounted directory either.
    let host = Host::new();
    host.root("mkdir x; chown ubuntu x; mount -t tmpfs x x");
    host.push("echo 1 > x");
    host.is_blocked("/home/ubuntu/app/x is a mount point");
    host.root("umount x");
    host.converges();
}

#[test]
fn a_mount_that_the_update_does_not_touch_does_not_matter() {
    let host = Host::new();
    host.root("echo mounted > ../other; mount --bind ../other a.txt; mount --bind d/sub d/sub; chattr +i d/sub");
    host.push("echo 2 > d/b.txt");
    host.run("plan --detailed-exitcode").exits(2);
    host.run("apply --yes").exits(0);
    assert_eq!(host.git("cat app/d/b.txt; git -C app rev-list HEAD..origin/main"), "2\n");
}

#[test]
fn plan_reports_immutable_and_append_only_parts_of_a_checkout() {
    let paths =
        ["a.txt", "d/b.txt", "d", ".", ".git", ".git/refs/heads", ".git/objects", ".git/index", ".git/objects/pack"];
    let all = paths.map(|path| ("i", "immutable", path));
    for (flag, word, path) in all.into_iter().chain([("a", "append-only", "a.txt"), ("a", "append-only", ".git")]) {
        let host = Host::new();
        host.push("echo 2 | tee a.txt > d/b.txt");
        host.root(&format!("chattr +{flag} {path}"));
        let full = format!("/home/ubuntu/app/{path}");
        let full = full.trim_end_matches("/.");
        let hint = host.is_blocked(&format!("{full} is {word}"));
        assert!(hint.contains(&format!("chattr -{flag} {full}")), "{hint}");
        host.is_remedied_by(&hint);
    }
    // A log is only appended to.
    let host = Host::new();
    host.push("echo 2 > a.txt");
    host.root("chattr +a .git/logs/HEAD");
    host.converges();
    host.root("chattr -a .git/logs/HEAD; chattr +i .git/logs/HEAD");
    host.push("echo 3 > a.txt");
    let hint = host.is_blocked(".git/logs/HEAD is immutable");
    host.is_remedied_by(&hint);
}

#[test]
fn plan_reports_a_local_file_in_the_way_that_cannot_be_removed() {
    let host = Host::new();
    host.git("echo mine > app/new");
    host.root("chattr +i new");
    host.push("echo 1 > new");
    let hint = host.is_blocked("/home/ubuntu/app/new is immutable");
    host.is_remedied_by(&hint);
}

#[test]
fn plan_reports_a_checkout_on_a_read_only_mount() {
    for path in [".", ".git", "d"] {
        let host = Host::new();
        host.push("echo 2 > d/b.txt");
        host.root(&format!(
            "mount --bind {path} {path}; mount -o remount,bind,ro {}",
            format!("/home/ubuntu/app/{path}").trim_end_matches("/.")
        ));
        let hint = host.is_blocked("is mounted read-only");
        host.is_remedied_by(&hint);
    }
}

#[test]
fn plan_reports_a_place_for_a_clone_that_nobody_can_write_to() {
    for (before, word) in [
        ("mount --bind app app; mount -o remount,bind,ro /home/ubuntu/app", "/home/ubuntu/app is mounted read-only"),
        ("chattr +i app", "/home/ubuntu/app is immutable"),
        ("rmdir app; chattr +i .", "/home/ubuntu is immutable"),
    ] {
        let host = Host::without_checkout();
        host.sandbox.bash("root", &format!("cd /home/ubuntu; mkdir app; chown ubuntu: app; {before}"));
        let hint = host.is_blocked(word);
        host.is_remedied_by(&hint);
    }
}

#[test]
fn plan_reports_parts_of_git_directories_that_belong_to_root() {
    let all = "for n in $(seq 0 255); do mkdir -p .git/objects/$(printf %02x $n); done; chown root .git/objects/??";
    for (before, local, words) in [
        (all, "echo mine > app/a.txt", "/home/ubuntu/app/.git/objects/"),
        ("mkdir -p .git/refs/provision", "echo mine > app/a.txt", "/home/ubuntu/app/.git/refs/provision has to change"),
        (
            "mkdir -p .git/refs/provision",
            "git -C app commit -qm mine --allow-empty",
            "/home/ubuntu/app/.git/refs/provision has to change",
        ),
        ("chown root .git/objects/pack", "true", "/home/ubuntu/app/.git/objects/pack has to change"),
        ("chmod 555 .git/refs/heads", "true", "/home/ubuntu/app/.git/refs/heads has to change"),
        ("chown root d", "true", "files in /home/ubuntu/app/d have to change"),
        ("chown root .", "true", "/home/ubuntu/app belongs to root, and its .git to ubuntu"),
        ("chown root d d/b.txt; chmod 1777 d", "true", "/home/ubuntu/app/d/b.txt belongs to another user"),
    ] {
        let host = Host::new();
        host.git("sed -i 's/branch: main/&, local_commits: rescue_and_reset/' m.yaml");
        host.push("echo 2 | tee a.txt > d/b.txt");
        host.git(local);
        host.root(before);
        let hint = host.is_blocked(words);
        host.is_remedied_by(&hint);
    }
    // A private file is kept in a private directory alone.
    let host = Host::new();
    host.push("echo 2 > a.txt");
    host.git("echo mine > app/a.txt; chmod 600 app/a.txt; mkdir app/.git/provision-private");
    let plan = host.run("plan").exits(1);
    assert!(plan.stdout.contains("/home/ubuntu/app/.git/provision-private is accessible to others"), "{plan}");
    host.root("chmod 700 .git/provision-private");
    host.converges();
    // Without a rescue, no loose objects are written.
    let host = Host::new();
    host.push("echo 2 > a.txt");
    host.root(&format!("{all}; mkdir .git/refs/provision"));
    host.converges();
}

#[test]
fn root_clones_into_no_directory_in_which_others_can_create_files() {
    for mode in ["1777", "1775", "777", "775"] {
        let host = Host::without_checkout();
        host.sandbox.write("/srv/m.yaml", "root", PLAN.replace("/home/ubuntu/app", "/srv/app"));
        host.sandbox.bash(
            "root",
            &format!("mkdir /srv/app; chgrp ubuntu /srv/app; chmod {mode} /srv/app; chown -R root: /srv/git"),
        );
        let plan = host.sandbox.provision("root", ["plan", "/srv/m.yaml", "--json"]).run().exits(1);
        let planned = plan.step("step_planned", "code");
        assert!(
            planned["reason"].as_str().unwrap().contains("users other than root can change what /srv/app leads to"),
            "{plan}"
        );
        host.sandbox.provision("root", ["apply", "/srv/m.yaml", "--yes"]).run().exits(1);
        host.sandbox.bash("root", planned["hint"].as_str().unwrap().split('`').nth(1).unwrap());
        host.sandbox.provision("root", ["apply", "/srv/m.yaml", "--yes"]).run().exits(0);
    }
    // A sticky directory above the checkout is as safe as /tmp.
    let host = Host::without_checkout();
    host.sandbox.write("/srv/m.yaml", "root", PLAN.replace("/home/ubuntu/app", "/srv/t/app"));
    host.sandbox.bash("root", "mkdir -m 1777 /srv/t; chmod 1777 /srv/t; chown -R root: /srv/git");
    host.sandbox.provision("root", ["plan", "/srv/m.yaml", "--detailed-exitcode"]).run().exits(2);
    host.sandbox.provision("root", ["apply", "/srv/m.yaml", "--yes"]).run().exits(0);
}

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

/// Nobody is told that there are none.
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

/// The first file is written before the second one fails.
#[test]
fn an_update_that_fails_halfway_does_not_claim_that_nothing_was_changed() {
    let host = Host::new();
    host.root("mount -t tmpfs -o size=64k,uid=1000,gid=1000 d d");
    host.push("echo 2 > a.txt; seq 100000 > d/b.txt");
    let failed =
        host.sandbox.command("ubuntu", ["bash", "-c", &format!("{PROVISION} apply m.yaml --yes")]).run().exits(1);
    assert_eq!(host.git("cat app/a.txt"), "2\n", "{failed}");
    assert!(!failed.all().contains("nothing was changed"), "{failed}");
    host.root("mount -o remount,size=4m d");
    host.run("apply --yes").exits(0);
}

/// The output says how to get a rescue back, and what getting it back undoes.
#[test]
fn apply_says_what_restoring_a_rescue_undoes() {
    let host = Host::new();
    host.git("echo mine > app/a.txt; echo own > app/new");
    host.push("echo 2 > a.txt; echo 2 > new; echo 2 > d/b.txt");
    let apply = |more: &str| {
        host.sandbox.command("ubuntu", ["bash", "-c", &format!("{PROVISION} apply m.yaml --yes {more}")]).run().exits(0)
    };
    let said = "restoring it undoes what was committed since in a.txt, new";
    let done = apply("");
    assert!(done.stdout.contains("rescue restore") && done.stdout.contains(said), "{done}");
    let listed = host.git(&format!("{PROVISION} rescue list m.yaml"));
    assert!(listed.contains(said), "{listed}");
    host.git("git -C app reset -q --hard HEAD~; echo mine > app/a.txt; echo own > app/new");
    let done = apply("--json");
    assert_eq!(done.step("step_finished", "code")["restoring_undoes"], serde_json::json!([said]), "{done}");
    // What HEAD has not changed is not undone.
    let host = Host::new();
    host.git("git -C app rm -q --cached a.txt");
    host.push("echo 2 > d/b.txt");
    let done = host.run("apply --yes").exits(0);
    assert_eq!(done.step("step_finished", "code")["restoring_undoes"], serde_json::json!([]), "{done}");
}

/// A rescued file cannot return where HEAD has something else, so the printed command writes it to a new directory.
#[test]
fn the_printed_command_writes_rescued_files_elsewhere_if_their_place_is_taken() {
    for (mine, push) in [
        ("d/mine", "git rm -qr d; echo 2 > d"),
        ("d/mine", "git rm -qr d; ln -s a.txt d"),
        ("a.txt", "git rm -q a.txt; mkdir a.txt; echo 2 > a.txt/f"),
    ] {
        let host = Host::new();
        host.git(&format!("echo mine > app/{mine}"));
        host.push(push);
        let done = host.run("apply --yes").exits(0);
        let finished = done.step("step_finished", "code");
        let printed = finished["restore_commands"][0].as_str().unwrap_or_else(|| panic!("{push}: {done}")).to_owned();
        let pasted = printed.replace("provision rescue", &format!("{PROVISION} rescue"));
        let written = host.git(&pasted);
        let to = printed.split_once(" --to ").unwrap_or_else(|| panic!("{printed}")).1;
        assert_eq!(host.git(&format!("cat {to}/{mine}")), "mine\n", "{printed}: {written}");
    }
}

/// Only the files undo something, so what they undo is not said of the commits.
#[test]
fn what_a_restore_undoes_is_below_its_own_command() {
    let host = Host::new();
    host.git("sed -i 's/branch: main/&, local_commits: rescue_and_reset/' m.yaml");
    host.git("cd app; git checkout -q --detach; git commit -qm own --allow-empty; echo mine > a.txt");
    host.push("echo 2 > a.txt");
    let done =
        host.sandbox.command("ubuntu", ["bash", "-c", &format!("{PROVISION} apply m.yaml --yes")]).run().exits(0);
    let at = |text: &str| done.stdout.find(text).unwrap_or_else(|| panic!("{text}: {done}"));
    let (branch, restore, undoes) = (at("git -C"), at("rescue restore"), at("restoring it undoes"));
    assert!(branch < restore && restore < undoes, "{done}");
}
