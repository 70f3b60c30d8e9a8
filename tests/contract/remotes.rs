//! Remotes are reached as git itself does: by path, by `file://`, and by ssh with the operator's own keys and known
//! hosts.

use crate::sandbox::{BARE, CHECKOUT, PLAN, Sandbox, Snapshot, Tracing, eventually, random_word};

const SSH_URL: &str = "ssh://ubuntu@127.0.0.1/srv/git/s3-redshift-backup-tool.git";

/// A host whose remote is served by sshd, with access by the operator's key.
pub fn served_by_ssh() -> Sandbox {
    let mut sandbox = Sandbox::new().remote();
    sandbox.bash("root", "/opt/provision/scripts/services sshd");
    sandbox.bash(
        "ubuntu",
        "mkdir -m 700 .ssh; ssh-keygen -q -t ed25519 -N '' -f .ssh/id_ed25519; cp .ssh/id_ed25519.pub .ssh/authorized_keys",
    );
    sandbox.set_var("repo_url", SSH_URL);
    sandbox
}

pub fn trust_the_host(sandbox: &Sandbox) {
    sandbox.bash("root", "echo \"127.0.0.1 $(cut -d' ' -f1,2 /etc/ssh/host_key.pub)\" > /home/ubuntu/.ssh/known_hosts; chown ubuntu: /home/ubuntu/.ssh/known_hosts");
}

fn apply(sandbox: &Sandbox, user: &str) -> crate::sandbox::Outcome {
    sandbox.provision(user, ["apply", PLAN, "--yes", "--json", "--only", "repository"]).run()
}

#[test]
fn plan_reads_remotes_by_path_and_by_file_url() {
    for url in [BARE.to_owned(), format!("file://{BARE}")] {
        let mut sandbox = Sandbox::new().remote();
        sandbox.set_var("repo_url", url);
        apply(&sandbox, "ubuntu").exits(0);
        assert_eq!(
            sandbox.git("rev-parse HEAD"),
            sandbox.bash("ubuntu", &format!("git -C {BARE} rev-parse jasleen_qa"))
        );
        for same in ["/srv/git/./s3-redshift-backup-tool.git/", "file:///srv//git/../git/s3-redshift-backup-tool.git"] {
            sandbox.set_var("repo_url", same);
            let plan = sandbox.provision("ubuntu", ["plan", PLAN, "--json", "--only", "repository"]).run().exits(0);
            assert_eq!(plan.step("step_planned", "repository")["outcome"], "unchanged", "{plan}");
        }
    }
}

/// Independent of who starts the run.
#[test]
fn the_git_configuration_of_the_steps_user_applies() {
    let mut sandbox = Sandbox::new().remote();
    // Mallory's worker is started by sudo.
    sandbox.bash("root", "echo 'mallory ALL=(ALL:ALL) NOPASSWD: ALL' >> /etc/sudoers");
    sandbox.bash("ubuntu", "git config --global url./srv/git/.insteadOf forge:");
    sandbox.bash("ubuntu", "git config --global core.symlinks true; git config --global core.ignoreCase false");
    sandbox.set_var("repo_url", "forge:s3-redshift-backup-tool.git");
    for (user, file) in [("ubuntu", "one"), ("root", "two"), ("mallory", "three")] {
        sandbox.commit(file, file);
        apply(&sandbox, user).exits(0);
        assert_eq!(sandbox.read(&format!("{CHECKOUT}/{file}")), file);
    }
}

#[test]
fn ssh_works_with_a_default_key_and_a_known_host() {
    for user in ["ubuntu", "root"] {
        let sandbox = served_by_ssh();
        trust_the_host(&sandbox);
        apply(&sandbox, user).exits(0);
        sandbox.commit("airflow_poc/dags/late.py", "LATE = True\n");
        apply(&sandbox, user).exits(0);
        assert_eq!(sandbox.read(&format!("{CHECKOUT}/airflow_poc/dags/late.py")), "LATE = True\n");
    }
}

