//! The screens in README.md and docs/screens.md are what the program prints, and their commands work. `make docs` writes them.

use std::path::Path;

use crate::sandbox::{BARE, CHECKOUT, KEY, KEY_SOURCE, PLAN, Sandbox, random_word};

/// A title, and commands with their output.
struct Screen {
    name: &'static str,
    title: &'static str,
    text: String,
}

/// Runs command lines as a person types them, on 80 columns, and returns what the terminal shows.
fn typed(sandbox: &Sandbox, lines: &[&str]) -> String {
    let mut shown = String::new();
    for line in lines {
        let script = format!("(export COLUMNS=80 PATH=/opt/provision/bin:$PATH; {line}) 2>&1");
        let run = sandbox.command("ubuntu", ["bash", "-c", script.as_str()]);
        let names = ["REDSHIFT_URL", "REDSHIFT_PASSWORD", "ALERT_SMTP_PASSWORD"];
        let run = names
            .into_iter()
            .filter(|name| sandbox.has_env(name))
            .fold(run, |run, name| run.env(name, sandbox.env_of(name)));
        let output = run.run().stdout;
        let end = if output.is_empty() { "" } else { "\n" };
        shown += &format!("$ {line}\n{}{end}", output.trim_end());
    }
    shown
}

/// Replaces the plan, which an apply shows first.
fn without_the_plan(shown: &str) -> String {
    let (command, rest) = shown.split_once('\n').unwrap();
    format!("{command}\n…\n{}", &rest[rest.find("\nPlan: ").unwrap() + 1..])
}

/// A server a few weeks after its setup: new commits, local work in their way, a new key and a new password.
fn server() -> Sandbox {
    let mut sandbox = Sandbox::order_tracking();
    let plan = sandbox.read(PLAN);
    let plan = plan
        .replace("repo_url: null ", &format!("repo_url: {BARE} "))
        .replace("key_source: null ", &format!("key_source: {KEY_SOURCE} "));
    sandbox.write("/home/ubuntu/provision.yaml", "ubuntu", plan);
    typed(&sandbox, &["provision apply --yes"]);
    let dag = "airflow_poc/dags/order_tracking.py";
    sandbox.bash("ubuntu", &format!("echo '# hot fix, straight onto the server' >> {CHECKOUT}/{dag}"));
    let committed =
        sandbox.git(&format!("show HEAD:{dag}")).replace("LAG_LIMIT_MINUTES = 45", "LAG_LIMIT_MINUTES = 60");
    sandbox.commit(dag, &committed);
    sandbox.new_key();
    sandbox.set_env("ALERT_SMTP_PASSWORD", random_word());
    sandbox
}

/// What somebody types who knows only the name of the program, and does what each message says.
fn alone() -> String {
    let sandbox = Sandbox::new();
    let text = typed(
        &sandbox,
        &[
            "provision plan",
            "provision init > provision.yaml",
            "provision plan",
            "sed -i 's/# run_as: .*/run_as: root/' provision.yaml",
            "provision plan",
            "provision apply --yes",
            "provision plan",
        ],
    );
    let hints = [
        "to start one:\n    `provision init > provision.yaml`\n",
        "hint: set run_as: root on the step",
        "Nothing to change: 1 step",
    ];
    for hint in hints {
        assert!(text.contains(hint), "{hint:?}\n{text}");
    }
    assert_eq!(sandbox.bash("ubuntu", "stat -c '%U %a %n' /srv/app/logs"), "root 755 /srv/app/logs\n");
    text
}

fn screens() -> Vec<Screen> {
    let (server, fresh) = (server(), Sandbox::new());
    fresh.write("/home/ubuntu/provision.yaml", "ubuntu", block(&document("README.md"), "```yaml\n"));
    let mistakes = "name: first\nvars: { app: /srv/app }\nsteps:\n  - id: folder\n    when: \"env == 'qa'\"\n    directry: { path: $HOME/app }\n  - id: settings\n    file: { path: \"{{ ap }}/settings.ini\", content: x, mode: 0640 }\n";
    let screens = vec![
        Screen {
            name: "server",
            title: "A server a few weeks after its setup",
            text: typed(&server, &["provision plan"]),
        },
        Screen {
            name: "applied",
            title: "The changes are made",
            text: without_the_plan(&typed(&server, &["provision apply --yes"])),
        },
        Screen { name: "again", title: "Nothing is left to change", text: typed(&server, &["provision plan"]) },
        Screen {
            name: "followed-up",
            title: "Reminders stay until they are done",
            text: typed(&server, &["provision follow-ups", "provision follow-ups --done-all"]),
        },
        Screen {
            name: "history",
            title: "What was done, and when",
            text: typed(&server, &["provision history --limit 1"]),
        },
        Screen {
            name: "first",
            title: "A first plan file",
            text: typed(&fresh, &["provision plan", "provision apply --yes", "provision plan"]),
        },
        Screen { name: "alone", title: "From nothing to a directory, with messages alone", text: alone() },
        Screen {
            name: "mistakes",
            title: "Mistakes in a plan file are reported together",
            text: {
                fresh.write("/home/ubuntu/provision.yaml", "ubuntu", mistakes);
                typed(&fresh, &["provision validate"])
            },
        },
        Screen {
            name: "command-line",
            title: "Mistakes on the command line",
            text: typed(&fresh, &["provision plan --dry-run", "provision paln", "provision explain directory.ownr"]),
        },
    ];
    screens
}

