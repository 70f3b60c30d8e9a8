//! Plan files from standard input: their names, and the values that a request carries.

use serde_json::{Value, json};

use crate::sandbox::{Outcome, Sandbox, Snapshot, random_word};

const PLAN: &str = "
name: piped
vars:
  mode: \"0750\"
  place: \"{{ env_var('PLACE', '/home/ubuntu/data') }}\"
steps:
  - id: data
    directory: { path: \"{{ place }}\", mode: \"{{ mode }}\" }
";
const NAME: &str = "/etc/piped.yaml";

fn run(sandbox: &Sandbox, args: &[&str], input: &str) -> Outcome {
    sandbox.provision("ubuntu", args.iter().copied()).stdin(input).run()
}

fn request(value: &Value) -> String {
    serde_json::to_string(value).unwrap()
}

#[test]
fn plan_and_validate_read_standard_input_and_leave_no_trace() {
    let sandbox = Sandbox::new();
    let start = Snapshot::whole(&sandbox);
    let planned = run(&sandbox, &["plan", "-", "--json", "--detailed-exitcode"], PLAN).exits(2);
    assert_eq!(planned.events()[0]["file"], "-", "{planned}");
    assert_eq!(planned.step("step_planned", "data")["outcome"], "changes", "{planned}");
    run(&sandbox, &["plan", "-", "--as", NAME, "--var", "mode=0700"], PLAN).exits(0);
    run(&sandbox, &["validate", "-"], PLAN).exits(0);
    run(&sandbox, &["explain", "-", "data"], PLAN).exits(0);
    let wrong = run(&sandbox, &["validate", "-"], &PLAN.replace("directory", "diretory")).exits(1);
    assert!(wrong.stderr.contains("-:8:5") && wrong.stderr.contains("`directory`"), "{wrong}");
    run(&sandbox, &["plan", "-"], "").exits(1);
    start.is_same_as(&Snapshot::whole(&sandbox), "nothing was touched");
}

#[test]
fn an_apply_from_standard_input_is_locked_and_recorded_under_its_name() {
    let sandbox = Sandbox::new();
    let start = Snapshot::whole(&sandbox);
    for (args, expected) in [
        (vec!["apply", "-", "--yes"], "--as"),
        (vec!["apply", "-", "--yes", "--as", "piped.yaml"], "/home/ubuntu/piped.yaml"),
        (vec!["apply", "-", "--yes", "--as", ""], "--as"),
        (vec!["apply", "-", "--yes", "--as", "/etc"], "/etc/provision.yaml"),
        (vec!["apply", "x.yaml", "--yes", "--as", NAME], "standard input"),
        (vec!["apply", "--yes", "--as", NAME], "standard input"),
        (vec!["plan", "-", "--out", "saved"], "--as"),
        (vec!["plan", "/dev/stdin"], "plan -"),
    ] {
        let outcome = run(&sandbox, &args, PLAN).exits(1);
        assert!(outcome.stderr.contains(expected), "{expected:?} is missing\n{outcome}");
        assert!(outcome.stdout.is_empty(), "{outcome}");
    }
    start.is_same_as(&Snapshot::whole(&sandbox), "nothing was touched");
    let applied = run(&sandbox, &["apply", "-", "--yes", "--as", NAME, "--json"], PLAN).exits(0);
    assert_eq!(applied.events()[0]["file"], NAME, "{applied}");
    assert!(sandbox.path("/home/ubuntu/data").exists() && !sandbox.path(NAME).exists());
    let history = sandbox.provision("ubuntu", ["history", NAME, "--json"]).run().exits(0);
    assert_eq!(history.stdout.lines().count(), 1, "{history}");
    let again = run(&sandbox, &["apply", "-", "--yes", "--as", NAME, "--json"], PLAN).exits(0);
    assert_eq!(again.step("step_finished", "data")["outcome"], "unchanged", "{again}");
}

#[test]
fn applies_with_the_same_name_exclude_each_other() {
    let sandbox = Sandbox::new();
    run(&sandbox, &["apply", "-", "--yes", "--as", NAME], PLAN).exits(0);
    sandbox.bash("ubuntu", "rmdir data; ln -s /etc link");
    sandbox.write("/home/ubuntu/plan.yaml", "ubuntu", PLAN);
    // The first run holds the lock while it waits for its answer.
    let mut first = sandbox.provision("ubuntu", ["apply", "-", "--as", NAME]).on_terminal(80, "\"$@\" < plan.yaml");
    first.until("[y/N]");
    for name in [NAME, "/etc/../etc/piped.yaml", "/home/ubuntu/link/piped.yaml"] {
        let second = run(&sandbox, &["apply", "-", "--yes", "--as", name], PLAN).exits(1);
        assert!(second.all().contains("is being applied by ubuntu"), "{second}");
    }
    run(&sandbox, &["apply", "-", "--yes", "--as", "/etc/other.yaml"], PLAN).exits(0);
    first.types("n\r");
    assert_eq!(first.wait().0, 1);
}

#[test]
fn a_plan_saved_from_standard_input_is_applied_without_it() {
    let sandbox = Sandbox::new();
    let saved = ["plan", "-", "--as", NAME, "--out", "saved"];
    run(&sandbox, &saved, PLAN).exits(0);
    run(&sandbox, &["apply", "-", "--as", NAME, "--yes"], &sandbox.read("/home/ubuntu/saved")).exits(1);
    sandbox.provision("ubuntu", ["apply", "saved", "--yes"]).run().exits(0);
    assert!(sandbox.path("/home/ubuntu/data").exists());
    sandbox.bash("ubuntu", "rmdir data");
    let again = sandbox.provision("ubuntu", ["apply", "saved", "--yes"]).run().exits(1);
    assert!(again.all().contains("already applied"), "{again}");
    // A literal password in the plan file would end up in the saved plan.
    let word = random_word();
    let secret = PLAN.replace("vars:", &format!("vars:\n  warehouse: 'postgresql://etl:{word}@dw.example/etl'"));
    let refused = run(&sandbox, &["plan", "-", "--as", NAME, "--out", "other"], &secret).exits(1);
    assert!(refused.all().contains("line 4") && !refused.all().contains(&word), "{refused}");
    assert!(!sandbox.path("/home/ubuntu/other").exists());
}

#[test]
fn a_request_brings_the_files_beside_its_plan_file() {
    let sandbox = Sandbox::new();
    let plan = "
name: piped
vars: { port: 80 }
steps:
  - id: conf
    file: { path: /home/ubuntu/app.conf, template: \"./templates/{{ port }}.conf.j2\" }
";
    let text = "port = {{ port }}\n";
    let mut value =
        json!({ "plan_file": plan, "as": "/etc/piped/plan.yaml", "files": { "templates/80.conf.j2": text } });
    let planned = run(&sandbox, &["plan", "--request", "--json"], &request(&value)).exits(0);
    assert_eq!(planned.step("step_planned", "conf")["outcome"], "changes", "{planned}");
    run(&sandbox, &["apply", "--request", "--yes", "--json"], &request(&value)).exits(0);
    assert_eq!(sandbox.read("/home/ubuntu/app.conf"), "port = 80\n");
    assert!(!sandbox.path("/etc/piped").exists());
    // A saved plan would read the file on the host.
    let saved = run(&sandbox, &["plan", "--request", "--out", "saved"], &request(&value)).exits(1);
    assert!(saved.stderr.contains("cannot hold the `files` of a request"), "{saved}");
    // Files of the host are not mixed with those of a request, and a mistake in one has its place.
    sandbox.write("/etc/piped/templates/80.conf.j2", "root", text);
    for (files, expected) in [
        (json!({ "templates/8.conf.j2": text }), "did you mean `templates/8.conf.j2`?"),
        (json!({}), "the request has no file `./templates/80.conf.j2`"),
        (json!({ "templates/80.conf.j2": "{{ prot }}" }), "prot"),
        (json!({ "templates/80.conf.j2": "x".repeat((1 << 20) + 1) }), "1 MiB"),
    ] {
        value["files"] = files;
        let refused = run(&sandbox, &["plan", "--request"], &request(&value)).exits(1);
        assert!(refused.stderr.contains(expected), "{expected}: {refused}");
    }
    value.as_object_mut().unwrap().remove("files");
    run(&sandbox, &["plan", "--request"], &request(&value)).exits(0);
}

#[test]
fn request_values_never_enter_an_environment() {
    let sandbox = Sandbox::new();
    let word = random_word();
    let plan = "
name: piped
vars: { mode: \"0700\" }
steps:
  - id: data
    directory: { path: \"{{ env_var('PLACE') }}\", mode: \"{{ mode }}\" }
  - id: password
    after: data
    compose_env: { file: /home/ubuntu/compose.yaml, variable: PASSWORD, value: { env: PASSWORD } }
  - id: key
    key_file: { path: /home/ubuntu/key, source: { command: [bash, -c, 'env > /home/ubuntu/env; cat /home/ubuntu/old'] } }
";
    sandbox.bash("ubuntu", "ssh-keygen -q -t ed25519 -N '' -f old");
    let compose = "services:\n  web:\n    image: x\n    environment:\n      PASSWORD: old\n";
    sandbox.write("/home/ubuntu/compose.yaml", "ubuntu", compose);
    let env = json!({ "PASSWORD": word, "PLACE": "/home/ubuntu/data" });
    let mut value = json!({ "plan_file": plan, "as": NAME, "vars": { "mode": "0750" }, "env": env });
    let planned = run(&sandbox, &["plan", "--request", "--json"], &request(&value)).exits(0);
    let applied = run(&sandbox, &["apply", "--request", "--yes", "--json"], &request(&value)).exits(0);
    assert!(sandbox.read("/home/ubuntu/compose.yaml").contains(&word));
    assert!(!planned.all().contains(&word) && !applied.all().contains(&word));
    assert!(!sandbox.read("/home/ubuntu/env").contains(&word), "a program got the request's environment");
    assert_eq!(sandbox.bash("root", "stat -c %a /home/ubuntu/data"), "750\n");
    let again = run(&sandbox, &["plan", "--request", "--detailed-exitcode"], &request(&value)).exits(0);
    assert!(!again.all().contains(&word), "{again}");
    // What a request excludes and requires.
    for args in [
        vec!["plan", "--request", "x.yaml"],
        vec!["plan", "--request", "-"],
        vec!["plan", "--request", "--as", NAME],
        vec!["plan", "--request", "--var", "mode=0700"],
    ] {
        let outcome = run(&sandbox, &args, &request(&value)).exits(1);
        assert!(outcome.stderr.contains("--request") && !outcome.all().contains(&word), "{outcome}");
    }
    value.as_object_mut().unwrap().remove("as");
    run(&sandbox, &["plan", "--request"], &request(&value)).exits(0);
    run(&sandbox, &["apply", "--request", "--yes"], &request(&value)).exits(1);
    value["environment"] = json!({ "PASSWORD": word });
    let unknown = run(&sandbox, &["plan", "--request"], &request(&value)).exits(1);
    assert!(unknown.stderr.contains("`environment`") && !unknown.all().contains(&word), "{unknown}");
    let broken = run(&sandbox, &["plan", "--request"], &format!("{{\"env\": {{\"A\": \"{word}\"}}, }}")).exits(1);
    assert!(!broken.all().contains(&word), "{broken}");
}
