//! What cannot be changed in a checkout: plan reports it with a remedy that works. What git can do, an update does too.

#[cfg(target_arch = "x86_64")]
use crate::sandbox::{Fault, Point};
use crate::sandbox::{Outcome, PROVISION, Sandbox};

const PLAN: &str = "name: m
steps:
  - { id: code, repository: { path: /home/ubuntu/app, url: /srv/git/app.git, branch: main } }
";

/// A host with a checkout of ubuntu's.
pub struct Host {
    pub sandbox: Sandbox,
}

impl Host {
    pub fn new() -> Self {
        let host = Self::without_checkout();
        host.git("git clone -q /srv/git/app.git app");
        host
    }

    pub fn without_checkout() -> Self {
        let sandbox = Sandbox::new();
        sandbox.write("/home/ubuntu/m.yaml", "ubuntu", PLAN);
        sandbox.bash("root", "chown ubuntu: /srv/git");
        let host = Self { sandbox };
        host.git("git config --global user.name u; git config --global user.email u; git init -q --bare -b main /srv/git/app.git; git clone -q /srv/git/app.git up 2>/dev/null");
        host.push("mkdir -p d/sub; echo 1 | tee a.txt d/b.txt d/sub/c.txt");
        host
    }

    pub fn git(&self, command: &str) -> String {
        self.sandbox.bash("ubuntu", command)
    }

    pub fn root(&self, command: &str) -> String {
        self.sandbox.bash("root", &format!("cd /home/ubuntu/app 2>/dev/null || cd /home/ubuntu; {command}"))
    }

    /// Commits and pushes as another person.
    pub fn push(&self, script: &str) {
        self.git(&format!(
            "cd up; {{ {script}; }} >/dev/null; git add -A; git commit -qm more; git push -q origin HEAD:main"
        ));
    }

    pub fn run(&self, command: &str) -> Outcome {
        self.sandbox.command("ubuntu", ["bash", "-c", &format!("{PROVISION} {command} m.yaml --json")]).run()
    }

    /// Asserts that apply does what plan shows as exact, and that git and a second plan see nothing to do.
    #[track_caller]
    pub fn converges(&self) {
        let planned = self.run("plan --detailed-exitcode").exits(2);
        assert_eq!(planned.step("step_planned", "code")["outcome"], "changes", "{planned}");
        self.run("apply --yes").exits(0);
        self.run("plan --detailed-exitcode").exits(0);
        assert_eq!(self.git("git -C app status --porcelain; git -C app rev-list HEAD..origin/main"), "");
        assert_eq!(self.git("find app -name '.provision*' -o -path '*.git/provision'"), "");
    }

    /// Asserts that plan blocks with these words and that apply changes nothing. Returns the hint.
    #[track_caller]
    pub fn is_blocked(&self, words: &str) -> String {
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
    pub fn is_remedied_by(&self, hint: &str) {
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
