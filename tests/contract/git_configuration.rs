//! Unreadable git configuration is named, and a sound checkout is never called broken.

use std::time::Duration;

use crate::sandbox::{CHECKOUT, Outcome, PLAN, Sandbox};

const CODE: [&str; 5] = ["plan", PLAN, "--json", "--only", "repository"];

/// A checkout that is one commit behind.
fn host() -> Sandbox {
    let sandbox = Sandbox::new().remote();
    sandbox.checkout();
    sandbox.commit("late.txt", "late\n");
    sandbox
}

/// Plans as `ubuntu` with this home directory. Must not block on a file.
fn plan(sandbox: &Sandbox, home: &str) -> Outcome {
    sandbox.provision("ubuntu", CODE).env("HOME", home).within(Duration::from_secs(30)).run()
}

/// Asserts that the plan is blocked, names the file, and does not mention a broken repository.
#[track_caller]
fn refused(sandbox: &Sandbox, told: &[&str]) -> serde_json::Value {
    let step = plan(sandbox, "/home/ubuntu").exits(1).step("step_planned", "repository");
    let text = format!("{} / {}", step["reason"], step["hint"]);
    for words in told {
        assert!(text.contains(words), "{words:?} is missing: {text}");
    }
    assert!(!text.contains("broken") && !text.contains(CHECKOUT), "{text}");
    step
}

/// Runs the command in the hint and asserts that the plan then succeeds.
#[track_caller]
fn remedied(sandbox: &Sandbox, step: &serde_json::Value) {
    let hint = step["hint"].as_str().unwrap();
    sandbox.bash("ubuntu", hint.split('`').nth(1).unwrap());
    plan(sandbox, "/home/ubuntu").exits(0);
}

#[test]
fn an_inaccessible_home_is_ignored_with_a_warning_like_git_does() {
    let sandbox = host();
    sandbox.bash("root", "chmod 700 /root; git config --global user.name root");
    let outcome = plan(&sandbox, "/root").exits(0);
    let step = outcome.step("step_planned", "repository");
    assert_eq!(step["outcome"], "changes", "{outcome}");
    assert!(step["warnings"].to_string().contains("/root"), "{outcome}");
    assert!(step["warnings"].to_string().contains("HOME"), "{outcome}");
    assert!(!outcome.all().contains("broken"), "{outcome}");
    sandbox.bash("root", &format!("rm -rf {CHECKOUT}"));
    let outcome = plan(&sandbox, "/root").exits(0);
    assert!(outcome.step("step_planned", "repository")["warnings"].to_string().contains("/root"), "{outcome}");
    // A missing home directory is not reported.
    let quiet = plan(&sandbox, "/nonexistent").exits(0);
    assert_eq!(quiet.step("step_planned", "repository")["warnings"], serde_json::json!([]), "{quiet}");
}

#[test]
fn an_unreadable_user_configuration_is_ignored_like_git_does() {
    for file in [".gitconfig", ".config/git/config"] {
        let sandbox = host();
        sandbox.bash("root", &format!("cd /home/ubuntu; mkdir -p .config/git; install -m 600 /dev/null {file}"));
        let outcome = plan(&sandbox, "/home/ubuntu").exits(0);
        let step = outcome.step("step_planned", "repository");
        assert_eq!(step["outcome"], "changes", "{outcome}");
        assert!(step["warnings"].to_string().contains(file), "{outcome}");
    }
}

#[test]
fn an_unreadable_included_file_is_named() {
    for (file, section) in [
        ("/home/ubuntu/.gitconfig", "[include]"),
        ("/home/ubuntu/.config/git/config", "[include]"),
        ("/home/ubuntu/.gitconfig", "[includeIf \"gitdir:/home/\"]"),
    ] {
        let sandbox = host();
        sandbox.bash("root", "install -m 600 /dev/null /srv/private.cfg");
        sandbox.write(file, "root", format!("{section}\n\tpath = /srv/private.cfg\n"));
        let step = refused(&sandbox, &["cannot read git's configuration", "/srv/private.cfg", "ermission denied"]);
        assert!(step["hint"].as_str().unwrap().contains("ubuntu"), "{step}");
    }
}

