//! Law 10: no two steps of a valid plan file undo each other. Also law 3 for steps that influence each other: after a
//! successful apply, plan is empty.

use crate::sandbox::{Outcome, Sandbox};

/// The plan file of these tests.
pub const FILE: &str = "/root/p.yaml";

/// The users of the steps, and the plan file.
pub fn host(steps: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    write_plan(&sandbox, steps);
    sandbox
}

pub fn write_plan(sandbox: &Sandbox, steps: &str) {
    sandbox.write(FILE, "root", format!("name: x\nsteps:\n{steps}"));
}

pub fn validate(sandbox: &Sandbox) -> Outcome {
    sandbox.provision("root", ["validate", FILE]).run()
}

pub fn apply(sandbox: &Sandbox) -> Outcome {
    sandbox.provision("root", ["apply", FILE, "--yes", "--json"]).run()
}

pub fn plan(sandbox: &Sandbox) -> Outcome {
    sandbox.provision("root", ["plan", FILE, "--json", "--detailed-exitcode"]).run()
}

/// Applies once and asserts that nothing is left to do, and that the planned changes were made.
pub fn converges_in_one_apply(sandbox: &Sandbox) {
    validate(sandbox).exits(0);
    let outcome = apply(sandbox).exits(0);
    assert!(outcome.events_of("run_finished")[0]["counts"]["changed"] != 0, "{outcome}");
    plan(sandbox).exits(0);
}

/// Asserts that `validate` refuses and names both steps with their positions.
#[track_caller]
pub fn refuses(sandbox: &Sandbox, expected: &[&str]) {
    let outcome = validate(sandbox).exits(1);
    for text in expected {
        assert!(outcome.stderr.contains(text), "{text:?} is missing\n{outcome}");
    }
    assert!(outcome.stderr.matches("- id:").count() + outcome.stderr.matches("{ id:").count() >= 2, "{outcome}");
    plan(sandbox).exits(1);
}

fn owner(sandbox: &Sandbox, path: &str) -> String {
    sandbox.bash("root", &format!("stat -c %u:%g {path}")).trim().to_owned()
}

/// A remote with one commit, and a clone in which `up` creates more commits.
pub fn remote(sandbox: &Sandbox, files: &str) {
    sandbox.bash(
        "root",
        &format!(
            "git config --global user.name up; git config --global user.email up@example
             git init -q --bare -b main /srv/app.git; git clone -q /srv/app.git /root/up 2>/dev/null; cd /root/up
             {files}
             git add -A; git commit -qm first; git push -q origin HEAD:main"
        ),
    );
}

pub fn up(sandbox: &Sandbox, change: &str) {
    sandbox.bash(
        "root",
        &format!("cd /root/up; {change}; git add -Af; git commit -qm next; git push -q origin HEAD:main"),
    );
}

const CODE_AND_PASSWORD: &str = "
  - { id: r, repository: { path: /srv/app, url: /srv/app.git, branch: main } }
  - { id: c, compose_env: { file: /srv/app/dc.yml, variable: P, value: { env: P } } }
";
const REFERS: &str = "printf 'services: { a: { environment: { P: \"${P}\" } } }\\n' > dc.yml";

#[test]
fn a_password_in_a_tracked_env_file_survives_a_pull() {
    let sandbox = host(CODE_AND_PASSWORD).env("P", "s3cr3t");
    remote(&sandbox, &format!("{REFERS}; echo OTHER=1 > .env"));
    converges_in_one_apply(&sandbox);
    up(&sandbox, "echo OTHER=2 > .env");
    let planned = plan(&sandbox).exits(2).step("step_planned", "c");
    assert_eq!((&planned["certainty"], &planned["waits_for"][0]), (&"provisional".into(), &"r".into()));
    converges_in_one_apply(&sandbox);
    assert_eq!(sandbox.read("/srv/app/.env"), "OTHER=2\nP='s3cr3t'\n");
}

#[test]
fn a_password_survives_the_commit_that_starts_to_track_the_env_file() {
    let sandbox = host(CODE_AND_PASSWORD).env("P", "s3cr3t");
    remote(&sandbox, REFERS);
    converges_in_one_apply(&sandbox);
    up(&sandbox, "echo OTHER=2 > .env");
    converges_in_one_apply(&sandbox);
    assert!(sandbox.read("/srv/app/.env").contains("P='s3cr3t'"));
    up(&sandbox, "git rm -q .env");
    converges_in_one_apply(&sandbox);
    assert!(sandbox.read("/srv/app/.env").contains("P='s3cr3t'"));
}

