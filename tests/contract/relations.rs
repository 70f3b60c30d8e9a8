//! Law 10: no two steps of a valid plan file undo each other. Also law 3 for steps that influence each other: after a
//! successful apply, plan is empty.

use crate::sandbox::{Outcome, Sandbox};

/// The plan file of these tests.
pub const FILE: &str = "/root/p.yaml";

/// The users of the steps, and the plan file.
fn host(steps: &str) -> Sandbox {
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
fn remote(sandbox: &Sandbox, files: &str) {
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

fn up(sandbox: &Sandbox, change: &str) {
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
                "mkdir /srv/app; chown {user} /srv/app; cd /srv/app
            printf 'services: {{ a: {{ environment: {{ PA: \"${{PA}}\", PB: \"${{PB}}\" }} }} }}' > dc.yml"
            ),
        );
        if user == "root" {
            converges_in_one_apply(&sandbox);
            let env = sandbox.read("/srv/app/.env");
            assert!(env.contains("PA='a'\n") && env.contains("PB='b'\n"), "{env}");
        }
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
            assert!(refused.stderr.contains("manages a directory inside of the other's git directory"), "{refused}");
        }
    }
    // One of the checkout's own directories is not a git directory.
    let own = "  - { id: own, directory: { path: /srv/code/.github, owner: \"50000\", recursive: true } }\n";
    sandbox.write("/srv/git.yaml", "root", format!("name: git\nsteps:\n{code}{own}"));
    sandbox.provision("root", ["validate", "/srv/git.yaml"]).run().exits(0);
}
