//! Everything that is moved out of the way is rescued first, and the printed command restores it.

use crate::sandbox::{BARE, CHECKOUT, Outcome, PLAN, PROVISION, Sandbox, Snapshot};

const DAG: &str = "airflow_poc/dags/order_tracking.py";
const NEW: &str = "airflow_poc/dags/late.py";

/// A converged host with a modified and an untracked file in the way of new commits.
fn in_the_way() -> Sandbox {
    let sandbox = Sandbox::converged();
    sandbox.commit(DAG, "LAG_LIMIT_MINUTES = 60\n");
    sandbox.commit(NEW, "LATE = True\n");
    sandbox.write(&format!("{CHECKOUT}/{DAG}"), "ubuntu", "hot fix\n");
    sandbox.write(&format!("{CHECKOUT}/{NEW}"), "ubuntu", "made by hand\n");
    sandbox
}

#[test]
fn plan_lists_files_to_be_stashed_with_a_risk() {
    let sandbox = in_the_way();
    let plan = sandbox.plan("ubuntu").exits(0);
    let step = plan.step("step_planned", "repository");
    let text = step["changes"].to_string();
    assert!(text.contains(DAG) && text.contains(NEW), "{step}");
    assert!(step["changes"].as_array().unwrap().iter().any(|change| change["risk"].is_string()), "{step}");
    let shown = sandbox.provision("ubuntu", ["plan", PLAN]).run().exits(0);
    assert!(shown.stdout.contains(DAG) && shown.stdout.contains(NEW), "{shown}");
}

#[test]
fn a_rescue_is_listed_shown_and_restored() {
    let sandbox = in_the_way();
    let apply = sandbox.provision("ubuntu", ["apply", PLAN, "--yes"]).run().exits(0);
    assert_eq!(sandbox.read(&format!("{CHECKOUT}/{DAG}")), "LAG_LIMIT_MINUTES = 60\n");
    assert_eq!(sandbox.read(&format!("{CHECKOUT}/{NEW}")), "LATE = True\n");
    assert_eq!(sandbox.git("stash list"), "");
    let rescues = sandbox.rescues();
    assert_eq!(rescues.len(), 1, "{rescues:?}");
    let id = rescues[0].rsplit('/').next().unwrap();

    let list = sandbox.provision("ubuntu", ["rescue", "list", PLAN]).run().exits(0);
    assert!(list.stdout.contains(id), "{list}");
    let show = sandbox.provision("ubuntu", ["rescue", "show", PLAN, id]).run().exits(0);
    assert!(show.stdout.contains(DAG) && show.stdout.contains(NEW), "{show}");
    let printed = printed(&apply);
    assert_eq!(printed, format!("provision rescue restore {PLAN} {id}"));
    sandbox.bash("ubuntu", &printed.replace("provision rescue", &format!("{PROVISION} rescue")));
    assert_eq!(sandbox.read(&format!("{CHECKOUT}/{DAG}")), "hot fix\n");
    assert_eq!(sandbox.read(&format!("{CHECKOUT}/{NEW}")), "made by hand\n");
    let outcome = sandbox.provision("ubuntu", ["rescue", "show", PLAN, "no-such-rescue"]).run().exits(1);
    assert!(outcome.stderr.contains("no-such-rescue"), "{outcome}");
}