fn document(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap_or_default()
}

/// Returns the content of the first block that starts with this line.
fn block<'a>(text: &'a str, start: &str) -> &'a str {
    let begin = text.find(start).unwrap_or_else(|| panic!("{start:?} is missing")) + start.len();
    &text[begin..begin + text[begin..].find("```").unwrap()]
}

/// Replaces what differs from run to run: ids, fingerprints, times and ages.
pub(crate) fn normal(text: &str) -> String {
    let text = text.replace("just now", "1 min ago");
    let mut words = Vec::new();
    for word in text.split_whitespace() {
        let bare = word.trim_matches(|c: char| !c.is_alphanumeric());
        let is_hex = bare.len() == 8 && bare.bytes().all(|byte| byte.is_ascii_hexdigit());
        let is_time = bare.ends_with('s') && bare.trim_end_matches('s').parse::<f64>().is_ok();
        // A date, the id of a run or a time of day: a test may run at any hour.
        let is_date = bare.len() >= 8
            && (bare.starts_with("20") || bare.as_bytes()[2] == b':')
            && bare.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":-.".contains(&byte));
        words.push(if word.contains("SHA256:") || is_hex || is_time || is_date { "*" } else { word });
    }
    // Steps that do not wait for each other end in any order.
    words.sort_unstable();
    words.join(" ")
}

/// Returns a document with its screens.
fn with_screens(name: &str, screens: &[Screen]) -> String {
    let mut text = document(name);
    for screen in screens {
        let marker = format!("<!-- output of: {} -->\n```console\n", screen.name);
        let Some(at) = text.find(&marker) else { continue };
        let begin = at + marker.len();
        let end = begin + text[begin..].find("```").unwrap();
        text.replace_range(begin..end, &screen.text);
    }
    text
}

fn gallery(screens: &[Screen]) -> String {
    let mut text = "# Screens\n\nWhat the program prints on a terminal with 80 columns. A test runs these commands, and `make docs` writes this page.\n".to_owned();
    for Screen { title, text: shown, .. } in screens {
        text += &format!("\n## {title}\n\n```console\n{shown}```\n");
    }
    text
}

#[test]
fn what_differs_from_run_to_run_is_left_out_at_every_hour() {
    for varying in
        ["2026-11-29", "20:31:35Z", "09:05:00Z", "23:59:59Z,", "20261129T203135Z-17c98223", "1.25s", "17c98223"]
    {
        assert_eq!(normal(&format!("ok {varying}")), "* ok", "{varying}");
    }
    assert_eq!(normal("provision.yaml:8:23 order-tracking 12345678x"), "12345678x order-tracking provision.yaml:8:23");
}

#[test]
fn screens_in_the_documents_are_what_the_program_prints() {
    let screens = screens();
    let pages = ["README.md", "docs/guide.md"].map(|name| (name, with_screens(name, &screens)));
    for (name, text) in pages.into_iter().chain([("docs/screens.md", gallery(&screens))]) {
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join(name), &text).unwrap();
        }
        assert_eq!(normal(&document(name)), normal(&text), "run `make docs`");
    }
    let fitted = ["server", "applied", "again", "followed-up", "history", "first"];
    for screen in screens.iter().filter(|screen| fitted.contains(&screen.name)) {
        for line in screen.text.lines() {
            // Commands are not broken in the middle of a word.
            let line = line.trim_start().trim_start_matches('(');
            let is_command = line.starts_with("provision ") || line.starts_with('`') || line.contains(".yml \\");
            assert!(line.chars().count() <= 80 || is_command, "{}: {line}", screen.name);
        }
    }
}

