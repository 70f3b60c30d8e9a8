//! The question of an apply on a real terminal: its position, that it stays, and the effect of each answer.

use std::time::Duration;

use crate::sandbox::{self, Sandbox, Snapshot, Terminal, random_word};

const QUESTION: &str = "Apply this change to throwaway? [y/N]";

/// A directory that is missing, and one that exists.
const PLAN: &str = "
name: small
steps:
  - { id: data, directory: { path: /home/ubuntu/data, mode: \"0750\" } }
  - { id: home, directory: { path: /home/ubuntu } }
";

/// Redirections of the streams, and whether the plan is visible on the terminal.
const REDIRECTIONS: [(&str, bool); 9] = [
    ("", true),
    (">out", false),
    ("2>err", true),
    ("</dev/null", true),
    ("< <(yes)", true),
    (">out 2>err", false),
    (">out 2>err </dev/null", false),
    ("| tee out", true),
    ("2>&1 | (sleep 0.1; cat)", true),
];

fn small() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("/home/ubuntu/provision.yaml", "ubuntu", PLAN);
    sandbox
}

/// Starts an apply in a folder with a plan file on a terminal, and waits for the question.
fn asking(sandbox: &Sandbox, folder: &str, term: &str, columns: u16, redirected: &str) -> Terminal {
    let run = sandbox.provision("ubuntu", ["apply"]).directory(folder).env("TERM", term).without_env("NO_COLOR");
    // The exit code of the pipeline is that of the command.
    let line = if redirected.contains('|') {
        format!("\"$@\" {redirected}; exit ${{PIPESTATUS[0]}}")
    } else {
        format!("exec \"$@\" {redirected}")
    };
    let terminal = run.on_terminal(columns, &line);
    terminal.until("[y/N] ");
    terminal
}

#[test]
fn the_question_is_the_last_line_until_it_is_answered() {
    let sandbox = small();
    // Each redirection has its own folder, because a plan file is applied only once at a time.
    std::thread::scope(|scope| {
        for (number, (redirected, plan)) in REDIRECTIONS.into_iter().enumerate() {
            let folder = format!("/home/ubuntu/{number}");
            sandbox.write(&format!("{folder}/provision.yaml"), "ubuntu", PLAN);
            let sandbox = &sandbox;
            scope.spawn(move || {
                for term in ["xterm-256color", "dumb"] {
                    for columns in [60, 80, 120] {
                        let case = format!("TERM={term}, {columns} columns, {redirected}");
                        let terminal = asking(sandbox, &folder, term, columns, redirected);
                        stays_the_last_line(terminal, plan, &case);
                    }
                }
            });
        }
    });
    assert!(!sandbox.path("/home/ubuntu/data").exists());
}

#[track_caller]
fn stays_the_last_line(mut terminal: Terminal, plan: bool, case: &str) {
    let asked = terminal.bytes();
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(terminal.last_line(), (QUESTION.to_owned(), true), "{case}\n{terminal}");
    assert_eq!(asked, terminal.bytes(), "nothing else is drawn meanwhile: {case}\n{terminal}");
    let screen = terminal.screen();
    assert!(!screen.iter().any(|line| line.contains("observing")), "{case}\n{terminal}");
    assert_eq!(screen.iter().any(|line| line.contains("/home/ubuntu/data")), plan, "{case}\n{terminal}");
    terminal.types("\r");
    let (code, seen) = terminal.wait();
    assert_eq!(code, 1, "{case}\n{seen}");
}

#[test]
fn counts_and_follow_ups_precede_the_question() {
    let mut sandbox = Sandbox::converged();
    sandbox.new_key();
    sandbox.set_env("ALERT_SMTP_PASSWORD", random_word());
    let run = sandbox.provision("ubuntu", ["apply", sandbox::PLAN]).env("TERM", "xterm");
    let terminal = run.on_terminal(240, "exec \"$@\"");
    terminal.until("[y/N] ");
    let screen = terminal.screen().join("\n");
    let at = |text: &str| screen.find(text).unwrap_or_else(|| panic!("{text:?} was to be seen\n{terminal}"));
    assert!(at("--force-recreate") < at("2 steps to change, 4 in order"), "{terminal}");
    assert!(at("2 steps to change, 4 in order") < at("Apply these 2 changes to throwaway? [y/N]"), "{terminal}");
}

#[test]
fn confirmation_on_the_terminal_works_with_redirected_streams() {
    for (redirected, _) in REDIRECTIONS {
        let sandbox = small();
        let mut terminal = asking(&sandbox, "/home/ubuntu", "xterm-256color", 80, redirected);
        terminal.types("y\r");
        let (code, seen) = terminal.wait();
        assert_eq!(code, 0, "{redirected}\n{seen}");
        assert!(sandbox.path("/home/ubuntu/data").exists(), "{redirected}\n{seen}");
    }
}

#[test]
fn every_exit_before_the_first_change_reports_no_changes() {
    let sandbox = small();
    let start = Snapshot::whole(&sandbox);
    // Ctrl-C and the end of input: immediately, and after a word.
    for (typed, code) in [("n\r", 1), ("\r", 1), ("maybe\r", 1), ("\u{3}", 130), ("\u{4}", 1), ("y\u{4}\u{4}", 1)] {
        for redirected in ["", ">/dev/null", "</dev/null"] {
            let mut terminal = asking(&sandbox, "/home/ubuntu", "xterm-256color", 80, redirected);
            terminal.types(typed);
            let (found, seen) = terminal.wait();
            assert_eq!(found, code, "{typed:?} {redirected}\n{seen}");
            let (_, after) = seen.split_once("[y/N] ").unwrap();
            let output = after.split('\n').map(|line| anstream::adapter::strip_str(line).to_string());
            let output: Vec<String> = output.filter(|line| !line.trim().is_empty()).collect();
            // What was typed is echoed on the line of the question.
            let answer = &output[usize::from(!after.starts_with("\r\n"))];
            assert!(answer.starts_with("error: nothing was changed: "), "{typed:?} {redirected}: {output:?}");
        }
    }
    for (signal, code) in [("TERM", 143), ("INT", 130)] {
        let terminal = asking(&sandbox, "/home/ubuntu", "xterm-256color", 80, "");
        sandbox.bash("root", &format!("pkill -{signal} -x provision"));
        let (found, seen) = terminal.wait();
        assert_eq!(found, code, "{seen}");
        assert!(seen.contains("error\u{1b}[0m: nothing was changed: stopped by SIG"), "{seen}");
    }
    start.is_same_as(&Snapshot::whole(&sandbox), "nothing was changed");
}

#[test]
fn a_closed_terminal_is_not_a_confirmation() {
    let sandbox = small();
    for (before, code) in [("", 129), ("trap '' HUP;", 1)] {
        let run = sandbox.provision("ubuntu", ["apply"]);
        let terminal = run.on_terminal(80, &format!("{before} exec \"$@\" >/tmp/out 2>/tmp/err"));
        terminal.until("[y/N] ");
        assert_eq!(terminal.hang_up(), code, "{before}");
        let output = sandbox.read("/tmp/err");
        assert!(output.starts_with("error: nothing was changed: "), "{before}\n{output}");
        assert!(!sandbox.path("/home/ubuntu/data").exists());
    }
}

#[test]
fn the_question_is_repeated_after_a_stop() {
    let sandbox = small();
    let run = sandbox.provision("ubuntu", ["apply"]).env("TERM", "xterm-256color");
    let mut terminal = run.on_terminal(80, "set -m; \"$@\"; echo stopped; fg");
    terminal.until("[y/N] ");
    terminal.types("\u{1a}");
    terminal.until("stopped");
    terminal.until_it("the question is there again", |terminal| terminal.last_line() == (QUESTION.to_owned(), true));
    terminal.types("yes\r");
    let (code, seen) = terminal.wait();
    assert_eq!(code, 0, "{seen}");
    assert!(sandbox.path("/home/ubuntu/data").exists());
}

#[test]
fn apply_without_a_controlling_terminal_requires_yes() {
    let sandbox = small();
    // The streams are a terminal, but of another session.
    for line in ["setsid --wait \"$@\"", "yes | setsid --wait \"$@\""] {
        let terminal = sandbox.provision("ubuntu", ["apply"]).on_terminal(80, line);
        let (code, seen) = terminal.wait();
        assert_eq!(code, 1, "{line}\n{seen}");
        assert!(seen.contains("error: nothing was changed: ") && seen.contains("--yes"), "{line}\n{seen}");
        assert!(!seen.contains("[y/N]"), "{line}\n{seen}");
    }
    let terminal = sandbox.provision("ubuntu", ["apply", "--yes"]).on_terminal(80, "setsid --wait \"$@\"");
    assert_eq!(terminal.wait().0, 0);
}

#[test]
fn warnings_and_errors_do_not_mix_with_the_spinner() {
    let sandbox = Sandbox::new();
    sandbox.write("/home/ubuntu/slow.yaml", "ubuntu", "name: slow\nsteps:\n  - { id: a, directory: { path: /home/ubuntu/large, owner: '50000', recursive: true } }\n  - { id: b, directory: { path: /home/ubuntu/file } }\n");
    sandbox.bash("ubuntu", "touch file; mkdir large; cd large; seq 60000 | xargs touch");
    let run = sandbox.provision("ubuntu", ["plan", "slow.yaml"]).env("TERM", "xterm-256color");
    let terminal = run.on_terminal(80, "\"$@\"; exec sleep 1");
    terminal.until("Plan:");
    std::thread::sleep(Duration::from_millis(300));
    let screen = terminal.screen();
    assert!(!screen.iter().any(|line| line.contains("observing")), "the spinner leaves nothing behind\n{terminal}");
}
