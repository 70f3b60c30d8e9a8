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
    is_local(url).then(|| path_of_file_url(url).unwrap_or(url))
}

/// Returns the path of a `file://` URL. git ignores the host in it.
fn path_of_file_url(url: &str) -> Option<&str> {
    let rest = url.strip_prefix("file://")?;
    Some(rest.find('/').map_or(rest, |slash| &rest[slash..]))
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

/// Whether two URLs name the same repository. These make no difference: the password, the case of scheme and host, a default port,
/// escaped letters (RFC 3986, 6.2.2 and 6.2.3), the form of an ssh URL, and `/` or `.git` at the end.
///
/// In `host:path` the path begins in the user's home, so the users must be the same. `host:path` and `ssh://host/path` are treated
/// as one repository, as on common servers, although a server can have two.
pub fn same_url(one: &str, other: &str) -> bool {
    let (one, other) = (ComparableUrl::of(one), ComparableUrl::of(other));
    let same_user = match (&one.user_of_home, &other.user_of_home) {
        (Some(one), Some(other)) => one == other,
        _ => true,
    };
    // Across the two forms, roots are not compared, because it is unknown where the path of `host:path` begins.
    let same_root = one.is_scp != other.is_scp || one.is_in_home == other.is_in_home;
    same_user && same_root && one.reached == other.reached
}

/// The parts of a URL that [`same_url`] compares.
struct ComparableUrl {
    /// Scheme, host, port and path.
    reached: (String, String, String, String),
    /// The user in whose home the path begins.
    user_of_home: Option<String>,
    is_in_home: bool,
    /// Whether it has the form `host:path`.
    is_scp: bool,
}

impl ComparableUrl {
    fn of(url: &str) -> Self {
        let (scheme, rest) = url.split_once("://").unwrap_or_default();
        let scheme = scheme.to_ascii_lowercase();
        let reached = |scheme: &str, host: &str, port: Option<&str>, path: &str| {
            let port = port.filter(|port| default_port(scheme) != Some(*port)).unwrap_or_default();
            (scheme.to_owned(), host.to_ascii_lowercase(), port.to_owned(), path.to_owned())
        };
        if let Some(ssh) = ssh_host(url) {
            let path = if scheme.is_empty() { ssh.path } else { unescaped(&ssh.path) };
            let below_home = path.strip_prefix("/~/").or((!path.starts_with('/')).then_some(path.as_str()));
            let user_of_home = below_home.and(ssh.login.rsplit_once('@')).map(|(user, _)| user.to_owned());
            let path = without_end(below_home.unwrap_or(&path).trim_start_matches('/'));
            let reached = reached("ssh", &ssh.name, ssh.port.as_deref(), path);
            return Self { reached, user_of_home, is_in_home: below_home.is_some(), is_scp: scheme.is_empty() };
        }
        if is_local(url) {
            let path = path_of_file_url(url).unwrap_or(url).trim_end_matches('/');
            return Self {
                reached: reached("file", "", None, path),
                user_of_home: None,
                is_in_home: false,
                is_scp: false,
            };
        }
        let plain = without_login(&scheme, rest);
        let rest = plain.split_once("://").map_or("", |(_, rest)| rest);
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (host, Some(port)),
            _ => (authority, None),
        };
        let path = unescaped(path);
        Self {
            reached: reached(&scheme, host, port.filter(|port| !port.is_empty()), without_end(&path)),
            user_of_home: None,
            is_in_home: false,
            is_scp: false,
        }
    }
}

pub(super) fn default_port(scheme: &str) -> Option<&'static str> {
    Some(match scheme {
        "http" => "80",
        "https" => "443",
        "ssh" => "22",
        "git" => "9418",
        _ => return None,
    })
}

/// Replaces the codes of letters that need none (`%7E`).
fn unescaped(path: &str) -> String {
    let mut parts = path.split('%');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part.get(..2).and_then(|code| u8::from_str_radix(code, 16).ok());
        match code.filter(|code| code.is_ascii_alphanumeric() || b"-._~".contains(code)) {
            Some(code) => {
                text.push(char::from(code));
                text.push_str(&part[2..]);
            }
            None => {
                text.push('%');
                text.push_str(part);
            }
        }
    }
    text
}

