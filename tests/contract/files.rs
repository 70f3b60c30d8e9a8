//! `file`: a file with its whole content, from the plan file or a template beside it.

#[cfg(target_arch = "x86_64")]
use crate::sandbox::{Fault, Point, Run};
use crate::sandbox::{Outcome, PROVISION, Sandbox, Snapshot, Tracing, random_word};

pub const PLAN: &str = "/etc/provision/app.yaml";
pub const CONF: &str = "/etc/app/app.conf";

pub const STEPS: &str = "
name: app
vars: { port: 8080, greeting: hello }
steps:
  - id: conf
    file:
      path: /etc/app/app.conf
      content: |
        # written by provision
        port = {{ port }}
      owner: ubuntu
";

pub const WITH_TEMPLATE: &str = "
name: app
vars: { port: 8080, greeting: hello }
steps:
  - id: conf
    file: { path: /etc/app/app.conf, template: templates/app.conf.j2 }
";

pub fn host(plan_file: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write(PLAN, "root", plan_file);
    sandbox
}

pub fn run(sandbox: &Sandbox, args: &[&str]) -> Outcome {
    sandbox.provision("root", args.iter().copied()).run()
}

/// Everyone on the host can read the old content, but plans are also shown elsewhere.
#[test]
fn a_secret_of_another_step_in_the_old_content_is_not_shown() {
    let word = random_word();
    let sandbox = host(&format!(
        "name: app
steps:
  - id: compose
    compose_env: {{ file: /srv/docker-compose.yml, variable: PW, value: {{ env: PW }} }}
  - id: conf
    file: {{ path: {CONF}, content: \"port = 8080\\n\" }}
"
    ));
    sandbox.write("/srv/docker-compose.yml", "root", "services: { web: { image: x, environment: { PW: old } } }\n");
    sandbox.write(CONF, "root", format!("port = 8080\npassword = {word}\n"));
    let saved = sandbox.provision("root", ["plan", PLAN, "--out", "/root/saved"]).env("PW", &word).run().exits(0);
    assert!(!sandbox.read("/root/saved").contains(&word), "{saved}");
    let only = ["plan", PLAN, "--only", "conf"];
    for args in [&["plan", PLAN][..], &["plan", PLAN, "--json"], &only] {
        let ended = sandbox.provision("root", args.iter().copied()).env("PW", &word).run().exits(0);
        let shown = format!("{}{}", ended.stdout, ended.stderr);
        assert!(!shown.contains(&word) && shown.contains("not shown: it has the value of a secret"), "{ended}");
    }
    // The change of the file is the same whatever the other secret is.
    let applied =
        sandbox.provision("root", ["apply", "/root/saved", "--yes", "--json"]).env("PW", "another").run().exits(1);
    assert_eq!(applied.outcomes(), [("compose".into(), "blocked".into()), ("conf".into(), "changed".into())]);
    assert_eq!(sandbox.read(CONF), "port = 8080\n");
}

#[test]
fn content_is_planned_made_and_given_back() {
    let sandbox = host(STEPS);
    let planned = run(&sandbox, &["plan", PLAN]).exits(0);
    for line in ["create the file with mode 0644, owner ubuntu (1000)", "+# written by provision", "+port = 8080"] {
        assert!(planned.stdout.contains(line), "{line:?} was to be read\n{planned}");
    }
    run(&sandbox, &["apply", PLAN, "--yes"]).exits(0);
    assert_eq!(sandbox.read(CONF), "# written by provision\nport = 8080\n");
    assert_eq!(sandbox.bash("root", &format!("stat -c '%a %U:%G' {CONF}")), "644 ubuntu:root\n");
    let before = Snapshot::whole(&sandbox);
    run(&sandbox, &["apply", PLAN, "--yes"]).exits(0);
    before.is_same_as(&Snapshot::whole(&sandbox), "a second apply");

    // What somebody has made of it is shown, kept, and comes back by the command that is printed.
    sandbox.bash("root", &format!("echo 'debug = yes' >> {CONF}; chmod 664 {CONF}"));
    let mine = sandbox.read(CONF);
    let before = Snapshot::whole(&sandbox);
    let planned = run(&sandbox, &["plan", PLAN, "--json"]).exits(0);
    before.is_same_as(&Snapshot::whole(&sandbox), "a plan");
    let change = &planned.step("step_planned", "conf")["changes"][0];
    assert_eq!(change["diff"], "@@ -1,3 +1,2 @@\n # written by provision\n port = 8080\n-debug = yes\n", "{planned}");
    assert!(change["risk"].is_string() && change["summary"] == "replace the content (1 line removed)", "{change}");
    let markdown = run(&sandbox, &["plan", PLAN, "--format", "markdown"]).exits(0);
    assert!(markdown.stdout.contains("\n-debug = yes\n"), "{markdown}");
    let applied = run(&sandbox, &["apply", PLAN, "--yes"]).exits(0);
    assert_eq!(sandbox.read(CONF), "# written by provision\nport = 8080\n");
    let command =
        applied.stdout.lines().find(|line| line.contains("to restore what was moved out of the way: ")).unwrap();
    let command = command.split("out of the way: ").nth(1).unwrap();
    let id = command.rsplit(' ').next().unwrap();
    assert_eq!(command, format!("provision rescue restore {PLAN} {id}"));
    let listed = run(&sandbox, &["rescue", "list", PLAN]).exits(0);
    assert!(listed.stdout.contains(id) && listed.stdout.contains(CONF), "{listed}");
    assert_eq!(run(&sandbox, &["rescue", "show", PLAN, id]).exits(0).stdout, mine);
    run(&sandbox, &["rescue", "restore", PLAN, id, "--to", "/root/copy"]).exits(0);
    assert_eq!(sandbox.bash("root", "cat /root/copy/*; stat -c %a /root/copy/*"), format!("{mine}600\n"));
    let restored = sandbox.bash("root", &command.replacen("provision", PROVISION, 1));
    assert!(restored.contains("the next apply of the step replaces it again"), "{restored}");
    assert_eq!((sandbox.read(CONF), sandbox.bash("root", &format!("stat -c %a {CONF}"))), (mine, "664\n".to_owned()));
    // What the restore took away is kept, too.
    assert_eq!(run(&sandbox, &["rescue", "list", PLAN]).stdout.matches("  conf  ").count(), 2);
    let delete = restored.lines().last().unwrap().split("to delete it: ").nth(1).unwrap();
    sandbox.bash("root", delete);
    assert_eq!(run(&sandbox, &["rescue", "list", PLAN]).stdout.matches("  conf  ").count(), 1);
}

#[test]
fn a_template_beside_the_plan_file_gives_the_content() {
    let sandbox = host(WITH_TEMPLATE);
    let template = "/etc/provision/templates/app.conf.j2";
    sandbox.write(template, "root", "{% if port > 80 -%}\nport = {{ port }}\r\n{% endif -%}\n<{{ greeting }}>\n\n");
    sandbox.write("/root/there", "root", "");
    run(&sandbox, &["validate", PLAN]).exits(0);
    run(&sandbox, &["apply", PLAN, "--yes"]).exits(0);
    assert_eq!(sandbox.read(CONF), "port = 8080\r\n<hello>\n\n");
    // A plan file that is reached through a symlink has its templates where it lies itself, from wherever it is run.
    sandbox.bash("root", "ln -s /etc/provision/app.yaml /root/link.yaml");
    for file in [PLAN, "link.yaml", "/root/link.yaml", "../etc/provision/app.yaml"] {
        run(&sandbox, &["plan", file, "--detailed-exitcode"]).exits(0);
    }
    // From standard input it has them beside its name.
    let named = ["plan", "-", "--as", "/etc/provision/other.yaml", "--detailed-exitcode"];
    sandbox.provision("root", named).stdin(WITH_TEMPLATE).run().exits(0);
    let unnamed = sandbox.provision("root", ["plan", "-"]).stdin(WITH_TEMPLATE).run().exits(1);
    assert!(unnamed.stderr.contains("--as /etc/provision/NAME.yaml"), "{unnamed}");
    let elsewhere =
        sandbox.provision("root", ["plan", "-", "--as", "/root/x.yaml"]).stdin(WITH_TEMPLATE).run().exits(1);
    assert!(elsewhere.stderr.contains("cannot read the template /root/templates/app.conf.j2"), "{elsewhere}");
}

#[test]
fn what_is_wrong_with_a_template_is_told_with_its_place_in_it() {
    let sandbox = host(WITH_TEMPLATE);
    let template = "/etc/provision/templates/app.conf.j2";
    for (text, message) in [
        ("a\nprt is {{ port }}\n  {{ prt }}\n", "app.conf.j2:3:6"),
        ("a\n{{ greeting }} {{ port", "app.conf.j2:2:"),
        ("a\n{% if port %}\n", "app.conf.j2:"),
        ("a\n\n{{ secret('db') }}\n", "app.conf.j2:3:"),
        ("a {{ env_var('NOT_SET_HERE') }}\n", "app.conf.j2:1:"),
        ("{{ greeting | nosuch }}\n", "app.conf.j2:1:"),
    ] {
        sandbox.write(template, "root", text);
        let outcome = run(&sandbox, &["plan", PLAN]).exits(1);
        assert!(outcome.stderr.contains(message), "{message:?} was to be read\n{outcome}");
        assert!(outcome.stderr.contains("app.yaml:6:48"), "the plan file's place, too\n{outcome}");
    }
    let checked = run(&sandbox, &["validate", PLAN, "--format", "json"]).exits(1);
    let problem = &checked.events()[0]["problems"][0];
    assert_eq!((&problem["file"], &problem["line"]), (&template.into(), &1.into()), "{checked}");
    // An environment variable that is not set is no problem of the plan file.
    sandbox.write(template, "root", "a {{ env_var('NOT_SET_HERE') }}\n");
    run(&sandbox, &["validate", PLAN]).exits(0);
    let explained = run(&sandbox, &["explain", PLAN, "conf"]).exits(0);
    assert!(explained.stdout.contains("a <NOT_SET_HERE>"), "{explained}");
    // A file that is none, cannot be read, or lies elsewhere.
    for (script, message) in [
        ("rm app.conf.j2", "it does not exist"),
        ("echo > app.conf.j", "did you mean `templates/app.conf.j`?"),
        ("mkdir app.conf.j2", "it is a directory"),
        ("rmdir app.conf.j2; mkfifo app.conf.j2", "it is a FIFO"),
        ("rm app.conf.j2; ln -s /etc/shadow app.conf.j2", "outside of the plan file's folder"),
        ("rm app.conf.j2; printf 'a\\nb\\377' > app.conf.j2", "line 2, column 2: the byte 0xff is not UTF-8"),
        ("rm app.conf.j2; head -c 1048577 /dev/zero > app.conf.j2", "larger than 1048576 bytes"),
    ] {
        sandbox.bash("root", &format!("cd /etc/provision/templates; {script}"));
        let outcome = run(&sandbox, &["validate", PLAN]).exits(1);
        assert!(outcome.stderr.contains(message), "{message:?} was to be read\n{outcome}");
    }
}

#[test]
fn a_saved_plan_does_not_hold_with_another_template() {
    let sandbox = host(WITH_TEMPLATE);
    let template = "/etc/provision/templates/app.conf.j2";
    sandbox.write(template, "root", "port = {{ port }}\n");
    run(&sandbox, &["plan", PLAN, "--out", "saved"]).exits(0);
    let shown = run(&sandbox, &["show", "saved"]).exits(0);
    assert!(shown.stdout.contains("+port = 8080"), "{shown}");
    // Not even where it gives the same text.
    sandbox.write(template, "root", "{# nothing #}port = {{ port }}\n");
    let refused = run(&sandbox, &["apply", "saved", "--yes"]).exits(1);
    let message = format!("{template}, a template of step `conf`, has changed since");
    assert!(refused.stderr.contains(&message) && !refused.stderr.contains("otherwise"), "{refused}");
    assert!(!sandbox.path(CONF).exists());
    sandbox.write(template, "root", "port = {{ port }}\n");
    run(&sandbox, &["apply", "saved", "--yes"]).exits(0);
    assert_eq!(sandbox.read(CONF), "port = 8080\n");
    // A plan file from standard input travels with its plan, and its template does not.
    let saves = ["plan", "-", "--as", PLAN, "--out", "saved-2", "--var", "port=9090"];
    sandbox.provision("root", saves).stdin(WITH_TEMPLATE).run().exits(0);
    run(&sandbox, &["apply", "saved-2", "--yes"]).exits(0);
    assert_eq!(sandbox.read(CONF), "port = 9090\n");
}

const WITH_SECRETS: &str = "
name: app
vars: { user: etl }
steps:
  - id: conf
    run_as: ubuntu
    file:
      path: /home/ubuntu/app/app.conf
      content: |
        user = {{ user }}
        password = {{ secret('db') }}
      secrets: { db: { env: CANARY_DB } }
  - id: template
    file:
      path: /etc/app/template.conf
      template: secret.conf.j2
      secrets: { token: { command: [cat, /root/token] }, db: { env: CANARY_DB } }
";

#[test]
fn secrets_are_in_their_files_and_nowhere_else() {
    let sandbox = host(WITH_SECRETS);
    sandbox.write("/etc/provision/secret.conf.j2", "root", "{{ secret('token') }}:{{ secret('db') }}\n");
    let mut old: Option<(String, String)> = None;
    for round in 0..2 {
        let (db, token) = (random_word(), random_word());
        sandbox.write("/root/token", "root", format!("{token}\n"));
        sandbox.bash("root", "chmod 600 /root/token");
        let run = |args: &[&'static str]| sandbox.provision("root", args.iter().copied()).env("CANARY_DB", &db);
        let quiet = |outcome: &Outcome| {
            for secret in [Some(&db), Some(&token), old.as_ref().map(|old| &old.0), old.as_ref().map(|old| &old.1)] {
                assert!(secret.is_none_or(|secret| !outcome.all().contains(secret)), "{outcome}");
            }
        };
        let saved = ["/root/saved-0", "/root/saved-1"][round];
        for args in [
            &["validate", PLAN][..],
            &["explain", PLAN],
            &["plan", PLAN],
            &["plan", PLAN, "--json"],
            &["plan", PLAN, "--format", "markdown"],
            &["plan", PLAN, "--out", saved],
        ] {
            quiet(&run(args).run().exits(0));
        }
        let (applied, trace) = run(&["apply", PLAN, "--yes", "--json"]).traced(&Tracing::Executions);
        quiet(&applied.exits(0));
        for line in trace.executions().iter().filter(|line| !line.contains("\"apply\"")) {
            assert!(!line.contains(&db) && !line.contains(&token), "{line}");
        }
        quiet(&run(&["history", "--json"]).run());
        let own = "/home/ubuntu/app/app.conf";
        assert_eq!(sandbox.read(own), format!("user = etl\npassword = {db}\n"));
        assert_eq!(sandbox.read("/etc/app/template.conf"), format!("{token}:{db}\n"));
        let modes = sandbox.bash("root", &format!("stat -c '%a %U' {own} /etc/app/template.conf"));
        assert_eq!(modes, "600 ubuntu\n600 root\n");
        // What was replaced is where its owner alone can read it.
        let find = |secret: &str| {
            let script =
                format!("grep -rlaF --devices=skip --exclude-dir=bin {secret} /home /etc /var /root /tmp || true");
            sandbox.bash("root", &script).lines().map(str::to_owned).collect::<Vec<_>>()
        };
        let mut found = find(&db);
        found.sort();
        assert_eq!(found, ["/etc/app/template.conf", own], "{found:?}");
        for path in old.iter().flat_map(|(db, _)| find(db)) {
            assert!(path.contains("/provision/rescues/"), "{path}");
            assert_eq!(sandbox.bash("root", &format!("stat -c %a {path} $(dirname {path})")), "600\n700\n");
        }
        old = Some((db, token));
    }
    let plan = |name: &str| sandbox.provision("root", ["plan", PLAN, "--json", "--only", name]).run().exits(0);
    let unset = plan("conf");
    assert_eq!(unset.step("step_planned", "conf")["outcome"], "unchecked", "{unset}");
    let note = &unset.step("step_planned", "conf")["notes"];
    assert!(note.to_string().contains("environment variable CANARY_DB is unset or empty"), "{note}");
    sandbox.bash("ubuntu", "rm app/app.conf");
    let missing = sandbox.provision("root", ["plan", PLAN, "--json", "--only", "conf"]).run().exits(1);
    assert_eq!(missing.step("step_planned", "conf")["outcome"], "blocked", "{missing}");
    assert_eq!(missing.step("step_planned", "conf")["hint"], "set the environment variable CANARY_DB");
}

/// A variable is no place for a secret, and people put one there all the same.
#[test]
fn a_variable_that_may_be_a_secret_is_not_shown() {
    let sandbox = host(
        "
name: app
vars: { db_password: x, line: \"p={{ env_var('API_TOKEN', 'x') }}\", dsn: \"postgresql://u:{{ db_password }}@h/d\" }
steps:
  - { id: one, file: { path: /etc/app/1, content: \"{{ db_password }}\\n\" } }
  - { id: two, file: { path: /etc/app/2, content: \"{{ line }}\\n\" } }
  - { id: three, file: { path: /etc/app/3, content: \"{{ dsn }}\\n\" } }
",
    );
    let secret = random_word();
    let variable = format!("db_password={secret}");
    for args in [
        &["plan", PLAN, "--json", "--var", &variable][..],
        &["plan", PLAN, "--var", &variable, "--out", "saved"],
        &["explain", PLAN, "--var", &variable],
        &["apply", PLAN, "--yes", "--json", "--var", &variable],
    ] {
        let outcome = sandbox.provision("root", args.iter().copied()).env("API_TOKEN", &secret).run().exits(0);
        assert!(!outcome.all().contains(&secret), "{outcome}");
        if args[0] == "plan" {
            assert_eq!(outcome.stdout.matches("a variable in it may be a secret").count(), 3, "{outcome}");
        }
    }
    let found = sandbox.bash("root", &format!("grep -rlF {secret} /root /var/lib/provision /etc/app | sort"));
    assert_eq!(found, "/etc/app/1\n/etc/app/2\n/etc/app/3\n");
}

#[test]
fn other_steps_leave_a_file_alone_and_may_not_own_it_as_well() {
    let sandbox = host(
        "
name: app
steps:
  - id: tree
    directory: { path: /srv/app, owner: ubuntu, recursive: true, file_mode: \"0600\" }
  - id: conf
    file: { path: /srv/app/etc/app.conf, content: \"a\", owner: root, mode: \"0644\" }
",
    );
    sandbox.bash("root", "mkdir -p /srv/app; touch /srv/app/other");
    run(&sandbox, &["apply", PLAN, "--yes"]).exits(0);
    run(&sandbox, &["plan", PLAN, "--detailed-exitcode"]).exits(0);
    let owners = sandbox.bash("root", "cd /srv/app; stat -c '%n %a %U' other etc etc/app.conf");
    assert_eq!(owners, "other 600 ubuntu\netc 755 ubuntu\netc/app.conf 644 root\n");
    for other in [
        "file: { path: /srv/app/etc/./app.conf, content: b }",
        "directory: { path: /srv/app/etc/app.conf/below }",
        "compose_env: { file: /srv/app/etc/app.conf, variable: A, value: { env: A } }",
        "key_file: { path: /srv/link/app.conf, source: { env: A } }",
        "file: { path: /srv/x, content: \"{{ secret('a') }}\", secrets: { a: { file: /srv/app/etc/app.conf } } }",
    ] {
        sandbox.bash("root", "ln -sfn /srv/app/etc /srv/link");
        let steps = format!(
            "name: x\nsteps:\n  - id: one\n    file: {{ path: /srv/app/etc/app.conf, content: a }}\n  - id: two\n    {other}\n"
        );
        sandbox.write("/root/x.yaml", "root", steps);
        let refused = run(&sandbox, &["plan", "/root/x.yaml"]).exits(1);
        assert!(refused.stderr.contains("`one`") && refused.stderr.contains("x.yaml:"), "{other}\n{refused}");
    }
}

#[test]
fn a_template_that_a_step_brings_is_refused() {
    let sandbox = host(
        "
name: app
steps:
  - id: template
    file: { path: /etc/provision/app.conf.j2, content: \"a\\n\" }
  - id: conf
    file: { path: /etc/app/app.conf, template: app.conf.j2 }
",
    );
    sandbox.write("/etc/provision/app.conf.j2", "root", "old\n");
    let refused = run(&sandbox, &["validate", PLAN]).exits(1);
    let message = "step `conf` uses the template /etc/provision/app.conf.j2, which step `template` makes";
    assert!(refused.stderr.contains(message), "{refused}");
}

const MINE: &str = "mine\n";
const NEW: &str = "# written by provision\nport = 8080\n";

/// A host on which a step replaces what somebody wrote, and the points of its worker that are tried: near its end the worker
/// makes the change; of what it does before that, a sample.
#[cfg(target_arch = "x86_64")]
fn points(sandbox: &Sandbox, fault: Fault) -> Vec<Point> {
    let counted = apply_to_mine(sandbox).counted(fault);
    counted.outcome.exits(0);
    let (_, calls) = counted.calls.iter().find(|(process, _)| process.starts_with("worker")).unwrap();
    let mut numbers = std::collections::HashMap::new();
    let mut points = Vec::new();
    for call in calls {
        let number = numbers.entry(call.name).or_insert(0);
        *number += 1;
        points.push(Point { process: "worker".to_owned(), call: call.name, number: *number, fault });
    }
    let last = points.len();
    let is_tried = |index: usize| index.is_multiple_of(25) || index + 60 > last && index.is_multiple_of(2);
    points.into_iter().enumerate().filter(|(index, _)| is_tried(*index)).map(|(_, point)| point).collect()
}

#[cfg(target_arch = "x86_64")]
fn apply_to_mine(sandbox: &Sandbox) -> Run<'_> {
    sandbox.bash("root", &format!("rm -rf /etc/app /var/lib/provision; mkdir -p /etc/app; echo mine > {CONF}"));
    sandbox.provision("root", ["apply", PLAN, "--yes", "--json"])
}

/// A rerun makes the file what it is to be; what it was is kept once, and nothing else is left.
#[cfg(target_arch = "x86_64")]
fn a_rerun_converges_after(sandbox: &Sandbox, what: &str) {
    let again = sandbox.provision("root", ["apply", PLAN, "--yes", "--json"]).run();
    assert_eq!(again.code, 0, "{what}: {again}");
    assert_eq!(sandbox.read(CONF), NEW, "{what}");
    let left = sandbox.bash("root", "ls -A /etc/app; cd /var/lib/provision/rescues; ls -A | wc -l; tail -qn +2 *");
    assert_eq!(left, "app.conf\n1\nmine\n", "{what}");
}

/// Killed before any call: the file is the old one or the new one, the old one is kept, and a rerun converges.
#[cfg(target_arch = "x86_64")]
#[test]
fn killed_anywhere_nothing_of_the_old_content_is_gone() {
    let sandbox = host(STEPS);
    let mut struck = 0;
    let points = points(&sandbox, Fault::Kill);
    for point in &points {
        struck += usize::from(apply_to_mine(&sandbox).struck(point).struck.is_some());
        assert!([MINE, NEW].contains(&sandbox.read(CONF).as_str()), "{point}: {:?}", sandbox.read(CONF));
        a_rerun_converges_after(&sandbox, &point.to_string());
    }
    assert!(struck > 20, "{struck} of {} points were struck", points.len());
}

/// A call that fails: the file is the old one or the new one, the message names a path, and a rerun converges.
#[cfg(target_arch = "x86_64")]
#[test]
fn a_call_that_fails_loses_nothing_of_the_old_content() {
    let sandbox = host(STEPS);
    for errno in [nix::errno::Errno::ENOSPC, nix::errno::Errno::EACCES] {
        for point in points(&sandbox, Fault::Error(errno)) {
            let outcome = apply_to_mine(&sandbox).struck(&point).outcome;
            let found = sandbox.read(CONF);
            assert!(found == NEW || found == MINE && outcome.code == 1, "{errno}, {point}: {found:?}\n{outcome}");
            if outcome.code == 1 {
                let events = [outcome.events_of("step_planned"), outcome.events_of("step_finished")].concat();
                let reasons: String = events.iter().map(|event| event["reason"].to_string()).collect();
                let names_one = reasons.contains('/') || reasons.contains("worker") || !outcome.stderr.is_empty();
                assert!(names_one && !reasons.contains("a mistake in provision"), "{errno}, {point}: {outcome}");
            }
            a_rerun_converges_after(&sandbox, &format!("{errno}, {point}"));
        }
    }
}

/// Two keys are one too many, whatever is in the template.
#[test]
fn content_beside_a_template_that_does_not_exist_is_reported() {
    let sandbox = host(&WITH_TEMPLATE.replace("template:", "content: a, template:"));
    let checked = run(&sandbox, &["validate", PLAN]).exits(1);
    let message = format!("{}{}", checked.stdout, checked.stderr);
    assert!(message.contains("a file has `content` or a `template`, not both"), "{checked}");
    assert!(!message.contains("does not exist"), "{checked}");
}
