//! For every kind that changes files, plan reports what is known to be impossible, with the exact reason and a hint
//! that works.

use serde_json::Value;

use crate::sandbox::{Outcome, Sandbox, Snapshot};

/// A host with one step that works below `/srv/app`.
struct Host {
    sandbox: Sandbox,
}

const DIRECTORY: &str = "directory: { path: /srv/app/logs, owner: \"50000\", mode: \"0750\", recursive: true }";
const NEW_DIRECTORY: &str = "directory: { path: /srv/app/new, mode: \"0750\" }";
const KEY: &str = "key_file: { path: /srv/app/key.pem, source: { file: /root/new.pem } }";
const COMPOSE: &str = "compose_env: { file: /srv/app/docker-compose.yml, variable: PW, value: { env: PW } }";

impl Host {
    fn new(step: &str) -> Self {
        let sandbox = Sandbox::new().env("PW", "new");
        sandbox.write("/root/p.yaml", "root", format!("name: p\nsteps:\n  - {{ id: it, run_as: root, {step} }}\n"));
        sandbox.bash(
            "root",
            "mkdir -p /srv/app/logs/sub; touch /srv/app/logs/sub/a
            ssh-keygen -q -t ed25519 -N '' -f /srv/app/key.pem; ssh-keygen -q -t ed25519 -N '' -f /root/new.pem
            printf 'services:\\n  a:\\n    image: x\\n    environment:\\n      PW: old\\n' > /srv/app/docker-compose.yml",
        );
        Self { sandbox }
    }

    fn run(&self, command: &str, before: &str) -> Outcome {
        let line = format!("PW=new {before} /opt/provision/bin/provision {command} /root/p.yaml --json");
        self.sandbox.command("root", ["bash", "-c", &line]).run()
    }

    /// Asserts that plan blocks with these words and that apply changes nothing. Returns the hint.
    #[track_caller]
    fn is_blocked(&self, before: &str, words: &[&str]) -> String {
        let found = Snapshot::take(&self.sandbox, "/srv", &[]);
        let plan = self.run("plan", before).exits(1);
        let told = plan.step("step_planned", "it");
        assert_eq!(told["outcome"], "blocked", "{plan}");
        let text = |event: &Value, key: &str| event[key].as_str().unwrap_or_default().to_owned();
        let reason = text(&told, "reason");
        for word in words {
            assert!(reason.contains(word), "{word:?} was to be read in {reason}\n{plan}");
        }
        let hint = text(&told, "hint");
        assert!(!hint.is_empty() && !hint.contains("run_as: root"), "{plan}");
        self.run("apply --yes", before).exits(1);
        found.is_same_as(&Snapshot::take(&self.sandbox, "/srv", &[]), &format!("blocked: {plan}"));
        hint
    }

    /// Runs the command in a hint and asserts that the step then converges.
    #[track_caller]
    fn is_remedied_by(&self, hint: &str) {
        let command = hint.split('`').nth(1).unwrap();
        self.sandbox.bash("root", command);
        self.run("apply --yes", "").exits(0);
        self.run("plan --detailed-exitcode", "").exits(0);
    }
}

#[test]
fn plan_reports_a_read_only_mount() {
    for step in [DIRECTORY, NEW_DIRECTORY, KEY, COMPOSE] {
        let host = Host::new(step);
        host.sandbox.bash("root", "mount --bind /srv/app /srv/app; mount -o remount,bind,ro /srv/app");
        let hint = host.is_blocked("", &["/srv/app is mounted read-only"]);
        host.is_remedied_by(&hint);
    }
}

#[test]
fn plan_reports_a_mode_change_below_a_read_only_mount() {
    let host = Host::new("directory: { path: /srv/app/logs, mode: \"0700\" }");
    host.sandbox.bash("root", "mount --bind /srv/app /srv/app; mount -o remount,bind,ro /srv/app");
    host.is_blocked("", &["owner and mode of /srv/app/logs", "/srv/app is mounted read-only"]);
}

#[test]
fn plan_reports_immutable_and_append_only_files() {
    for flag in ["i", "a"] {
        let word = if flag == "i" { "immutable" } else { "append-only" };
        for (step, path) in [
            (KEY, "/srv/app/key.pem"),
            ("key_file: { path: /srv/app/key.pem, mode: \"0440\" }", "/srv/app/key.pem"),
            (COMPOSE, "/srv/app/docker-compose.yml"),
            (DIRECTORY, "/srv/app/logs"),
            (NEW_DIRECTORY, "/srv/app"),
            (KEY, "/srv/app"),
            (COMPOSE, "/srv/app"),
        ] {
            let host = Host::new(step);
            host.sandbox.bash("root", &format!("chattr +{flag} {path}"));
            let hint = host.is_blocked("", &[&format!("{path} is {word}")]);
            host.is_remedied_by(&hint);
        }
    }
}