/// Each connection to a remote host takes a part of a second.
#[test]
fn an_apply_does_not_connect_more_often_than_it_has_to() {
    let sandbox = served_by_ssh();
    trust_the_host(&sandbox);
    let logins =
        || sandbox.bash("root", "grep -c 'Accepted publickey' /var/log/sshd || true").trim().parse::<usize>().unwrap();
    let connections = |what: &str, expected: usize| {
        let before = logins();
        apply(&sandbox, "ubuntu").exits(0);
        assert_eq!(logins() - before, expected, "{what}");
    };
    connections("a clone: head and files for the plan; head, objects and HEAD for the change", 5);
    sandbox.commit("airflow_poc/dags/late.py", "LATE = True\n");
    connections("an update", 4);
    connections("nothing to do", 1);
}

/// sshd drops connections while too many have not logged in. The steps of one run must not be the reason.
#[test]
fn many_remotes_at_one_ssh_host_are_reached() {
    let mut sandbox = served_by_ssh();
    ["key_source", "repo_url"].into_iter().for_each(|name| sandbox.unset_var(name));
    trust_the_host(&sandbox);
    let listens = || sandbox.bash("root", "ss -ltn").contains(":22 ");
    sandbox.bash("root", "echo 'MaxStartups 3:100:3' >> /etc/ssh/sshd_config; kill $(cat /run/sshd.pid)");
    eventually("sshd has ended", || !listens());
    sandbox.bash("root", "/usr/sbin/sshd -f /etc/ssh/sshd_config -E /var/log/sshd");
    eventually("sshd listens", listens);
    let step = |number: usize| {
        let path = format!("/home/ubuntu/checkouts/{number}");
        format!("  - {{ id: r{number}, repository: {{ path: {path}, url: '{SSH_URL}', branch: jasleen_qa }} }}\n")
    };
    sandbox.bash("ubuntu", "mkdir checkouts");
    let text = format!("name: many\nsteps:\n{}", (1..=10).map(step).collect::<String>());
    sandbox.write("/home/ubuntu/many.yaml", "ubuntu", text);
    let outcome = sandbox.provision("ubuntu", ["apply", "many.yaml", "--yes", "--json"]).run().exits(0);
    assert_eq!(outcome.outcomes().iter().filter(|(_, outcome)| outcome == "changed").count(), 10, "{outcome}");
}

#[test]
fn unknown_and_changed_ssh_hosts_are_refused() {
    let sandbox = served_by_ssh();
    let outcome = apply(&sandbox, "ubuntu").exits(1);
    assert!(outcome.all().contains("127.0.0.1") && outcome.all().contains("known_hosts"), "{outcome}");
    trust_the_host(&sandbox);
    sandbox.bash("root", "kill $(cat /run/sshd.pid); rm /etc/ssh/host_key*; while ss -ltn | grep -q :22; do :; done; /opt/provision/scripts/services sshd");
    let outcome = apply(&sandbox, "ubuntu").exits(1);
    assert!(outcome.all().contains("127.0.0.1") && outcome.all().contains("host key"), "{outcome}");
    assert!(!sandbox.path(format!("{CHECKOUT}/.git")).exists());
    assert!(!sandbox.read("/home/ubuntu/.ssh/known_hosts").is_empty());
}

#[test]
fn ssh_aliases_are_resolved() {
    let mut sandbox = served_by_ssh();
    trust_the_host(&sandbox);
    sandbox.bash(
        "ubuntu",
        "mv .ssh/id_ed25519 .ssh/deploy; rm .ssh/id_ed25519.pub
        printf 'Host forge\\n  HostName 127.0.0.1\\n  User ubuntu\\n  IdentityFile ~/.ssh/deploy\\n' > .ssh/config; chmod 600 .ssh/config",
    );
    sandbox.set_var("repo_url", "forge:/srv/git/s3-redshift-backup-tool.git");
    apply(&sandbox, "ubuntu").exits(0);
}