fn without_end(path: &str) -> &str {
    let path = path.trim_end_matches('/');
    path.strip_suffix(".git").unwrap_or(path).trim_end_matches('/')
}

/// Whether two URLs are paths to the same repository of this host, after following symlinks and `..`.
pub fn same_place(one: &str, other: &str, relative_to: &Path) -> bool {
    let place = |url: &str| {
        let path = path_of_file_url(url).or((!url.contains("://") && !is_scp_like(url)).then_some(url))?;
        let path = relative_to.join(path);
        // git opens the first of these that is a repository (`enter_repo` in its path.c).
        let repository = ["/.git", "", ".git/.git", ".git"].iter().find_map(|end| {
            let mut at = path.clone().into_os_string();
            at.push(end);
            fs::symlink_metadata(Path::new(&at).join("HEAD")).ok().and_then(|_| fs::canonicalize(at).ok())
        });
        repository.or_else(|| fs::canonicalize(path).ok())
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

    /// git ignores it.
    #[test]
    fn the_host_of_a_file_url_makes_no_difference() {
        for url in ["file:///srv/x", "file://localhost/srv/x"] {
            assert_eq!(local_path(url), Some("/srv/x"), "{url}");
            assert!(same_url(url, "/srv/x/") && same_url(url, "file://other/srv/x"), "{url}");
        }
        assert_eq!(local_path("file://srv"), Some("srv"));
    }

    #[test]
    fn the_same_repository_can_be_spelled_in_several_ways() {
        let spellings: [&[&str]; 5] = [
            &[
                "https://git.example/o/r.git",
                "https://git.example/o/r",
                "https://git.example:443/o/r.git",
                "https://Git.Example/o/r.git",
                "HTTPS://git.example/o/r/",
                "https://u:p@git.example/o/%72.git/",
                "https://git.example:/o/r",
            ],
            &["git@h:o/r", "ssh://git@h/o/r", "git@h:o/r.git", "ssh://git@H:22/o/r", "h:o/r", "git+ssh://git@h/o/r/"],
            &["ssh://git@h:2222/o/r", "ssh://h:2222/o/r.git"],
            &["http://h/o/r", "http://h:80/o/r"],
            &["git://h/o/r", "git://h:9418/o/r.git"],
        ];
        for (number, group) in spellings.iter().enumerate() {
            for one in *group {
                for other in *group {
                    assert!(same_url(one, other), "{one} {other}");
                }
                for other in spellings.iter().skip(number + 1).flat_map(|group| group.iter()) {
                    assert!(!same_url(one, other) && !same_url(other, one), "{one} {other}");
                }
            }
        }
        for (one, other) in [
            ("alice@h:r", "bob@h:r"),
            ("https://h/o/r", "https://h/o/R"),
            ("https://h/o/r", "https://h/o/r2"),
            ("https://h/a%2Fb", "https://h/a/b"),
            ("/srv/app", "/srv/app.git"),
            ("git@h:o/r", "git@h:/o/r"),
            ("ssh://h/o/r", "ssh://h/~/o/r"),
            ("https://h:8443/r", "https://h/r"),
        ] {
            assert!(!same_url(one, other), "{one} {other}");
        }
        assert!(same_url("git@h:o/r", "ssh://git@h/~/o/r") && same_url("git@h:/o/r", "ssh://git@h/o/r"));
        assert!(same_url("ssh://alice@h/srv/r", "ssh://bob@h/srv/r"), "the path is that of the host");
    }

    #[test]
    fn paths_are_those_that_git_opens() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path).to_string_lossy().into_owned();
        git2::Repository::init_bare(at("bare.git")).unwrap();
        git2::Repository::init(at("work")).unwrap();
        git2::Repository::init_bare(at("two.git")).unwrap();
        git2::Repository::init_bare(at("two")).unwrap();
        let same = |one: &str, other: &str| same_place(&at(one), &at(other), dir.path());
        assert!(same("bare", "bare.git") && same("work", "work/.git"));
        assert!(!same("two", "two.git"), "both exist");
        assert!(!same("bare", "work"));
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
