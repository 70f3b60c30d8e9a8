//! Improves the argument parser's errors: removes misleading suggestions, and maps options and commands of other tools
//! to their equivalents.

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::text::{RedactedUrl, nearest};

/// Options of other tools, and the tip for each.
const OPTIONS: &[(&[&str], &str)] = &[
    (
        &["--dry-run", "--dryrun", "--check", "--noop", "--no-op", "--simulate", "--just-print", "-n", "-C"],
        "`provision plan` is the dry run",
    ),
    (&["--diff", "-D"], "`provision plan` shows the differences"),
    (
        &["--yes", "-y", "--auto-approve", "-auto-approve", "--assume-yes", "--force"],
        "`provision apply --yes` skips the confirmation prompt",
    ),
    (&["--tags", "-t", "--target", "-target", "--step", "--steps"], "`--only ID,…` selects steps"),
    (&["--skip-tags", "--exclude"], "`--skip ID,…` leaves steps out"),
    (&["--extra-vars", "-e", "-var", "--set", "--variable"], "`--var NAME=VALUE` sets a variable"),
    (&["--var-file", "-var-file"], "`--var NAME=VALUE` sets a variable; `--request` reads them from standard input"),
    (&["-detailed-exitcode"], "write it with two hyphens: --detailed-exitcode"),
    (&["-out", "--output", "-o"], "`provision plan --out SAVED` saves the plan"),
    (&["-json"], "write it with two hyphens: --json"),
    (&["--become", "-b", "--user", "--sudo"], "`run_as` of a step sets the user that it runs as"),
    (&["--inventory", "-i", "--limit-hosts", "--host"], "provision runs on the host where it is started"),
];

/// Options of other tools for the file. Its tip names the command.
const FILE_OPTIONS: &[&str] = &["-f", "--file", "--plan"];

/// Commands of other tools, and the tip for each.
const COMMANDS: &[(&[&str], &str)] = &[
    (
        &["destroy", "delete", "remove", "uninstall", "down", "clean", "teardown"],
        "provision never removes what a step created",
    ),
    (
        &["undo", "rollback", "revert", "restore"],
        "`provision rescue restore` brings back what was moved out of the way",
    ),
    (
        &["run", "up", "deploy", "install", "converge", "execute", "play", "all", "make"],
        "`provision apply` makes the changes",
    ),
    (
        &["check", "diff", "preview", "dry-run", "dryrun", "status", "refresh", "test", "noop"],
        "`provision plan` shows what differs",
    ),
    (&["lint", "verify", "syntax-check", "fmt"], "`provision validate` checks plan files"),
    (&["log", "logs", "runs", "list"], "`provision history` lists the runs"),
    (&["doc", "docs", "describe", "why"], "`provision explain` explains steps"),
    (&["unlock", "force-unlock"], "a lock ends with its process, so there is nothing to unlock"),
];

/// Returns the error with useful tips.
pub fn better(mut error: clap::Error) -> clap::Error {
    match error.kind() {
        ErrorKind::UnknownArgument => {
            let word = word(&error, ContextKind::InvalidArg);
            // "to pass '--x' as a value, use '-- --x'" is wrong here: no value of this program starts with a hyphen.
            error.remove(ContextKind::Suggested);
            let word = word.split('=').next().unwrap_or_default();
            if FILE_OPTIONS.contains(&word) {
                if let Some(tip) = file_tip(&error) {
                    error.remove(ContextKind::SuggestedArg);
                    set_tip(&mut error, tip);
                }
            } else if let Some(tip) = known(OPTIONS, word) {
                error.remove(ContextKind::SuggestedArg);
                set_tip(&mut error, tip);
            } else if !word.starts_with('-') && is_for(&error, "provision apply ") {
                set_tip(
                    &mut error,
                    "several ids are separated by commas: `--only ID,ID`, `--skip ID,ID`; seconds are written with `=`: `--wait=30`",
                );
            } else if !word.starts_with('-') && is_for(&error, "provision plan ") {
                set_tip(&mut error, "several ids are separated by commas: `--only ID,ID`, `--skip ID,ID`");
            }
        }
        ErrorKind::InvalidSubcommand => {
            let word = word(&error, ContextKind::InvalidSubcommand);
            error.remove(ContextKind::Suggested);
            let suggested: Vec<String> = match error.get(ContextKind::SuggestedSubcommand) {
                Some(ContextValue::Strings(words)) => words.clone(),
                Some(ContextValue::String(one)) => vec![one.clone()],
                _ => Vec::new(),
            };
            if let Some(tip) = known(COMMANDS, &word) {
                error.remove(ContextKind::SuggestedSubcommand);
                set_tip(&mut error, tip);
            } else if nearest(&word, suggested.iter().map(String::as_str)).is_none() {
                error.remove(ContextKind::SuggestedSubcommand);
            }
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            // A URL in place of the name of a variable may contain a password.
            let value = word(&error, ContextKind::InvalidValue);
            if value.contains("://") {
                error.insert(ContextKind::InvalidValue, ContextValue::String(RedactedUrl::in_word(&value)));
            }
        }
        _ => {}
    }
    error
}