#[test]
fn a_rescue_is_written_to_a_new_directory() {
    let sandbox = Sandbox::converged();
    let top = |name: &str| format!("{CHECKOUT}/{name}");
    for name in [DAG, NEW, "run.sh", "latest", "secret", "gone.txt"] {
        sandbox.commit(name, "theirs\n");
    }
    sandbox.provision("ubuntu", ["apply", PLAN, "--yes"]).run().exits(0);
    for name in [DAG, NEW, "run.sh", "latest", "secret", "gone.txt"] {
        sandbox.commit(name, "newer\n");
    }
    sandbox.write(&top(DAG), "ubuntu", "hot fix\n");
    let there = "cd etl/etl_dw/s3-redshift-backup-tool; echo go > run.sh; chmod 755 run.sh; ln -sf /etc/passwd latest; \
                 echo mine > secret; chmod 600 secret; rm gone.txt";
    sandbox.bash("ubuntu", there);
    let apply = sandbox.provision("root", ["apply", PLAN, "--yes"]).run().exits(0);
    let id = printed(&apply).rsplit(' ').next().unwrap().to_owned();
    let before = Snapshot::take(&sandbox, CHECKOUT, &[]);
    let restore = |user: &str, to: &str| sandbox.provision(user, ["rescue", "restore", PLAN, &id, "--to", to]).run();
    // The step's user writes it, whoever asks.
    for (user, to) in [("ubuntu", "copies"), ("root", "/home/ubuntu/other")] {
        let outcome = restore(user, to).exits(0);
        let copies = if user == "root" { "other" } else { "copies" };
        assert!(outcome.stdout.contains(&format!("written   /home/ubuntu/{copies}/{DAG}")), "{outcome}");
        assert!(outcome.stdout.contains("deleted   gone.txt") && outcome.stdout.contains("is kept"), "{outcome}");
        assert_eq!(sandbox.bash("ubuntu", &format!("cat {copies}/{DAG} {copies}/secret")), "hot fix\nmine\n");
        assert_eq!(
            sandbox.bash("ubuntu", &format!("readlink {copies}/latest; {copies}/run.sh || true")),
            "/etc/passwd\n"
        );
        let modes = format!("cd {copies}; stat -c '%a %U' . airflow_poc run.sh secret {DAG}");
        assert_eq!(sandbox.bash("ubuntu", &modes), "700 ubuntu\n700 ubuntu\n700 ubuntu\n600 ubuntu\n600 ubuntu\n");
    }
    assert_eq!(before.difference(&Snapshot::take(&sandbox, CHECKOUT, &[])), "");
    for (to, expected) in
        [("copies", "it already exists"), ("/nowhere/x", "its parent directory"), ("/srv/x", "permission denied")]
    {
        let outcome = restore("ubuntu", to).exits(1);
        assert!(outcome.stderr.contains(expected), "{outcome}");
    }
}

/// The restored state neither removes the password from the file nor publishes it.
#[test]
fn files_written_by_other_steps_are_neither_moved_nor_committed() {
    let mut sandbox = Sandbox::converged();
    let file = "airflow_poc/docker-compose.yml";
    let committed = sandbox.git(&format!("show HEAD:{file}"));
    sandbox.commit(file, &format!("{committed}# newer\n"));
    let before = sandbox.read(&format!("{CHECKOUT}/{file}"));
    let apply = sandbox.provision("ubuntu", ["apply", PLAN, "--yes"]).run().exits(0);
    let printed = printed(&apply);
    let words: Vec<&str> = printed.split(' ').skip(1).collect();
    for with_the_password in [true, false] {
        if !with_the_password {
            sandbox.set_env("ALERT_SMTP_PASSWORD", "");
        }
        let outcome = sandbox.provision("ubuntu", words.iter().copied()).run().exits(1);
        let hint = &outcome.stderr;
        assert!(hint.contains("the step smtp-password manages it"), "{outcome}");
        assert!(!hint.contains("commit") && !hint.contains("mv "), "{outcome}");
        let command = hint.split('`').nth(1).unwrap();
        assert_eq!(sandbox.bash("ubuntu", command), before, "{outcome}");
    }
}

#[test]
fn a_rescue_is_restored_completely_or_not_at_all() {
    let sandbox = in_the_way();
    sandbox.commit("README.md", "# new\n");
    sandbox.write(&format!("{CHECKOUT}/README.md"), "ubuntu", "# mine\n");
    sandbox.provision("ubuntu", ["apply", PLAN, "--yes"]).run().exits(0);
    let id = sandbox.rescues()[0].rsplit('/').next().unwrap().to_owned();
    let restore = || sandbox.provision("ubuntu", ["rescue", "restore", PLAN, &id]).run();
    sandbox.bash("root", &format!("chmod 555 {CHECKOUT}/airflow_poc/dags"));
    let outcome = restore().exits(1);
    assert!(outcome.stderr.contains("nothing was restored: files in"), "{outcome}");
    for (file, content) in [("README.md", "# new\n"), (DAG, "LAG_LIMIT_MINUTES = 60\n")] {
        assert_eq!(sandbox.read(&format!("{CHECKOUT}/{file}")), content);
    }
    sandbox.bash("root", &format!("chmod 755 {CHECKOUT}/airflow_poc/dags"));
    restore().exits(0);
    for (file, content) in [("README.md", "# mine\n"), (DAG, "hot fix\n")] {
        assert_eq!(sandbox.read(&format!("{CHECKOUT}/{file}")), content);
    }
}