#[test]
fn a_recursive_directory_leaves_out_checkouts_of_other_steps() {
    let sandbox = host(
        "
  - { id: app, directory: { path: /srv/app, owner: \"50000\", group: \"50000\", recursive: true } }
  - { id: code, run_as: ubuntu, after: [own], repository: { path: /srv/app/sub/code, url: /srv/r.git, branch: main } }
  - { id: own, directory: { path: /srv/app/sub, owner: ubuntu } }
",
    );
    sandbox.bash(
        "root",
        "git init -q --bare -b main /srv/r.git; git clone -q /srv/r.git /root/up 2>/dev/null; cd /root/up; echo 1 > a; git add a
         git -c user.name=u -c user.email=u@example commit -q --allow-empty -m first; git push -q origin HEAD:main
         chown -R ubuntu /srv/r.git; mkdir -p /srv/app/other; touch /srv/app/other/f",
    );
    converges_in_one_apply(&sandbox);
    apply(&sandbox).exits(0);
    let planned = plan(&sandbox).exits(0).step("step_planned", "app");
    let notes = planned["notes"].to_string();
    assert!(notes.contains("sub/code (step `code`)") && notes.contains("sub (step `own`)"), "{planned}");
    assert_eq!(owner(&sandbox, "/srv/app/other/f"), "50000:50000");
    assert_eq!(owner(&sandbox, "/srv/app/sub/code/.git"), "1000:1000");
    sandbox.bash("root", "touch /srv/app/sub/stray");
    converges_in_one_apply(&sandbox);
    assert_eq!(
        owner(&sandbox, "/srv/app/sub/stray"),
        "50000:50000",
        "a directory that is not recursive claims itself alone"
    );
}

#[test]
fn a_recursive_directory_leaves_out_paths_of_unselected_steps() {
    let sandbox = host(
        "
  - { id: outer, directory: { path: /srv/app, owner: root, group: root, recursive: true } }
  - { id: inner, directory: { path: /srv/app/grafana, owner: \"472\", group: \"472\", recursive: true } }
",
    );
    sandbox.bash("root", "mkdir -p /srv/app/grafana; touch /srv/app/grafana/f");
    converges_in_one_apply(&sandbox);
    sandbox.bash("root", "touch /srv/app/x; chown 1000 /srv/app/x");
    sandbox.provision("root", ["apply", FILE, "--yes", "--only", "outer"]).run().exits(0);
    assert_eq!(owner(&sandbox, "/srv/app/x"), "0:0");
    assert_eq!(owner(&sandbox, "/srv/app/grafana/f"), "472:472");
    plan(&sandbox).exits(0);
}

#[test]
fn a_private_key_never_belongs_to_another_user() {
    let sandbox = host(
        "
  - { id: app, directory: { path: /srv/app, owner: \"50000\", group: \"50000\", recursive: true } }
  - { id: key, key_file: { path: /srv/app/key.pem, source: { file: /srv/k }, owner: \"50002\" } }
",
    );
    sandbox.bash("root", "ssh-keygen -q -t ed25519 -N '' -f /srv/k; mkdir /srv/app; touch /srv/app/f");
    converges_in_one_apply(&sandbox);
    sandbox.bash("root", "chown 0 /srv/app/f");
    converges_in_one_apply(&sandbox);
    assert_eq!(owner(&sandbox, "/srv/app/key.pem"), "50002:0");
}

#[test]
fn directories_three_levels_deep_keep_their_owners() {
    for inner_recursive in [true, false] {
        let sandbox = host(&format!(
            "
  - {{ id: inner, directory: {{ path: /srv/a/b/c/, owner: \"3\", group: \"3\", recursive: {inner_recursive} }} }}
  - {{ id: outer, directory: {{ path: /srv/a, owner: \"1\", group: \"1\", recursive: true }} }}
  - {{ id: middle, directory: {{ path: /srv/./a/b, group: \"2\", recursive: true }} }}
"
        ));
        sandbox.bash("root", "mkdir -p /srv/a/b/c; touch /srv/a/f /srv/a/b/f /srv/a/b/c/f");
        converges_in_one_apply(&sandbox);
        let owners =
            ["/srv/a/f", "/srv/a/b", "/srv/a/b/f", "/srv/a/b/c", "/srv/a/b/c/f"].map(|path| owner(&sandbox, path));
        let deepest = if inner_recursive { "3:3" } else { "0:2" };
        assert_eq!(owners, ["1:1", "0:2", "0:2", "3:3", deepest]);
    }
}

/// The later step acts as the owner, so another owner would be no remedy.
#[test]
fn a_directory_that_locks_its_owner_out_is_named() {
    for mode in ["0000", "0600"] {
        let sandbox = host(&format!(
            "
  - {{ id: d, run_as: ubuntu, directory: {{ path: /home/ubuntu/d, mode: \"{mode}\" }} }}
  - {{ id: f, run_as: ubuntu, file: {{ path: /home/ubuntu/d/sub/f, content: x }} }}
"
        ));
        let failed = apply(&sandbox).exits(1);
        let hint = failed.step("step_finished", "f")["hint"].as_str().unwrap_or_default().to_owned();
        let open = "`sudo -H -u ubuntu chmod u+rwx /home/ubuntu/d`; if a step sets its mode";
        assert!(hint.contains(open), "{mode}: {failed}");
        sandbox.bash("ubuntu", "chmod 700 ~/d; mkdir -p ~/d/sub; chmod 0 ~/d/sub");
        write_plan(&sandbox, "  - { id: f, run_as: ubuntu, file: { path: /home/ubuntu/d/sub/f, content: x } }\n");
        let failed = apply(&sandbox).exits(1);
        sandbox.bash("ubuntu", "chmod u+rx ~/d/sub");
        assert!(failed.all().contains("chmod u+rwx /home/ubuntu/d/sub"), "{failed}");
    }
}

const TWO_FILES: &str = "
  - { id: one, compose_env: { file: /srv/app/c1.yml, variable: PW, value: { env: PW1 } } }
  - { id: two, compose_env: { file: /srv/app/c2.yml, variable: PW, value: { env: PW2 } } }
";

#[test]
fn one_variable_of_one_env_file_from_two_compose_files_is_refused() {
    let sandbox = host(TWO_FILES).env("PW1", "first").env("PW2", "second");
    sandbox.bash(
        "root",
        "mkdir /srv/app; cd /srv/app; echo PW=x > .env; chmod 600 .env
        printf 'services: { a: { environment: { PW: \"${PW}\" } } }' | tee c1.yml > c2.yml",
    );
    refuses(&sandbox, &["`one` and `two` both own PW in /srv/app/.env"]);
    // A literal in one of them is a different place.
    sandbox.bash("root", "cd /srv/app; printf 'services: { a: { environment: { PW: x } } }' > c1.yml");
    converges_in_one_apply(&sandbox);
    assert_eq!(sandbox.read("/srv/app/.env"), "PW=second\n");
    assert!(sandbox.read("/srv/app/c1.yml").contains("PW: first"));
}

#[test]
fn one_variable_from_two_cloned_compose_files_is_refused() {
    let sandbox =
        host(&format!("  - {{ id: r, repository: {{ path: /srv/app, url: /srv/app.git, branch: main }} }}{TWO_FILES}"))
            .env("PW1", "first")
            .env("PW2", "second");
    remote(&sandbox, "printf 'services: { a: { environment: { PW: \"${PW}\" } } }' | tee c1.yml > c2.yml");
    let outcome = apply(&sandbox).exits(1);
    let blocked = outcome.outcomes().into_iter().filter(|(_, outcome)| outcome == "blocked").count();
    assert_eq!(blocked, 1, "{outcome}");
    assert!(outcome.stdout.contains("both own PW in /srv/app/.env"), "{outcome}");
}

#[test]
fn two_variables_of_a_new_env_file_are_set_in_one_apply() {
    for user in ["root", "ubuntu"] {
        let sandbox = host(&format!(
            "
  - {{ id: one, compose_env: {{ file: /srv/app/dc.yml, variable: PA, value: {{ env: PA }} }} }}
  - {{ id: two, run_as: {user}, compose_env: {{ file: /srv/app/dc.yml, variable: PB, value: {{ env: PB }} }} }}
"
        ))
        .env("PA", "a")
        .env("PB", "b");
        sandbox.bash(
            "root",
            &format!(
                "mkdir /srv/app; chown {user}: /srv/app; cd /srv/app
            printf 'services: {{ a: {{ environment: {{ PA: \"${{PA}}\", PB: \"${{PB}}\" }} }} }}' > dc.yml; chown {user}: dc.yml"
            ),
        );
        converges_in_one_apply(&sandbox);
        let env = sandbox.read("/srv/app/.env");
        assert!(env.contains("PA='a'\n") && env.contains("PB='b'\n"), "{env}");
        assert_eq!(sandbox.bash("root", "stat -c '%U %a' /srv/app/.env"), format!("{user} 600\n"));
    }
}

#[test]
fn edits_of_one_file_need_no_order() {
    let sandbox = host(
        "
  - { id: a, after: [b], compose_env: { file: /srv/app/dc.yml, variable: A, value: { env: A } } }
  - { id: b, compose_env: { file: /srv/app/dc.yml, variable: B, value: { env: B } } }
",
    )
    .env("A", "new\nand two\nlines")
    .env("B", "new");
    sandbox.bash("root", "mkdir /srv/app; printf 'services:\\n  x:\\n    environment:\\n      A: old\\n      B: old\\n' > /srv/app/dc.yml");
    converges_in_one_apply(&sandbox);
    // A step with a missing secret does not prevent the other one.
    write_plan(
        &sandbox,
        "
  - { id: a, compose_env: { file: /srv/app/dc.yml, variable: C, value: { env: NOT_SET } } }
  - { id: b, compose_env: { file: /srv/app/dc.yml, variable: B, value: { env: A } } }
",
    );
    let outcome = apply(&sandbox).exits(1);
    assert_eq!(outcome.outcomes(), [("a".into(), "blocked".into()), ("b".into(), "changed".into())]);
}

#[test]
fn a_path_through_a_symlink_counts_as_nested() {
    let sandbox = host(
        "
  - { id: c, compose_env: { file: /srv/current/dc.yml, variable: P, value: { env: P } } }
  - { id: r, repository: { path: /srv/app, url: /srv/app.git, branch: main } }
",
    )
    .env("P", "s3cr3t");
    remote(&sandbox, REFERS);
    sandbox.bash("root", "ln -s app /srv/current");
    converges_in_one_apply(&sandbox);
    up(&sandbox, "echo '# more' >> dc.yml; echo OTHER=1 > .env");
    let planned = plan(&sandbox).exits(2).step("step_planned", "c");
    assert_eq!(planned["waits_for"][0], "r", "{planned}");
    converges_in_one_apply(&sandbox);
    // The same variable in both spellings.
    write_plan(
        &sandbox,
        "
  - { id: c, compose_env: { file: /srv/current/dc.yml, variable: P, value: { env: P } } }
  - { id: d, compose_env: { file: /srv/app/dc.yml, variable: P, value: { env: Q } } }
",
    );
    refuses(&sandbox, &["`c` and `d` both own P in /srv/app/dc.yml"]);
}

/// A clone can bring the symlink that makes two paths one.
#[test]
fn a_second_way_to_one_path_that_a_clone_brings_is_blocked() {
    let sandbox = host(
        "
  - { id: r, repository: { path: /srv/app, url: /srv/app.git, branch: main } }
  - { id: f, file: { path: /srv/app/real/x, content: first } }
  - { id: g, file: { path: /srv/app/link/x, content: second } }
  - { id: h, file: { path: /srv/app/link/y, content: third } }
",
    );
    remote(&sandbox, "mkdir real; echo 1 > real/keep; ln -s real link");
    let outcome = apply(&sandbox).exits(1);
    let expected = [("r", "changed"), ("f", "changed"), ("g", "blocked"), ("h", "changed")];
    assert_eq!(outcome.outcomes(), expected.map(|(step, outcome)| (step.into(), outcome.into())));
    assert!(outcome.stdout.contains("this step and `f` both own /srv/app/link/x"), "{outcome}");
    assert_eq!(sandbox.read("/srv/app/real/x"), "first");
    refuses(&sandbox, &["`f` and `g` both own /srv/app/"]);
}

#[test]
fn one_path_in_two_spellings_is_refused() {
    for other in ["/srv/a/", "//srv/a", "/srv/./a", "/srv/link", "/srv/sub/../a", "/srv/mounted"] {
        let sandbox = host(&format!(
            "
  - {{ id: one, directory: {{ path: /srv/a, owner: root }} }}
  - {{ id: two, directory: {{ path: {other}, owner: ubuntu }} }}
"
        ));
        sandbox.bash("root", "mkdir /srv/a /srv/sub /srv/mounted; ln -s a /srv/link; mount --bind /srv/a /srv/mounted");
        let outcome = validate(&sandbox).exits(1);
        if !other.contains("..") {
            assert!(outcome.stderr.contains("steps `one` and `two` both own"), "{outcome}");
        }
    }
}

#[test]
fn a_file_that_another_step_needs_as_a_directory_is_refused() {
    let sandbox = host(
        "
  - { id: key, key_file: { path: /srv/app/key } }
  - { id: below, directory: { path: /srv/app/key/more } }
",
    );
    refuses(&sandbox, &["makes a file where the other needs a directory"]);
}

/// Git works in the git directory as the checkout's user. A step that gives the directory to another user would block
/// the checkout permanently.
#[test]
fn directories_inside_a_git_directory_are_refused() {
    let sandbox = Sandbox::new();
    let code = "  - { id: code, repository: { path: /srv/code, url: /srv/code.git, branch: main } }\n";
    for path in ["/srv/code/.git", "/srv/code/.git/hooks"] {
        let own = format!("  - {{ id: own, directory: {{ path: {path}, owner: \"50000\", recursive: true }} }}\n");
        for steps in [format!("{own}{code}"), format!("{code}{own}")] {
            sandbox.write("/srv/git.yaml", "root", format!("name: git\nsteps:\n{steps}"));
            let refused = sandbox.provision("root", ["validate", "/srv/git.yaml"]).run().exits(1);
            assert!(
                refused
                    .stderr
                    .contains("manages a directory in the other's git directory, or a file that git writes there"),
                "{refused}"
            );
        }
    }
    // One of the checkout's own directories is not a git directory.
    let own = "  - { id: own, directory: { path: /srv/code/.github, owner: \"50000\", recursive: true } }\n";
    sandbox.write("/srv/git.yaml", "root", format!("name: git\nsteps:\n{code}{own}"));
    sandbox.provision("root", ["validate", "/srv/git.yaml"]).run().exits(0);
}

const A_FILE_OF_THE_CHECKOUT: &str = "
  - { id: code, repository: { path: /srv/app, url: /srv/app.git, branch: main } }
  - { id: conf, file: { path: /srv/app/conf, content: \"mine\\n\" } }
  - { id: logs, directory: { path: /srv/app/logs, mode: \"0750\" } }
";

/// A step whose target an earlier step may alter is not in order yet, whatever it looks like now.
#[test]
fn a_step_that_a_pull_may_alter_is_not_counted_as_in_order() {
    let sandbox = host(A_FILE_OF_THE_CHECKOUT);
    remote(&sandbox, "echo 1 > conf; mkdir logs; touch logs/keep");
    converges_in_one_apply(&sandbox);
    let shown = |command: &[&str]| sandbox.provision("root", command.iter().copied()).run();
    let plan = shown(&["plan", FILE]).exits(0);
    assert!(plan.stdout.contains("Nothing to change: 3 steps in order."), "{plan}");
    up(&sandbox, "echo 2 > conf; git rm -rq logs; mkdir logs; touch logs/other");
    let plan = shown(&["plan", FILE]).exits(0);
    assert!(!plan.stdout.contains("in order"), "{plan}");
    assert_eq!(plan.stdout.matches("provisional: no change so far; it may change after code").count(), 2, "{plan}");
    assert!(plan.stdout.contains("Plan: 1 step to change, 2 may change."), "{plan}");
    let verbose = shown(&["plan", FILE, "-v"]).exits(0);
    assert!(!verbose.stdout.contains('\u{2713}') && !verbose.stdout.contains("in order"), "{verbose}");
    let markdown = shown(&["plan", FILE, "--format", "markdown"]).exits(0);
    assert!(markdown.stdout.contains("**Plan: 1 to change, 2 may change**"), "{markdown}");
    assert!(
        markdown.stdout.contains("| <code>conf</code> | file | may change (provisional: after code) |"),
        "{markdown}"
    );
    let json = shown(&["plan", FILE, "--json"]).exits(0);
    let counts = json.events_of("run_finished")[0]["counts"].clone();
    assert_eq!((&counts["unchanged"], &counts["may_change"], &counts["changes"]), (&2.into(), &2.into(), &1.into()));
    sandbox.provision("root", ["plan", FILE, "--out", "/root/saved"]).run().exits(0);
    let saved = shown(&["show", "/root/saved"]).exits(0);
    assert!(saved.stdout.contains("1 step to change, 2 may change") && !saved.stdout.contains("in order"), "{saved}");
    let applied = shown(&["apply", FILE, "--yes"]).exits(0);
    assert!(applied.stdout.contains("Plan: 1 step to change, 2 may change."), "{applied}");
    let plan = shown(&["plan", FILE]).exits(0);
    assert!(plan.stdout.contains("Nothing to change: 3 steps in order."), "{plan}");
}

const FILE_AND_VARIABLE: &str = "
  - { id: code, repository: { path: /srv/app, url: /srv/app.git, branch: main } }
  - { id: password, compose_env: { file: /srv/app/dc.yml, variable: P, value: { env: P } } }
  - { id: settings, file: { path: /srv/app/.env, content: \"A=1\\n\", mode: \"0600\" } }
";

/// Before the clone, nobody can know whether the value is in `.env`.
#[test]
fn a_value_in_an_env_file_that_another_step_owns_is_blocked_before_it_is_set() {
    let sandbox = host(FILE_AND_VARIABLE).env("P", "s3cr3t");
    remote(&sandbox, REFERS);
    validate(&sandbox).exits(0);
    let outcome = apply(&sandbox).exits(1);
    let outcomes = [("code", "changed"), ("password", "blocked"), ("settings", "changed")];
    let mut found = outcome.outcomes();
    found.sort();
    assert_eq!(found, outcomes.map(|(step, outcome)| (step.to_owned(), outcome.to_owned())), "{outcome}");
    let text = "`settings` owns the content of /srv/app/.env, and this step sets a value in it";
    assert!(outcome.stdout.contains(text), "{outcome}");
    assert_eq!(sandbox.read("/srv/app/.env"), "A=1\n");
    // Now it is known.
    let text = "owns the content of /srv/app/.env, and the other sets a value in it";
    refuses(&sandbox, &["`password` and `settings`", text]);
    // A literal is set in the compose file.
    up(&sandbox, "printf 'services: { a: { environment: { P: old } } }\\n' > dc.yml");
    sandbox.bash("root", "rm -r /srv/app");
    converges_in_one_apply(&sandbox);
    assert_eq!(sandbox.read("/srv/app/.env"), "A=1\n");
    // New commits can move it to the other file.
    up(&sandbox, REFERS);
    let outcome = apply(&sandbox).exits(1);
    assert!(outcome.outcomes().contains(&("password".to_owned(), "blocked".to_owned())), "{outcome}");
    assert_eq!(sandbox.read("/srv/app/.env"), "A=1\n");
}

#[test]
fn a_compose_file_of_a_file_step_may_refer_to_a_variable_that_another_step_sets() {
    let steps = |value: &str| {
        format!(
            "
  - {{ id: compose, file: {{ path: /srv/app/dc.yml, content: \"services: {{ a: {{ environment: {{ P: {value} }} }} }}\\n\" }} }}
  - {{ id: password, compose_env: {{ file: /srv/app/dc.yml, variable: P, value: {{ env: P }} }} }}
"
        )
    };
    let sandbox = host(&steps("'${P}'")).env("P", "s3cr3t");
    sandbox.bash("root", "mkdir /srv/app");
    converges_in_one_apply(&sandbox);
    assert_eq!(sandbox.read("/srv/app/.env"), "P='s3cr3t'\n");
    // The text of the plan file counts, not the one that it replaces.
    sandbox.bash("root", "echo 'services: { a: { environment: { P: old } } }' > /srv/app/dc.yml");
    converges_in_one_apply(&sandbox);
    let text = "owns the content of /srv/app/dc.yml, and the other sets a value in it";
    write_plan(&sandbox, &steps("old"));
    refuses(&sandbox, &[text]);
    // If both own .env, the text that the plan file has for the compose file is enough to know it.
    let env = "  - { id: settings, file: { path: /srv/app/.env, content: '' } }\n";
    write_plan(&sandbox, &format!("{}{env}", steps("'${P}'")));
    sandbox.bash("root", "rm -r /srv/app");
    refuses(&sandbox, &["owns the content of /srv/app/.env, and the other sets a value in it"]);
}