/// Data fetched for a plan is stored in /dev/shm, or else in the directory for temporary files.
#[test]
fn a_full_temporary_space_falls_back_to_the_other() {
    let sandbox = served_by_ssh();
    trust_the_host(&sandbox);
    apply(&sandbox, "ubuntu").exits(0);
    let noise: String = (0..200_000).map(|_| random_word() + "\n").collect();
    sandbox.commit("noise", &noise);
    let plan = |url: &str| {
        sandbox.git(&format!("remote set-url origin {url}"));
        let url = format!("repo_url={url}");
        let words = ["plan", PLAN, "--json", "--only", "repository", "--var", &url];
        let outcome = sandbox.provision("ubuntu", words).run();
        let left = sandbox.bash("root", "find /dev/shm /tmp -name 'provision-fetch-*'");
        assert_eq!(left, "", "{outcome}");
        outcome
    };
    sandbox.bash("root", "mount -t tmpfs -o mode=1777,size=1m tmpfs /dev/shm");
    for url in [SSH_URL, BARE] {
        let outcome = plan(url).exits(0);
        assert_eq!(outcome.step("step_planned", "repository")["outcome"], "changes", "{outcome}");
    }
    sandbox.bash("root", "mount -t tmpfs -o mode=1777,size=1m tmpfs /tmp");
    for url in [SSH_URL, BARE] {
        let step = plan(url).exits(1).step("step_planned", "repository");
        let reason = step["reason"].as_str().unwrap();
        assert!(reason.starts_with("there is not enough space in /dev/shm and in /tmp for what the remote"), "{step}");
        assert!(step["hint"].as_str().unwrap().contains("TMPDIR"), "{step}");
    }
}

/// ssh is also made to leave nothing behind where no program can be run from temporary space.
#[test]
fn remotes_are_reached_by_ssh_if_temporary_space_is_noexec() {
    let mut sandbox = served_by_ssh();
    trust_the_host(&sandbox);
    let sharing = "ControlMaster auto\n ControlPath ~/.ssh/cm-%C\n ControlPersist 20\n HostName 127.0.0.1\n";
    let config = format!(
        "Host far\n ProxyCommand ssh -W [%h]:%p near\n {sharing}Host farther\n ProxyJump near\n {sharing}Host near\n {sharing}"
    );
    sandbox.write("/home/ubuntu/.ssh/config", "ubuntu", config);
    sandbox.bash("root", "for at in /dev/shm /tmp; do mount -t tmpfs -o mode=1777,noexec tmpfs $at; done");
    for (host, program) in [("far", "ssh"), ("far", "/usr/bin/ssh -4"), ("farther", "/usr/bin/ssh"), ("farther", "ssh")]
    {
        sandbox.bash("ubuntu", &format!("git config --global core.sshCommand '{program}'"));
        sandbox.set_var("repo_url", format!("{host}:/srv/git/s3-redshift-backup-tool.git"));
        let outcome = sandbox.provision("ubuntu", ["plan", PLAN, "--json", "--only", "repository"]).run().exits(0);
        assert_eq!(outcome.step("step_planned", "repository")["outcome"], "changes", "{outcome}");
        assert_eq!(sandbox.bash("ubuntu", "ls .ssh | grep cm- || true"), "", "{program} {host}");
    }
}

/// Neither plan nor apply adds a host to known_hosts, even if ssh accepts it.
#[test]
fn a_host_that_ssh_accepts_is_reached_and_not_added() {
    let sandbox = served_by_ssh();
    for choice in ["StrictHostKeyChecking accept-new", "StrictHostKeyChecking no\n UserKnownHostsFile /dev/null"] {
        sandbox.write("/home/ubuntu/.ssh/config", "ubuntu", format!("Host 127.*\n {choice}\n"));
        let before = Snapshot::take(&sandbox, "/home/ubuntu/.ssh", &[]);
        let outcome = sandbox.provision("ubuntu", ["plan", PLAN, "--json", "--only", "repository"]).run().exits(0);
        assert_eq!(outcome.step("step_planned", "repository")["outcome"], "changes", "{outcome}");
        before.is_same_as(&Snapshot::take(&sandbox, "/home/ubuntu/.ssh", &[]), "plan learns no host");
    }
    let before = Snapshot::take(&sandbox, "/home/ubuntu/.ssh", &[]);
    apply(&sandbox, "ubuntu").exits(0);
    before.is_same_as(&Snapshot::take(&sandbox, "/home/ubuntu/.ssh", &[]), "apply learns no host");
}

