//! The screens in README.md and docs/screens.md are what the program prints, and their commands work. `make docs` writes them.

use std::path::Path;

use crate::sandbox::{BARE, CHECKOUT, KEY_SOURCE, PLAN, Sandbox, random_word};

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
        shown += &format!("$ {line}\n{}\n", run.run().stdout.trim_end());
    }
    shown
}

/// Replaces the plan, which an apply shows first.
fn without_the_plan(shown: &str) -> String {
    let (command, rest) = shown.split_once('\n').unwrap();
    format!("{command}\n…\n{}", &rest[rest.find("\nPlan: ").unwrap() + 1..])
}

/// A server some weeks after its setup: new commits, local work in their way, a new key and a new password.
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

fn screens() -> Vec<Screen> {
    let (server, fresh) = (server(), Sandbox::new());
    fresh.write("/home/ubuntu/provision.yaml", "ubuntu", block(&document("README.md"), "```yaml\n"));
    let mistakes = "name: first\nvars: { app: /srv/app }\nsteps:\n  - id: folder\n    when: \"env == 'qa'\"\n    directry: { path: $HOME/app }\n  - id: settings\n    file: { path: \"{{ ap }}/settings.ini\", content: x, mode: 0640 }\n";
    let screens = vec![
        Screen {
            name: "server",
            title: "A server some weeks after its setup",
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
            name: "first",
            title: "A first plan file",
            text: typed(&fresh, &["provision plan", "provision apply --yes", "provision plan"]),
        },
        Screen { name: "history", title: "What was done, and by whom", text: typed(&fresh, &["provision history"]) },
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
fn normal(text: &str) -> String {
    let text = text.replace("just now", "1 min ago");
    let mut words = Vec::new();
    for word in text.split_whitespace() {
        let bare = word.trim_matches(|c: char| !c.is_alphanumeric());
        let is_hex = bare.len() == 8 && bare.bytes().all(|byte| byte.is_ascii_hexdigit());
        let is_time = bare.ends_with('s') && bare.trim_end_matches('s').parse::<f64>().is_ok();
        let is_date = bare.len() >= 8
            && bare.starts_with("20")
            && bare.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":-.".contains(&byte));
        words.push(if word.contains("SHA256:") || is_hex || is_time || is_date { "*" } else { word });
    }
    // Steps that do not wait for each other end in any order.
    words.sort_unstable();
    words.join(" ")
}

/// Returns README.md with its screens.
fn readme(screens: &[Screen]) -> String {
    let mut text = document("README.md");
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
fn screens_in_the_documents_are_what_the_program_prints() {
    let screens = screens();
    for (name, text) in [("README.md", readme(&screens)), ("docs/screens.md", gallery(&screens))] {
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join(name), &text).unwrap();
        }
        assert_eq!(normal(&document(name)), normal(&text), "run `make docs`");
    }
    let fitted = ["server", "applied", "again", "first"];
    for screen in screens.iter().filter(|screen| fitted.contains(&screen.name)) {
        for line in screen.text.lines() {
            // Commands are not broken in the middle of a word.
            let is_command = line.trim_start().starts_with("provision ") || line.contains(".yml \\");
            assert!(line.chars().count() <= 80 || is_command, "{}: {line}", screen.name);
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
                packages.iter().for_each(|package| assert!(setup.contains(&format!("need {package} ")), "{package}"));
            }
            ["cargo", "install", "--locked", "--path", "."] | ["cargo", "uninstall", "provision"] => {}
            ["sudo", "rm", "-rf", "/var/lib/provision", "~/.local/state/provision"] => {}
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