#[test]
fn plan_reports_a_mount_point_that_would_be_replaced() {
    for (step, path) in [(KEY, "/srv/app/key.pem"), (COMPOSE, "/srv/app/docker-compose.yml")] {
        let host = Host::new(step);
        host.sandbox.bash("root", &format!("cp -p {path} /root/other; mount --bind /root/other {path}"));
        host.is_blocked("", &[&format!("{path} is a mount point")]);
        host.sandbox.bash("root", &format!("umount {path}"));
        host.run("apply --yes", "").exits(0);
    }
}

#[test]
fn plan_reports_an_env_file_that_cannot_be_replaced() {
    for (before, word) in [
        ("chattr +i .env", "/srv/app/.env is immutable"),
        ("chattr +a .env", "/srv/app/.env is append-only"),
        ("cp -p .env /root/other; mount --bind /root/other .env", "/srv/app/.env is a mount point"),
        ("mount --bind . .; mount -o remount,bind,ro /srv/app", "/srv/app is mounted read-only"),
        ("rm .env; chattr +i .", "/srv/app is immutable"),
    ] {
        let host = Host::new(COMPOSE);
        host.sandbox
            .bash("root", "cd /srv/app; sed -i 's/old/${PW}/' docker-compose.yml; echo PW=old > .env; chmod 600 .env");
        host.sandbox.bash("root", &format!("cd /srv/app; {before}"));
        host.is_blocked("", &[word]);
    }
}

#[test]
fn plan_reports_missing_capabilities_of_root() {
    let host = Host::new(DIRECTORY);
    host.is_blocked("setpriv --bounding-set=-chown --inh-caps=-chown", &["root is not allowed"]);
    let host = Host::new(DIRECTORY);
    host.is_blocked("unshare -r", &["50000 is not mapped in this user namespace"]);
}

#[test]
fn plan_reports_a_compose_file_that_its_user_cannot_replace() {
    for (before, word) in [
        ("chown ubuntu:root docker-compose.yml; chmod 600 docker-compose.yml; chown ubuntu .", "has group root"),
        ("chown -R ubuntu:ubuntu .; chmod 555 .", "may not write to /srv/app"),
        ("chown ubuntu:ubuntu docker-compose.yml", "may not write to /srv/app"),
        ("chown ubuntu:ubuntu docker-compose.yml; chmod 1777 .; chown root docker-compose.yml", "belongs to root"),
        (
            "chown -R ubuntu:ubuntu .; sed -i 's/old/${PW}/' docker-compose.yml; chmod 555 .",
            "/srv/app/.env cannot be written",
        ),
    ] {
        let host = Host::new(COMPOSE);
        host.sandbox
            .bash("root", &format!("cd /srv/app; {before}; sed s/root/ubuntu/ /root/p.yaml > /home/ubuntu/p.yaml"));
        let found = Snapshot::take(&host.sandbox, "/srv", &[]);
        let plan = host.sandbox.provision("ubuntu", ["plan", "p.yaml", "--json"]).run().exits(1);
        let told = plan.step("step_planned", "it");
        assert!(told["reason"].as_str().unwrap().contains(word), "{before}: {plan}");
        assert!(told["hint"].as_str().unwrap().contains("run_as: root"), "{before}: {plan}");
        host.sandbox.provision("ubuntu", ["apply", "p.yaml", "--yes"]).run().exits(1);
        found.is_same_as(&Snapshot::take(&host.sandbox, "/srv", &[]), before);
    }
}

/// The kernel makes what is in /proc and /sys, so no step can make or replace a file there.
#[test]
fn plan_reports_targets_in_file_systems_of_the_kernel() {
    for (step, words) in [
        (
            "file: { path: /proc/sys/net/ipv4/ip_forward, content: \"1\\n\" }",
            "/proc/sys/net/ipv4 is on a file system of the kernel",
        ),
        ("file: { path: /sys/kernel/mm/x, content: x }", "/sys/kernel/mm is on a file system of the kernel"),
        ("directory: { path: /proc/x }", "/proc is on a file system of the kernel"),
        ("directory: { path: /sys/x/y }", "/sys is on a file system of the kernel"),
        ("key_file: { path: /proc/x, source: { file: /root/new.pem } }", "/proc is on a file system of the kernel"),
        ("repository: { path: /proc/x, url: /srv/app.git, branch: main }", "/proc is on a file system of the kernel"),
    ] {
        Host::new(step).is_blocked("", &[words]);
    }
}