/// All types of local changes: staged, deleted, replaced by a link, or ignored and in the way of a new file.
#[test]
fn every_kind_of_local_change_is_restored() {
    let sandbox = Sandbox::converged();
    for (file, content) in [(DAG, "LAG_LIMIT_MINUTES = 60\n"), ("README.md", "# new\n"), (NEW, "LATE = True\n")] {
        sandbox.commit(file, content);
    }
    sandbox.commit("airflow_poc/dags/alerts.py", "ALERTS = []\n");
    sandbox.bash(
        "ubuntu",
        &format!(
            "cd {CHECKOUT}; echo {NEW} >> .git/info/exclude; echo ignored > {NEW}
            echo staged > {DAG}; git add {DAG}; echo 'and changed' > {DAG}
            ln -sf elsewhere README.md; git rm -q airflow_poc/dags/alerts.py; chmod 755 airflow_poc/docs/operations.md"
        ),
    );
    let status = "status --porcelain=v1 --untracked-files=all --ignored=matching -- . :!airflow_poc/logs";
    let (before, seen) = (sandbox.git(status), work(&sandbox));
    assert_eq!(before.lines().count(), 7, "{before}");
    let apply = sandbox.provision("ubuntu", ["apply", PLAN, "--yes"]).run().exits(0);
    assert_eq!(sandbox.read(&format!("{CHECKOUT}/{NEW}")), "LATE = True\n");
    assert_eq!(
        sandbox.git("status --porcelain=v1"),
        " M airflow_poc/docker-compose.yml\n M airflow_poc/docs/operations.md\n"
    );
    sandbox.bash("ubuntu", &printed(&apply).replace("provision rescue", &format!("{PROVISION} rescue")));
    assert_eq!(work(&sandbox), seen);
    // The ignored file is tracked by now.
    let after = sandbox.git(status);
    assert_eq!(after.replace(&format!(" M {NEW}\n"), ""), before.replace(&format!("!! {NEW}\n"), ""));
    let again = sandbox.provision("ubuntu", ["plan", PLAN]).run().exits(0);
    assert!(again.stdout.contains("Nothing to change"), "{again}");
}

/// Returns the files that the test has changed, as a person sees them.
fn work(sandbox: &Sandbox) -> String {
    let script = format!(
        "cd {CHECKOUT}; git show :{DAG}; cat {DAG} {NEW}; readlink README.md; ls airflow_poc/dags; stat -c %a airflow_poc/docs/*"
    );
    sandbox.bash("ubuntu", &script)
}

/// Returns the restore command that an apply printed.
fn printed(apply: &Outcome) -> String {
    let line = apply.stdout.lines().find(|line| line.contains("provision rescue restore"));
    let line = line.unwrap_or_else(|| panic!("how to get it back\n{apply}"));
    line[line.find("provision rescue").unwrap()..].to_owned()
}