/// The reason is that git is missing, or too old. The git of this test only prints a version.
#[test]
fn a_host_without_git_or_with_an_old_one_is_told_what_to_install() {
    let sandbox = Sandbox::new().remote();
    sandbox.bash(
        "ubuntu",
        "mkdir bin; printf '#!/bin/sh\\necho git version 2.29.3\\n' > bin/git; chmod 755 bin/git; mkdir empty",
    );
    for (path, what) in [
        ("/home/ubuntu/empty", "cannot reach remotes: the program git is not installed"),
        ("/home/ubuntu/bin", "cannot reach remotes with git version 2.29.3: git 2.30 or newer is needed"),
    ] {
        let plan = sandbox.provision("ubuntu", ["plan", PLAN, "--json", "--only", "repository"]);
        let step = plan.env("PATH", path).run().exits(1).step("step_planned", "repository");
        assert_eq!(step["reason"], what, "{step}");
        assert!(step["hint"].as_str().unwrap().contains("apt-get install git`"), "{step}");
    }
}

/// `GIT_SSH` names a program, which may need quoting for a shell.
#[test]
fn git_ssh_applies_to_steps_of_the_launching_user() {
    let mut sandbox = served_by_ssh();
    trust_the_host(&sandbox);
    sandbox.bash(
        "ubuntu",
        "mv .ssh/id_ed25519 deploy; rm .ssh/id_ed25519.pub; mkdir 'my bin'
        printf '#!/bin/sh\\nexec ssh -i ~/deploy \"$@\"\\n' > 'my bin/my-ssh'; chmod 755 'my bin/my-ssh'",
    );
    apply(&sandbox, "ubuntu").exits(1);
    sandbox.set_env("GIT_SSH", "/home/ubuntu/my bin/my-ssh");
    apply(&sandbox, "root").exits(1);
    apply(&sandbox, "ubuntu").exits(0);
}

/// As for git itself, the launcher's variables count if the step has no other `run_as` user.
#[test]
fn git_ssh_command_applies_to_steps_of_the_launching_user() {
    let mut sandbox = served_by_ssh();
    trust_the_host(&sandbox);
    sandbox.bash(
        "ubuntu",
        "mv .ssh/id_ed25519 deploy; rm .ssh/id_ed25519.pub
        printf 'Host forge\\n  HostName 127.0.0.1\\n  User ubuntu\\n  IdentityFile ~/deploy\\n' > ssh_config",
    );
    sandbox.set_var("repo_url", "forge:/srv/git/s3-redshift-backup-tool.git");
    apply(&sandbox, "ubuntu").exits(1);
    sandbox.set_env("GIT_SSH_COMMAND", "ssh -F /home/ubuntu/ssh_config");
    apply(&sandbox, "root").exits(1);
    apply(&sandbox, "ubuntu").exits(0);
    sandbox.commit("one", "one");
    apply(&sandbox, "ubuntu").exits(0);
    assert_eq!(sandbox.read(&format!("{CHECKOUT}/one")), "one");
}

