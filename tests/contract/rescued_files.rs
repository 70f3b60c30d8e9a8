//! What `file` steps have moved out of the way is listed and given back, also after the plan file was changed.

use crate::files::{CONF, PLAN, STEPS, WITH_TEMPLATE, host, run};
use crate::sandbox::PROVISION;

#[test]
fn rescues_of_one_run_have_ids_of_their_own() {
    let sandbox = host(
        "name: app\nsteps:\n  - { id: conf, file: { path: /etc/app/app.conf, content: \"new\\n\" } }\n  - { id: other, run_as: ubuntu, file: { path: /home/ubuntu/other.conf, content: \"new\\n\" } }\n",
    );
    sandbox.bash("root", "mkdir -p /etc/app; echo one > /etc/app/app.conf");
    sandbox.write("/home/ubuntu/other.conf", "ubuntu", "two\n");
    let applied = run(&sandbox, &["apply", PLAN, "--yes"]).exits(0);
    let commands: Vec<&str> = applied.stdout.lines().filter_map(|line| line.split("out of the way: ").nth(1)).collect();
    assert_eq!(commands.len(), 2, "{applied}");
    for command in commands {
        sandbox.bash("root", &command.replacen("provision", PROVISION, 1));
    }
    assert_eq!(sandbox.bash("root", "cat /etc/app/app.conf /home/ubuntu/other.conf"), "one\ntwo\n");
}

#[test]
fn a_rescue_is_restored_without_the_template_of_its_file() {
    let sandbox = host(WITH_TEMPLATE);
    sandbox.write("/etc/provision/templates/app.conf.j2", "root", "new {{ greeting }}\n");
    sandbox.bash("root", &format!("mkdir -p $(dirname {CONF}); echo mine > {CONF}"));
    run(&sandbox, &["apply", PLAN, "--yes"]).exits(0);
    let text = sandbox.read(PLAN);
    sandbox.bash("root", "rm -r /etc/provision/templates");
    let from_input = |words: &[&str]| sandbox.provision("root", words.iter().copied()).stdin(&text).run();
    let listed = from_input(&["rescue", "list", "-"]).exits(0);
    let id = listed.stdout.split(' ').next().unwrap().to_owned();
    from_input(&["rescue", "restore", "-", &format!("conf:{id}")]).exits(0);
    assert_eq!(sandbox.read(CONF), "mine\n");
}

