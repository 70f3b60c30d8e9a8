//! The Ansible collection: a real ansible-core runs it against hosts with an sshd each.

use serde_json::json;

use crate::sandbox::{Fleet, Sandbox, Snapshot, apply_task, random_word};

const PLAN: &str = "
name: web
vars:
  mode: \"0750\"
steps:
  - id: data
    title: Create the data directory
    directory: { path: /home/ubuntu/data, mode: \"{{ mode }}\" }
  - id: password
    title: Set the password of the alert mails
    compose_env: { file: /home/ubuntu/compose.yaml, variable: PASSWORD, value: { env: SMTP_PASSWORD } }
";
const COMPOSE: &str = "services:\n  web:\n    image: x\n    environment:\n      PASSWORD: old\n";

/// Returns hosts with a compose file, and a controller with the plan file.
fn fleet(count: usize) -> Fleet {
    let fleet = Fleet::new(count);
    fleet.write("plan.yaml", PLAN);
    for host in &fleet.hosts {
        host.write("/home/ubuntu/compose.yaml", "ubuntu", COMPOSE);
    }
    fleet
}

/// Returns the host's files, except the log of sshd.
fn trace(host: &Sandbox) -> Snapshot {
    Snapshot::take(host, "/", &["/var/lib/postgresql", "/opt/provision/bin", "/var/log/sshd"])
}

/// Returns a playbook of one play with these tasks, which are indented by four spaces.
fn play(keywords: &str, tasks: &str) -> String {
    format!("- hosts: all\n  gather_facts: false\n{keywords}\n  tasks:\n{tasks}\n")
}

#[test]
fn check_mode_plans_and_an_apply_changes_once() {
    let fleet = fleet(1);
    let host = &fleet.hosts[0];
    let vars = "  vars: { SMTP_PASSWORD: fresh }";
    let playbook = play(vars, &format!("    - {}", apply_task(", vars: { mode: \"0700\" }, secrets: [SMTP_PASSWORD]")));
    let start = trace(host);
    let checked = fleet.playbook(&playbook, &["--check", "--diff"]).exits(0);
    start.is_same_as(&trace(host), "check mode leaves no trace");
    let result = checked.result("h1");
    assert_eq!((&result["changed"], &result["counts"]["changes"]), (&json!(true), &json!(2)), "{checked}");
    for line in ["+mode: 0700", "/home/ubuntu/data (data): create the directory", "set PASSWORD in service web"] {
        assert!(checked.output.contains(line), "{line}\n{checked}");
    }
    assert_eq!(result["steps"]["data"]["changes"][0]["after"]["mode"], "0700", "{checked}");

    let applied = fleet.playbook(&playbook, &["--diff"]).exits(0);
    let result = applied.result("h1");
    assert_eq!((&result["changed"], &result["msg"]), (&json!(true), &json!("2 changed")), "{applied}");
    assert_eq!(result["steps"]["data"]["outcome"], "changed", "{applied}");
    assert_eq!((&result["user"], &result["file"]), (&json!("ubuntu"), &json!("/etc/provision/plan.yaml")), "{applied}");
    assert!(applied.output.contains("+mode: 0700"), "{applied}");
    assert_eq!(host.bash("root", "stat -c %a /home/ubuntu/data"), "700\n");
    assert!(host.read("/home/ubuntu/compose.yaml").contains("PASSWORD: fresh"));
    let history = host.provision("ubuntu", ["history", "/etc/provision/plan.yaml", "--json"]).run().exits(0);
    assert_eq!(history.stdout.lines().count(), 1, "{history}");

    let start = trace(host);
    let again = fleet.playbook(&playbook, &["--diff"]).exits(0);
    start.is_same_as(&trace(host), "a second apply writes nothing");
    assert_eq!(again.result("h1")["changed"], false, "{again}");
    assert!(!host.path("/home/ubuntu/.ansible").exists() && !host.path("/root/.ansible").exists());
    assert!(!host.path("/etc/provision").exists());
}

#[test]
fn secrets_appear_only_in_their_targets() {
    let fleet = fleet(1);
    let host = &fleet.hosts[0];
    // Records every command that sshd runs, with its arguments and environment.
    let record = "#!/bin/sh\n{ echo \"$SSH_ORIGINAL_COMMAND\"; env; } >>/var/tmp/commands\nexec sh -c \"$SSH_ORIGINAL_COMMAND\"\n";
    host.write("/opt/record", "root", record);
    host.bash("root", "chmod 755 /opt/record; : >/var/tmp/commands; chmod 666 /var/tmp/commands");
    host.bash("root", "echo 'ForceCommand /opt/record' >>/etc/ssh/sshd_config; kill -HUP $(cat /run/sshd.pid)");
    for (pipelining, become_root) in [("0", ""), ("1", ""), ("0", "  become: true"), ("1", "  become: true")] {
        let word = format!("{}{{{{ '\"x' }}}}", random_word());
        let value = word.replace("{{ '\"x' }}", "\"x");
        fleet.write("group_vars/all.yml", &format!("vault_password: '{}'\n", word.replace('\'', "''")));
        let vars = format!("{become_root}\n  vars: {{ SMTP_PASSWORD: \"{{{{ vault_password }}}}\" }}");
        let tasks = format!("    - {}", apply_task(", secrets: [SMTP_PASSWORD]"));
        let env = [
            ("ANSIBLE_PIPELINING", pipelining),
            ("ANSIBLE_DEBUG", "1"),
            ("ANSIBLE_KEEP_REMOTE_FILES", "1"),
            ("ANSIBLE_LOG_PATH", "ansible.log"),
        ];
        let run = fleet.playbook_with(&play(&vars, &tasks), &["-vvvvv", "--diff"], &env).exits(0);
        assert_eq!(run.result("h1")["steps"]["password"]["outcome"], "changed", "{run}");
        let compose = host.read("/home/ubuntu/compose.yaml");
        assert!(compose.contains(&value.replace('"', "\\\"")) || compose.contains(&value), "{compose}");
        let word = &value[..value.len() - 2];
        assert!(run.output.contains("_low_level_execute_command") && !run.output.contains(word));
        assert!(!run.results.contains(word));
        host.write("/home/ubuntu/compose.yaml", "ubuntu", COMPOSE);
        let traces = format!(
            "grep -rlF {word} / --exclude-dir=proc --exclude-dir=sys --exclude-dir=work --exclude-dir=usr || true"
        );
        assert_eq!(host.bash("root", &traces), "", "on the host");
        fleet.write("group_vars/all.yml", "");
        let traces = fleet.on_controller("grep").args(["-rlF", word, "."]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&traces.stdout), "", "on the controller");
    }
    let commands = host.read("/var/tmp/commands");
    assert!(commands.contains("plan --request") || commands.contains("apply --request"), "{commands}");
}