/// Returns the tip for an option with the file: the command of the command line with its argument.
fn file_tip(error: &clap::Error) -> Option<String> {
    let usage = error.get(ContextKind::Usage).map(ToString::to_string).unwrap_or_default();
    let words = usage.split_whitespace().skip_while(|word| *word != "provision");
    let command: Vec<&str> = words.take_while(|word| word.starts_with(|first: char| first.is_lowercase())).collect();
    match command[..] {
        [] | ["provision"] => Some("the plan file is an argument without an option: `provision plan FILE`".to_owned()),
        ["provision", "report"] => {
            Some("the files are arguments without an option: `provision report FILE.jsonl`".to_owned())
        }
        _ if usage.contains("FILE") => {
            Some(format!("the plan file is an argument without an option: `{} FILE`", command.join(" ")))
        }
        _ => None,
    }
}

/// Returns whether the command line is one of this command.
fn is_for(error: &clap::Error, command: &str) -> bool {
    error.get(ContextKind::Usage).is_some_and(|usage| usage.to_string().contains(command))
}

fn word(error: &clap::Error, kind: ContextKind) -> String {
    match error.get(kind) {
        Some(ContextValue::String(word)) => word.clone(),
        _ => String::new(),
    }
}

fn known(table: &[(&[&str], &'static str)], word: &str) -> Option<&'static str> {
    table.iter().find(|(words, _)| words.contains(&word)).map(|(_, tip)| *tip)
}

fn set_tip(error: &mut clap::Error, tip: impl Into<StyledStr>) {
    error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::Arguments;
    use super::better;

    fn error_text(words: &[&str]) -> String {
        let words = std::iter::once(&"provision").chain(words);
        better(Arguments::try_parse_from(words).unwrap_err()).to_string()
    }

    #[test]
    fn options_and_commands_of_other_tools_get_tips() {
        for (words, tip) in [
            (&["plan", "--dry-run"][..], "`provision plan` is the dry run"),
            (&["plan", "--yes"], "provision apply --yes"),
            (&["plan", "-y"], "provision apply --yes"),
            (&["apply", "--check"], "`provision plan` is the dry run"),
            (&["apply", "-C"], "`provision plan` is the dry run"),
            (&["apply", "-n"], "`provision plan` is the dry run"),
            (&["apply", "--auto-approve"], "provision apply --yes"),
            (&["apply", "--tags=x"], "--only ID,…"),
            (&["plan", "p.yaml", "--only", "a", "b"], "separated by commas"),
            (&["apply", "p.yaml", "b", "--yes"], "separated by commas"),
            (&["apply", "--wait", "5", "p.yaml", "--yes"], "--wait=30"),
            (&["apply", "--wait=5s"], "seconds without a unit"),
            (&["plan", "-f", "p.yaml"], "`provision plan FILE`"),
            (&["apply", "-f", "p.yaml"], "`provision apply FILE`"),
            (&["follow-ups", "-f", "p.yaml"], "`provision follow-ups FILE`"),
            (&["rescue", "restore", "-f", "p.yaml"], "`provision rescue restore FILE`"),
            (&["report", "-f", "x.jsonl"], "`provision report FILE.jsonl`"),
            (&["plan", "--only", "folder,"], "an id is empty"),
            (&["plan", "--skip", ""], "an id is empty"),
            (&["destroy"], "never removes"),
            (&["rollback"], "rescue restore"),
            (&["lint", "x.yaml"], "provision validate"),
            (&["deploy"], "provision apply"),
            (&["paln"], "'plan'"),
            (&["plan", "--detailed-exit"], "'--detailed-exitcode'"),
        ] {
            let text = error_text(words);
            assert!(text.contains(tip), "{words:?}: {text}");
            assert!(!text.contains("as a value") && !text.contains("history"), "{words:?}: {text}");
        }
        let url = error_text(&["adopt", "/srv", "--url-env", "postgresql://me:hunter2@db.example/dw"]);
        assert!(url.contains("db.example") && !url.contains("hunter2"), "{url}");
        assert!(!error_text(&["xyzzy"]).contains("tip:"));
        assert!(!error_text(&["plan", "--xyzzy"]).contains("tip:"));
    }
}
