//! Finds the remedy for a remote that cannot be reached, by what git and ssh say.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::Access;
use rustix::process::geteuid;

use super::ssh::SshCommand;
use super::url::{SshHost, local_path, ssh_host};
use crate::git::unreadable::in_remote;
use crate::host::fs::{escape_path, may_access};
use crate::host::program::Ended;
use crate::host::users::{as_acting_user, as_root, name_or_id};
use crate::text::shell_word;

/// What git says about an answer that ended too early, or is not what was sent.
const BROKEN: [&str; 14] = [
    "body are still expected",
    "expected flush after ref listing",
    "is corrupt",
    "early eof",
    "index-pack failed",
    "invalid index-pack output",
    "pack has bad object",
    "pack has junk",
    "bad pack header",
    "inflate",
    "unresolved delta",
    "did not send all necessary objects",
    "unexpected disconnect",
    "rpc failed",
];

/// What git says about what is missing, or cannot be read.
const UNREAD: [&str; 11] = [
    "bad object",
    "cannot be",
    "corrupt",
    "denied",
    "does not appear to be a git repository",
    "does not exist",
    "find remote ref",
    "missing",
    "no such file",
    "not our ref",
    "unable to",
];

/// What curl says if the connection ends while it is used.
const CUT_OFF: [&str; 7] = [
    "empty reply from server",
    "connection reset",
    "recv failure",
    "recv error",
    "ssl_read",
    "ssl_error_syscall",
    "closed without a message",
];

/// The remedy for a repository that is not there.
const GONE: &str = "the repository does not exist, or the step's user may not see it: check the url";

/// What TLS libraries say of a server that does not speak TLS.
const NO_TLS: [&str; 3] = ["wrong version number", "unexpected tls packet", "packet length"];

/// The remote that a git command failed at.
#[derive(Clone, Copy)]
pub struct Remote<'a> {
    pub url: &'a str,
    /// The absolute URL that it stands for (`insteadOf`).
    pub resolved: &'a str,
    pub ssh: &'a SshCommand,
}

/// Returns what to do, if anything is known. `told` is what git said, without secrets.
pub fn remedy(told: &str, remote: Remote<'_>, ended: &Ended) -> Option<String> {
    let text = without_names(told, remote.resolved);
    if let Some(directory) = dubious(ended) {
        if local_path(remote.resolved).is_none() {
            return Some(
                "the remote's directory belongs to another user there: ask its owner to change that".to_owned(),
            );
        }
        let command = as_acting_user(&format!("git config --global --add safe.directory {}", shell_word(&directory)));
        return Some(format!("the remote's directory belongs to another user; allow it: `{command}`"));
    }
    let Some(host) = ssh_host(remote.resolved) else {
        let path = local_path(remote.resolved).filter(|_| UNREAD.iter().any(|words| text.contains(words)));
        return path.and_then(unread).or_else(|| of_git(&text, remote));
    };
    if let Some(hint) = misspelt(remote.resolved, &host) {
        return Some(hint);
    }
    let found = of_ssh(&text, &host, remote.ssh, ended).or_else(|| of_git(&text, remote));
    let found = found.unwrap_or_else(|| format!("check whether ssh can connect: `{}`", host.login(remote.ssh)));
    Some(match maybe_port(remote.resolved, &host) {
        Some((port, url)) => format!("{found}; or, if {port} is a port, write {url}"),
        None => found,
    })
}