#[test]
fn a_fifo_or_directory_instead_of_a_configuration_is_reported_without_waiting() {
    for file in ["/home/ubuntu/.gitconfig", "/home/ubuntu/.config/git/config", "/home/ubuntu/included.cfg"] {
        for (make, kind) in [("mkfifo", "a FIFO"), ("mkdir", "a directory")] {
            let sandbox = host();
            if file.ends_with("included.cfg") {
                sandbox.bash("ubuntu", "git config --global include.path included.cfg");
            }
            sandbox.bash("ubuntu", &format!("mkdir -p $(dirname {file}); {make} {file}"));
            let step = refused(&sandbox, &["cannot read git's configuration", file, kind]);
            remedied(&sandbox, &step);
            sandbox.bash("ubuntu", &format!("rm -rf {CHECKOUT}; {make} {file}"));
            let step = refused(&sandbox, &["cannot read git's configuration", file, kind]);
            remedied(&sandbox, &step);
        }
    }
    let sandbox = host();
    sandbox.bash("ubuntu", "ln -s /dev/null .gitconfig");
    plan(&sandbox, "/home/ubuntu").exits(0);
}

#[test]
fn an_invalid_configuration_is_reported_with_its_line() {
    let sandbox = host();
    sandbox.write("/home/ubuntu/.gitconfig", "ubuntu", "[user]\n\tname = x\n[core\n");
    refused(&sandbox, &["cannot read git's configuration", "/home/ubuntu/.gitconfig", "3"]);
    sandbox.bash("ubuntu", &format!("rm -rf {CHECKOUT}"));
    refused(&sandbox, &["cannot read git's configuration", "/home/ubuntu/.gitconfig", "3"]);
}

/// Objects and refs written by another user do not make a repository broken.
#[test]
fn an_unreadable_file_of_the_repository_is_not_called_corruption() {
    for file in ["refs/heads/jasleen_qa", "index", "HEAD", "config"] {
        let sandbox = host();
        sandbox.bash("root", &format!("chown root: {CHECKOUT}/.git/{file}; chmod 600 {CHECKOUT}/.git/{file}"));
        let outcome = plan(&sandbox, "/home/ubuntu").exits(1);
        let step = outcome.step("step_planned", "repository");
        let text = format!("{} / {}", step["reason"], step["hint"]);
        assert!(text.contains(&format!("{CHECKOUT}/.git/{file}")) && text.contains("permission denied"), "{text}");
        assert!(!text.contains("broken") && !text.contains("aside"), "{text}");
        let hint = step["hint"].as_str().unwrap();
        sandbox.bash("root", &hint.split('`').nth(1).unwrap().replace("sudo ", ""));
        plan(&sandbox, "/home/ubuntu").exits(0);
    }
}

/// As in git itself, these variables name other files than the usual ones, or none.
#[test]
fn variables_that_name_the_configuration_apply_to_local_work_too() {
    let sandbox = host();
    let plan = |variables: &[(&str, &str)]| {
        let plan = sandbox.provision("ubuntu", CODE).within(Duration::from_secs(30));
        let plan = variables.iter().fold(plan, |plan, (name, value)| plan.env(name, *value));
        plan.run().step("step_planned", "repository")
    };
    sandbox.write("/home/ubuntu/.gitconfig", "ubuntu", "[broken\n");
    sandbox.write("/home/ubuntu/named", "ubuntu", "[include]\n\tpath = included\n");
    sandbox.write("/home/ubuntu/included", "ubuntu", "[core]\n\tsparseCheckout = true\n");
    assert_eq!(plan(&[])["outcome"], "blocked");
    for none in ["/dev/null", "/nowhere", ""] {
        let step = plan(&[("GIT_CONFIG_GLOBAL", none)]);
        assert_eq!(step["outcome"], "changes", "{none}: {step}");
    }
    let step = plan(&[("GIT_CONFIG_GLOBAL", "/home/ubuntu/named")]);
    assert!(step["reason"].to_string().contains("is a sparse checkout"), "{step}");
    sandbox.bash("ubuntu", "rm .gitconfig; mkfifo pipe");
    let step = plan(&[("GIT_CONFIG_GLOBAL", "/home/ubuntu/pipe")]);
    assert!(step["reason"].to_string().contains("/home/ubuntu/pipe"), "{step}");

    let step = plan(&[("GIT_CONFIG_SYSTEM", "/home/ubuntu/named")]);
    assert!(step["reason"].to_string().contains("is a sparse checkout"), "{step}");
    sandbox.bash("root", "printf '[broken\\n' > /etc/gitconfig");
    assert_eq!(plan(&[])["outcome"], "blocked");
    assert_eq!(plan(&[("GIT_CONFIG_NOSYSTEM", "1")])["outcome"], "changes");
    assert_eq!(plan(&[("GIT_CONFIG_NOSYSTEM", "no")])["outcome"], "blocked");
    assert_eq!(plan(&[("GIT_CONFIG_SYSTEM", "/dev/null")])["outcome"], "changes");
    let both = [("GIT_CONFIG_NOSYSTEM", "true"), ("GIT_CONFIG_SYSTEM", "/home/ubuntu/named")];
    assert_eq!(plan(&both)["outcome"], "changes");
}