/// Commands, lines of plan files and words that do not fit stay as they are, so that they can be copied.
#[track_caller]
fn fits(columns: usize, command: &str, text: &str) {
    for line in text.lines() {
        let is_code = line.contains(" | ") || line.trim_start().starts_with("-->") || line.contains(" \\");
        let rest = line.trim_start().trim_start_matches(['+', '-', '~']).trim_start();
        let is_command =
            ["provision ", "chattr ", "cd ", "docker ", "git ", "sudo ", "mv ", "mkdir ", "install ", "CREATE "]
                .iter()
                .any(|word| rest.starts_with(word));
        let is_word = !rest.trim_end_matches(['.', ',']).contains(' ') || rest.contains('`');
        // An example can be copied into a plan file.
        let is_name = |name: &str| name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        let is_word =
            is_word || rest.split_once(": ").is_some_and(|(key, _)| command.starts_with("explain") && is_name(key));
        let fits = line.chars().count() <= columns || is_code || is_command || is_word;
        assert!(fits, "{columns} columns, {command}: {line:?}\n{text}");
    }
}

#[test]
fn every_output_fits_the_terminal() {
    let mut sandbox = server();
    let applied = typed(&sandbox, &["provision apply --yes"]);
    fits(80, "apply", &applied);
    sandbox.bash(
        "ubuntu",
        &format!("cp provision.yaml broken.yaml; sed -i 's/^    when: .*/    whne: {}/' broken.yaml", "x".repeat(90)),
    );
    sandbox.bash("root", &format!("chown -R 50000 {CHECKOUT}/airflow_poc/logs; chattr +i {KEY} 2>/dev/null || true"));
    sandbox.new_key();
    sandbox.set_env("REDSHIFT_PASSWORD", "wrong");
    for columns in [60, 80, 100, 120] {
        for command in [
            "plan",
            "plan -v 2>/dev/null",
            "history",
            "history 20",
            "follow-ups",
            "rescue list",
            "explain repository",
            "explain directory",
            "explain key_file.verify",
            "validate broken.yaml",
            "plan --only nosuchstep",
            "plan /root/provision.yaml",
            "show provision.yaml",
            "rescue show nosuchrescue",
        ] {
            let line = format!("COLUMNS={columns} provision {command}");
            let shown = typed(&sandbox, &[line.as_str()]);
            // Commands to type by hand are not broken.
            let shown = shown.split_once('\n').unwrap().1.split("\n  By hand\n").next().unwrap();
            fits(columns, command, shown);
        }
    }
}

/// The commands in the other blocks exist: targets of make, packages of Debian, commands and options of the program.
#[test]
fn commands_in_the_readme_exist() {
    let sandbox = Sandbox::new();
    let makefile = document("Makefile");
    let setup = document("scripts/setup");
    let readme = document("README.md");
    let mut blocks = readme.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let commands: Vec<&str> = blocks.by_ref().flat_map(str::lines).filter(|line| !line.is_empty()).collect();
    assert!(commands.len() >= 9, "{commands:?}");
    for command in commands {
        let command = command.replace("$HOME", "/home/ubuntu");
        let words: Vec<&str> = command.split('#').next().unwrap().split_whitespace().collect();
        match words.as_slice() {
            ["make", target] => assert!(makefile.contains(&format!("\n{target}: ##")), "{command}"),
            ["sudo", "apt-get", "install", packages @ ..] => {
                for package in packages.iter().filter(|package| !package.starts_with("./")) {
                    assert!(setup.contains(&format!("need {package} ")), "{package}");
                }
            }
            // scripts/test-package does that.
            ["sudo", "apt-get", "purge", "provision"] => {}
            ["cargo", "install", "--locked", "--path", "."] | ["cargo", "uninstall", "provision"] => {}
            ["rm", "-rf", "~/.local/state/provision"] => {}
            ["export", ..] => {}
            ["provision", "explain", ..] => {
                sandbox.provision("ubuntu", words[1..].iter().copied()).directory("/opt/provision").run().exits(0);
            }
            // These need a server with the layout of the pipeline; `make demo` and the tests of the plan file run them.
            ["provision", "plan" | "apply", file, ..] => {
                let outcome = sandbox.provision("ubuntu", words[1..].iter().copied()).directory("/opt/provision").run();
                assert!(
                    outcome.stdout.contains("order-tracking on throwaway") && !outcome.all().contains("unexpected"),
                    "{file}\n{outcome}"
                );
            }
            _ => panic!("it is not known how to check: {command}"),
        }
    }
}