#[test]
fn a_failing_host_stops_later_batches_and_no_other_report() {
    let fleet = fleet(4);
    // A file where the directory belongs.
    fleet.hosts[1].write("/home/ubuntu/data", "ubuntu", "");
    let vars = "  vars: { SMTP_PASSWORD: fresh }";
    let tasks = format!("    - {}", apply_task(", secrets: [SMTP_PASSWORD]"));
    let all = fleet.playbook(&play(vars, &tasks), &["--check"]).exits(2);
    assert_eq!(all.results.lines().count(), 4, "every host reports\n{all}");
    let bad = all.result("h2");
    assert_eq!(bad["status"], "failed", "{all}");
    let message = bad["msg"].as_str().unwrap();
    assert!(message.contains("data: ") && message.contains("/home/ubuntu/data"), "{message}");

    let batches = format!("{vars}\n  serial: 2\n  max_fail_percentage: 0");
    let applied = fleet.playbook(&play(&batches, &tasks), &[]).exits(2);
    for (number, expected) in [(1, 1), (2, 1), (3, 0), (4, 0)] {
        assert_eq!(applied.results(&format!("h{number}")).len(), expected, "h{number}\n{applied}");
        let changed = fleet.hosts[number - 1].read("/home/ubuntu/compose.yaml").contains("fresh");
        assert_eq!(changed, number <= 2, "h{number}");
    }
    // The other step of the bad host was still changed.
    let bad = applied.result("h2");
    assert_eq!((&bad["changed"], &bad["counts"]["changed"]), (&json!(true), &json!(1)), "{applied}");
}

