//! Finds the remedy for a remote that cannot be reached, by what git reports.

use std::path::Path;

use super::port_hint::{maybe_port, misspelt};
use super::ssh::SshCommand;
use super::ssh_remedy::of_ssh;
use super::url::{local_path, ssh_host};
use crate::git::obstacle::is_own;
use crate::git::pasted::opened_to_owner;
use crate::git::unreadable::in_remote;
use crate::host::environment;
use crate::host::fs::escape_path;
use crate::host::program::Ended;
use crate::host::users::as_acting_user;
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
    let is_web = ["http://", "https://"].iter().any(|scheme| remote.resolved.starts_with(scheme));
    let hint = if any(&["strange pathname", "strange hostname"]) {
        "a url that begins with a dash looks like an option: write ./ before the path of a directory"
    } else if has("maximum allowed tree depth") {
        "a directory in the commit is nested too deep for git itself: remove it from the branch"
    } else if let Some(name) = forbidden(text) {
        let allow = as_acting_user(&format!("git config --global protocol.{name}.allow always"));
        return Some(format!("git's configuration forbids it (protocol.{name}.allow); allow it: `{allow}`"));
    } else if has("invalid refspec") {
        "correct the setting remote.<name>.fetch in git's configuration: git-fetch(1) describes its form"
    } else if has("fsck error") {
        "git checks what it receives (fetch.fsckObjects), and an object of the remote fails the check: repair it at the remote, or accept this kind of error with `fetch.fsck.NAME = warn` in git's configuration, with the name in the message"
    } else if has("returned error: 401") {
        "the server requires a login, or rejected this one: check the credential helper of the step's user, and http.extraHeader in git's configuration"
    } else if has("returned error: 403") {
        "the server forbids it: check the url, and whether the login of the step's user may read the repository, or whether it needs one"
    } else if has("returned error: 429") {
        "the server limits the number of requests: wait a few minutes, then run again"
    } else if has("returned error: 5") {
        "the server reported an internal error: try again later, or ask its owner"
    } else if has("returned error: 404") {
        GONE
    } else if has("not allowed") && has("transport") {
        "use a path, file://, https:// or ssh://"
    } else if has("unable to find remote helper") {
        "install what git needs for this url, or use a path, file://, https:// or ssh://"
    } else if any(&["from proxy after connect", "connect tunnel failed", "resolve proxy"]) {
        "the proxy refuses the connection, requires a login, or has no such name: check http.proxy in git's configuration, and the variables http_proxy, https_proxy and no_proxy"
    } else if any(&["could not resolve", "unable to look up", "name or service not known"]) {
        "the host's name cannot be resolved: check the url, the network and the proxy"
    } else if any(&["timed out", "refused", "no route", "unreachable", "failed to connect", "couldn't connect"]) {
        "the host does not answer: check the url, the network, the proxy and the firewall"
    } else if has("redirects followed") {
        "the server redirects endlessly: check the url, and whether it needs a login"
    } else if has("protocol \"") && any(&["disabled", "not supported"]) || has("update url base from redirection") {
        "the server redirects git to something that is not a repository, such as a login page: check the url"
    } else if !is_ssh && any(&NO_TLS) {
        "the server does not speak TLS there: check whether the url begins with http://, and its port"
    } else if !is_ssh && any(&CUT_OFF) {
        "the connection was cut: try again, and check the url, the network and the proxy"
    } else if is_web && any(&["certificate", "ssl"]) && environment::text("SSL_CERT_FILE").is_some() {
        "the server's certificate is not trusted here: check the url, the clock, ca-certificates and git's http.sslCAInfo; git reads GIT_SSL_CAINFO, and not SSL_CERT_FILE"
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

/// Returns the remedy if the acting user may not read something of a remote on this host. git takes that for missing.
fn unread(remote: &str) -> Option<String> {
    let denied = in_remote(Path::new(remote))?;
    let path = escape_path(&denied);
    Some(match is_own(&path) {
        true => opened_to_owner("-R u+rX", &denied),
        false => {
            format!(
                "the step's user may not read {path}: let its owner give that user the right, by a group for example"
            )
        }
    })
}

/// Returns the command of git by which the owner of a remote repairs it, and where to run it.
pub fn there(resolved: &str, arguments: &str) -> String {
    let command = |path: &str| format!("`git -C {} {arguments}`", shell_word(path));
    match (local_path(resolved), ssh_host(resolved)) {
        (Some(path), _) => format!("as its owner: {}", command(path)),
        (None, Some(host)) => {
            match host.path.strip_prefix("/~/").or_else(|| host.path.strip_prefix("~/")).unwrap_or(&host.path) {
                // The home of another user.
                path if path.trim_start_matches('/').starts_with('~') => {
                    format!("ask its owner on {} to run `git {arguments}` in it", host.name)
                }
                path => format!("on {}, as its owner: {}", host.name, command(path)),
            }
        }
        (None, None) => format!("ask its owner to run `git {arguments}` in it"),
    }
}

/// Returns the directory that git does not trust because of its owner.
fn dubious(ended: &Ended) -> Option<String> {
    let line = ended.said.iter().find(|line| line.contains("dubious ownership in repository at"))?;
    Some(line.split_once('\'')?.1.rsplit_once('\'')?.0.to_owned())
}
