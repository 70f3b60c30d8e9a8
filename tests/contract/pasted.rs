//! Commands in hints and notes: they work when they are pasted, whatever the plan file is called and wherever it came from.

use serde_json::json;

use crate::sandbox::{Outcome, PROVISION, Sandbox};

const TEXT: &str = "
name: piped
steps:
  - id: conf
    file: { path: /home/ubuntu/app.conf, content: \"new\\n\" }
  - id: other
    file: { path: /home/ubuntu/other.conf, content: \"new\\n\" }
";

fn sandbox() -> Sandbox {
    let mut sandbox = Sandbox::new();
    ["key_source", "repo_url"].into_iter().for_each(|name| sandbox.unset_var(name));
    sandbox
}

fn run(sandbox: &Sandbox, args: &[&str]) -> Outcome {
    sandbox.provision("ubuntu", args.iter().copied()).run()
}

fn restore_command(applied: &Outcome) -> String {
    let mut found = applied.commands();
    found.retain(|command| command.contains(" rescue restore "));
    found.pop().unwrap_or_else(|| panic!("no command\n{applied}"))
}

#[test]
fn a_rescue_of_a_plan_file_that_the_host_lacks_is_restored_by_its_name() {
    for is_request in [false, true] {
        let sandbox = sandbox();
        let name = "/home/ubuntu/nowhere/plan file.yaml";
        sandbox.write("/home/ubuntu/app.conf", "ubuntu", "mine\n");
        let (args, input) = if is_request {
            (vec!["apply", "--request", "--yes"], json!({ "plan_file": TEXT, "as": name }).to_string())
        } else {
            (vec!["apply", "-", "--as", name, "--yes"], TEXT.to_owned())
        };
        let applied = sandbox.provision("ubuntu", args).stdin(&input).run().exits(0);
        let command = restore_command(&applied);
        assert!(command.contains(&format!("'{name}'")), "{command}");
        let id = command.rsplit(' ').next().unwrap();
        let listed = run(&sandbox, &["rescue", "list", name]).exits(0);
        assert!(listed.stdout.starts_with(&format!("{id}  conf  ")), "{listed}");
        assert_eq!(run(&sandbox, &["rescue", "show", name, id]).exits(0).stdout, "mine\n");
        sandbox.bash("ubuntu", &command);
        assert_eq!(sandbox.read("/home/ubuntu/app.conf"), "mine\n");
        assert!(run(&sandbox, &["history", name]).exits(0).stdout.contains("piped"));
        assert_eq!(run(&sandbox, &["follow-ups", name]).exits(0).stdout, "there are no open follow-ups\n");
    }
}

#[test]
fn a_plan_file_that_no_run_has_recorded_is_missing() {
    let sandbox = sandbox();
    sandbox.write("/home/ubuntu/site.yaml", "ubuntu", TEXT);
    for command in ["list", "show", "restore"] {
        let missing = run(&sandbox, &["rescue", command, "/home/ubuntu/sit.yaml"]).exits(1);
        assert!(missing.stderr.contains("it does not exist") && missing.stderr.contains("site.yaml"), "{missing}");
    }
    let missing = run(&sandbox, &["plan", "/nowhere/x.yaml"]).exits(1);
    assert!(missing.stderr.contains("there is no directory /nowhere"), "{missing}");
}

#[test]
fn a_plan_file_whose_name_begins_with_a_dash_is_named_by_its_directory() {
    let sandbox = sandbox();
    sandbox.write("/home/ubuntu/-dash.yaml", "ubuntu", TEXT);
    sandbox.write("/home/ubuntu/app.conf", "ubuntu", "mine\n");
    let planned = run(&sandbox, &["plan", "./-dash.yaml", "--out", "./-saved"]).exits(0);
    assert!(planned.stdout.contains("provision apply ./-saved"), "{planned}");
    let applied = sandbox.command("ubuntu", [PROVISION, "apply", "--yes", "--", "-dash.yaml"]).run().exits(0);
    let mut found = applied.commands();
    found.retain(|command| command.contains(" rescue restore "));
    assert!(found[0].contains(" ./-dash.yaml "), "{found:?}");
    sandbox.bash("ubuntu", &found[0]);
    assert_eq!(sandbox.read("/home/ubuntu/app.conf"), "mine\n");
    let without_id = run(&sandbox, &["rescue", "restore", "./-dash.yaml"]).exits(1);
    assert!(without_id.stderr.contains("provision rescue list ./-dash.yaml"), "{without_id}");
}

#[test]
fn a_saved_plan_that_does_not_hold_is_made_again_by_the_command_in_the_hint() {
    let sandbox = sandbox();
    sandbox.write("/home/ubuntu/a plan.yaml", "ubuntu", TEXT);
    run(&sandbox, &["plan", "a plan.yaml", "--only", "conf", "--out", "saved plan"]).exits(0);
    let apply = || sandbox.command("ubuntu", [PROVISION, "apply", "saved plan", "--yes"]).run();
    apply().exits(0);
    sandbox.bash("ubuntu", "rm app.conf");
    let used = apply().exits(1);
    sandbox.bash("ubuntu", &used.commands()[0]);
    apply().exits(0);
    assert_eq!(sandbox.bash("ubuntu", "ls *.conf"), "app.conf\n", "only the step that was selected");
}

#[test]
fn a_request_without_a_name_is_told_of_its_own_key() {
    let sandbox = sandbox();
    let input = json!({ "plan_file": TEXT }).to_string();
    let refused = sandbox.provision("ubuntu", ["apply", "--request", "--yes"]).stdin(&input).run().exits(1);
    assert!(refused.stderr.contains("\"as\": ") && !refused.stderr.contains("--as"), "{refused}");
    let template = TEXT.replace("content: \"new\\n\"", "template: app.j2");
    let input = json!({ "plan_file": template }).to_string();
    let refused = sandbox.provision("ubuntu", ["plan", "--request"]).stdin(&input).run().exits(1);
    assert!(refused.stderr.contains("\"as\": ") && !refused.stderr.contains("--as"), "{refused}");
}

#[test]
fn an_unusable_state_folder_is_repaired_by_the_command_in_the_hint() {
    let sandbox = sandbox();
    sandbox.write("/home/ubuntu/site.yaml", "ubuntu", TEXT);
    run(&sandbox, &["apply", "site.yaml", "--yes"]).exits(0);
    for command in [&["history"][..], &["rescue", "list", "site.yaml"], &["follow-ups", "site.yaml"]] {
        for broken in ["chmod 0 ~/.local/state/provision", "sudo -n chown root: ~/.local/state/provision"] {
            sandbox.bash("ubuntu", broken);
            let refused = run(&sandbox, command).exits(1);
            assert!(refused.stderr.contains("give it to ubuntu alone: `"), "{command:?}: {refused}");
            sandbox.bash("ubuntu", &refused.commands()[0]);
            run(&sandbox, command).exits(0);
        }
    }
}

/// What is in the way of the state folder decides the remedy: giving a directory to the user helps only where the user lacks it.
#[test]
fn a_state_folder_that_cannot_be_created_has_a_remedy_for_its_cause() {
    for (broken, message, hint) in [
        (
            "touch ~/.local",
            ".local is a file, not a directory",
            "mv -T --backup=numbered /home/ubuntu/.local /home/ubuntu/.local.aside",
        ),
        (
            "mkdir ~/.local; touch ~/.local/state",
            "state is a file",
            "mv -T --backup=numbered /home/ubuntu/.local/state",
        ),
        (
            "install -d ~/.local/state; mkfifo ~/.local/state/provision",
            "is a FIFO",
            "mv -T --backup=numbered /home/ubuntu/.local/state/provision",
        ),
        ("ln -s nowhere ~/.local", "is a dangling symlink", "rm /home/ubuntu/.local"),
        ("sudo -n install -d -m 755 ~/.local", "permission denied", "sudo install -d -o ubuntu -m 0700"),
        ("sudo -n install -d -m 700 ~/.local", "permission denied", "sudo install -d -o ubuntu -m 0700"),
        (
            "sudo -n install -d -m 700 ~/.local/state; sudo -n chmod 700 ~/.local",
            "permission denied",
            "sudo install -d -o ubuntu",
        ),
    ] {
        let sandbox = sandbox();
        sandbox.write("/home/ubuntu/site.yaml", "ubuntu", TEXT);
        sandbox.bash("ubuntu", broken);
        let mut pasted = 0;
        loop {
            let outcome = run(&sandbox, &["apply", "site.yaml", "--yes"]);
            if outcome.code == 0 {
                break;
            }
            pasted += 1;
            assert!(pasted <= 2, "{broken}\n{outcome}");
            assert!(pasted > 1 || outcome.stderr.contains(message), "{broken}\n{outcome}");
            assert!(outcome.stderr.contains(hint), "{broken}\n{outcome}");
            sandbox.bash("ubuntu", &outcome.commands()[0]);
        }
        assert!(pasted > 0, "{broken}");
        assert!(sandbox.path("/home/ubuntu/.local/state/provision/runs").exists(), "{broken}");
    }
}

#[test]
fn a_state_folder_without_space_or_on_a_read_only_mount_is_not_given_away() {
    for (size, mount, message, hint) in [
        ("nr_inodes=1", "size=64k,nr_inodes=1", "no space left on device", "free some space"),
        ("ro", "ro", "read-only", "writable"),
    ] {
        let sandbox = sandbox();
        sandbox.write("/home/ubuntu/site.yaml", "ubuntu", TEXT);
        sandbox.bash("root", &format!("install -d -o ubuntu /home/ubuntu/.local; mount -t tmpfs -o {mount},uid=1000,mode=755 tmpfs /home/ubuntu/.local"));
        let outcome = run(&sandbox, &["apply", "site.yaml", "--yes"]).exits(1);
        assert!(outcome.stderr.contains(message) && outcome.stderr.contains(hint), "{size}\n{outcome}");
        assert!(!outcome.stderr.contains("install -d"), "{size}\n{outcome}");
    }
}