#[test]
fn become_and_delegate_to_choose_the_user_and_the_host() {
    let fleet = fleet(2);
    let tasks = format!(
        "    - {}\n      become: true\n      delegate_to: h2\n      run_once: true",
        apply_task(", only: [data], dest: /srv/plans/web.yaml")
    );
    let run = fleet.playbook(&play("", &tasks), &[]).exits(0);
    let result = run.result("h1");
    assert_eq!((&result["user"], &result["file"]), (&json!("root"), &json!("/srv/plans/web.yaml")), "{run}");
    assert_eq!(result["steps"]["password"]["outcome"], "skipped", "{run}");
    assert_eq!(fleet.hosts[1].bash("root", "stat -c %U /home/ubuntu/data"), "root\n");
    assert!(!fleet.hosts[0].path("/home/ubuntu/data").exists());
    let history = fleet.hosts[1].provision("root", ["history", "/srv/plans/web.yaml"]).run().exits(0);
    assert!(history.stdout.contains("1 changed"), "{history}");
}

#[test]
fn a_handler_carries_out_the_follow_ups_and_closes_them() {
    let fleet = fleet(1);
    let host = &fleet.hosts[0];
    host.write("/opt/fake/docker", "root", "#!/bin/sh\necho \"$@\" >>/home/ubuntu/docker.log\n");
    host.bash("root", "chmod 755 /opt/fake/docker");
    let task = apply_task(", secrets: [SMTP_PASSWORD]");
    let playbook = format!(
        "- hosts: all
  gather_facts: false
  vars: {{ SMTP_PASSWORD: fresh }}
  tasks:
    - {task}
      register: web
      notify: Recreate the containers
  handlers:
    - name: Recreate the containers
      ansible.builtin.raw: >-
        export PATH=/opt/fake:$PATH; {{{{ item.command }}}} &&
        {{{{ web.program | quote }}}} follow-ups {{{{ web.file | quote }}}} --done {{{{ item.id }}}}
      loop: \"{{{{ web.follow_ups }}}}\"
"
    );
    let without_handler =
        fleet.playbook(&playbook.replace("      notify: Recreate the containers\n", ""), &[]).exits(0);
    assert_eq!(without_handler.result("h1")["follow_ups"][0]["argv"][0], "docker", "{without_handler}");
    let open = fleet.playbook(&playbook, &[]).exits(0);
    let result = open.result("h1");
    assert_eq!((&result["changed"], &result["open_follow_ups"][0]["id"]), (&json!(false), &json!(1)), "{open}");
    assert!(!host.path("/home/ubuntu/docker.log").exists(), "an unchanged task notifies no handler");

    host.write("/home/ubuntu/compose.yaml", "ubuntu", COMPOSE);
    let run = fleet.playbook(&playbook, &[]).exits(0);
    assert_eq!(host.read("/home/ubuntu/docker.log"), "compose up -d --force-recreate web\n");
    assert!(run.results.contains("1 closed"), "{run}");
    let closed = fleet.playbook(&playbook, &[]).exits(0);
    assert_eq!(closed.result("h1")["open_follow_ups"], json!([]), "{closed}");
}