#[test]
fn what_must_stay_is_not_proposed_to_be_moved_aside() {
    let host = Host::new(KEY);
    host.sandbox.bash("root", "mkdir -p /srv/volume; mount -t tmpfs tmpfs /srv/volume; touch /srv/volume/x; mknod /srv/null c 1 3; ln -s hostname /etc/link");
    host.sandbox.bash("ubuntu", "mkdir -p ~/.ssh; touch ~/.ssh/authorized_keys");
    let cases = [
        ("file: { path: /dev/null, content: x }", "/dev/null is a device, not a file"),
        ("file: { path: /srv/null, content: x }", "/srv/null is a device, not a file"),
        ("file: { path: /etc, content: x }", "/etc is a directory, not a file"),
        ("file: { path: /etc/link, content: x }", "/etc/link is a symlink, not a file"),
        ("file: { path: /home/ubuntu/.ssh, content: x }", "/home/ubuntu/.ssh is a directory, not a file"),
        ("file: { path: /srv/volume, content: x }", "/srv/volume is a directory, not a file"),
        ("directory: { path: /etc/passwd }", "/etc/passwd is a file, not a directory"),
        ("directory: { path: /dev/zero/x }", "/dev/zero is a device, not a directory"),
        ("key_file: { path: /home, source: { file: /root/new.pem } }", "/home is a directory, not a file"),
        ("compose_env: { file: /opt, variable: PW, value: { env: PW } }", "/opt is a directory, not a file"),
        ("repository: { path: /var, url: /srv/x.git, branch: main }", "/var is a directory with"),
    ];
    for (step, why) in cases {
        host.sandbox.write(
            "/root/p.yaml",
            "root",
            format!("name: p\nsteps:\n  - {{ id: it, run_as: root, {step} }}\n"),
        );
        let plan = host.run("plan", "").exits(1);
        assert!(plan.stdout.contains(why), "{step}\n{}", plan.stdout);
        assert!(!plan.stdout.contains("remove the symlink"), "{}", plan.stdout);
        assert!(
            plan.stdout.contains("correct ")
                || plan.stdout.contains("give the path of the file")
                || plan.stdout.contains("give another path"),
            "{}",
            plan.stdout
        );
        assert!(!plan.stdout.contains("mv -T") && !plan.stdout.contains("git -C"), "{step}\n{}", plan.stdout);
    }
}

/// A home or a mount point stays, with the files in it.
#[test]
fn a_directory_that_must_stay_becomes_a_checkout_in_place() {
    for (top, broken) in [
        ("/home/app", "git clone -q /srv/app.git $TOP; rm -rf $TOP/.git/objects; touch $TOP/own"),
        ("/var/www", "git clone -q /srv/app.git $TOP; echo rubbish > $TOP/.git/HEAD; touch $TOP/own"),
        ("/var/www", "mkdir -p $TOP; touch $TOP/own"),
        ("/srv/volume", "mkdir $TOP; mount -t tmpfs -o mode=755 tmpfs $TOP; touch $TOP/own"),
    ] {
        let host = Host::new(&format!("repository: {{ path: {top}, url: /srv/app.git, branch: main }}"));
        host.sandbox.bash(
            "root",
            &format!(
                "export TOP={top}; mkdir -p /var; git init -q -b main /root/seed; cd /root/seed; touch a; git add a
                git -c user.name=x -c user.email=x@x commit -qm one; git clone -q --bare /root/seed /srv/app.git; {broken}"
            ),
        );
        for _ in 0..2 {
            let plan = host.run("plan", "");
            if plan.code == 0 {
                break;
            }
            let hint = plan.step("step_planned", "it")["hint"].as_str().unwrap().to_owned();
            assert!(!hint.contains(&format!("{top}.aside")), "{hint}");
            host.sandbox.bash("root", hint.split('`').nth(1).unwrap());
        }
        host.run("apply --yes", "").exits(0);
        host.run("plan --detailed-exitcode", "").exits(0);
        host.sandbox.bash("root", &format!("test -f {top}/own"));
    }
}
