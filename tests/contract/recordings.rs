//! The recordings under docs/ (asciicast, for `asciinema play`) are what the demo and the program print. `make docs` writes them.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::sandbox::Sandbox;
use crate::screens::normal;

const COLUMNS: usize = 80;

/// A line of output, or a command that somebody types.
struct Recording {
    file: &'static str,
    title: &'static str,
    text: String,
}

/// The prompts of the recordings.
const PROMPTS: [&str; 2] = ["ubuntu$ ", "$ "];

/// Returns a recording in the format of asciinema (asciicast v2). Times are made up, so that they do not differ from run to run:
/// a moment to read each command, and what it prints line by line.
fn cast(recording: &Recording) -> String {
    let mut lines = vec![json!({ "version": 2, "width": COLUMNS, "height": 40, "title": recording.title }).to_string()];
    let mut time = 0.0_f64;
    let mut add = |time: f64, text: &str| lines.push(json!([(time * 100.0).round() / 100.0, "o", text]).to_string());
    for line in recording.text.lines() {
        match PROMPTS.iter().find_map(|prompt| Some((*prompt, line.strip_prefix(prompt)?))) {
            Some((prompt, command)) => {
                time += 1.5;
                add(time, prompt);
                for letter in command.chars() {
                    time += 0.03;
                    add(time, &letter.to_string());
                }
                time += 0.5;
                add(time, "\r\n");
            }
            None => {
                time += if line.contains("== ") { 1.0 } else { 0.04 };
                add(time, &format!("{line}\r\n"));
            }
        }
    }
    lines.join("\n") + "\n"
}

/// Returns what a recording shows, without its styles.
fn shown(cast: &str) -> String {
    let events = cast.lines().skip(1).map(|line| serde_json::from_str::<Value>(line).unwrap());
    let text: String = events.map(|event| event[2].as_str().unwrap().to_owned()).collect();
    anstream::adapter::strip_str(&text).to_string()
}

/// Leaves out what depends on the day: the tables of the half years up to now, and how long ago they began.
fn without_dates(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.contains("days") && !line.contains("have no table"));
    let mut is_series = false;
    let lines = lines.filter(|line| {
        is_series = (is_series || line.contains("history-tables    Keep")) && !line.trim().is_empty();
        !is_series
    });
    normal(&lines.collect::<Vec<_>>().join("\n"))
}

/// Runs a command with all output in one place, with colours.
fn output(sandbox: &Sandbox, user: &str, line: &str) -> String {
    let line = format!("exec 2>&1; export PATH=/opt/provision/bin:$PATH; {line}");
    let run = sandbox.command(user, ["bash", "-c", line.as_str()]).without_env("NO_COLOR");
    let run = run.env("CLICOLOR_FORCE", "1").env("COLUMNS", COLUMNS.to_string()).within(Duration::from_secs(300));
    run.run().stdout
}

/// `make demo` without its build.
fn demo() -> Recording {
    let text = output(&Sandbox::new(), "root", "/opt/provision/scripts/demo --inside");
    assert!(text.contains("== Done"), "{text}");
    Recording { file: "docs/demo.cast", title: "make demo", text }
}

/// A person makes mistakes in a plan file, and follows the messages.
fn mistake() -> Recording {
    let sandbox = Sandbox::new();
    let plan = "name: first\nvars: { app: \"{{ env_var('HOME') }}/first-app\" }\nsteps:\n  - id: folder\n    directry: { path: \"{{ app }}\" }\n  - id: settings\n    file: { path: \"{{ ap }}/settings.ini\", content: x, mode: 0640 }\n";
    sandbox.write("/home/ubuntu/provision.yaml", "ubuntu", plan);
    sandbox.bash("ubuntu", "echo notes > first-app");
    let mut text = String::new();
    for line in [
        "provision plan",
        "sed -i -e 's/directry/directory/' -e 's/ap }}/app }}/' -e 's/appp/app/' -e 's/0640/\"0640\"/' provision.yaml",
        "provision plan",
        "mv first-app notes.txt",
        "provision plan --dry-run",
        "provision plan",
        "provision apply --yes",
        "provision plan",
    ] {
        let output = output(&sandbox, "ubuntu", line);
        let end = if output.is_empty() { "" } else { "\n" };
        text += &format!("$ {line}\n{}{end}", output.trim_end());
    }
    assert!(text.contains("Nothing to change: 2 steps in order"), "{text}");
    Recording { file: "docs/mistake.cast", title: "Mistakes, and what the messages say", text }
}

#[test]
fn recordings_show_what_the_program_prints() {
    for recording in [mistake(), demo()] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(recording.file);
        let new = cast(&recording);
        let old = std::fs::read_to_string(&path).unwrap_or_default();
        if std::env::var_os("UPDATE_DOCS").is_some() && without_dates(&shown(&old)) != without_dates(&shown(&new)) {
            std::fs::write(&path, &new).unwrap();
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(without_dates(&shown(&kept)), without_dates(&shown(&new)), "{}: run `make docs`", recording.file);
        let header: Value = serde_json::from_str(kept.lines().next().unwrap()).unwrap();
        assert_eq!((&header["version"], &header["width"]), (&2.into(), &COLUMNS.into()));
        let times: Vec<f64> = kept
            .lines()
            .skip(1)
            .map(|line| serde_json::from_str::<Value>(line).unwrap()[0].as_f64().unwrap())
            .collect();
        assert!(times.is_sorted(), "{}", recording.file);
    }
}
