//! URLs of remotes: whether they are local, whether two of them name the same repository, and how they may be shown.

use std::fs;
use std::path::Path;

use crate::text::without_login;

/// Makes the relative path of a local remote absolute, from the checkout's top.
pub fn absolute(url: &str, top: &Path) -> String {
    if is_local(url) && !url.starts_with("file://") {
        top.join(url).to_string_lossy().into_owned()
    } else {
        url.to_owned()
    }
}

/// Whether a URL is a directory of this host.
pub fn is_local(url: &str) -> bool {
    url.starts_with("file://") || !(url.contains("://") || is_scp_like(url))
}

/// Returns the directory of a local URL.
pub fn local_path(url: &str) -> Option<&str> {
    is_local(url).then(|| url.strip_prefix("file://").unwrap_or(url))
}

/// The host and path of an ssh URL.
pub struct SshHost {
    /// The argument for ssh: with the user, if the URL has one.
    pub login: String,
    pub name: String,
    pub port: Option<String>,
    /// The path on that host.
    pub path: String,
}

/// Parses an ssh URL in either of git's forms (git-clone(1), GIT URLS).
pub fn ssh_host(url: &str) -> Option<SshHost> {
    let (login, port, path) = match url.split_once("://") {
        Some((scheme, rest)) => {
            if !["ssh", "git+ssh", "ssh+git"].contains(&scheme) {
                return None;
            }
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            match authority.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit())) {
                Some((login, port)) => (login, Some(port.to_owned()).filter(|port| !port.is_empty()), path),
                None => (authority, None, path),
            }
        }
        None if is_scp_like(url) => {
            let colon = url.find("]:").map(|end| end + 1).or_else(|| url.find(':'))?;
            (&url[..colon], None, &url[colon + 1..])
        }
        None => return None,
    };
    let (user, name) = login.rsplit_once('@').map_or((None, login), |(user, name)| (user.split(':').next(), name));
    let name = name.trim_start_matches('[').trim_end_matches(']').to_owned();
    let login = user.map_or_else(|| name.clone(), |user| format!("{user}@{name}"));
    Some(SshHost { login, name, port, path: path.to_owned() })
}

/// Whether it has the form `host:path`: git's rule is a colon before any slash.
fn is_scp_like(url: &str) -> bool {
    match (url.find(':'), url.find('/')) {
        (Some(colon), Some(slash)) => colon < slash,
        (Some(_), None) => true,
        (None, _) => false,
    }
}

/// Whether two URLs name the same remote, regardless of user, password and a trailing slash.
pub fn same_url(one: &str, other: &str) -> bool {
    let plain = |url: &str| {
        let url = match url.split_once("://") {
            Some((scheme, rest)) => without_login(scheme, rest),
            None => url.to_owned(),
        };
        let url = url.strip_prefix("file://").unwrap_or(&url);
        url.trim_end_matches('/').to_owned()
    };
    plain(one) == plain(other)
}

/// Whether two URLs are paths to the same directory of this host, after following symlinks and `..`.
pub fn same_place(one: &str, other: &str, relative_to: &Path) -> bool {
    let place = |url: &str| {
        let path = url.strip_prefix("file://").or((!url.contains("://") && !is_scp_like(url)).then_some(url))?;
        fs::canonicalize(relative_to.join(path)).ok()
    };
    place(one).is_some_and(|one| place(other) == Some(one))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_by_ssh() {
        let found = |url: &str| ssh_host(url).map(|host| (host.login, host.port.unwrap_or_default(), host.path));
        let host = |login: &str, port: &str, path: &str| Some((login.to_owned(), port.to_owned(), path.to_owned()));
        assert_eq!(found("ssh://git@h:2222/x"), host("git@h", "2222", "/x"));
        assert_eq!(found("ssh://u:p@h/x"), host("u@h", "", "/x"));
        assert_eq!(found("ssh://[::1]:22/x"), host("::1", "22", "/x"));
        assert_eq!(found("ssh://u@[::1]/x"), host("u@::1", "", "/x"));
        assert_eq!(found("git@h:a/b"), host("git@h", "", "a/b"));
        assert_eq!(found("[::1]:a"), host("::1", "", "a"));
        for other in ["https://h/x", "/srv/a:b", "file:///x"] {
            assert_eq!(found(other), None, "{other}");
        }
    }

    #[test]
    fn urls_are_compared_by_what_they_name() {
        assert!(same_url("https://u:p@h/x", "https://u@h/x/"));
        assert!(same_url("file:///srv/x", "/srv/x"));
        assert!(!same_url("https://h/x", "https://h/y"));
        assert!(!same_url("https://h:8080/x@y", "https://k:8080/x@y"));
    }

    #[test]
    fn paths_are_compared_by_where_they_lead() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path).to_string_lossy().into_owned();
        for folder in ["remote.git", "other.git", "a/remote.git", "a/b"] {
            fs::create_dir_all(at(folder)).unwrap();
        }
        std::os::unix::fs::symlink(at("a/b"), at("link")).unwrap();
        let same = |one: &str, other: &str| same_place(one, other, dir.path());
        assert!(same(&at("a/../remote.git"), &at("remote.git")));
        assert!(same(&format!("file://{}", at("a/..//./remote.git/")), &at("remote.git")));
        assert!(same("remote.git", &at("remote.git")));
        assert!(same(&at("link/../remote.git"), &at("a/remote.git")), "as the kernel goes");
        assert!(!same(&at("link/../remote.git"), &at("remote.git")));
        assert!(!same(&at("other.git"), &at("remote.git")));
        assert!(!same(&at("missing"), &at("missing")), "nothing is there");
        assert!(!same("https://h/x", "https://h/x") && !same("host:x", "host:x"));
    }

    #[test]
    fn a_relative_path_is_meant_from_the_checkout() {
        let top = Path::new("/srv/work");
        assert_eq!(absolute("../remote.git", top), "/srv/work/../remote.git");
        assert_eq!(absolute("/srv/a:b", top), "/srv/a:b");
        assert_eq!(absolute("host:path", top), "host:path");
        assert_eq!(absolute("https://h/x", top), "https://h/x");
    }
}
