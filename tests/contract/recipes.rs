//! The recipes of docs/recipes.md: the jobs and units are run or checked, and the secrets reach a file.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_yaml::Value;

use crate::documents::blocks;
use crate::sandbox::{Sandbox, tools};

fn project() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn recipes() -> String {
    std::fs::read_to_string(project().join("docs/recipes.md")).unwrap()
}

/// Returns the part of the page under a heading.
fn section(heading: &str) -> String {
    let page = recipes();
    let start = page.find(&format!("## {heading}\n")).unwrap_or_else(|| panic!("{heading} is missing"));
    let rest = &page[start + 3..];
    rest[..rest.find("\n## ").unwrap_or(rest.len())].to_owned()
}

fn yaml(text: &str) -> Value {
    serde_yaml::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// A checkout with plan files, and a program in place of ssh that runs the command on this host.
fn checkout() -> Sandbox {
    let sandbox = Sandbox::new();
    let plan = "name: shop\nsteps:\n  - { id: data, directory: { path: /srv/shop/data } }\n";
    sandbox.write("/root/plans/django.yaml", "root", plan);
    sandbox.write("/srv/plans/django.yaml", "root", plan);
    sandbox.write(
        "/opt/instead/ssh",
        "root",
        "#!/bin/bash\n[ \"$1\" = deploy@shop.example ] || exit 255\nshift\nexec bash -c \"$*\"\n",
    );
    sandbox.bash("root", "chmod 755 /opt/instead/ssh; mkdir -p /var/lib/node_exporter");
    sandbox
}

/// Runs a line as a CI system does. Returns the exit code and the output.
fn job(sandbox: &Sandbox, line: &str) -> (i32, String) {
    let script =
        format!("export PATH=/opt/instead:/opt/provision/bin:$PATH GITHUB_STEP_SUMMARY=/root/summary.md\n{line}");
    let run = sandbox.command("root", ["bash", "-e", "-c", script.as_str()]).run();
    (run.code, run.all())
}

#[test]
fn the_jobs_for_github_check_plan_and_apply() {
    let sandbox = checkout();
    let section = section("GitHub Actions");
    let blocks = blocks(&section, "yaml");
    let steps = |value: &Value| -> Vec<String> {
        let steps = value.as_sequence().unwrap().iter();
        steps.filter_map(|step| step["run"].as_str()).map(str::to_owned).collect()
    };
    let check = steps(&yaml(blocks[0])["jobs"]["plan-files"]["steps"]);
    let [check] = check.as_slice() else { panic!("{check:?}") };
    assert_eq!(job(&sandbox, check).0, 0);
    sandbox.write("/root/plans/wrong.yaml", "root", "name: x\nsteps:\n  - { id: a, directry: { path: /a } }\n");
    let (code, output) = job(&sandbox, check);
    assert!(code == 1 && output.contains("::error file=plans/wrong.yaml,line=3,"), "{code} {output}");

    // The other steps, in the order of the page: a summary, a saved plan with its summary, and its apply.
    let mut runs = Vec::new();
    for block in blocks[1..].iter().map(|block| yaml(block)) {
        match block["jobs"].as_mapping() {
            Some(jobs) => runs.extend(jobs.values().flat_map(|job| steps(&job["steps"]))),
            None if block.is_sequence() => runs.extend(steps(&block)),
            None => {}
        }
    }
    assert_eq!(runs.len(), 3, "{runs:?}");
    for run in &runs {
        let (code, output) = job(&sandbox, run);
        assert_eq!(code, 0, "{run}\n{output}");
    }
    let summary = sandbox.read("/root/summary.md");
    assert!(summary.starts_with("<!-- provision:shop:throwaway -->"), "{summary}");
    assert_eq!(summary.matches("1 to change").count(), 2, "{summary}");
    assert!(sandbox.path("/srv/shop/data").exists());
}

#[test]
fn the_job_for_gitlab_writes_a_report() {
    let sandbox = checkout();
    let section = section("GitLab");
    let job_of = &yaml(blocks(&section, "yaml")[0])["plan-files"];
    let (script, report) = (job_of["script"].as_str().unwrap(), &job_of["artifacts"]["reports"]["codequality"]);
    assert_eq!(job(&sandbox, script).0, 0);
    assert_eq!(sandbox.read(&format!("/root/{}", report.as_str().unwrap())).trim(), "[]");
    sandbox.write("/root/plans/wrong.yaml", "root", "name: x\nsteps: []\n");
    assert_eq!(job(&sandbox, script).0, 1);
    let report = sandbox.read(&format!("/root/{}", report.as_str().unwrap()));
    let issues: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!(issues[0]["location"]["path"], "plans/wrong.yaml");
}

#[test]
fn the_timer_is_valid_and_its_command_writes_metrics() {
    let section = section("A timer");
    let folder = tempfile::tempdir().unwrap();
    let mut units = Vec::new();
    for (block, name) in blocks(&section, "ini").into_iter().zip(["provision-plan.service", "provision-plan.timer"]) {
        let unit = folder.path().join(name);
        std::fs::write(&unit, block.replace("/usr/local/bin/provision", env!("CARGO_BIN_EXE_provision"))).unwrap();
        units.push(unit);
    }
    assert_eq!(units.len(), 2);
    let output = Command::new("systemd-analyze").args(["verify", "--man=no"]).args(&units).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    let own: Vec<&str> = stderr.lines().filter(|line| line.contains("provision-plan")).collect();
    assert!(output.status.success() && own.is_empty(), "{stderr}");

    let sandbox = checkout();
    let command = section.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/local/bin/")).unwrap();
    let (code, output) = job(&sandbox, command);
    assert_eq!(code, 2, "{output}");
    assert!(sandbox.read("/var/lib/node_exporter/provision.prom").contains("provision_run_success"));
    // On a host that is as described, the job prints nothing.
    sandbox.provision("root", ["apply", "--yes", "/srv/plans/django.yaml"]).run().exits(0);
    assert_eq!(job(&sandbox, command), (0, String::new()));
}

/// What a program of a secret store prints, and the arguments that it gets. The stores themselves are not run.
const STORES: [(&str, &str, &str, &str); 3] = [
    ("Secrets from sops", "sops", "decrypt --extract [\"database\"] /srv/plans/secrets.yaml", "s3cret-sops"),
    (
        "Secrets from Vault",
        "vault",
        "kv get -format=json secret/shop",
        "{\"data\":{\"data\":{\"database\":\"s3cret-vault\"}}}",
    ),
    (
        "Secrets from AWS",
        "aws",
        "secretsmanager get-secret-value --secret-id shop --query SecretString --output text",
        "{\"database\":\"s3cret-aws\"}",
    ),
];

#[test]
fn secrets_reach_a_file_from_each_store() {
    let sandbox = Sandbox::new();
    let plan = |snippet: &str| {
        let step = "  - id: conf\n    file:\n      path: /etc/conf\n      content: \"{{ secret('database') }}\"\n";
        let indented: String = snippet.lines().map(|line| format!("      {line}\n")).collect();
        format!("name: shop\nsteps:\n{step}{indented}")
    };
    for (heading, program, arguments, printed) in STORES {
        let stand_in = format!("#!/bin/bash\n[ \"$*\" = '{arguments}' ] || exit 9\nprintf %s '{printed}'\n");
        sandbox.write(&format!("/opt/instead/{program}"), "root", stand_in);
        sandbox.bash("root", &format!("chmod 755 /opt/instead/{program}"));
        let section = section(heading);
        sandbox.write("/root/provision.yaml", "root", plan(blocks(&section, "yaml")[0]));
        let run = sandbox.provision("root", ["apply", "--yes"]).env("PATH", "/opt/instead:/usr/bin:/bin");
        run.run().exits(0);
        assert_eq!(sandbox.read("/etc/conf"), format!("s3cret-{program}"), "{heading}");
    }
    let section = section("Secrets from systemd credentials");
    sandbox.write("/root/provision.yaml", "root", plan(blocks(&section, "yaml")[0]));
    sandbox.write("/root/credentials/db", "root", "s3cret-systemd");
    sandbox.bash("root", "chmod 600 /root/credentials/db");
    let run = sandbox.provision("root", ["apply", "--yes"]).env("CREDENTIALS_DIRECTORY", "/root/credentials");
    run.run().exits(0);
    assert_eq!(sandbox.read("/etc/conf"), "s3cret-systemd");
}

#[test]
fn the_pre_commit_hook_stops_a_commit_with_a_wrong_plan_file() {
    let folder = tempfile::Builder::new().prefix("hook-").tempdir().unwrap();
    let (hook, user, bin) = (folder.path().join("hook"), folder.path().join("user"), folder.path().join("bin"));
    for directory in [&hook, &user.join("plans"), &bin] {
        std::fs::create_dir_all(directory).unwrap();
    }
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_provision"), bin.join("provision")).unwrap();
    std::fs::copy(project().join(".pre-commit-hooks.yaml"), hook.join(".pre-commit-hooks.yaml")).unwrap();
    let page = recipes();
    let config = blocks(&page, "yaml").into_iter().find(|block| block.starts_with("repos:")).unwrap();
    let rev = yaml(config)["repos"][0]["rev"].as_str().unwrap().to_owned();
    let url = yaml(config)["repos"][0]["repo"].as_str().unwrap().to_owned();
    std::fs::write(user.join(".pre-commit-config.yaml"), config.replace(&url, hook.to_str().unwrap())).unwrap();
    std::fs::write(user.join("plans/a.yaml"), "name: a\nsteps:\n  - { id: a, directory: { path: /a } }\n").unwrap();
    let run = |directory: &Path, line: &str| {
        let path = format!("{}:{}:/usr/bin:/bin", bin.display(), tools().join("python/bin").display());
        let mut command = Command::new("bash");
        command.args(["-ec", line]).current_dir(directory).env_clear().env("PATH", path).env("HOME", folder.path());
        command.env("PRE_COMMIT_HOME", folder.path().join("cache"));
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.success(), text)
    };
    let git = "git config --global user.email a@b; git config --global user.name a; git config --global init.defaultBranch main";
    let (done, text) = run(&hook, &format!("{git}; git init -q; git add -A; git commit -qm hook; git tag {rev}"));
    assert!(done, "{text}");
    let (done, text) = run(&user, "git init -q; git add -A; pre-commit install; git commit -qm one");
    assert!(done && text.contains("Passed"), "{text}");
    std::fs::write(user.join("plans/a.yaml"), "name: a\nsteps:\n  - { id: a, directry: { path: /a } }\n").unwrap();
    let (done, text) = run(&user, "git commit -qam two");
    assert!(!done && text.contains("unknown key `directry`") && text.contains("did you mean `directory`?"), "{text}");
}
