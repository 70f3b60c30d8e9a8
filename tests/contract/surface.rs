//! The command line apart from plan and apply: formats, show, validate, history, and errors for wrong words.

use serde_json::Value;

use crate::sandbox::{Outcome, PLAN, Sandbox, Snapshot};

const TWO: &str = "
name: small
steps:
  - id: one
    title: The <first> directory
    directory: { path: /home/ubuntu/one, mode: \"0750\" }
  - id: two
    after: one
    directory: { path: /home/ubuntu/two, mode: \"0750\" }
";

fn small() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("/home/ubuntu/provision.yaml", "ubuntu", TWO);
    sandbox
}

fn run(sandbox: &Sandbox, args: &[&str]) -> Outcome {
    sandbox.provision("ubuntu", args.iter().copied()).run()
}

fn lines(outcome: &Outcome) -> Vec<Value> {
    outcome.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Asserts that the messages are in order on standard error, and that the exit code is 1.
#[track_caller]
fn refuses(sandbox: &Sandbox, args: &[&str], expected: &[&str]) {
    let outcome = run(sandbox, args).exits(1);
    for expected in expected {
        assert!(outcome.stderr.contains(expected), "{expected:?} is missing\n{outcome}");
    }
}

#[test]
fn runs_are_printed_in_the_requested_format() {
    let sandbox = small();
    let json = run(&sandbox, &["plan", "--format", "json"]).exits(0);
    assert_eq!(json.events().len(), run(&sandbox, &["plan", "--json"]).events().len());
    let human = run(&sandbox, &["plan", "--format", "human"]).exits(0).stdout;
    assert_eq!(human, run(&sandbox, &["plan"]).stdout);
    refuses(&sandbox, &["plan", "--json", "--format", "human"], &["--json"]);
    refuses(&sandbox, &["plan", "--format", "yaml"], &["markdown"]);
    let markdown = run(&sandbox, &["plan", "--format", "markdown"]).exits(0).stdout;
    assert!(markdown.starts_with("<!-- provision:small:throwaway -->\n"), "{markdown}");
    for part in [
        "**Plan: 2 to change**",
        "| <code>one</code> | directory | to change | The &#60;first&#62; directory |",
        "| <code>two</code> | directory | to change (provisional: after one) | /home/ubuntu/two: create the directory with mode 0750 |",
        "```diff\n+ /home/ubuntu/one: create the directory",
    ] {
        assert!(markdown.contains(part), "{part:?} was to be read\n{markdown}");
    }
    let applied = run(&sandbox, &["apply", "--yes", "--format", "markdown"]).exits(0).stdout;
    assert!(applied.contains("**Apply: 2 changed**"), "{applied}");
    let again = run(&sandbox, &["plan", "--format", "markdown"]).exits(0).stdout;
    assert!(again.contains("nothing to change: 2 in order") && !again.contains('|'), "{again}");
}

#[test]
fn show_prints_a_saved_plan_without_applying_it() {
    let sandbox = small();
    let planned = run(&sandbox, &["plan", "--json", "--out", "saved"]).exits(0);
    let before = Snapshot::whole(&sandbox);
    let shown = run(&sandbox, &["show", "saved", "--json"]).exits(0);
    before.is_same_as(&Snapshot::whole(&sandbox), "nothing was changed");
    assert_eq!(shown.events()[0]["command"], "show");
    assert_eq!(shown.events()[0]["saved"], planned.events()[0]["run"]);
    assert_eq!(shown.events_of("step_planned"), planned.events_of("step_planned"));
    assert_eq!(shown.events_of("run_finished")[0]["counts"], planned.events_of("run_finished")[0]["counts"]);
    let human = run(&sandbox, &["show", "saved"]).exits(0);
    assert!(human.stdout.contains("/home/ubuntu/two"), "{human}");
    run(&sandbox, &["show", "saved", "--format", "markdown"]).exits(0);
    sandbox.provision("ubuntu", ["apply", "saved", "--yes"]).run().exits(0);
    let used = run(&sandbox, &["show", "saved"]).exits(0);
    assert!(used.stderr.contains("already applied"), "{used}");
    refuses(&sandbox, &["show", "provision.yaml"], &["provision.yaml", "is not a saved plan", "provision plan"]);
    refuses(&sandbox, &["show", "nowhere"], &["nowhere", "does not exist"]);
    sandbox.bash("ubuntu", "chmod 644 saved");
    refuses(&sandbox, &["show", "saved"], &["mode"]);
}

#[test]
fn validate_checks_all_given_files() {
    let sandbox = small();
    sandbox.write("/home/ubuntu/wrong.yaml", "ubuntu", TWO.replace("directory:", "diretory:"));
    let args = ["validate", "wrong.yaml", "provision.yaml", "nowhere.yaml", PLAN];
    let human = run(&sandbox, &args).exits(1);
    assert_eq!(human.stdout, format!("provision.yaml: valid (2 steps)\n{PLAN}: valid (6 steps)\n"));
    assert!(human.stderr.contains("wrong.yaml:6:5") && human.stderr.contains("nowhere.yaml"), "{human}");
    let json = run(&sandbox, &[&args[..], &["--format", "json"]].concat()).exits(1);
    let lines = lines(&json);
    assert_eq!(lines.len(), 4, "{json}");
    let valid: Vec<_> = lines.iter().map(|line| line["valid"].as_bool().unwrap()).collect();
    assert_eq!(valid, [false, true, false, true]);
    let problem = &lines[0]["problems"][0];
    assert_eq!((&problem["line"], &problem["column"]), (&6.into(), &5.into()), "{problem}");
    assert!(problem["help"].as_str().unwrap().contains("`directory`"), "{problem}");
    assert_eq!((&lines[1]["steps"], &lines[1]["file"]), (&2.into(), &"provision.yaml".into()));
    run(&sandbox, &["validate", "--json"]).exits(0);
}

#[test]
fn validate_remarks_on_what_is_probably_not_intended() {
    let sandbox = small();
    let series = "tables: [{ name: 's.h_{period}', like: s.m }]";
    let step = format!("period_tables: {{ connection: w, every: month, from: current, warn_days: 31, {series} }}");
    let text =
        format!("name: p\nconnections: {{ w: {{ url: 'postgresql://u@h/d' }} }}\nsteps:\n  - id: t\n    {step}\n");
    sandbox.write("/home/ubuntu/series.yaml", "ubuntu", text);
    let human = run(&sandbox, &["validate", "series.yaml"]).exits(0);
    let remark =
        "`warn_days`: warns every day: with `ahead: 0`, the first month without a table always begins within 31 days";
    assert_eq!(human.stdout, format!("series.yaml: valid (1 step)\nnote: {remark}\n --> series.yaml:5:77\n"));
    let json = run(&sandbox, &["validate", "series.yaml", "--json"]).exits(0);
    let [line] = lines(&json).try_into().unwrap();
    assert_eq!((&line["valid"], &line["problems"]), (&true.into(), &serde_json::json!([])), "{json}");
    assert_eq!((&line["remarks"][0]["message"], &line["remarks"][0]["line"]), (&remark.into(), &5.into()), "{json}");
    let github = run(&sandbox, &["validate", "series.yaml", "--format", "github"]).exits(0);
    assert!(github.stdout.starts_with("::warning file=series.yaml,line=5,col=77::`warn_days`"), "{github}");
}

#[test]
fn mistakes_are_annotations_for_github_and_gitlab() {
    let sandbox = small();
    sandbox.write("/home/ubuntu/wrong.yaml", "ubuntu", TWO.replace("directory:", "diretory:"));
    let github = run(&sandbox, &["validate", "wrong.yaml", "provision.yaml", "--format", "github"]).exits(1);
    let first = github.stdout.lines().next().unwrap();
    assert!(first.starts_with("::error file=wrong.yaml,line=6,col=5::unknown key `diretory`"), "{github}");
    assert!(first.contains("%0Ahint: did you mean `directory`?"), "{github}");
    let gitlab =
        run(&sandbox, &["validate", "wrong.yaml", "nowhere.yaml", "provision.yaml", "--format", "gitlab"]).exits(1);
    let issues: Value = serde_json::from_str(&gitlab.stdout).unwrap();
    let place = |path: &str, line: u32| serde_json::json!({ "path": path, "lines": { "begin": line } });
    assert_eq!((&issues[0]["location"], &issues[2]["location"]), (&place("wrong.yaml", 6), &place("nowhere.yaml", 1)));
    let fine = run(&sandbox, &["validate", "provision.yaml", "--format", "gitlab"]).exits(0);
    assert_eq!(fine.stdout, "[]\n");
    // A run that fails is annotated, too.
    sandbox.bash("ubuntu", "touch one");
    let plan = run(&sandbox, &["plan", "--format", "github"]).exits(1);
    assert!(
        plan.stdout.contains("::error file=provision.yaml::one: ") && plan.stdout.contains("Plan: 2 steps blocked"),
        "{plan}"
    );
}

#[test]
fn history_lists_the_newest_runs_up_to_the_limit() {
    let sandbox = small();
    for mode in ["0700", "0750", "0755"] {
        sandbox.write("/home/ubuntu/provision.yaml", "ubuntu", TWO.replace("0750", mode));
        run(&sandbox, &["apply", "--yes"]).exits(0);
        sandbox.bash("ubuntu", "sleep 1");
    }
    let all = lines(&run(&sandbox, &["history", "--json"]).exits(0));
    let started: Vec<_> = all.iter().map(|run| run["started"].as_str().unwrap().to_owned()).collect();
    assert!(started.len() == 3 && started.is_sorted_by(|one, other| one > other), "{started:?}");
    let two = lines(&run(&sandbox, &["history", "--json", "--limit", "2"]).exits(0));
    assert_eq!(two, all[..2]);
    let one = run(&sandbox, &["history", "--limit", "1"]).exits(0).stdout;
    assert_eq!(one.lines().filter(|line| line.starts_with("20")).count(), 1, "{one}");
    refuses(&sandbox, &["history", "--limit", "0"], &["--limit"]);
}

#[test]
fn usage_lines_list_the_arguments() {
    let sandbox = Sandbox::new();
    for (command, usage) in [
        (&["explain"][..], "explain [OPTIONS] [FILE] [ID]\n"),
        (&["history"], "history [OPTIONS] [FILE] [RUN]\n"),
        (&["rescue", "restore"], "rescue restore [OPTIONS] [FILE] [ID]\n"),
        (&["show"], "show [OPTIONS] <SAVED>\n"),
        (&["adopt"], "adopt [OPTIONS] [PATH]...\n"),
        (&["validate"], "validate [OPTIONS] [FILE]...\n"),
        (&["apply"], "apply [OPTIONS] [FILE|SAVED]\n"),
    ] {
        let help = run(&sandbox, &[command, &["--help"]].concat()).exits(0).stdout;
        assert!(help.contains(usage), "{usage:?}\n{help}");
    }
}

#[test]
fn a_step_id_in_place_of_a_file_is_reported() {
    let sandbox = small();
    let expected = ["`two` is a step of provision.yaml", "--only one,two"];
    refuses(&sandbox, &["plan", "--only", "one", "two"], &expected);
    refuses(&sandbox, &["apply", "two", "--yes"], &["`two` is a step of provision.yaml", "--only two"]);
    refuses(&sandbox, &["plan", "three"], &["three", "does not exist"]);
    let one = run(&sandbox, &["explain", "one", "provision.yaml"]).exits(0).stdout;
    assert_eq!(one, run(&sandbox, &["explain", "provision.yaml", "one"]).exits(0).stdout);
}

#[test]
fn missing_and_unreadable_plan_files_are_reported() {
    let sandbox = Sandbox::new();
    sandbox.write("/home/ubuntu/provision.yml", "ubuntu", TWO);
    run(&sandbox, &["plan"]).exits(0);
    sandbox.bash("ubuntu", "cp provision.yml provision.yaml");
    refuses(&sandbox, &["plan"], &["provision.yaml, provision.yml"]);
    sandbox.bash("ubuntu", "rm provision.yaml; mv provision.yml Provision.YAML");
    refuses(&sandbox, &["plan"], &["provision plan Provision.YAML"]);
    sandbox.bash("ubuntu", "mkdir plans; mv Provision.YAML plans/one.yml");
    run(&sandbox, &["plan"]).exits(0);
    sandbox.bash("ubuntu", "cp plans/one.yml plans/two.yaml");
    refuses(&sandbox, &["plan"], &["plans/one.yml", "plans/two.yaml"]);
    sandbox.bash("ubuntu", "chmod 000 plans/one.yml");
    refuses(&sandbox, &["plan", "plans/one.yml"], &["permission denied", "chmod u+r plans/one.yml"]);
    sandbox.write("/root/plan.yaml", "root", TWO);
    refuses(
        &sandbox,
        &["plan", "/root/plan.yaml"],
        &["permission denied", "sudo cat /root/plan.yaml | provision plan -"],
    );
    let piped = sandbox.command(
        "ubuntu",
        ["bash", "-c", "PATH=/opt/provision/bin:$PATH; sudo cat /root/plan.yaml | provision plan -"],
    );
    piped.run().exits(0);
    refuses(&sandbox, &["plan", "plans"], &["directory"]);
    sandbox.bash("ubuntu", "chmod 000 plans");
    refuses(&sandbox, &["plan"], &["plans", "permission denied"]);
    sandbox.bash("ubuntu", "chmod 755 plans; ln -s nowhere.yaml provision.yaml");
    refuses(&sandbox, &["plan"], &["provision.yaml", "does not exist"]);
}

#[test]
fn unknown_words_on_the_command_line_get_a_tip() {
    let sandbox = small();
    refuses(&sandbox, &["plan", "--as-of", "2027-02-30"], &["there is no 30 February"]);
    for args in [&["plan", "--dry-run"][..], &["apply", "--check"]] {
        let outcome = run(&sandbox, args).exits(1);
        assert!(outcome.stderr.contains("`provision plan` is the dry run"), "{outcome}");
        assert!(!outcome.stderr.contains("as a value"), "{outcome}");
    }
    let destroy = run(&sandbox, &["destroy"]).exits(1);
    assert!(!destroy.stderr.contains("history"), "{destroy}");
}

#[test]
fn completions_and_manual_pages_know_every_command() {
    let sandbox = Sandbox::new();
    for (shell, check) in
        [("bash", "bash -n"), ("zsh", "cat"), ("fish", "cat"), ("elvish", "cat"), ("powershell", "cat")]
    {
        let script = run(&sandbox, &["completions", shell]).exits(0).stdout;
        assert!(script.contains("detailed-exitcode") && !script.contains("worker"), "{shell}");
        sandbox.write("/home/ubuntu/script", "ubuntu", &script);
        sandbox.bash("ubuntu", &format!("{check} script > /dev/null"));
    }
    let complete = "source ./script; COMP_WORDS=(provision va); COMP_CWORD=1; _provision provision va provision; echo ${COMPREPLY[@]}";
    let bash = run(&sandbox, &["completions", "bash"]).stdout;
    sandbox.write("/home/ubuntu/script", "ubuntu", bash);
    assert_eq!(sandbox.bash("ubuntu", complete), "validate\n");
    refuses(&sandbox, &["completions", "tcsh"], &["bash"]);

    let page = run(&sandbox, &["man"]).exits(0).stdout;
    assert!(page.contains(".TH provision 1") && page.contains("provision\\-plan(1)"), "{page}");
    assert!(
        page.contains(".SH EXIT STATUS") && page.contains("\\-\\-detailed\\-exitcode: there are changes"),
        "{page}"
    );
    run(&sandbox, &["man", "--out", "pages"]).exits(0);
    let pages = sandbox.bash("ubuntu", "ls pages");
    for name in ["provision.1", "provision-plan.1", "provision-rescue-restore.1", "provision-completions.1"] {
        assert!(pages.lines().any(|page| page == name), "{name}\n{pages}");
    }
    assert!(!pages.contains("worker"), "{pages}");
    let warnings = "for page in pages/*; do LC_ALL=C.UTF-8 groff -man -Tutf8 -ww -z $page; done 2>&1 | grep -v 'macro file' || true";
    assert_eq!(sandbox.bash("ubuntu", warnings), "");
    refuses(&sandbox, &["man", "--out", "script/x"], &["script/x"]);
}

#[test]
fn completions_know_plan_files_and_steps_with_their_titles() {
    let sandbox = small();
    sandbox.write("/home/ubuntu/notes.txt", "ubuntu", "");
    sandbox.write(
        "/home/ubuntu/other.yaml",
        "ubuntu",
        TWO.replace("id: one", "id: elsewhere").replace("after: one", ""),
    );
    let complete = |words: &[&str]| {
        let asked = [&["--", "provision"], words].concat();
        sandbox.provision("ubuntu", asked).env("PROVISION_COMPLETE", "fish").run().exits(0).stdout
    };
    assert_eq!(complete(&["plan", "--only", "o"]), "one\tThe <first> directory\n");
    assert_eq!(complete(&["plan", "--only", "one,t"]), "one,two\n");
    assert_eq!(complete(&["plan", "other.yaml", "--skip", "e"]), "elsewhere\tThe <first> directory\n");
    assert_eq!(complete(&["explain", "per"]).lines().next(), Some("period_tables\tthe keys of it"));
    let files = complete(&["validate", ""]);
    assert!(files.contains("other.yaml") && files.contains("provision.yaml") && !files.contains("notes"), "{files}");
    // Without a valid plan file there is nothing to offer, and no message.
    sandbox.write("/home/ubuntu/provision.yaml", "ubuntu", "steps: [");
    assert_eq!(complete(&["plan", "--only", "o"]), "");
    // bash, with the script that is printed.
    sandbox.write("/home/ubuntu/provision.yaml", "ubuntu", TWO);
    for shell in ["bash", "zsh", "fish"] {
        let script = run(&sandbox, &["completions", "--dynamic", shell]).exits(0).stdout;
        assert!(script.contains("PROVISION_COMPLETE"), "{script}");
    }
    sandbox.write("/home/ubuntu/script", "ubuntu", run(&sandbox, &["completions", "--dynamic", "bash"]).stdout);
    let typed = "PATH=/opt/provision/bin:$PATH; source ./script; COMP_WORDS=(provision plan --only t); COMP_CWORD=3; COMP_TYPE=9;
        _clap_complete_provision provision t --only; echo ${COMPREPLY[@]}";
    assert_eq!(sandbox.bash("ubuntu", typed), "two\n");
}

#[test]
fn a_plan_file_in_another_encoding_is_reported_with_its_position() {
    let sandbox = small();
    let latin: Vec<u8> = TWO.replace("The <first>", "Für Ä").chars().map(|c| c as u8).collect();
    sandbox.write("/home/ubuntu/latin.yaml", "ubuntu", latin);
    refuses(&sandbox, &["plan", "latin.yaml"], &["line 5, column 13", "0xfc"]);
}

#[test]
fn init_prints_a_valid_plan_file_and_explain_describes_it() {
    let sandbox = Sandbox::new();
    let start = Snapshot::whole(&sandbox);
    let text = run(&sandbox, &["init"]).exits(0).stdout;
    assert!(text.starts_with("# yaml-language-server: $schema="), "{text}");
    refuses(&sandbox, &["init", "directry"], &["did you mean `directory`?"]);
    let all = ["init", "directory", "key_file", "compose_env", "repository", "table", "period_tables"];
    let all = run(&sandbox, &all).exits(0).stdout;
    let key = run(&sandbox, &["explain", "key_file.verify.ssh"]).exits(0).stdout;
    assert!(key.contains("user@host"), "{key}");
    let kind = run(&sandbox, &["explain", "directory"]).exits(0).stdout;
    assert!(kind.contains("hard_links") && kind.contains("required"), "{kind}");
    refuses(&sandbox, &["explain", "directory.ownr"], &["did you mean `owner`?"]);
    let schema: Value = serde_json::from_str(&run(&sandbox, &["schema"]).exits(0).stdout).unwrap();
    assert_eq!(schema["$schema"], "http://json-schema.org/draft-07/schema#");
    start.is_same_as(&Snapshot::whole(&sandbox), "nothing was touched");

    sandbox.write("/home/ubuntu/all.yaml", "ubuntu", all);
    run(&sandbox, &["validate", "all.yaml"]).exits(0);
    sandbox.write("/root/provision.yaml", "root", text);
    sandbox.provision("root", ["validate"]).run().exits(0);
    sandbox.provision("root", ["apply", "--yes"]).run().exits(0);
    sandbox.provision("root", ["plan", "--detailed-exitcode"]).run().exits(0);
    // A step with the name of a kind is explained as both.
    let both = sandbox.provision("root", ["explain", "directory"]).run().exits(0).stdout;
    assert!(both.contains("hard_links") && both.contains("By hand"), "{both}");
}
