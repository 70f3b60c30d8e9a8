//! Turns what git says about a remote that it cannot reach into a failure.

use super::remedy::{Remote, remedy, there};
use crate::failure::Failure;
use crate::host::program::{Cut, Ended};
use crate::text::{RedactedUrl, clean};

/// The maximum length of git's text in a message, in characters.
const MAX_SHOWN: usize = 400;

/// What git adds to every error.
const NOISE: [&str; 5] = [
    "Could not read from remote repository",
    "Please make sure you have the correct access rights",
    "and the repository exists",
    "the remote end hung up unexpectedly",
    "To add an exception for this directory, call:",
];

/// Whether there is no room here for what the remote sent. The remote's own disk does not count.
pub fn lacks_room(ended: &Ended) -> bool {
    let full = |line: &String| {
        let line = line.to_lowercase();
        !line.starts_with("remote:")
            && (line.contains("no space left on device") || line.contains("disk quota exceeded"))
    };
    ended.said.iter().any(full)
}

/// Makes a failure of a git command that failed at a remote.
pub fn failure(remote: Remote<'_>, ended: &Ended) -> Failure {
    let shown = RedactedUrl::of(remote.url);
    let told = words(remote.url, ended);
    if lacks_room(ended) {
        let what = format!("there is not enough space for what the remote {shown} sends: {}", shortened(&told));
        return Failure::new(what).hint("free space there");
    }
    let failure = Failure::new(format!("cannot reach the remote {shown}: {}", shortened(&told)));
    match remedy(&told, remote, ended) {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// Makes the failure for a shallow remote that lacks the commits between its own and the checkout's. `resolved` is its absolute
/// URL.
pub fn cut_off(url: &str, resolved: &str) -> Failure {
    let hint = format!("fetch its complete history: {}", there(resolved, "fetch --unshallow"));
    let url = RedactedUrl::of(url);
    Failure::new(format!("the remote {url} is shallow: its history ends before it reaches the commits of the checkout"))
        .hint(hint)
}

/// Returns git's own words, without what does not matter and without what may be a secret, and not too many.
pub fn reason(url: &str, ended: &Ended) -> String {
    shortened(&words(url, ended))
}

fn words(url: &str, ended: &Ended) -> String {
    match ended.cut {
        Some(Cut::Silent(limit)) => return format!("timed out: no response for {} s", limit.as_secs()),
        Some(Cut::Late(limit)) => return format!("timed out: not done after {} s", limit.as_secs()),
        Some(Cut::Enough) => return "it has more refs than this program takes (1,000,000)".to_owned(),
        None => {}
    }
    let mut lines: Vec<String> = Vec::new();
    let mut fatal = false;
    for line in &ended.said {
        let line = line.trim_matches(|letter: char| letter == '@' || letter.is_whitespace());
        fatal |= line.starts_with("fatal: ");
        let line =
            ["fatal: ", "error: ", "ssh: "].into_iter().find_map(|start| line.strip_prefix(start)).unwrap_or(line);
        // Strict checking was not the user's choice but this program's.
        let line = line.trim_end_matches('.').trim_end_matches(" and you have requested strict checking");
        let beside = NOISE.iter().any(|words| line.trim_end_matches('.').ends_with(words))
            || line.starts_with("warning:")
            || line.starts_with("hint:")
            || line.starts_with("Warning: Permanently added ")
            || line.starts_with("git config --global --add safe.directory");
        // Said twice: by the helper that asks all helpers, and by git itself for a url without its path.
        let question = line.split_once(" for 'http").map(|(question, _)| question);
        let asked = |known: &String| question.is_some_and(|question| known.starts_with(question));
        if !line.is_empty() && !beside && !lines.iter().any(|known| known == line || asked(known)) {
            lines.push(line.to_owned());
        }
    }
    let text = match lines.is_empty() {
        true if fatal => "the connection was closed without a message".to_owned(),
        true => format!("git ended without a message ({})", ended.status),
        false => lines.join("; "),
    };
    let text = RedactedUrl::without_password_of(url, text.replace(url, RedactedUrl::of(url).as_str()));
    // The URL that an `insteadOf` of the user's gives can have a password too.
    let text = text.split(' ').map(RedactedUrl::in_word).collect::<Vec<_>>().join(" ");
    clean(&text)
}

/// Keeps the beginning and the last line, which has the reason. A remote may print a long greeting first.
fn shortened(told: &str) -> String {
    let begin = |text: &str, most: usize| text.chars().take(most).collect::<String>();
    if told.chars().count() <= MAX_SHOWN {
        return told.to_owned();
    }
    let last = told.rsplit_once("; ").map(|(before, last)| (before, last, last.chars().count()));
    match last.filter(|(_, _, length)| *length < MAX_SHOWN / 2) {
        Some((before, last, length)) => format!("{}…; {last}", begin(before, MAX_SHOWN - length)),
        None => format!("{}…", begin(told, MAX_SHOWN)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use super::*;
    use crate::git::remote::ssh::SshCommand;

    fn ended(said: &[&str]) -> Ended {
        Ended {
            status: ExitStatus::from_raw(128 << 8),
            cut: None,
            said: said.iter().map(ToString::to_string).collect(),
        }
    }

    fn at(url: &str, resolved: &str, ended: &Ended) -> Failure {
        failure(Remote { url, resolved, ssh: &SshCommand::default() }, ended)
    }

    fn told(said: &[&str]) -> (String, String) {
        let failure = at("https://u:p@h/x.git?access_token=t0ken", "https://h/x.git", &ended(said));
        (failure.message.replace("cannot reach the remote https://h/x.git?…: ", ""), failure.hint.unwrap_or_default())
    }

    #[test]
    fn the_reason_is_told_without_what_git_adds_to_every_one() {
        let (text, hint) = told(&[
            "ssh: connect to host h port 22: Connection refused",
            "fatal: Could not read from remote repository.",
            "Please make sure you have the correct access rights",
            "and the repository exists.",
        ]);
        assert_eq!(text, "connect to host h port 22: Connection refused");
        assert!(hint.contains("does not answer"));
        let dubious = ended(&[
            "fatal: detected dubious ownership in repository at '/srv/a b.git'",
            "To add an exception for this directory, call:",
            "\tgit config --global --add safe.directory '/srv/a b.git'",
        ]);
        let failure = at("/srv/a b.git", "/srv/a b.git", &dubious);
        assert!(failure.message.ends_with(": detected dubious ownership in repository at '/srv/a b.git'"));
        let hint = failure.hint.unwrap();
        assert!(hint.ends_with("`git config --global --add safe.directory '/srv/a b.git'`"), "{hint}");
        assert_eq!(
            told(&["fatal: the remote end hung up unexpectedly"]).0,
            "the connection was closed without a message"
        );
        assert_eq!(told(&[]).0, "git ended without a message (exit status: 128)");
    }

    #[test]
    fn passwords_control_characters_and_endless_texts_are_not_shown() {
        let (text, _) = told(&[
            "fatal: unable to access 'https://u:p@h/x.git?access_token=t0ken/': denied",
            "remote: see https://other:s3cret@k/y?sig=s3cret \u{1b}[31mred",
        ]);
        assert_eq!(text, "unable to access 'https://h/x.git?…': denied; remote: see https://k/y?… \u{fffd}[31mred");
        assert!(told(&[&"x".repeat(1000)]).0.chars().count() <= MAX_SHOWN + 1);
        let (text, hint) = told(&[&"WELCOME ".repeat(100), "git@h: Connection refused"]);
        assert!(text.chars().count() < MAX_SHOWN + 10 && text.ends_with("…; git@h: Connection refused"), "{text}");
        assert!(hint.contains("does not answer"), "{hint}");
    }

    #[test]
    fn a_piece_of_a_password_that_is_taken_for_a_port_is_not_shown() {
        let refused = ended(&["ssh: Bad port 's3c'", "fatal: Could not read from remote repository."]);
        let failure = at("ssh://u:s3c/ret@h/x", "ssh://u:s3c/ret@h/x", &refused);
        assert_eq!(failure.message, "cannot reach the remote ssh://u@h/x: Bad port '…'");
    }

    #[test]
    fn a_full_disk_is_not_blamed_on_the_remote() {
        let full = "fatal: write error: No space left on device";
        let failure = at("https://u:p@h/x", "https://h/x", &ended(&[full]));
        assert!(
            failure.message.starts_with("there is not enough space for what the remote https://h/x sends: write error")
        );
        assert!(failure.hint.unwrap().contains("free space"));
        let theirs = ended(&["remote: fatal: cannot create temp file: No space left on device"]);
        assert!(at("ssh://h/x", "ssh://h/x", &theirs).message.starts_with("cannot reach the remote ssh://h/x"));
    }

    #[test]
    fn a_question_that_nobody_answers_is_told_once() {
        let (text, hint) = told(&[
            "fatal: could not read Username for 'https://h/x.git': terminal prompts disabled",
            "fatal: could not read Username for 'https://h': terminal prompts disabled",
        ]);
        assert_eq!(text, "could not read Username for 'https://h/x.git': terminal prompts disabled");
        assert!(hint.contains("set up a credential helper"), "{hint}");
        let (_, hint) = told(&["remote: HTTP Basic: Access denied", "fatal: Authentication failed for 'https://h/x/'"]);
        assert!(hint.contains("does not accept") && !hint.contains("set up"), "{hint}");
    }
}