#[test]
fn the_program_is_copied_once_for_each_version() {
    let fleet = fleet(1);
    let host = &fleet.hosts[0];
    let arch = std::env::consts::ARCH;
    let on_controller = |line: &str| {
        assert!(std::process::Command::new("sh").args(["-c", line]).status().unwrap().success(), "{line}");
    };
    let file = fleet.path(&format!("files/provision-{arch}"));
    let file = file.display();
    on_controller(&format!("mkdir -p $(dirname {file}) && strip -o {file} '{}'", env!("CARGO_BIN_EXE_provision")));
    let playbook = |user: &str| {
        let task = "provision.core.apply: { plan_file: plan.yaml, binary: 'provision-{arch}', only: [data] }";
        play(user, &format!("    - {task}"))
    };
    let copies =
        || host.bash("root", "find /var/lib/provision/bin -type f -printf '%p %i %m %U %s %T@\n' 2>/dev/null || true");
    let first = fleet.playbook(&playbook("  become: true"), &["--check"]).exits(0);
    let program = first.result("h1")["program"].as_str().unwrap().to_owned();
    assert!(program.starts_with("/var/lib/provision/bin/") && program.ends_with("/provision"), "{program}");
    let copied = copies();
    assert!(copied.lines().count() == 1 && copied.contains(" 700 0 "), "{copied}");
    let applied = fleet.playbook(&playbook("  become: true"), &[]).exits(0);
    assert_eq!((&applied.result("h1")["changed"], copies()), (&json!(true), copied.clone()), "{applied}");
    // Another version is copied beside the first one, and another user has copies of their own.
    on_controller(&format!("printf more >>{file}"));
    fleet.playbook(&playbook("  become: true"), &[]).exits(0);
    assert_eq!(copies().lines().count(), 2, "{}", copies());
    let own = fleet.playbook(&playbook(""), &[]).exits(0);
    let program = own.result("h1")["program"].as_str().unwrap().to_owned();
    assert!(program.starts_with("/home/ubuntu/.local/state/provision/bin/"), "{program}");
    // A host without a program, and a program for another architecture.
    let other = playbook("").replace("-{arch}", &format!("-{arch}"));
    fleet.playbook(&other, &[]).exits(0);
    std::fs::rename(fleet.path(&format!("files/provision-{arch}")), fleet.path("files/provision-s390x")).unwrap();
    let missing = fleet.playbook(&playbook(""), &[]).exits(2);
    let message = missing.result("h1")["msg"].as_str().unwrap().to_owned();
    assert!(message.contains(&format!("no program for the host's architecture {arch}")), "{message}");
    let none = play("", "    - provision.core.apply: { plan_file: plan.yaml }");
    let message = fleet.playbook(&none, &[]).exits(2).result("h1")["msg"].as_str().unwrap().to_owned();
    assert!(message.contains("not installed on the host"), "{message}");
}

#[test]
fn mistakes_end_in_one_clear_message_without_a_value() {
    let fleet = fleet(1);
    let word = random_word();
    fleet.write("group_vars/all.yml", &format!("WRONG: '{word} {{{{ x'\nNUMBER: 17\n"));
    fleet.write("invalid.yaml", &PLAN.replace("directory:", "diretory:"));
    // A large request to a program that does not read it is not an unreachable host.
    fleet.write("large.yaml", &format!("{PLAN}#{}\n", "x".repeat(3 << 20)));
    let with = |options: &str| apply_task(options);
    let plan_file = |name: &str| apply_task("").replace("plan.yaml", name);
    let program = |task: String, name: &str| task.replace("/opt/provision/bin/provision", name);
    let mistakes = [
        (with(", secrets: [UNKNOWN]"), "the secret UNKNOWN is not defined"),
        (with(", secrets: [WRONG]"), "cannot evaluate the secret WRONG"),
        (with(", secrets: [NUMBER]"), "the secret NUMBER has to be a string"),
        (with(", vars: { mode: [1] }"), "vars.mode has to be a string"),
        (with(", vars: { mode: null }"), "vars.mode is null"),
        (with(", vars: { mood: x }"), "mood"),
        (with(", only: [dota]"), "dota"),
        (with(", dest: plans/web.yaml"), "not absolute"),
        (with(", as_of: \"2027-02-30\""), "30 February"),
        (with(", binary: x"), "mutually exclusive"),
        (with(", plan: x"), "Unsupported parameters"),
        (with("") + "\n      connection: paramiko", "cannot pass standard input"),
        (plan_file("other.yaml"), "other.yaml"),
        (plan_file("invalid.yaml"), "/etc/provision/invalid.yaml:8:5"),
        (program(with(""), "/bin/cat"), "cannot apply /etc/provision/plan.yaml"),
        (program(plan_file("large.yaml"), "/bin/false"), "large.yaml: it ended with exit code 1"),
    ];
    let tasks: String = mistakes.iter().map(|(task, _)| format!("    - {task}\n      ignore_errors: true\n")).collect();
    let run = fleet.playbook(&play("", &tasks), &["-vvv"]).exits(0);
    assert!(!run.output.contains(&word) && !run.results.contains(&word), "{run}");
    let results = run.results("h1");
    assert_eq!(results.len(), mistakes.len(), "{run}");
    for ((task, expected), result) in mistakes.iter().zip(&results) {
        assert_eq!(result["status"], "failed", "{task}");
        let message = result["msg"].as_str().unwrap_or_else(|| panic!("{result}"));
        assert!(message.contains(expected) && !message.contains("debug1:"), "{expected}: {message}");
    }
    // An empty secret counts as not set.
    let vars = "  vars: { SMTP_PASSWORD: '' }";
    let run = fleet.playbook(&play(vars, &format!("    - {}", with(", secrets: [SMTP_PASSWORD]"))), &[]).exits(0);
    assert_eq!(run.result("h1")["steps"]["password"]["outcome"], "unchecked", "{run}");
}