fn of_git(text: &str, remote: Remote<'_>) -> Option<String> {
    let has = |part: &str| text.contains(part);
    let any = |parts: &[&str]| parts.iter().any(|part| has(part));
    let is_ssh = ssh_host(remote.resolved).is_some();
    let is_web = remote.resolved.starts_with("http");
    let hint = if any(&["strange pathname", "strange hostname"]) {
        "a url that begins with a dash looks like an option: write ./ before the path of a directory"
    } else if has("maximum allowed tree depth") {
        "a directory in the commit is nested too deep for git itself: remove it from the branch"
    } else if let Some(name) = forbidden(text) {
        let allow = as_acting_user(&format!("git config --global protocol.{name}.allow always"));
        return Some(format!("git's configuration forbids it (protocol.{name}.allow); allow it: `{allow}`"));
    } else if has("fsck error") {
        "git checks what it receives (fetch.fsckObjects), and an object of the remote fails the check: repair it at the remote, or accept this kind of error with `fetch.fsck.NAME = warn` in git's configuration, with the name in the message"
    } else if has("returned error: 401") {
        "the server wants a login, or another one: check the credential helper of the step's user, and http.extraHeader in git's configuration"
    } else if has("returned error: 403") {
        "the server forbids it: check the url, and whether the login of the step's user may read the repository, or whether it needs one"
    } else if has("returned error: 429") {
        "the server gets too many requests: wait some minutes, and run again"
    } else if has("returned error: 5") {
        "the server has an error of its own: try again later, or ask its owner"
    } else if has("returned error: 404") {
        GONE
    } else if has("not allowed") && has("transport") {
        "use a path, file://, https:// or ssh://"
    } else if has("unable to find remote helper") {
        "install what git needs for this url, or use a path, file://, https:// or ssh://"
    } else if any(&["from proxy after connect", "connect tunnel failed", "resolve proxy"]) {
        "the proxy refuses the connection, wants a login, or has no such name: check http.proxy in git's configuration, and the variables http_proxy, https_proxy and no_proxy"
    } else if any(&["could not resolve", "unable to look up", "name or service not known"]) {
        "the host's name cannot be resolved: check the url, the network and the proxy"
    } else if any(&["timed out", "refused", "no route", "unreachable", "failed to connect", "couldn't connect"]) {
        "the host does not answer: check the url, the network, the proxy and the firewall"
    } else if has("redirects followed") {
        "the server redirects without an end: check the url, and whether it needs a login"
    } else if has("protocol \"") && any(&["disabled", "not supported"]) || has("update url base from redirection") {
        "the server redirects git to something else than a repository, such as a page for the login: check the url"
    } else if !is_ssh && any(&NO_TLS) {
        "the server does not speak TLS there: check whether the url begins with http://, and its port"
    } else if !is_ssh && any(&CUT_OFF) {
        "the connection was cut: try again, and check the url, the network and the proxy"
    } else if is_web && any(&["certificate", "ssl"]) {
        "the server's certificate is not trusted here: check the url, the clock, ca-certificates and git's http.sslCAInfo"
    } else if any(&["could not read username", "could not read password"]) {
        "set up a credential helper for the step's user, or use an ssh url; a server that takes a bearer token and no password needs http.extraHeader in git's configuration, for its url"
    } else if any(&["authentication failed", "http basic: access denied"]) {
        "the server does not accept the user name and password, or the token: renew it in the credential helper of the step's user, or in the url"
    } else if has("out of memory") {
        "the remote sends too much at once: check what answers at the url"
    } else if has("corruption on the remote side") || any(&BROKEN) && local_path(remote.resolved).is_some() {
        return Some(format!("objects of the remote are missing or damaged: {}", there(remote.resolved, "fsck")));
    } else if any(&["not our ref", "couldn't find remote ref"]) {
        "the remote changed while it was asked: run again"
    } else if any(&BROKEN) {
        let check = there(remote.resolved, "fsck");
        return Some(format!(
            "what the remote sent is incomplete or damaged: try again; if that does not help, check the proxy, and the remote: {check}"
        ));
    } else if any(&["valid 'info/refs'", "is this a git repository", "invalid server response", "bad line length"]) {
        "the server is not a git server, or answered with a web page (a login, say): check the url"
    } else if any(&["does not appear to be a git repository", "does not exist", "not exported"])
        // With ssh, the missing file may also be a key or a program.
        || any(&["no such file", "not found"]) && (!is_ssh || has("repository"))
    {
        GONE
    } else {
        return None;
    };
    Some(hint.to_owned())
}

