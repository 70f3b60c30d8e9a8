//! Laws 3 and 10 for paths: links that a checkout holds, bind mounts, files of git, and parents inside the tree of another step.

use crate::relations::{FILE, apply, converges_in_one_apply, host, plan, refuses, remote, up, validate, write_plan};
use crate::sandbox::Sandbox;

/// A literal is edited in the compose file. Whether the `.env` beside it can be created does not matter.
#[test]
fn a_literal_does_not_wait_for_a_blocked_env_file() {
    let sandbox = host(
        "
  - { id: env, file: { path: /srv/app/.env, content: \"A={{ secret('a') }}\\n\", secrets: { a: { env: NOT_SET } } } }
  - { id: literal, compose_env: { file: /srv/app/dc.yml, variable: P, value: { env: P } } }
  - { id: referred, compose_env: { file: /srv/app/other.yml, variable: Q, value: { env: P } } }
",
    )
    .env("P", "new");
    sandbox.bash(
        "root",
        "mkdir /srv/app; cd /srv/app; printf 'services: { a: { environment: { P: old } } }\\n' > dc.yml
         printf 'services: { a: { environment: { Q: \"${Q}\" } } }\\n' > other.yml",
    );
    let steps = |sandbox: &Sandbox| {
        let text = sandbox.read(FILE).lines().filter(|line| !line.contains("referred")).collect::<Vec<_>>().join("\n");
        sandbox.write(FILE, "root", text + "\n");
    };
    refuses(&sandbox, &["owns the content of /srv/app/.env"]);
    steps(&sandbox);
    let outcome = apply(&sandbox).exits(1);
    assert_eq!(outcome.outcomes(), [("env".into(), "blocked".into()), ("literal".into(), "changed".into())]);
}

fn stat(sandbox: &Sandbox, path: &str) -> String {
    sandbox.bash("root", &format!("stat -c '%U:%G %a' {path}")).trim().to_owned()
}

/// What a user creates in the tree of another step gets the tree's group and modes.
#[test]
fn a_users_parents_in_a_tree_are_like_the_tree() {
    let sandbox = host(
        "
  - { id: tree, directory: { path: /srv/app, owner: ubuntu, group: etl, recursive: true, dir_mode: \"0750\" } }
  - { id: file, run_as: ubuntu, file: { path: /srv/app/conf.d/more/x.conf, content: x } }
  - { id: code, run_as: ubuntu, repository: { path: /srv/app/src/code, url: /srv/r.git, branch: main } }
  - { id: folder, run_as: ubuntu, directory: { path: /srv/app/var/log } }
",
    );
    sandbox.bash(
        "root",
        "usermod -aG etl ubuntu 2>/dev/null || sed -i 's/^etl:.*/&,ubuntu/' /etc/group
         git init -q --bare -b main /srv/r.git; git clone -q /srv/r.git /root/up 2>/dev/null; cd /root/up; echo 1 > a; git add a
         git -c user.name=u -c user.email=u@example commit -qm first; git push -q origin HEAD:main; chown -R ubuntu /srv/r.git",
    );
    converges_in_one_apply(&sandbox);
    for path in ["conf.d", "conf.d/more", "src", "var"] {
        assert_eq!(stat(&sandbox, &format!("/srv/app/{path}")), "ubuntu:etl 750", "{path}");
    }
}

/// Only root can give a directory to another user, so the plan reports it.
#[test]
fn a_user_that_cannot_make_parents_of_a_tree_is_blocked() {
    let steps = |run_as: &str, attributes: &str| {
        format!(
            "
  - {{ id: tree, directory: {{ path: /srv/app, recursive: true, mode: \"0777\", {attributes} }} }}
  - {{ id: file, run_as: {run_as}, file: {{ path: /srv/app/conf.d/x.conf, content: x }} }}
  - {{ id: code, run_as: {run_as}, repository: {{ path: /srv/app/src/code, url: /srv/app.git, branch: main }} }}
  - {{ id: folder, run_as: {run_as}, directory: {{ path: /srv/app/var/log }} }}
"
        )
    };
    let sandbox = host("");
    remote(&sandbox, "echo 1 > a");
    sandbox.bash("root", "chown -R ubuntu /srv/app.git; install -d -m 777 /srv/app");
    for (attributes, missing) in [("owner: \"7\"", "owner lp"), ("owner: ubuntu, group: \"7\"", "group lp")] {
        write_plan(&sandbox, &steps("ubuntu", attributes));
        apply(&sandbox).exits(1);
        let planned = plan(&sandbox).exits(1);
        for step in ["file", "code", "folder"] {
            let event = planned.step("step_planned", step);
            assert_eq!(event["outcome"], "blocked", "{planned}");
            let reason = event["reason"].as_str().unwrap_or_default();
            assert!(reason.contains(&format!("ubuntu cannot give it {missing}")), "{reason}");
        }
        sandbox.bash("root", "test -z \"$(ls -A /srv/app)\"");
    }
}

/// The kernel removes the setgid bit when somebody outside of the group sets a mode, so nested parents would have another group.
#[test]
fn parents_that_would_lose_the_group_of_a_tree_are_blocked() {
    let sandbox = host("");
    remote(&sandbox, "echo 1 > a");
    sandbox.bash("root", "chown -R ubuntu /srv/app.git; install -d -m 2775 -o ubuntu -g lp /srv/app");
    let steps = "
  - { id: tree, directory: { path: /srv/app, recursive: true, mode: \"2775\", dir_mode: \"2775\", owner: ubuntu, group: lp } }
  - { id: file, run_as: ubuntu, file: { path: /srv/app/conf/d/x.conf, content: x } }
  - { id: code, run_as: ubuntu, repository: { path: /srv/app/src/main/code, url: /srv/app.git, branch: main } }
";
    write_plan(&sandbox, steps);
    let planned = plan(&sandbox).exits(1);
    for step in ["file", "code"] {
        let event = planned.step("step_planned", step);
        assert_eq!(event["outcome"], "blocked", "{planned}");
        let reason = event["reason"].as_str().unwrap_or_default();
        assert!(reason.contains("ubuntu cannot give it mode 2775"), "{reason}");
    }
    write_plan(&sandbox, &steps.replace("2775", "2755"));
    sandbox.bash("root", "chmod 2755 /srv/app");
    apply(&sandbox).exits(0);
    assert_eq!(stat(&sandbox, "/srv/app/src/main"), "ubuntu:lp 2755");
    // A group of the user's own is given first, and the bit stays.
    write_plan(&sandbox, &steps.replace("lp", "ubuntu"));
    sandbox.bash("root", "rm -rf /srv/app; install -d -m 2775 -o ubuntu -g lp /srv/app");
    let file = ["apply", FILE, "--yes", "--json", "--only", "file"];
    sandbox.provision("root", file).run().exits(0);
    assert_eq!(stat(&sandbox, "/srv/app/conf"), "ubuntu:ubuntu 2775");
    assert_eq!(stat(&sandbox, "/srv/app/conf/d"), "ubuntu:ubuntu 2775");
}

/// The parents that a clone creates get the modes of the tree.
#[test]
fn the_parents_of_a_clone_are_like_the_tree() {
    let sandbox = host(
        "
  - { id: tree, directory: { path: /srv/app, owner: root, group: etl, recursive: true, dir_mode: \"0750\" } }
  - { id: code, repository: { path: /srv/app/x/y/code, url: /srv/app.git, branch: main } }
",
    );
    remote(&sandbox, "echo 1 > a");
    converges_in_one_apply(&sandbox);
    assert_eq!(stat(&sandbox, "/srv/app/x"), "root:etl 750");
    assert_eq!(stat(&sandbox, "/srv/app/x/y"), "root:etl 750");
}

/// A clone can bring the link that makes two compose files one.
#[test]
fn one_variable_by_two_ways_that_a_clone_brings_is_blocked() {
    let sandbox = host(
        "
  - { id: r, repository: { path: /srv/app, url: /srv/app.git, branch: main } }
  - { id: c, compose_env: { file: /srv/app/real/dc.yml, variable: P, value: { env: A } } }
  - { id: d, compose_env: { file: /srv/app/link/dc.yml, variable: P, value: { env: B } } }
  - { id: e, compose_env: { file: /srv/app/link/dc.yml, variable: Q, value: { env: B } } }
",
    )
    .env("A", "first")
    .env("B", "second");
    remote(
        &sandbox,
        "mkdir real; ln -s real link; printf 'services: { a: { environment: { P: old, Q: old } } }\\n' > real/dc.yml",
    );
    let outcome = apply(&sandbox).exits(1);
    let mut found = outcome.outcomes();
    found.sort();
    let expected = [("c", "changed"), ("d", "blocked"), ("e", "changed"), ("r", "changed")];
    assert_eq!(found, expected.map(|(step, outcome)| (step.into(), outcome.into())), "{outcome}");
    assert!(outcome.stdout.contains("this step and `c` both own P in /srv/app/link/dc.yml"), "{outcome}");
    let file = sandbox.read("/srv/app/real/dc.yml");
    assert!(file.contains("P: first") && file.contains("Q: second"), "{file}");
    refuses(&sandbox, &["`c` and `d` both own P in /srv/app/"]);
}

/// A pull can move a link that is on the way to a step's path. The link may lead out of the checkout.
#[test]
fn a_step_waits_for_the_checkout_that_holds_a_link_to_its_path() {
    for (first, second) in [("../one", "../two"), ("one", "two"), ("by-way", "../two")] {
        let sandbox = host(
            "
  - { id: c, compose_env: { file: /srv/app/current/dc.yml, variable: P, value: { env: P } } }
  - { id: r, repository: { path: /srv/app, url: /srv/app.git, branch: main } }
",
        )
        .env("P", "s3cr3t");
        let file = "printf 'services: { a: { environment: { P: old } } }\\n'";
        sandbox.bash("root", &format!("cd /srv; mkdir one two; {file} | tee one/dc.yml > two/dc.yml"));
        remote(
            &sandbox,
            &format!("mkdir one two; {file} | tee one/dc.yml > two/dc.yml; ln -s ../one by-way; ln -s {first} current"),
        );
        converges_in_one_apply(&sandbox);
        up(&sandbox, &format!("ln -sfn {second} current"));
        let planned = plan(&sandbox).exits(2).step("step_planned", "c");
        assert_eq!(planned["waits_for"], serde_json::json!(["r"]), "{planned}");
        converges_in_one_apply(&sandbox);
        assert!(sandbox.read(&format!("/srv/app/{second}/dc.yml")).contains("s3cr3t"));
    }
}

/// Git and the repository step write these files. Hooks and settings are for people.
#[test]
fn files_that_a_repository_step_writes_belong_to_no_other_step() {
    let step = |file: &str| {
        format!(
            "
  - {{ id: f, file: {{ path: /srv/app/.git/{file}, content: x }} }}
  - {{ id: r, repository: {{ path: /srv/app, url: /srv/app.git, branch: main }} }}
"
        )
    };
    let sandbox = host(&step("HEAD"));
    for file in [
        "HEAD",
        "index",
        "packed-refs",
        "ORIG_HEAD",
        "refs/heads/main",
        "objects/info/alternates",
        "logs/HEAD",
        "index.lock",
        ".",
    ] {
        write_plan(&sandbox, &step(file));
        refuses(&sandbox, &["manages a directory in the other's git directory, or a file that git writes there"]);
    }
    for file in ["hooks/post-merge", "info/exclude", "config", "description", "refs-of-mine"] {
        write_plan(&sandbox, &step(file));
        validate(&sandbox).exits(0);
    }
}

/// A directory is known by one path, regardless of the order of the steps: the path without the bind mount.
#[test]
fn a_bind_mount_of_a_part_of_a_tree_does_not_split_it() {
    let sandbox = host(
        "
  - { id: nfs, file: { path: /srv/export/f, content: x, owner: \"9\" } }
  - { id: tree, directory: { path: /srv/a, owner: \"7\", recursive: true } }
  - { id: in, directory: { path: /srv/a/x/y, owner: \"8\" } }
",
    );
    sandbox.bash("root", "mkdir -p /srv/a/x/y /srv/export; touch /srv/a/x/y/f; mount --bind /srv/a/x /srv/export");
    converges_in_one_apply(&sandbox);
    plan(&sandbox).exits(0);
    apply(&sandbox).exits(0);
    let owners = sandbox.bash("root", "stat -c %u /srv/a/x /srv/a/x/y /srv/a/x/y/f /srv/a/x/f | tr '\\n' ' '");
    assert_eq!(owners, "7 8 7 9 ");
    // A file of the same name in both places is one file.
    write_plan(
        &sandbox,
        "
  - { id: one, file: { path: /srv/export/new, content: x } }
  - { id: two, file: { path: /srv/a/x/new, content: y } }
",
    );
    refuses(&sandbox, &["both own /srv/a/x/new"]);
    // What is mounted over a directory hides it. The two are not the same.
    sandbox.bash("root", "mount -t tmpfs none /srv/a/x");
    validate(&sandbox).exits(0);
}

/// The two steps give one file, under its two names, different modes.
#[test]
fn two_names_of_one_file_are_refused() {
    let sandbox = host(
        "
  - { id: one, key_file: { path: /srv/one, source: { file: /srv/k }, mode: \"0400\" } }
  - { id: two, key_file: { path: /srv/two, source: { file: /srv/k }, mode: \"0600\" } }
",
    );
    sandbox.bash("root", "ssh-keygen -q -t ed25519 -N '' -f /srv/k; cp /srv/k /srv/one; ln /srv/one /srv/two");
    refuses(&sandbox, &["`one` and `two` both own /srv/two (which is /srv/one)"]);
}

/// A parent that several steps need is announced by the one that will create it.
#[test]
fn a_parent_is_announced_once() {
    let sandbox = host(
        "
  - { id: one, file: { path: /srv/new/deep/one, content: x } }
  - { id: two, file: { path: /srv/new/deep/two, content: x } }
  - { id: code, repository: { path: /srv/new/deep/code, url: /srv/app.git, branch: main } }
",
    );
    remote(&sandbox, "echo 1 > a");
    let shown = sandbox.provision("root", ["plan", FILE]).env("COLUMNS", "300").run().exits(0);
    assert_eq!(shown.stdout.matches("and its parent").count(), 1, "{shown}");
    let announcing = |outcome: &crate::sandbox::Outcome| {
        let planned = outcome.events_of("step_planned");
        planned
            .iter()
            .filter(|step| {
                step["changes"].to_string().contains("/srv/new,") || step["changes"].to_string().contains("/srv/new ")
            })
            .count()
    };
    let planned = plan(&sandbox).exits(2);
    assert_eq!(announcing(&planned), 1, "{planned}");
    converges_in_one_apply(&sandbox);
}

/// The more specific step owns the files of a compose project in a tree.
#[test]
fn a_tree_leaves_out_a_compose_file_and_its_env_file() {
    let sandbox = host(
        "
  - { id: tree, directory: { path: /srv/app, owner: \"7\", recursive: true, dir_mode: \"0755\", file_mode: \"0644\" } }
  - { id: c, compose_env: { file: /srv/app/sub/dc.yml, variable: P, value: { env: P } } }
  - { id: key, key_file: { path: /srv/app/sub/key, source: { file: /srv/k }, mode: \"0400\" } }
",
    )
    .env("P", "s3cr3t");
    sandbox.bash(
        "root",
        "mkdir -p /srv/app/sub; cd /srv/app/sub; touch other; chmod 600 other; ssh-keygen -q -t ed25519 -N '' -f /srv/k
         printf 'services: { a: { environment: { P: \"${P}\" } } }\\n' > dc.yml",
    );
    converges_in_one_apply(&sandbox);
    assert_eq!(apply(&sandbox).exits(0).events_of("change_finished").len(), 0);
    let stat = sandbox.bash("root", "cd /srv/app/sub; stat -c '%n %u %a' .env dc.yml key other");
    assert_eq!(stat, ".env 0 600\ndc.yml 0 644\nkey 0 400\nother 7 644\n");
}

/// An override has the same `.env` beside it.
#[test]
fn one_variable_by_a_compose_file_and_its_override_is_refused() {
    let sandbox = host(
        "
  - { id: one, compose_env: { file: /srv/app/compose.yaml, variable: PW, value: { env: A } } }
  - { id: two, compose_env: { file: /srv/app/compose.override.yaml, variable: PW, value: { env: B } } }
",
    );
    sandbox.bash(
        "root",
        "mkdir /srv/app; cd /srv/app; printf 'services: { a: { environment: { PW: \"${PW}\" } } }' | tee compose.yaml > compose.override.yaml",
    );
    refuses(&sandbox, &["`one` and `two` both own PW in /srv/app/.env"]);
}