#[test]
fn templates_beside_the_plan_file_are_sent_with_it() {
    let fleet = fleet(1);
    let host = &fleet.hosts[0];
    let word = random_word();
    let plan = "
name: web
vars: { port: 80 }
steps:
  - id: conf
    file:
      path: /home/ubuntu/app.conf
      template: templates/app.conf.j2
      secrets: { db: { env: DB_PASSWORD } }
";
    fleet.write("files/web.yaml", plan);
    fleet.write("files/templates/app.conf.j2", "port = {{ port }}\npassword = {{ secret('db') }}\n");
    fleet.write("files/templates/.app.conf.j2.swp", "");
    fleet.write("group_vars/all.yml", &format!("DB_PASSWORD: {word}\n"));
    let task = apply_task(", secrets: [DB_PASSWORD], vars: { port: 8080 }").replace("plan.yaml", "web.yaml");
    let run = fleet.playbook(&play("", &format!("    - {task}")), &["-vvv", "--diff"]).exits(0);
    assert_eq!(host.read("/home/ubuntu/app.conf"), format!("port = 8080\npassword = {word}\n"));
    assert!(!run.output.contains(&word) && !run.results.contains(&word));
    let none = task.replace(", vars", ", files: [other/*], vars");
    let refused = fleet.playbook(&play("", &format!("    - {none}")), &[]).exits(2);
    assert!(refused.output.contains("the request has no file"), "{refused}");
}

#[test]
fn an_interrupted_run_fails_with_what_it_changed() {
    let fleet = fleet(1);
    let host = &fleet.hosts[0];
    // A program that ends after the first change, as if it was killed.
    let program = "#!/bin/sh\n/opt/provision/bin/provision \"$@\" | sed '/\"event\":\"step_finished\",\"step\":\"data\"/,$d'\nkill -9 $$\n";
    host.write("/opt/program", "root", program);
    host.bash("root", "chmod 755 /opt/program");
    let task = apply_task(", only: [data]").replace("/opt/provision/bin/provision", "/opt/program");
    let run = fleet.playbook(&play("", &format!("    - {task}")), &[]).exits(2);
    let result = run.result("h1");
    let told = (&result["status"], &result["changed"], &result["outcome"]);
    assert_eq!(told, (&json!("failed"), &json!(true), &json!("interrupted")), "{run}");
    assert!(result["msg"].as_str().unwrap().contains("exit code 137"), "{run}");
}

#[test]
fn facts_hold_the_plans_of_a_host_and_change_nothing() {
    let fleet = fleet(1);
    let host = &fleet.hosts[0];
    fleet.write(
        "other.yaml",
        &PLAN.replace("name: web", "name: other").replace("/home/ubuntu/data", "/etc/passwd/data"),
    );
    let facts = |file: &str| apply_task("").replace("core.apply", "core.facts").replace("plan.yaml", file);
    let shown = "    - ansible.builtin.debug: { var: ansible_facts.provision }";
    let start = trace(host);
    let tasks = format!("    - {}\n    - {}\n{shown}", facts("plan.yaml"), facts("other.yaml"));
    let run = fleet.playbook(&play("", &tasks), &["--diff"]).exits(0);
    start.is_same_as(&trace(host), "facts leave no trace");
    let results = run.results("h1");
    assert!(results.iter().all(|result| result["changed"] == false), "{run}");
    let plans = &results[2]["ansible_facts.provision"];
    assert_eq!(plans["web"]["steps"]["data"]["outcome"], "changes", "{run}");
    assert_eq!(plans["web"]["steps"]["password"]["outcome"], "unchecked", "{run}");
    assert!(["blocked", "failed"].contains(&plans["other"]["steps"]["data"]["outcome"].as_str().unwrap()), "{run}");
}