#[test]
fn the_printed_command_restores_the_work() {
    let mut sandbox = Sandbox::new().remote();
    sandbox.unset_var("repo_url");
    sandbox.write(
        "/home/ubuntu/a plan.yaml",
        "ubuntu",
        "name: elsewhere
vars: { d: null, token_url: \"{{ env_var('APP_URL') }}\", branch: main, unused: '1' }
steps:
  - id: app
    repository: { path: '{{ d }}', url: '{{ token_url }}', branch: '{{ branch }}' }
",
    );
    sandbox.commit(DAG, "LAG_LIMIT_MINUTES = 50\n");
    sandbox.bash("ubuntu", &format!("git clone -q -b jasleen_qa {BARE} \"it's here\""));
    sandbox.commit(DAG, "LAG_LIMIT_MINUTES = 60\n");
    let file = format!("/home/ubuntu/it's here/{DAG}");
    sandbox.bash("ubuntu", &format!("echo hot fix > \"{file}\""));
    let url = format!("token_url={BARE}");
    let mut apply = sandbox.provision("ubuntu", ["apply", "a plan.yaml", "--yes"]);
    for variable in ["d=/home/ubuntu/it's here", &url, "branch=jasleen_qa", "unused=2"] {
        apply = apply.args(["--var", variable]);
    }
    let apply = apply.run().exits(0);
    assert_eq!(sandbox.read(&file), "LAG_LIMIT_MINUTES = 60\n");
    let printed = printed(&apply);
    // The arguments identify the checkout. The value of a variable that may be secret is left to be filled in.
    assert!(printed.ends_with(" --var d='/home/ubuntu/it'\\''s here' --var token_url=…"), "{printed}");
    let command = printed.replace("provision rescue", &format!("{PROVISION} rescue")).replace('…', BARE);
    sandbox.bash("ubuntu", &command);
    assert_eq!(sandbox.read(&file), "hot fix\n");
}

#[test]
fn no_rescue_is_made_without_conflicts() {
    let sandbox = Sandbox::converged();
    sandbox.commit(DAG, "LAG_LIMIT_MINUTES = 60\n");
    sandbox.write(&format!("{CHECKOUT}/airflow_poc/dags/notes.txt"), "ubuntu", "mine\n");
    sandbox.apply("ubuntu").exits(0);
    assert_eq!(sandbox.rescues(), Vec::<String>::new());
    assert_eq!(sandbox.read(&format!("{CHECKOUT}/airflow_poc/dags/notes.txt")), "mine\n");
    let list = sandbox.provision("ubuntu", ["rescue", "list", PLAN]).run().exits(0);
    assert_eq!(list.stdout, "no rescues\n", "{list}");
}

#[test]
fn unpushed_commits_are_refused_and_stay() {
    let sandbox = Sandbox::converged();
    sandbox.commit(DAG, "LAG_LIMIT_MINUTES = 60\n");
    sandbox.git("commit -q --allow-empty -m 'only here'");
    let head = sandbox.git("rev-parse HEAD");
    let apply = sandbox.apply("ubuntu").exits(1);
    let step = apply.step("step_planned", "repository");
    assert_eq!(step["outcome"], "blocked", "{apply}");
    assert!(step["hint"].is_string(), "{step}");
    assert_eq!(sandbox.git("rev-parse HEAD"), head);
}

/// The printed command restores rescued commits unchanged.
#[test]
fn the_printed_command_restores_rescued_commits() {
    let sandbox = Sandbox::converged();
    sandbox.commit(DAG, "LAG_LIMIT_MINUTES = 60\n");
    sandbox.git("commit -q --allow-empty -m 'only here'");
    let head = sandbox.git("rev-parse HEAD");
    let plan = sandbox.read(PLAN);
    let branch = plan.lines().find(|line| line.trim_start().starts_with("branch:")).unwrap();
    let indent = &branch[..branch.len() - branch.trim_start().len()];
    let with = format!("{branch}\n{indent}local_commits: rescue_and_reset");
    sandbox.write(PLAN, "ubuntu", plan.replacen(branch, &with, 1));
    let apply = sandbox.provision("ubuntu", ["apply", PLAN, "--yes"]).run().exits(0);
    let all = apply.all();
    assert!(!all.contains("rescue restore"), "{apply}");
    let command = all.split("to restore what was moved out of the way: ").nth(1).unwrap().lines().next().unwrap();
    let rest = command.strip_prefix(&format!("git -C {CHECKOUT} ")).unwrap_or_else(|| panic!("{command}"));
    sandbox.git(rest);
    let name = rest.split(' ').nth(1).unwrap();
    assert_eq!(sandbox.git(&format!("rev-parse {name}")), head);
}

/// The rescued file contains escape sequences, a carriage return, invalid UTF-8 and right-to-left text.
#[test]
fn a_rescue_is_shown_byte_for_byte_on_a_pipe_and_escaped_on_a_terminal() {
    let sandbox = Sandbox::converged();
    sandbox.commit(DAG, "committed\n");
    sandbox.bash(
        "ubuntu",
        &format!("printf 'red: \\033[31mRED\\033[0m \\033]0;PWNED\\007\\r \\377 \\342\\200\\256end\\n' >{CHECKOUT}/{DAG}; cp {CHECKOUT}/{DAG} kept"),
    );
    let outcome =
        sandbox.provision("ubuntu", ["apply", PLAN, "--json", "--yes", "--only", "repository"]).run().exits(0);
    let id = outcome.step("step_finished", "repository")["rescues"][0].as_str().unwrap().to_owned();
    let show = ["rescue", "show", PLAN, &id];
    let written =
        sandbox.provision("ubuntu", ["rescue", "show"]).on_terminal(200, &format!("\"$@\" {PLAN} {id} >fix.patch"));
    assert_eq!(written.wait().0, 0);
    sandbox.bash("ubuntu", &format!("sed -n 's/^+red/red/p' fix.patch | cmp - kept; mkdir -p base/airflow_poc/dags; cd base; git init -q; git -C {CHECKOUT} show HEAD~1:{DAG} >{DAG}; git apply ../fix.patch; cmp {DAG} ../kept"));
    let shown = sandbox.provision("ubuntu", show).on_terminal(200, "exec \"$@\"");
    let (code, seen) = shown.wait();
    assert_eq!(code, 0, "{seen}");
    assert!(seen.contains("red: \\x1b[31mRED\\x1b[0m \\x1b]0;PWNED\\x07\\x0d \\xff \\xe2\\x80\\xaeend"), "{seen}");
    assert!(!seen.contains('\u{1b}') && !seen.contains('\u{202e}'), "{seen:?}");
}

#[test]
fn a_rescue_of_a_checkout_is_restored_after_its_step_was_removed() {
    let sandbox = in_the_way();
    let apply = sandbox.provision("ubuntu", ["apply", PLAN, "--yes"]).run().exits(0);
    let command = printed(&apply).replace("provision rescue", &format!("{PROVISION} rescue"));
    let id = command.rsplit(' ').next().unwrap();
    for steps in [
        "{ id: other, directory: { path: /home/ubuntu/other } }",
        "{ id: repository, repository: { path: /home/ubuntu/moved, url: /srv/git/moved.git, branch: main } }",
    ] {
        sandbox.write(PLAN, "ubuntu", format!("name: order-tracking\nsteps:\n  - {steps}\n"));
        let list = sandbox.provision("ubuntu", ["rescue", "list", PLAN]).run().exits(0);
        assert_eq!(list.stdout.matches(id).count(), 1, "{list}");
        sandbox.git("checkout -q -- .");
        sandbox.bash("ubuntu", &command);
        assert_eq!(sandbox.read(&format!("{CHECKOUT}/{DAG}")), "hot fix\n", "{steps}");
    }
}

/// The rescues of a checkout go with it to another user, with the private files, and `run_as` of the step with them.
#[test]
fn rescues_follow_a_checkout_to_another_owner() {
    let sandbox = in_the_way();
    sandbox.bash("ubuntu", &format!("chmod 600 {CHECKOUT}/{NEW}"));
    let apply = sandbox.provision("root", ["apply", PLAN, "--yes"]).run().exits(0);
    let id = printed(&apply).rsplit(' ').next().unwrap().to_owned();
    let tree = "/home/ubuntu/tree.yaml";
    sandbox.bash("root", "chmod o+x /home/ubuntu /home/ubuntu/etl /home/ubuntu/etl/etl_dw");
    let step = "dir_mode: \"u=rwx,go=rX\", file_mode: \"u=rwX,go=rX\"";
    let step = format!("{{ path: {CHECKOUT}, owner: mallory, recursive: true, {step} }}");
    sandbox.write(tree, "root", format!("name: t\nsteps:\n  - {{ id: t, directory: {step} }}\n"));
    let given = sandbox.bash("root", &format!("{PROVISION} apply {tree} --yes"));
    assert!(given.contains(".git/provision-private"), "{given}");
    let private =
        format!("cd {CHECKOUT}/.git; stat -c '%U %a' provision-private; find provision-private -perm /077 | wc -l");
    assert_eq!(sandbox.bash("root", &private), "mallory 700\n0\n");
    let edited = sandbox.read(PLAN).replace("operator: ubuntu ", "operator: mallory ");
    sandbox.write(PLAN, "root", &edited);
    for command in [["rescue", "list", PLAN, ""], ["rescue", "show", PLAN, &id]] {
        let args = command.into_iter().filter(|word| !word.is_empty());
        let outcome = sandbox.provision("root", args).run().exits(0);
        assert!(outcome.stdout.contains(NEW) && outcome.stderr.is_empty(), "{outcome}");
    }
    let unknown = sandbox.provision("root", ["rescue", "show", PLAN, "nope"]).run().exits(1);
    assert!(unknown.stderr.contains("no such rescue: nope") && !unknown.stderr.contains("run_as"), "{unknown}");
    // If somebody else has the folder, the remedy is the one that helps.
    sandbox.bash("root", &format!("chown -R root: {CHECKOUT}/.git/provision-private"));
    let listed = sandbox.provision("root", ["rescue", "list", PLAN]).run().exits(1);
    let message = listed.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        message.contains(".git/provision-private belongs to root") && !message.contains("accessible to others"),
        "{listed}"
    );
    let remedy = message.split('`').find(|part| part.contains("chown")).unwrap_or_else(|| panic!("{listed}"));
    sandbox.bash("root", &remedy.replace("sudo ", ""));
    sandbox.provision("root", ["rescue", "show", PLAN, &id]).run().exits(0);
}
