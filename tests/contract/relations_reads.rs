//! Law 10 for what steps only read: they wait for the steps that make it, and are not stopped by them.

use crate::relations::{FILE, apply, converges_in_one_apply, host, plan, remote, up, write_plan};
use crate::sandbox::Sandbox;

/// The second clone gets in the same apply what the first one gets.
#[test]
fn a_checkout_that_another_step_clones_from_is_updated_first() {
    for url in ["/srv/app", "/srv/app/.git", "file:///srv/app", "/srv/alias"] {
        let sandbox = host(&format!(
            "
  - {{ id: second, repository: {{ path: /srv/second, url: {url}, branch: main }} }}
  - {{ id: first, repository: {{ path: /srv/app, url: /srv/app.git, branch: main }} }}
"
        ));
        remote(&sandbox, "echo 1 > a");
        if url == "/srv/alias" {
            sandbox.bash("root", "ln -s /srv/app /srv/alias");
        }
        converges_in_one_apply(&sandbox);
        up(&sandbox, "echo 2 > a");
        let planned = plan(&sandbox).exits(2).step("step_planned", "second");
        assert_eq!((&planned["certainty"], &planned["waits_for"][0]), (&"provisional".into(), &"first".into()));
        converges_in_one_apply(&sandbox);
        assert_eq!(sandbox.read("/srv/second/a"), "2\n");
    }
}