/// Returns what git says in lower case, without URLs, paths, and the host, whose words mean nothing.
fn without_names(told: &str, resolved: &str) -> String {
    let (host, path) = match (ssh_host(resolved), local_path(resolved)) {
        (Some(host), _) => (host.name, host.path),
        (None, path) => (String::new(), path.unwrap_or_default().to_owned()),
    };
    let (mut text, mut rest) = (String::new(), told);
    while let Some((before, quoted)) = rest.split_once('\'') {
        // A path may have quotation marks, too, and they are apostrophes as well.
        let is_end = |at: &usize| !quoted[at + 1..].starts_with(|next: char| next.is_alphanumeric());
        let end = quoted.match_indices('\'').map(|(at, _)| at).find(is_end);
        let is_start = before.is_empty() || before.ends_with([' ', '(']);
        let name = end.map(|end| (&quoted[..end], end)).filter(|_| is_start);
        let name = name.filter(|(name, _)| *name == path || name.contains("://") || name.starts_with(['/', '~', '.']));
        text.push_str(before);
        rest = match name {
            Some((_, end)) => &quoted[end + 1..],
            None => {
                text.push('\'');
                quoted
            }
        };
    }
    text.push_str(rest);
    let is_name = |word: &&str| {
        let bare = word.trim_matches(['"', '\'', '(', ')', ':', ';', ',']);
        let is_login = bare.rsplit_once('@').is_some_and(|(_, place)| place == host);
        let is_known = bare.contains('.') && (bare == host || bare == path);
        bare.contains("://") || bare.starts_with('/') || is_login || is_known
    };
    text.split(' ').filter(|word| !is_name(word)).collect::<Vec<_>>().join(" ").to_lowercase()
}

/// Returns the protocol that git's configuration forbids, if it is one that a remote usually has.
fn forbidden(text: &str) -> Option<&'static str> {
    let usual = ["file", "https", "http", "ssh", "git"].into_iter();
    usual.into_iter().find(|name| text.contains(&format!("transport '{name}' not allowed")))
}

/// Returns the remedy if ssh itself failed, a jump host, or the shell of the remote's user.
fn of_ssh(text: &str, host: &SshHost, command: &SshCommand, ended: &Ended) -> Option<String> {
    let has = |part: &str| text.contains(part);
    let login = host.login(command);
    let between = |start: &str, end: &str| {
        let mut lines = ended.said.iter().map(|line| line.trim());
        lines.find_map(|line| Some(line.split_once(start)?.1.split_once(end)?.0.to_owned()))
    };
    Some(if has("identification has changed") {
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
        of_key(ended).unwrap_or_else(|| {
            format!(
                "the host accepts none of the keys of the step's user, or they have a passphrase, which nobody enters here: try `{login}`"
            )
        })
    } else if let Some(own) = command.if_missing(ended) {
        own
    } else if has("ssh variant") && has("does not support") {
        let set = as_acting_user("git config --global ssh.variant ssh");
        format!(
            "git does not know the options of the program that it starts as ssh; if they are those of OpenSSH: `{set}`"
        )
    } else if let Some(file) = after(ended, "Bad owner or permissions on ") {
        of_config(file)
    } else if has("bad configuration option") {
        "correct that line of ssh's configuration".to_owned()
    } else if has("bad line length") {
        format!(
            "the shell of that user prints a text before git answers: `{login}` shows it; take it out of what the shell reads there (.bashrc, .profile, .zshenv, .cshrc), or print it only in interactive shells"
        )
    } else if has("upload-pack") && has("not found") {
        "the host has no git in its search path: install it there".to_owned()
    } else if has("unknown port") || has("stdio forwarding failed") || has("open failed") {
        format!("the connection failed at a jump host or ProxyCommand: see what `{login}` says")
    } else {
        return None;
    })
}