#[test]
fn a_user_without_a_place_for_rescues_replaces_nothing() {
    let sandbox = host(STEPS);
    sandbox.bash("root", "mkdir -p /etc/app; chown ubuntu /etc/app; rm -rf /home/ubuntu/.local");
    sandbox.write(CONF, "ubuntu", "mine\n");
    let plan_file = STEPS.replace("  - id: conf\n", "  - id: conf\n    run_as: ubuntu\n");
    sandbox.write(PLAN, "root", &plan_file);
    sandbox.bash("root", "chown root /home/ubuntu; chmod 755 /home/ubuntu");
    let planned = run(&sandbox, &["plan", PLAN, "--json"]).exits(1);
    let reason = planned.step("step_planned", "conf")["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("cannot be rescued: the state folder /home/ubuntu/.local/state/provision"), "{planned}");
    sandbox.bash("root", "chown ubuntu /home/ubuntu");
    run(&sandbox, &["apply", PLAN, "--yes"]).exits(0);
    assert_eq!(sandbox.bash("ubuntu", "cat .local/state/provision/rescues/* | tail -n +2"), "mine\n");
}

/// A rescue belongs to the run that made it, whatever becomes of the step.
#[test]
fn a_rescue_is_found_after_its_step_was_edited_or_removed() {
    let step = |path: &str, more: &str| {
        format!("  - {{ id: conf, {more}file: {{ path: {path}, content: \"new\\n\", mode: \"0644\" }} }}\n")
    };
    let other = "  - { id: other, directory: { path: /root/other } }\n";
    let head = "name: app\nsteps:\n";
    let sandbox = host(&format!("{head}{}", step("/srv/app.conf", "")));
    sandbox.write("/srv/app.conf", "root", "mine\n");
    let applied = run(&sandbox, &["apply", PLAN, "--yes"]).exits(0);
    let command = applied.stdout.lines().find_map(|line| line.split("out of the way: ").nth(1)).unwrap();
    let id = command.rsplit(' ').next().unwrap();
    let replaced = "the next apply of the step replaces it again";
    for (steps, is_there) in [
        (step("/root/elsewhere.conf", ""), false),
        (step("/srv/app.conf", "run_as: ubuntu, "), true),
        (other.to_owned(), false),
        (format!("{other}  - {{ id: more, file: {{ path: /root/more.conf, content: \"x\\n\" }} }}\n"), false),
        (step("/srv/app.conf", "").replace("id: conf", "id: renamed"), true),
    ] {
        sandbox.write(PLAN, "root", format!("{head}{steps}"));
        let listed = run(&sandbox, &["rescue", "list", PLAN]).exits(0);
        assert_eq!(listed.stdout.matches(id).count(), 1, "{steps}{listed}");
        assert_eq!(run(&sandbox, &["rescue", "show", PLAN, id]).exits(0).stdout, "mine\n", "{steps}");
        sandbox.bash("root", "echo new > /srv/app.conf");
        let restored = sandbox.bash("root", &command.replacen("provision", PROVISION, 1));
        assert_eq!(restored.contains(replaced), is_there, "{steps}{restored}");
        assert_eq!(sandbox.read("/srv/app.conf"), "mine\n", "{steps}");
    }
    let unknown = run(&sandbox, &["rescue", "show", PLAN, "no-such-rescue"]).exits(1);
    assert!(unknown.stderr.contains("no such rescue: no-such-rescue"), "{unknown}");
    // Another kind of step has the path by now, under the same id or another one.
    sandbox.bash("root", "ssh-keygen -q -t ed25519 -N '' -f /root/key");
    for key in ["conf", "key"] {
        let key_file =
            format!("  - {{ id: {key}, key_file: {{ path: /srv/app.conf, source: {{ file: /root/key }} }} }}\n");
        sandbox.write(PLAN, "root", format!("{head}{key_file}"));
        run(&sandbox, &["apply", PLAN, "--yes"]).exits(0);
        let refused = run(&sandbox, &["rescue", "restore", PLAN, id]).exits(1);
        let message = format!("/srv/app.conf belongs to the step `{key}` now: a restore does not overwrite it");
        assert!(refused.stderr.contains(&message) && refused.stderr.contains("--to DIR"), "{refused}");
        sandbox.bash("root", "cmp /root/key /srv/app.conf");
        run(&sandbox, &["rescue", "restore", PLAN, id, "--to", &format!("/root/copy-{key}")]).exits(0);
        assert_eq!(sandbox.read(&format!("/root/copy-{key}/app.conf")), "mine\n");
    }
}

/// An earlier run cannot be corrected: messages about its steps have no such hint, and do not hide the answer.
#[test]
fn rescues_of_a_user_who_was_removed_are_reported_and_hide_nothing() {
    let step = |id: &str, more: &str| {
        format!(
            "name: app\nsteps:\n  - {{ id: {id}, {more}file: {{ path: /home/mallory/{id}, content: \"new\\n\" }} }}\n"
        )
    };
    let sandbox = host(&step("conf", "run_as: mallory, "));
    sandbox.write("/home/mallory/conf", "mallory", "mine\n");
    run(&sandbox, &["apply", PLAN, "--yes"]).exits(0);
    sandbox.write(PLAN, "root", step("other", ""));
    sandbox.write("/home/mallory/other", "root", "mine too\n");
    run(&sandbox, &["apply", PLAN, "--yes"]).exits(0);
    sandbox.bash("root", "sed -i /mallory/d /etc/passwd");
    let listed = run(&sandbox, &["rescue", "list", PLAN]).exits(0);
    assert_eq!(listed.stdout.matches("  other  ").count(), 1, "{listed}");
    let message = listed.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in ["no such user: mallory", "/home/mallory/conf are in the folder rescues of mallory's state folder"] {
        assert!(message.contains(part), "{part}: {listed}");
    }
    assert!(!message.contains("run_as"), "{listed}");
    let unknown = run(&sandbox, &["rescue", "show", PLAN, "no-such-rescue"]).exits(1);
    let message = unknown.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in ["no such rescue: no-such-rescue", "the rescues are ", "no such user: mallory"] {
        assert!(message.contains(part), "{part}: {unknown}");
    }
}