/// What ssh needs to reach a remote may come from steps of the same plan file, in any order.
#[test]
fn a_clone_over_ssh_waits_for_its_key_its_configuration_and_its_known_hosts() {
    for user in ["root", "mallory"] {
        let sandbox = Sandbox::new();
        let home = sandbox.bash("root", &format!("getent passwd {user} | cut -d: -f6")).trim().to_owned();
        sandbox.bash(
            "root",
            "/opt/provision/scripts/services sshd; ssh-keygen -q -t ed25519 -N '' -f /root/key; install -d -o git -m 700 ~git/.ssh
             install -o git -m 600 /root/key.pub ~git/.ssh/authorized_keys; chown mallory /root/key; cp /root/key /tmp/key; chown mallory /tmp/key",
        );
        let known = sandbox.bash("root", "echo \"127.0.0.1 $(cut -d' ' -f1,2 /etc/ssh/host_key.pub)\"");
        let steps = [
            ("id_ed25519", "", "ssh://git@127.0.0.1/srv/app.git"),
            (
                "deploy",
                "Host forge\\n HostName 127.0.0.1\\n User git\\n IdentityFile ~/.ssh/deploy\\n",
                "forge:/srv/app.git",
            ),
        ];
        for (key, config, url) in steps {
            write_plan(
                &sandbox,
                &format!(
                    "
  - {{ id: code, run_as: {user}, repository: {{ path: {home}/app, url: \"{url}\", branch: main }} }}
  - {{ id: config, run_as: {user}, file: {{ path: {home}/.ssh/config, content: \"{config}\" }} }}
  - {{ id: known, run_as: {user}, file: {{ path: {home}/.ssh/known_hosts, content: \"{}\\n\" }} }}
  - {{ id: key, run_as: {user}, key_file: {{ path: {home}/.ssh/{key}, source: {{ file: /tmp/key }} }} }}
",
                    known.trim()
                ),
            );
            sandbox
                .bash("root", &format!("rm -rf {home}/.ssh {home}/app /srv/app.git /root/up; chown {user} /tmp/key"));
            remote(&sandbox, "echo 1 > a; chown -R git /srv/app.git; git config --global safe.directory '*'");
            sandbox.bash("root", "chown -R git /srv/app.git");
            let planned = plan(&sandbox).exits(2).step("step_planned", "code");
            assert_eq!(planned["certainty"], "provisional", "{planned}");
            assert_eq!(planned["waits_for"], serde_json::json!(["config", "known", "key"]), "{planned}");
            converges_in_one_apply(&sandbox);
        }
    }
}

/// One of two steps that undo each other is not made alone either.
#[test]
fn a_plan_file_that_is_refused_is_refused_for_each_of_its_steps() {
    let sandbox = host(
        "
  - { id: pw, compose_env: { file: /srv/c/docker-compose.yml, variable: PW, value: { env: P } } }
  - { id: whole, file: { path: /srv/c/.env, content: \"A=1\\n\" } }
  - { id: other, directory: { path: /srv/c/d } }
",
    )
    .env("P", "s3cr3t");
    let files = "mkdir /srv/c; cd /srv/c; printf 'services: { a: { image: x, environment: { PW: \"${PW}\" } } }\\n' > docker-compose.yml; echo PW=old > .env";
    sandbox.bash("root", files);
    let apply = |more: &[&str]| sandbox.provision("root", [&["apply", FILE, "--yes"], more].concat()).run().exits(1);
    let refused = apply(&[]);
    for more in [["--only", "pw"], ["--only", "whole"], ["--skip", "pw"], ["--skip", "whole"]] {
        assert_eq!(apply(&more).stderr, refused.stderr, "{more:?}");
    }
    assert_eq!(sandbox.read("/srv/c/.env"), "PW=old\n");
}

/// What Compose makes of a value depends on the override file.
#[test]
fn a_value_in_a_compose_file_waits_for_the_override_file() {
    let sandbox = host(
        "
  - { id: pw, compose_env: { file: /srv/c/docker-compose.yml, variable: PW, value: { env: P } } }
  - { id: over, file: { path: /srv/c/docker-compose.override.yml, content: \"services: { a: { environment: { PW: lit } } }\\n\" } }
",
    )
    .env("P", "s3cr3t");
    let file = "mkdir /srv/c; printf 'services: { a: { image: x, environment: { PW: old } } }\\n' > /srv/c/docker-compose.yml; chmod 600 /srv/c/*";
    sandbox.bash("root", file);
    let planned = plan(&sandbox).exits(2).step("step_planned", "pw");
    assert_eq!((&planned["certainty"], &planned["waits_for"][0]), (&"provisional".into(), &"over".into()));
    let applied = sandbox.provision("root", ["apply", FILE, "--yes", "--json"]).run().exits(0);
    let warnings = applied.step("step_finished", "pw")["warnings"].to_string();
    assert!(warnings.contains("docker-compose.override.yml"), "{applied}");
}

/// What a clone only reads, it may not need. Whether it does, the clone itself tells.
#[test]
fn a_step_is_tried_if_what_it_reads_cannot_be_made() {
    let sandbox = host(
        "
  - { id: first, repository: { path: /srv/app, url: /srv/none.git, branch: main } }
  - { id: second, repository: { path: /srv/second, url: /srv/app, branch: main } }
  - { id: inside, directory: { path: /srv/second/logs } }
  - { id: key, key_file: { path: /root/.ssh/id_rsa, source: { file: /root/none } } }
  - { id: far, repository: { path: /srv/far, url: \"git@127.0.0.1:x.git\", branch: main } }
  - { id: ignore, file: { path: /root/.config/git/ignore, content: \"*.swp\\n\" } }
  - { id: pw, compose_env: { file: /srv/c/docker-compose.yml, variable: PW, value: { env: P } } }
  - { id: over, file: { path: /srv/c/docker-compose.override.yml, content: \"{{ secret('s') }}\", secrets: { s: { file: /root/none } } } }
",
    )
    .env("P", "s3cr3t");
    remote(&sandbox, "echo 1 > a");
    sandbox.bash(
        "root",
        "git clone -q /srv/app.git /srv/app; mkdir /srv/c
         printf 'services: { a: { image: x, environment: { PW: old } } }\\n' > /srv/c/docker-compose.yml; chmod 600 /srv/c/*",
    );
    let planned = plan(&sandbox).exits(1);
    for id in ["second", "pw", "ignore"] {
        let step = planned.step("step_planned", id);
        assert_eq!((&step["outcome"], &step["certainty"]), (&"changes".into(), &"exact".into()), "{step}");
    }
    let far = planned.step("step_planned", "far")["reason"].to_string();
    assert!(far.contains("cannot reach the remote"), "{far}");
    let applied = apply(&sandbox).exits(1);
    for (id, outcome) in
        [("second", "changed"), ("inside", "changed"), ("pw", "changed"), ("key", "failed"), ("far", "failed")]
    {
        assert_eq!(applied.step("step_finished", id)["outcome"], outcome, "{applied}");
    }
    // A step that can no longer be made only when it is its turn.
    sandbox.bash("root", "rm -r /srv/app /srv/second");
    write_plan(
        &sandbox,
        "
  - { id: clone, repository: { path: /srv/second, url: /srv/app.git, branch: main } }
  - { id: code, repository: { path: /srv/app, url: /srv/app.git, branch: main } }
  - { id: inside, directory: { path: /srv/app/a/d } }
  - { id: config, after: [inside], file: { path: /root/.config/git/config, content: \"\" } }
",
    );
    assert_eq!(plan(&sandbox).exits(2).step("step_planned", "clone")["waits_for"][0], "config");
    let applied = apply(&sandbox).exits(1);
    for (id, outcome) in [("config", "blocked"), ("clone", "changed")] {
        assert_eq!(applied.step("step_finished", id)["outcome"], outcome, "{applied}");
    }
}

/// A service has no `HOME`. Its steps read in the same home all the same.
#[test]
fn what_is_read_does_not_depend_on_the_variable_home() {
    let sandbox = host(
        "
  - { id: code, repository: { path: /srv/app, url: \"git@127.0.0.1:x.git\", branch: main } }
  - { id: known, file: { path: /root/.ssh/known_hosts, content: \"x\\n\" } }
",
    );
    let with = sandbox.provision("root", ["plan", FILE, "--json"]).run().exits(0);
    let without = sandbox.provision("root", ["plan", FILE, "--json"]).without_env("HOME").run().exits(0);
    for plan in [with, without] {
        assert_eq!(plan.step("step_planned", "code")["waits_for"], serde_json::json!(["known"]), "{plan}");
    }
    // Another home is that of the steps as well.
    let other = sandbox.provision("root", ["plan", FILE, "--json"]).env("HOME", "/srv").run();
    assert_eq!(other.step("step_planned", "code")["waits_for"], serde_json::json!([]), "{other}");
}