/// Returns the remedy if ssh cannot use a private key. A remote can write such lines too, so commands are only for files that have
/// the defect.
fn of_key(ended: &Ended) -> Option<String> {
    let open =
        after(ended, "Permissions 0").and_then(|rest| rest.split_once(" for '")?.1.strip_suffix("' are too open."));
    if let Some(key) = open.filter(|key| is_open_key(Path::new(key))) {
        let close = as_acting_user(&format!("chmod 600 {}", shell_word(key)));
        return Some(format!("ssh ignores a private key that others can read; close it: `{close}`"));
    }
    let (path, problem) = after(ended, "Load key \"")?.rsplit_once("\": ")?;
    let key = escape_path(Path::new(path));
    match problem {
        "Permission denied" if !may_access(Path::new(path), Access::READ_OK) => Some(format!(
            "the private key {key} is not readable for {}; give it to them, or use another key",
            name_or_id(geteuid().as_raw())
        )),
        "invalid format" | "error in libcrypto" => Some(format!(
            "ssh cannot use the private key {key}: copy it again, as a whole, with the line break at its end"
        )),
        _ => None,
    }
}

/// Returns the rest of the first line that begins with this text.
fn after<'a>(ended: &'a Ended, start: &str) -> Option<&'a str> {
    ended.said.iter().find_map(|line| line.trim().strip_prefix(start))
}

/// Whether a file is a private key of the acting user that others can read.
fn is_open_key(path: &Path) -> bool {
    let user = geteuid().as_raw();
    // Others than files are not opened, since a FIFO would block.
    let is_open =
        fs::metadata(path).is_ok_and(|found| found.is_file() && found.uid() == user && found.mode() & 0o077 != 0);
    let mut start = [0; 64];
    is_open
        && File::open(path).and_then(|mut file| file.read(&mut start)).is_ok()
        && String::from_utf8_lossy(&start).lines().next().is_some_and(|line| line.contains("PRIVATE KEY"))
}

/// Returns the remedy for a file of ssh's configuration.
fn of_config(file: &str) -> String {
    let rule = "ssh reads it only if it belongs to the step's user or root, and nobody else can write it";
    let close = format!("chmod go-w {}", shell_word(file));
    match fs::metadata(file).ok().filter(fs::Metadata::is_file).map(|found| (found.uid(), found.mode() & 0o022)) {
        Some((user, 1..)) if user == geteuid().as_raw() => format!("{rule}: `{}`", as_acting_user(&close)),
        Some((0, 1..)) => format!("{rule}: `{}`", as_root(&close)),
        Some((user, _)) if user != 0 && user != geteuid().as_raw() => {
            format!("{rule}; it belongs to {}", name_or_id(user))
        }
        _ => rule.to_owned(),
    }
}

/// Returns the remedy if the acting user may not read something of a remote on this host. git takes that for missing.
fn unread(remote: &str) -> Option<String> {
    let path = escape_path(&in_remote(Path::new(remote))?);
    Some(format!("the step's user may not read {path}: let its owner give that user the right, by a group for example"))
}

/// Returns the command of git by which the owner of a remote repairs it, and where to run it.
pub fn there(resolved: &str, arguments: &str) -> String {
    let command = |path: &str| format!("`git -C {} {arguments}`", shell_word(path));
    match (local_path(resolved), ssh_host(resolved)) {
        (Some(path), _) => format!("as its owner: {}", command(path)),
        (None, Some(host)) => match host.path.trim_start_matches("/~/").trim_start_matches("~/") {
            // The home of another user.
            path if path.trim_start_matches('/').starts_with('~') => {
                format!("ask its owner on {} to run `git {arguments}` in it", host.name)
            }
            path => format!("on {}, as its owner: {}", host.name, command(path)),
        },
        (None, None) => format!("ask its owner to run `git {arguments}` in it"),
    }
}

/// Returns the remedy for `ssh://HOST:PATH` and `HOST:PORT:PATH`, which mean something else to git.
fn misspelt(url: &str, host: &SshHost) -> Option<String> {
    if let Some((_, rest)) = url.split_once("://") {
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        // The password may contain a colon.
        let place = authority.rsplit_once('@').map_or(authority, |(_, place)| place);
        let (name, first) = place.split_once(':').filter(|_| !place.contains('['))?;
        if first.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        // With an `@` later on, it may be a password with a slash.
        let right = match path.contains('@') {
            true => "correct the url".to_owned(),
            false => format!("write ssh://{}{name}/{first}{path}", host.user()),
        };
        return Some(format!("git takes what follows the colon for a port: {right}"));
    }
    let (port, path) = host.path.split_once(':').filter(|(port, path)| is_port(port) && !path.contains('@'))?;
    // A path without a slash begins at the home.
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/~/{path}") };
    Some(format!("git takes the port for a part of the path: write {}", host.with_port(port, &path)))
}