/// git gets what is for logins and what its configuration names, but no secret of the plan file, wherever it stands.
#[test]
fn git_gets_the_variables_that_its_configuration_names_but_no_secret_of_the_plan_file() {
    let mut sandbox = served_by_ssh();
    trust_the_host(&sandbox);
    let wrapper = "#!/bin/sh
        [ \"$1\" = for-git ] || { echo 'Permission denied (publickey).' >&2; exit 255; }
        shift; env > /tmp/seen; exec ssh \"$@\"\n";
    sandbox.write("/home/ubuntu/wrapper", "ubuntu", wrapper);
    sandbox
        .bash("ubuntu", "chmod +x wrapper; git config --global core.sshCommand '/home/ubuntu/wrapper $DEPLOY_TOKEN'");
    sandbox.set_env("DEPLOY_TOKEN", "for-git");
    sandbox.set_env("ALERT_SMTP_PASSWORD", "canary-of-the-plan");
    sandbox.set_env("GITHUB_TOKEN", "beside canary-of-the-plan");
    sandbox.set_env("AWS_PROFILE", "deploys");
    for name in ["SSLKEYLOGFILE", "SSH_ASKPASS", "PGPASSWORD", "OF_ANOTHER_PROGRAM"] {
        sandbox.set_env(name, "/not-for-git");
    }
    let outcome = apply(&sandbox, "root").exits(1);
    let hint = outcome.step("step_planned", "repository")["hint"].to_string();
    assert!(
        hint.contains("DEPLOY_TOKEN of the user who starts provision is not passed on to ubuntu"),
        "{hint}\n{outcome}"
    );
    apply(&sandbox, "ubuntu").exits(0);
    let seen = sandbox.read("/tmp/seen");
    assert!(seen.contains("DEPLOY_TOKEN=for-git") && seen.contains("AWS_PROFILE=deploys"), "{seen}");
    assert!(!seen.contains("canary-of-the-plan") && !seen.contains("/not-for-git"), "{seen}");
}

#[test]
fn a_shallow_remote_is_cloned_intact_over_ssh() {
    let mut sandbox = served_by_ssh();
    trust_the_host(&sandbox);
    sandbox.commit("one", "one");
    sandbox
        .bash("ubuntu", &format!("git clone -q --bare --depth 1 -b jasleen_qa file://{BARE} /home/ubuntu/shallow.git"));
    sandbox.set_var("repo_url", "ssh://ubuntu@127.0.0.1/home/ubuntu/shallow.git");
    apply(&sandbox, "ubuntu").exits(0);
    sandbox.git("fsck");
    assert_eq!(sandbox.git("rev-parse --is-shallow-repository"), "true\n");
    assert_eq!(sandbox.read(&format!("{CHECKOUT}/one")), "one");
}

#[test]
fn a_token_in_a_url_is_neither_shown_nor_a_process_argument() {
    for url in [
        "http://127.0.0.1:1/x.git?access_token=CANARY",
        "http://127.0.0.1:1/x.git#CANARY",
        "oauth2:CANARY@git.invalid:team/x.git",
        "http://oauth2:CANARY@127.0.0.1:1/x.git",
        "http://CANARY@127.0.0.1:1/x.git",
    ] {
        let mut sandbox = Sandbox::new().remote();
        sandbox.set_var("repo_url", url);
        for words in [vec!["plan", PLAN, "--only", "repository"], vec!["plan", PLAN, "--json", "--only", "repository"]]
        {
            let (outcome, trace) = sandbox.provision("ubuntu", words).traced(&Tracing::Executions);
            let outcome = outcome.exits(1);
            assert!(!outcome.all().contains("CANARY"), "{outcome}");
            let executions = trace.executions();
            // The first process is started by the test.
            let shown = executions.iter().filter(|line| !line.contains("\"plan\"") && line.contains("CANARY"));
            assert_eq!(shown.count(), 0, "{executions:?}");
        }
        let outcome = sandbox.provision("ubuntu", ["explain", PLAN, "repository"]).run();
        assert!(!outcome.all().contains("CANARY"), "{outcome}");
    }
}

/// The step's user allows a remote that belongs to a third user, whoever starts the run.
#[test]
fn the_hint_for_a_remote_of_another_user_works_when_pasted() {
    for user in ["ubuntu", "root"] {
        let sandbox = Sandbox::new().remote();
        sandbox.bash("root", &format!("chown -R mallory: {BARE}"));
        let words = ["plan", PLAN, "--json", "--only", "repository"];
        let outcome = sandbox.provision(user, words).run().exits(1);
        let step = outcome.step("step_planned", "repository");
        let hint = step["hint"].as_str().unwrap();
        let command = hint.split('`').nth(1).unwrap();
        assert_eq!(command.starts_with("sudo -H -u ubuntu "), user == "root", "{hint}");
        sandbox.bash(user, command);
        sandbox.provision(user, words).run().exits(0);
    }
}
