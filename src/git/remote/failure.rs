//! Turns what git says about a remote that it cannot reach into a failure with a remedy.

use super::url::{SshHost, local_path, ssh_host};
use crate::failure::Failure;
use crate::host::program::{Cut, Ended};
use crate::host::users::as_acting_user;
use crate::text::{RedactedUrl, clean, shell_word};

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

/// Makes a failure of a git command that failed at the remote `url`, which stands for `resolved` (`insteadOf`).
pub fn failure(url: &str, resolved: &str, ended: &Ended) -> Failure {
    let shown = RedactedUrl::of(url);
    let told = reason(url, ended);
    if lacks_room(ended) {
        let what = format!("there is not enough space for what the remote {shown} sends: {told}");
        return Failure::new(what).hint("free space there");
    }
    let failure = Failure::new(format!("cannot reach the remote {shown}: {told}"));
    match remedy(&told.to_lowercase(), ssh_host(resolved).as_ref(), ended) {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// Makes the failure for a shallow remote that lacks the commits between its own and the checkout's. `resolved` is its absolute
/// URL.
pub fn cut_off(url: &str, resolved: &str) -> Failure {
    let url = RedactedUrl::of(url);
    let unshallow = |path: &str| format!("`git -C {} fetch --unshallow`", shell_word(path));
    let hint = match (local_path(resolved), ssh_host(resolved)) {
        (Some(path), _) => format!("as its owner: {}", unshallow(path)),
        (None, Some(host)) => format!("on {}, as its owner: {}", host.name, unshallow(&host.path)),
        (None, None) => "ask its owner to run `git fetch --unshallow` in it".to_owned(),
    };
    Failure::new(format!("the remote {url} is shallow: its history ends before it reaches the commits of the checkout"))
        .hint(format!("fetch its complete history: {hint}"))
}

/// Returns git's own words, without what does not matter and without what may be a secret.
pub fn reason(url: &str, ended: &Ended) -> String {
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
    let text = text.replace(url, RedactedUrl::of(url).as_str());
    // The URL that an `insteadOf` of the user's gives can have a password too.
    let text = text.split(' ').map(RedactedUrl::in_word).collect::<Vec<_>>().join(" ");
    let text = clean(&text);
    match text.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn remedy(text: &str, ssh: Option<&SshHost>, ended: &Ended) -> Option<String> {
    let has = |part: &str| text.contains(part);
    if let Some(directory) = dubious(ended) {
        let command = as_acting_user(&format!("git config --global --add safe.directory {}", shell_word(&directory)));
        return Some(format!("the remote's directory belongs to another user; allow it: `{command}`"));
    }
    if let Some(hint) = ssh.and_then(|host| ssh_remedy(text, host, ended)) {
        return Some(hint);
    }
    let hint = if has("strange pathname") || has("strange hostname") {
        "a url that begins with a dash looks like an option: write ./ before the path of a directory"
    } else if has("maximum allowed tree depth") {
        "a directory in the commit is nested too deep for git itself: remove it from the branch"
    } else if let Some(name) = forbidden(text) {
        let allow = as_acting_user(&format!("git config --global protocol.{name}.allow always"));
        return Some(format!("git's configuration forbids it (protocol.{name}.allow); allow it: `{allow}`"));
    } else if has("fsck error") {
        "git checks what it receives (fetch.fsckObjects), and an object of the remote fails the check: repair it at the remote, or accept this kind of error with `fetch.fsck.NAME = warn` in git's configuration, with the name in the message"
    } else if has("not allowed") && has("transport") {
        "use a path, file://, https:// or ssh://"
    } else if has("unable to find remote helper") {
        "install what git needs for this url, or use a path, file://, https:// or ssh://"
    } else if has("could not resolve") || has("unable to look up") || has("name or service not known") {
        "the host's name cannot be resolved: check the url, the network and the proxy"
    } else if has("timed out")
        || has("refused")
        || has("no route")
        || has("unreachable")
        || has("failed to connect")
        || has("couldn't connect")
    {
        "the host does not answer: check the url, the network, the proxy and the firewall"
    } else if has("certificate") || has("ssl") {
        "the server's certificate is not trusted here: check the url, the clock, ca-certificates and git's http.sslCAInfo"
    } else if has("could not read username") || has("could not read password") {
        "set up a credential helper for the step's user, or use an ssh url"
    } else if has("authentication failed") || has("401") || has("403") {
        "the server does not accept the user name and password, or the token: renew it in the credential helper of the step's user, or in the url"
    } else if has("valid 'info/refs'") || has("is this a git repository") {
        "the server is not a git server, or answered with a web page (a login, say): check the url"
    } else if has("out of memory") {
        "the remote sends too much at once: check what answers at the url"
    } else if has("does not appear to be a git repository")
        || has("does not exist")
        || has("404")
        // With ssh, the missing file may also be a key or a program.
        || (has("no such file") || has("not found")) && (ssh.is_none() || has("repository"))
    {
        "the repository does not exist, or the step's user may not see it: check the url"
    } else if has("requested url returned error: 5") {
        "the server has an error of its own: try again later, or ask its owner"
    } else {
        return ssh.map(|host| format!("check whether ssh can connect: `{}`", host.login()));
    };
    Some(hint.to_owned())
}

/// Returns the protocol that git's configuration forbids, if it is one that a remote usually has.
fn forbidden(text: &str) -> Option<&'static str> {
    let usual = ["file", "https", "http", "ssh", "git"].into_iter();
    usual.into_iter().find(|name| text.contains(&format!("transport '{name}' not allowed")))
}

/// Returns the remedy if ssh itself failed, or a jump host.
fn ssh_remedy(text: &str, host: &SshHost, ended: &Ended) -> Option<String> {
    let has = |part: &str| text.contains(part);
    let login = host.login();
    Some(if has("identification has changed") {
        let between = |start: &str, end: &str| {
            let lines = ended.said.iter().map(|line| line.trim());
            lines.filter_map(|line| Some(line.split_once(start)?.1.split_once(end)?.0.to_owned())).next()
        };
        let name = between("ost key for ", " has changed").unwrap_or_else(|| host.known_as());
        let file = between(" key in ", ":").map(|file| format!(" -f {}", shell_word(&file))).unwrap_or_default();
        let remove = as_acting_user(&format!("ssh-keygen{file} -R {}", shell_word(&name)));
        format!(
            "the host's key is not the one in known_hosts: ask its owner before you remove the old line (`{remove}`) and accept the new one (`{login}`)"
        )
    } else if has("host key verification failed") || has("host key is known") {
        format!(
            "the known_hosts of the step's user lacks the host's key, and no new key is accepted here, whatever ssh is configured to do: ask the owner for its fingerprint, and accept it by hand: `{login}`"
        )
    } else if has("permission denied (") || has("too many authentication failures") {
        format!("the host accepts none of the keys of the step's user: try `{login}`")
    } else if has("upload-pack") && has("not found") {
        "the host has no git in its search path: install it there".to_owned()
    } else if has("unknown port") || has("stdio forwarding failed") || has("open failed") {
        format!("the connection failed at a jump host or ProxyCommand: see what `{login}` says")
    } else {
        return None;
    })
}

impl SshHost {
    /// Returns the command that logs in to the host and does nothing there.
    fn login(&self) -> String {
        let port = self.port.as_ref().map(|port| format!("-p {port} ")).unwrap_or_default();
        as_acting_user(&format!("ssh {port}{} true", shell_word(&self.login)))
    }

    /// Returns the host's name in known_hosts.
    fn known_as(&self) -> String {
        match self.port.as_deref().filter(|port| *port != "22") {
            Some(port) => format!("[{}]:{port}", self.name),
            None => self.name.clone(),
        }
    }
}

/// Returns the directory that git does not trust because of its owner.
fn dubious(ended: &Ended) -> Option<String> {
    let line = ended.said.iter().find(|line| line.contains("dubious ownership in repository at"))?;
    Some(line.split_once('\'')?.1.rsplit_once('\'')?.0.to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use super::*;

    fn ended(said: &[&str]) -> Ended {
        Ended {
            status: ExitStatus::from_raw(128 << 8),
            cut: None,
            said: said.iter().map(ToString::to_string).collect(),
        }
    }

    fn told(said: &[&str]) -> (String, String) {
        let failure = failure("https://u:p@h/x.git?access_token=t0ken", "https://h/x.git", &ended(said));
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
        let (text, hint) = told(&[
            "fatal: detected dubious ownership in repository at '/srv/a b.git'",
            "To add an exception for this directory, call:",
            "\tgit config --global --add safe.directory '/srv/a b.git'",
        ]);
        assert_eq!(text, "detected dubious ownership in repository at '/srv/a b.git'");
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
    }

    #[test]
    fn what_gits_configuration_forbids_is_not_blamed_on_the_url() {
        let (_, hint) = told(&["fatal: transport 'file' not allowed"]);
        assert!(hint.contains("git config --global protocol.file.allow always"), "{hint}");
        let (_, hint) = told(&["fatal: transport 'ext' not allowed"]);
        assert!(hint.starts_with("use a path"), "{hint}");
        let (_, hint) = told(&[
            "error: object 1f: zeroPaddedFilemode: contains zero-padded file modes",
            "fatal: fsck error in packed object",
        ]);
        assert!(hint.contains("fetch.fsckObjects"), "{hint}");
    }

    #[test]
    fn a_full_disk_is_not_blamed_on_the_remote() {
        let full = "fatal: write error: No space left on device";
        let failure = failure("https://u:p@h/x", "https://h/x", &ended(&[full]));
        assert!(
            failure.message.starts_with("there is not enough space for what the remote https://h/x sends: write error")
        );
        assert!(failure.hint.unwrap().contains("free space"));
        let theirs = ended(&["remote: fatal: cannot create temp file: No space left on device"]);
        assert!(
            super::failure("ssh://h/x", "ssh://h/x", &theirs).message.starts_with("cannot reach the remote ssh://h/x")
        );
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

    #[test]
    fn what_helps_with_ssh_is_a_command_that_can_be_pasted() {
        let hint = |url: &str, said: &[&str]| {
            let failure = failure(url, url, &ended(said));
            assert!(!failure.message.contains("you have requested"), "{failure:?}");
            failure.hint.unwrap()
        };
        let new = [
            "No ED25519 host key is known for [h]:2222 and you have requested strict checking.",
            "Host key verification failed.",
        ];
        assert!(hint("ssh://git@h:2222/x", &new).ends_with("ssh -p 2222 git@h true`"));
        assert!(hint("git@h:x.git", &new).ends_with("ssh git@h true`"));
        assert!(hint("git@h:x.git", &new).contains("no new key is accepted here, whatever ssh is configured to do"));
        let changed = [
            "@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @",
            "Offending ED25519 key in /home/u/.ssh/known_hosts:1",
            "Host key for [h]:2222 has changed and you have requested strict checking.",
        ];
        let removed = hint("ssh://h:2222/x", &changed);
        assert!(removed.contains("ssh-keygen -f /home/u/.ssh/known_hosts -R '[h]:2222'`"), "{removed}");
        for way in [
            "Connection closed by UNKNOWN port 65535",
            "stdio forwarding failed",
            "channel 0: open failed: connect failed: No such file or directory",
            "sh: 1: exec: nc: not found",
            "no such identity: /home/u/.ssh/gone: No such file or directory",
        ] {
            let hint = hint("ssh://h/x", &[way]);
            assert!(hint.contains("ssh h true`") && !hint.contains("repository"), "{way}: {hint}");
        }
        assert!(hint("ssh://h/x", &["bash: line 1: git-upload-pack: command not found"]).contains("no git"));
        for gone in ["fatal: '/x' does not appear to be a git repository", "ERROR: Repository not found."] {
            assert!(hint("ssh://h/x", &[gone]).contains("repository does not exist"), "{gone}");
        }
    }

    #[test]
    fn the_shallow_remote_is_named_with_its_path() {
        for (url, command) in [
            ("/srv/a b.git", "`git -C '/srv/a b.git' fetch --unshallow`"),
            ("file:///srv/x", "`git -C /srv/x fetch --unshallow`"),
            ("git@h:x.git", "on h, as its owner: `git -C x.git fetch --unshallow`"),
            ("ssh://h:2222/srv/x", "on h, as its owner: `git -C /srv/x fetch --unshallow`"),
            ("https://h/x", "ask its owner"),
        ] {
            let hint = cut_off(url, url).hint.unwrap();
            assert!(hint.contains(command), "{hint}");
        }
    }
}