/// Returns the port and the URL that `HOST:PORT/PATH` may mean. To git it is a path that begins with a number. With an `@` later on,
/// it may be a password.
fn maybe_port<'a>(url: &str, host: &'a SshHost) -> Option<(&'a str, String)> {
    let (port, path) = host.path.split_once('/').filter(|_| !url.contains("://") && !host.path.contains('@'))?;
    is_port(port).then(|| (port, host.with_port(port, &format!("/{path}"))))
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok_and(|port| port > 0)
}

impl SshHost {
    /// Returns the command that logs in to the host as git does, and does nothing there.
    fn login(&self, command: &SshCommand) -> String {
        let port = self.port.as_ref().map(|port| format!("-p {port} ")).unwrap_or_default();
        as_acting_user(&format!("{} {port}{} true", command.shown(), shell_word(&self.login)))
    }

    /// Returns the host's name in known_hosts.
    fn known_as(&self) -> String {
        match self.port.as_deref().filter(|port| *port != "22") {
            Some(port) => format!("[{}]:{port}", self.name),
            None => self.name.clone(),
        }
    }

    /// Returns the user for a URL, with the `@`.
    fn user(&self) -> String {
        self.login.rsplit_once('@').map(|(user, _)| format!("{user}@")).unwrap_or_default()
    }

    fn with_port(&self, port: &str, path: &str) -> String {
        let (user, name) = (self.user(), &self.name);
        let name = if name.contains(':') { format!("[{name}]") } else { name.clone() };
        format!("ssh://{user}{name}:{port}{path}")
    }
}

/// Returns the directory that git does not trust because of its owner.
fn dubious(ended: &Ended) -> Option<String> {
    let line = ended.said.iter().find(|line| line.contains("dubious ownership in repository at"))?;
    Some(line.split_once('\'')?.1.rsplit_once('\'')?.0.to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, chown};
    use std::os::unix::process::ExitStatusExt;
    use std::path::PathBuf;
    use std::process::ExitStatus;

    use super::*;
    use crate::git::remote::failure::{cut_off, failure};

    const WEB: &str = "https://h/x.git";

    fn ended(said: &str) -> Ended {
        Ended { status: ExitStatus::from_raw(128 << 8), cut: None, said: said.lines().map(str::to_owned).collect() }
    }

    fn hint(url: &str, said: &str) -> String {
        let failure = failure(Remote { url, resolved: url, ssh: &SshCommand::default() }, &ended(said));
        assert!(!failure.message.contains("you have requested"), "{failure:?}");
        failure.hint.unwrap()
    }

    #[test]
    fn what_helps_by_what_git_says() {
        let cut = "fatal: early EOF";
        for (url, said, words) in [
            (WEB, "fatal: transport 'file' not allowed", "`git config --global protocol.file.allow always`"),
            (WEB, "fatal: transport 'ext' not allowed", "use a path"),
            (WEB, "error: object 1f: zeroPaddedFilemode: x\nfatal: fsck error in packed object", "fetch.fsckObjects"),
            (WEB, "The requested URL returned error: 401", "wants a login"),
            (WEB, "The requested URL returned error: 403", "forbids it"),
            (WEB, "error: RPC failed; HTTP 403 curl 22 The requested URL returned error: 403", "forbids it"),
            (WEB, "The requested URL returned error: 429", "too many requests"),
            (WEB, "The requested URL returned error: 502", "try again later"),
            (WEB, "Maximum (20) redirects followed", "redirects without an end"),
            (WEB, "Protocol \"file\" not supported or disabled in libcurl", "redirects git to something else"),
            (WEB, "Protocol \"file\" disabled", "redirects git to something else"),
            (
                WEB,
                "unable to update url base from redirection:\n asked for: x\n redirect: y",
                "redirects git to something",
            ),
            (WEB, "Received HTTP code 407 from proxy after CONNECT", "the proxy refuses"),
            (WEB, "CONNECT tunnel failed, response 403", "the proxy refuses"),
            (WEB, "https://h/x.git/info/refs not valid: is this a git repository?", "not a git server"),
            (WEB, "protocol error: bad line length character: <htm", "not a git server"),
            (WEB, "could not read Username for 'https://h': terminal prompts disabled", "http.extraHeader"),
            (WEB, "server certificate verification failed. CAfile: none CRLfile: none", "certificate is not trusted"),
            (WEB, "OpenSSL SSL_read: error:0A000126:SSL routines::unexpected eof while reading", "was cut"),
            (WEB, "error:0A00010B:SSL routines::wrong version number", "does not speak TLS"),
            (WEB, "gnutls_handshake() failed: An unexpected TLS packet was received.", "does not speak TLS"),
            (WEB, "Empty reply from server", "was cut"),
            (
                "https://h/ssl-403/401.git",
                "unable to access 'https://h/ssl-403/401.git/': Could not resolve host: h",
                "name",
            ),
            ("git://h/x", "fatal: remote error: access denied or repository not exported: /x", "does not exist"),
            (WEB, "error: inflate: data stream error (incorrect header check)\nfatal: pack has bad object", "damaged"),
            (WEB, "fetch-pack: unexpected disconnect while reading sideband packet\nfatal: early EOF", "damaged"),
            (WEB, cut, "ask its owner to run `git fsck` in it"),
            (WEB, "29 bytes of body are still expected\nfatal: expected flush after ref listing", "damaged: try again"),
            (WEB, "remote-curl: bad line length character: x\nfatal: early EOF", "damaged: try again"),
            (
                "/srv/x",
                "error: loose object 1f (stored in ./objects/1f) is corrupt",
                "objects of the remote are missing",
            ),
            ("/srv/a b", cut, "as its owner: `git -C '/srv/a b' fsck`"),
            ("git@h:x.git", cut, "on h, as its owner: `git -C x.git fsck`"),
            (
                "git@h:x",
                "remote: aborting due to possible repository corruption on the remote side.",
                "`git -C x fsck`",
            ),
            (WEB, "fatal: remote error: upload-pack: not our ref 1f", "run again"),
        ] {
            let hint = hint(url, said);
            assert!(hint.contains(words), "{said}: {hint}");
        }
    }

    #[test]
    fn names_are_not_taken_for_the_reason() {
        let gone = "the repository does not exist";
        let here = "/srv/refused/it's an ssl/x";
        for (url, said, words) in [
            ("/srv/ssl-tools.git", "fatal: '/srv/ssl-tools.git' does not appear to be a git repository", gone),
            ("/srv/refused/x", "fatal: '/srv/refused/x' does not appear to be a git repository", gone),
            (here, &*format!("fatal: '{here}' does not appear to be a git repository"), gone),
            ("git@h:timed out", "fatal: 'timed out' does not appear to be a git repository", gone),
            ("git@h:ssl", "fatal: 'ssl' does not appear to be a git repository", gone),
            ("git@refused.h:x", "git@refused.h: usage: x\nfatal: 'x' does not exist", gone),
            (WEB, "fatal: couldn't connect to '/x/y'", "the host does not answer"),
            (WEB, "error: RPC failed; HTTP 404 curl 22 The requested URL returned error: 404", gone),
            (
                WEB,
                "error: RPC failed; HTTP 502 curl 22 The requested URL returned error: 502\nfatal: early EOF",
                "try again later",
            ),
            ("ssh://h/x", "fatal: detected dubious ownership in repository at '/x'", "belongs to another user there"),
        ] {
            let hint = hint(url, said);
            assert!(hint.contains(words), "{said}: {hint}");
        }
    }

    #[test]
    fn what_helps_by_what_ssh_says() {
        let denied = "git@h: Permission denied (publickey).";
        for (said, words) in [
            (format!("Load key \"/k\": error in libcrypto\n{denied}"), "copy it again, as a whole"),
            (format!("Load key \"/k\": Permission denied\n{denied}"), "key /k is not readable for "),
            (denied.to_owned(), "accepts none of the keys of the step's user"),
            ("/root/.ssh/config: line 3: Bad configuration option: x".to_owned(), "correct that line"),
            ("fatal: protocol error: bad line length character: HELL".to_owned(), "`ssh git@h true` shows it"),
            ("ssh -F 'x' \"$@\": 1: ssh: not found".to_owned(), "install ssh; git needs it"),
            (
                "fatal: ssh variant 'simple' does not support setting port".to_owned(),
                "those of OpenSSH: `git config --global ssh.variant ssh`",
            ),
            ("usage: ssh [-46AaCfGgKkMNnqsTtVvXxYy]".to_owned(), "check whether ssh can connect: `ssh git@h true`"),
        ] {
            let hint = hint("git@h:x", &said);
            assert!(hint.contains(words), "{said}: {hint}");
        }
    }

    #[test]
    fn files_that_ssh_refuses_are_closed_only_if_they_are_open() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str, mode: u32| {
            let path = dir.path().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path.display().to_string()
        };
        let key = "-----BEGIN OPENSSH PRIVATE KEY-----\n";
        let denied = "git@h: Permission denied (publickey).";
        let of_key = |path: &str| {
            hint(
                "git@h:x",
                &format!("Permissions 0644 for '{path}' are too open.\nLoad key \"{path}\": bad permissions\n{denied}"),
            )
        };
        let open = file("my key", key, 0o644);
        assert!(of_key(&open).ends_with(&format!("close it: `chmod 600 '{open}'`")), "{}", of_key(&open));
        for other in [file("closed", key, 0o600), file("text", "a\n", 0o644), "/etc/passwd".into(), "/none".into()] {
            assert!(of_key(&other).contains("accepts none of the keys"), "{}", of_key(&other));
        }

        let of_config = |path: &str| hint("git@h:x", &format!("Bad owner or permissions on {path}"));
        let shared = file("config", "", 0o664);
        assert!(of_config(&shared).ends_with(&format!("write it: `chmod go-w {shared}`")), "{}", of_config(&shared));
        let other = file("other", "", 0o664);
        chown(&other, Some(4_000_000), None).unwrap();
        assert!(of_config(&other).ends_with("write it; it belongs to 4000000"), "{}", of_config(&other));
        for path in [file("right", "", 0o644), dir.path().display().to_string(), "/none".into()] {
            assert!(of_config(&path).ends_with("nobody else can write it"), "{}", of_config(&path));
        }
        for greeting in
            ["remote: Load key \"/etc/passwd\": Permission denied", "x Permissions 0644 for '/k' are too open."]
        {
            let hint = hint("git@h:x", &format!("{greeting}\n{denied}"));
            assert!(hint.contains("accepts none of the keys"), "{hint}");
        }
    }

    #[test]
    fn a_url_with_a_port_in_the_wrong_place_is_written_right() {
        let refused = "ssh: connect to host h port 22: Connection refused";
        for (url, right) in [
            ("git@h:2200:/srv/x.git", "a part of the path: write ssh://git@h:2200/srv/x.git"),
            ("h:2200:x.git", "write ssh://h:2200/~/x.git"),
            ("[::1]:2200:/x", "write ssh://[::1]:2200/x"),
            ("git@h:2200/srv/x.git", "or, if 2200 is a port, write ssh://git@h:2200/srv/x.git"),
            ("ssh://git@h:team/x.git", "for a port: write ssh://git@h/team/x.git"),
            ("ssh://u:s3cret@h:team/x.git", "for a port: write ssh://u@h/team/x.git"),
            ("ssh://u:s3c/ret@h/x", "for a port: correct the url"),
        ] {
            let hint = hint(url, refused);
            assert!(hint.ends_with(right), "{url}: {hint}");
        }
        for url in [
            "git@h:x.git",
            "git@h:70000/x",
            "git@h:22x/y",
            "ssh://h:22/x",
            "ssh://[::1]/x",
            "ssh://[::1]:22/x",
            "ssh://u:s3cret@h/x",
            "ssh://u:s3cret@[::1]:22/x",
            "u:1234/5@h:x",
            "u:1234:5@h:x",
        ] {
            let hint = hint(url, refused);
            assert!(hint.ends_with("and the firewall"), "{url}: {hint}");
        }
    }

    #[test]
    fn the_command_of_the_user_is_named_and_used() {
        let hint = |text: &str, said: &str| {
            let folder = PathBuf::from("/srv/my app");
            let ssh = SshCommand { text: text.to_owned(), source: Some("core.sshCommand"), folder };
            let failure = failure(Remote { url: "git@h:x", resolved: "git@h:x", ssh: &ssh }, &ended(said));
            failure.hint.unwrap()
        };
        let denied = "git@h: Permission denied (publickey).";
        let home = std::env::var("HOME").unwrap();
        for (own, words) in [
            ("ssh -F 'a b' -ikey", "-F '/srv/my app/a b' -i '/srv/my app/key'"),
            ("ssh -F none -i ~/deploy -i '~/other'", &format!("-F none -i {home}/deploy -i '~/other'")),
            ("/usr/bin/ssh -4 -vv -p 22 -J u@h:1,k", "/usr/bin/ssh -4 -vv -p 22 -J u@h:1,k"),
            ("../ssh -q", "'/srv/my app/../ssh' -q"),
            ("ssh -oPort=22 -o 'identitiesonly yes'", "ssh -o Port=22 -o identitiesonly=yes"),
        ] {
            let words = format!("{words} git@h true`");
            assert!(hint(own, denied).ends_with(&words), "{own}: {}", hint(own, denied));
        }
        for own in [
            "sshpass -p s3cret ssh",
            "ssh; true",
            "ssh -o ProxyCommand=\"sshpass -p s3cret ssh jump\"",
            "ssh -o SetEnv=TOKEN=s3cret",
            "ssh -oSetEnv=TOKEN=s3cret -4",
            "ssh -J u:s3cret@h",
            "ssh -l u:s3cret",
            "ssh -i",
            "ssh -p -oSetEnv=s3cret",
            "ssh s3cret",
        ] {
            assert!(hint(own, denied).ends_with("try `ssh git@h true`"), "{own}: {}", hint(own, denied));
        }
        for (own, said) in [
            ("/opt/my-ssh -4", "/opt/my-ssh -4 -o BatchMode=yes \"$@\": 1: /opt/my-ssh: not found"),
            ("A=b my-ssh", "sh: line 1: my-ssh: command not found"),
            ("'/opt/my-ssh'", "error: cannot run /opt/my-ssh: No such file or directory"),
            ("/opt/ssh", "/tmp/x/own/ssh: 14: exec: /opt/ssh: Permission denied"),
            ("'/opt/my ssh'", "'/opt/my ssh' -o BatchMode=yes \"$@\": 1: /opt/my ssh: not found"),
        ] {
            let hint = hint(own, said);
            assert!(
                hint.starts_with("core.sshCommand names ") && hint.contains("cannot be run here"),
                "{said}: {hint}"
            );
        }
        for own in ["/opt/my-ssh", "'/opt/my ssh'"] {
            assert!(!hint(own, denied).contains("cannot be run"), "{own}: nothing says so");
        }
    }

    #[test]
    fn what_helps_with_ssh_is_a_command_that_can_be_pasted() {
        let hint = |url: &str, said: &[&str]| hint(url, &said.join("\n"));
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
            ("ssh://h/~/x y.git", "`git -C 'x y.git' fetch --unshallow`"),
            ("h:~/x", "`git -C x fetch --unshallow`"),
            ("ssh://h/~u/x", "ask its owner on h to run `git fetch --unshallow` in it"),
            ("https://h/x", "ask its owner"),
        ] {
            let hint = cut_off(url, url).hint.unwrap();
            assert!(hint.contains(command), "{hint}");
        }
    }
}
