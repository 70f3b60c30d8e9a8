//! Speaks to remotes as git itself would reach them, and says clearly why one cannot be reached.

use std::fs;
use std::path::Path;
use std::sync::Once;

use git2::{Config, Cred, CredentialType, Direction, FetchOptions, Oid, Remote, RemoteCallbacks, Repository};

use super::git_text;
use crate::host::{git_tls, ssh_transport};
use crate::resource::Failure;

/// Milliseconds until a server that does not answer is given up.
const CONNECT_TIMEOUT_MS: i32 = 15_000;

/// Milliseconds until a server that fell silent is given up.
const SILENCE_TIMEOUT_MS: i32 = 60_000;

/// How many branches are named where the wanted one is missing.
const BRANCHES_NAMED: usize = 8;

/// What can be spoken.
const SCHEMES: [&str; 5] = ["file", "git", "http", "https", "ssh"];

/// What a remote answers to `ls-remote`.
pub struct Answer {
    /// The head of the wanted branch.
    pub head: Option<Oid>,
    /// Where it has none: the names it has, the most similar first.
    pub branches: Vec<String>,
}

/// The refs of the remote at `url`, by name. Writes nothing.
pub fn refs(repo: &Repository, url: &str, relative_to: &Path) -> Result<Vec<(String, Oid)>, Failure> {
    let failed = |error: git2::Error| failure(url, &error);
    let mut remote = open(repo, url, relative_to)?;
    let config = repo.config().map_err(failed)?;
    let connection = remote.connect_auth(Direction::Fetch, Some(callbacks(config)), None).map_err(failed)?;
    let refs = connection.list().map_err(failed)?;
    Ok(refs.iter().map(|reference| (reference.name().to_owned(), reference.oid())).collect())
}

/// Asks the remote at `url` for the head of `branch`, with the configuration of `repo`. Writes nothing.
pub fn ask(repo: &Repository, url: &str, branch: &str, relative_to: &Path) -> Result<Answer, Failure> {
    let wanted = format!("refs/heads/{branch}");
    let mut head = None;
    let mut branches = Vec::new();
    for (name, commit) in refs(repo, url, relative_to)? {
        if name == wanted {
            head = Some(commit);
        } else if let Some(name) = name.strip_prefix("refs/heads/") {
            branches.push(name.to_owned());
        }
    }
    if head.is_some() {
        branches.clear();
    }
    let likeness = |name: &String| strsim::jaro_winkler(name, branch);
    branches.sort_by(|a, b| likeness(b).total_cmp(&likeness(a)).then_with(|| a.cmp(b)));
    branches.truncate(BRANCHES_NAMED);
    Ok(Answer { head, branches })
}

/// What came of a download.
pub enum Downloaded {
    All,
    /// Not all of it: there is no room where the object store is.
    NoRoom,
}

/// How much of what leads to a commit is downloaded with it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum History {
    Needed,
    /// The commit and its files will do. libgit2 gives a path's whole history all the same.
    NotNeeded,
}

/// Downloads the objects behind `refspecs` into the object store of `repo`; no ref is made.
pub fn download(
    repo: &Repository,
    url: &str,
    refspecs: &[String],
    relative_to: &Path,
    history: History,
) -> Result<Downloaded, Failure> {
    let failed = |error: git2::Error| failure(url, &error);
    let mut remote = open(repo, url, relative_to)?;
    let config = repo.config().map_err(failed)?;
    let mut options = FetchOptions::new();
    options.remote_callbacks(callbacks(config)).download_tags(git2::AutotagOption::None).update_fetchhead(false);
    if history == History::NotNeeded && !is_local(remote.url_bytes()) {
        options.depth(1);
    }
    match remote.download(refspecs, Some(&mut options)) {
        Ok(()) => Ok(Downloaded::All),
        Err(error) if lacks_room(&error) => Ok(Downloaded::NoRoom),
        // A server that cannot leave history out (gitprotocol-capabilities(5), `shallow`).
        Err(error) if history == History::NotNeeded && error.message().contains("shallow") => {
            drop(remote);
            download(repo, url, refspecs, relative_to, History::Needed)
        }
        Err(error) => Err(failed(error)),
    }
}

/// The remote at `url`, ready to be connected to.
pub fn open<'a>(repo: &'a Repository, url: &str, relative_to: &Path) -> Result<Remote<'a>, Failure> {
    if url.is_empty() {
        return Err(Failure::new("the remote's url is empty").hint("give it a path, or a url with ssh:// or https://"));
    }
    prepare(repo)?;
    let remote = repo.remote_anonymous(&reachable(url, relative_to)).map_err(|error| failure(url, &error))?;
    // The library takes any other scheme for the name of an ssh host.
    if let Ok(Some((scheme, _))) = std::str::from_utf8(remote.url_bytes()).map(|url| url.split_once("://"))
        && !SCHEMES.contains(&scheme.to_ascii_lowercase().as_str())
    {
        let what = format!("the remote {}: {scheme}:// is not supported", without_password(url));
        return Err(Failure::new(what).hint("use a path, file://, https:// or ssh://"));
    }
    // Not what was asked for counts but what the user's `insteadOf` made of it.
    if remote.url_bytes().starts_with(b"http") {
        git_tls::load_certificates().map_err(|error| failure(url, &error))?;
    }
    Ok(remote)
}

/// Sets what libgit2 and the ssh transport need before a connection of this thread.
fn prepare(repo: &Repository) -> Result<(), Failure> {
    static TIMEOUTS: Once = Once::new();
    TIMEOUTS.call_once(|| {
        #[expect(unsafe_code, reason = "git2 marks libgit2's process-wide settings unsafe")]
        // SAFETY: the settings are plain numbers that libgit2 reads when it opens a connection; they are set once,
        // before the first connection of this process is made through this module.
        unsafe {
            // Without them a silent server is waited for as long as the system likes: no reason to fail.
            let _ = git2::opts::set_server_connect_timeout_in_milliseconds(CONNECT_TIMEOUT_MS);
            let _ = git2::opts::set_server_timeout_in_milliseconds(SILENCE_TIMEOUT_MS);
        }
    });
    ssh_transport::register().map_err(|error| Failure::new(format!("cannot use ssh remotes: {}", git_text(&error))))?;
    let command = repo.config().and_then(|config| config.get_string("core.sshCommand")).ok();
    ssh_transport::set_command(command.filter(|command| !command.is_empty()));
    Ok(())
}

/// Credentials by git's own helpers. Nothing is ever asked of a person.
pub fn callbacks(config: Config) -> RemoteCallbacks<'static> {
    let mut callbacks = RemoteCallbacks::new();
    let mut helper_asked = false;
    callbacks.credentials(move |url, user, allowed| {
        if allowed.contains(CredentialType::USER_PASS_PLAINTEXT) && !helper_asked {
            helper_asked = true;
            return Cred::credential_helper(&config, url, user).map_err(|_| {
                git2::Error::from_str("authentication needed, and no credential helper knows the password")
            });
        }
        Err(git2::Error::from_str("authentication failed"))
    });
    callbacks
}

/// The URL as libgit2 has to get it: a relative path is meant from the checkout's top, and a path with a colon in it
/// would be taken for `host:path`.
pub fn reachable(url: &str, relative_to: &Path) -> String {
    if url.contains("://") || is_scp_like(url) {
        return url.to_owned();
    }
    let path = relative_to.join(url);
    let path = path.to_string_lossy();
    if path.contains(':') {
        format!("file://{}", path.replace('%', "%25").replace(':', "%3A"))
    } else {
        path.into_owned()
    }
}

/// Whether a URL leads to a directory of this host.
pub fn is_local(url: &[u8]) -> bool {
    let url = String::from_utf8_lossy(url);
    url.starts_with("file://") || !(url.contains("://") || is_scp_like(&url))
}

/// git's rule: a colon before any slash makes it `host:path`.
fn is_scp_like(url: &str) -> bool {
    match (url.find(':'), url.find('/')) {
        (Some(colon), Some(slash)) => colon < slash,
        (Some(_), None) => true,
        (None, _) => false,
    }
}

/// The URL as it may be shown: without what stands before an `@`, but for the user of an ssh URL.
pub fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    // A password may hold a slash or an `@` that should have been escaped: what may be one ends with the last `@`.
    let has_password = rest.split('@').next().is_some_and(|user| user.len() < rest.len() && user.contains(':'));
    let end = if has_password { rest.rfind('@') } else { rest[..authority(rest)].rfind('@') };
    without_login(scheme, rest, end)
}

/// A word of a message, a URL in quotes perhaps.
fn without_password_in(word: &str) -> String {
    let start = word.find(|letter: char| letter.is_ascii_alphanumeric()).unwrap_or(0);
    format!("{}{}", &word[..start], without_password(&word[start..]))
}

/// How long the part of a URL after `://` is that names user and host.
fn authority(rest: &str) -> usize {
    rest.find('/').unwrap_or(rest.len())
}

fn without_login(scheme: &str, rest: &str, end: Option<usize>) -> String {
    let Some(end) = end else { return format!("{scheme}://{rest}") };
    let place = &rest[end + 1..];
    // Of an https URL either half can be a token, and git asks its helpers for both. ssh takes the name alone.
    match rest[..end].split(':').next() {
        Some(user) if scheme == "ssh" => format!("{scheme}://{user}@{place}"),
        _ => format!("{scheme}://{place}"),
    }
}

/// Whether two URLs name the same remote, passwords and a slash at the end aside.
pub fn same_url(one: &str, other: &str) -> bool {
    let plain = |url: &str| {
        let url = match url.split_once("://") {
            Some((scheme, rest)) => without_login(scheme, rest, rest[..authority(rest)].rfind('@')),
            None => url.to_owned(),
        };
        let url = url.strip_prefix("file://").unwrap_or(&url);
        url.trim_end_matches('/').to_owned()
    };
    plain(one) == plain(other)
}

/// Whether two URLs are paths to the same directory of this host, links and `..` on the way followed.
pub fn same_place(one: &str, other: &str, relative_to: &Path) -> bool {
    let place = |url: &str| {
        let path = url.strip_prefix("file://").or((!url.contains("://") && !is_scp_like(url)).then_some(url))?;
        fs::canonicalize(relative_to.join(path)).ok()
    };
    place(one).is_some_and(|one| place(other) == Some(one))
}

/// What went wrong at the remote, and the remedy.
pub fn failure(url: &str, error: &git2::Error) -> Failure {
    let shown = without_password(url);
    let text = git_text(error).replace(url, &shown);
    // What the user's `insteadOf` made of the URL can hold a password too.
    let text = text.split(' ').map(without_password_in).collect::<Vec<_>>().join(" ");
    // libgit2 takes a path that does not exist for a URL.
    let told = if text.eq_ignore_ascii_case(NO_PROTOCOL) && !url.contains("://") { "it does not exist" } else { &text };
    if lacks_room(error) {
        let what = format!("there is no room for what the remote {shown} sends: {told}");
        return Failure::new(what).hint("free space there");
    }
    let failure = Failure::new(format!("cannot reach the remote {shown}: {told}"));
    match remedy(&text.to_lowercase(), url, error) {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// The remote's branch has another head than it had a moment ago.
pub fn moved_on(url: &str) -> Failure {
    Failure::new(format!("the remote {} moved on while it was asked", without_password(url))).hint("run again")
}

/// Whether what the remote sent cannot be stored here. What the remote says of its own disk is of another class.
fn lacks_room(error: &git2::Error) -> bool {
    let text = error.message().to_lowercase();
    error.class() == git2::ErrorClass::Os
        && (text.contains("no space left on device") || text.contains("disk quota exceeded"))
}

/// What libgit2 says of a URL that it cannot go by.
const NO_PROTOCOL: &str = "unsupported URL protocol";

fn remedy(text: &str, url: &str, error: &git2::Error) -> Option<String> {
    let has = |part: &str| text.contains(part);
    let hint = if has("identification has changed") {
        "the host's key is not the one in known_hosts: ask its owner before you remove the old line with `ssh-keygen -R HOST`"
    } else if has("host key verification failed") || has("host key is known") {
        "the host's key is not in the step's user's known_hosts: compare its fingerprint with the owner's, then add it with `ssh HOST` as that user"
    } else if has("permission denied (") || has("too many authentication failures") {
        "the host takes none of the step's user's keys: try `ssh HOST` as that user"
    } else if has("could not resolve") || has("failed to resolve") || has("name or service not known") {
        "the host's name is unknown here: check the url and the network"
    } else if has("timed out") || has("refused") || has("no route") || has("unreachable") {
        "the host does not answer: check the url, the network and the firewall"
    } else if has("certificate") {
        "the server's certificate is not trusted here: check the url, the clock and ca-certificates"
    } else if has("authentication") || has("401") || has("403") {
        "set up a credential helper for the step's user, or use an ssh url"
    } else if error.code() == git2::ErrorCode::Owner || has("not owned by") {
        "the remote's directory belongs to another user: the step's user can allow it with `git config --global --add safe.directory PATH`"
    } else if has("not appear to be a git repository")
        || has("404")
        || has("not found")
        || error.code() == git2::ErrorCode::NotFound
    {
        "there is no such repository, or it is not shown to the step's user: check the url"
    } else if has("unsupported url protocol") && !url.contains("://") {
        "there is no directory of that name on this host: check the url"
    } else if has("unsupported url protocol") {
        "use a path, file://, https:// or ssh://"
    } else {
        return None;
    };
    Some(hint.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_and_tokens_are_not_shown() {
        assert_eq!(without_password("https://u:p@h/x"), "https://h/x");
        assert_eq!(without_password("https://token@h/x"), "https://h/x");
        assert_eq!(without_password("ssh://git@h/x"), "ssh://git@h/x");
        assert_eq!(without_password("https://u:p@ss@h/x"), "https://h/x");
        assert_eq!(without_password("https://u:s3cr/et@h/x"), "https://h/x");
        assert_eq!(without_password("https://u:s3@cr/et@h/x"), "https://h/x");
        assert_eq!(without_password("ssh://u:s3cr/et@h/x"), "ssh://u@h/x");
        assert_eq!(without_password("ssh://git@h:22/x@y"), "ssh://git@h:22/x@y");
        assert_eq!(without_password("https://h:8080/x"), "https://h:8080/x");
        assert_eq!(without_password("git@h:x"), "git@h:x");
        assert_eq!(without_password("https://h/x@y"), "https://h/x@y");
    }

    #[test]
    fn a_password_that_the_configuration_puts_into_the_url_is_not_shown() {
        let dir = tempfile::tempdir().unwrap();
        let repo = Repository::init_bare(dir.path()).unwrap();
        let mut config = repo.config().unwrap();
        config.set_str("url.ssh://u:s3cret@.insteadOf", "forge:").unwrap();
        config.set_str("url.https://u:s3cret@h:x/.insteadOf", "web:").unwrap();
        for url in ["forge:host", "web:host"] {
            let failure = refs(&repo, url, dir.path()).unwrap_err();
            let told = format!("{} {}", failure.message, failure.hint.unwrap_or_default());
            assert!(told.contains(url) && !told.contains("s3cret"), "{told}");
        }
        let quoted = git2::Error::from_str("malformed URL 'ssh://u:s3cret@host'");
        let told = failure("forge:host", &quoted).message;
        assert!(told.ends_with("malformed URL 'ssh://u@host'"), "{told}");
    }

    #[test]
    fn a_url_that_leads_nowhere_is_named_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let repo = Repository::init_bare(dir.path()).unwrap();
        for (url, told) in
            [("", "url is empty"), ("ftp://u:p@h/x", "ftp://h/x: ftp:// is"), ("git+ssh://h/x", "git+ssh")]
        {
            let failure = open(&repo, url, dir.path()).err().unwrap();
            assert!(failure.message.contains(told) && failure.hint.is_some(), "{failure:?}");
        }
    }

    #[test]
    fn a_full_disk_is_not_blamed_on_the_remote() {
        let full = "cannot extend packfile '/srv/x/.git/objects/pack/pack_1': No space left on device";
        let error = git2::Error::new(git2::ErrorCode::GenericError, git2::ErrorClass::Os, full);
        let failure = failure("https://u:p@h/x", &error);
        assert!(failure.message.starts_with("there is no room for what the remote https://h/x sends: cannot extend"));
        assert!(failure.hint.unwrap().contains("free space"));
        let theirs = git2::Error::from_str("cannot create temp file: No space left on device");
        assert!(super::failure("ssh://h/x", &theirs).message.starts_with("cannot reach the remote ssh://h/x"));
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
    fn a_local_path_is_never_taken_for_a_host() {
        let top = Path::new("/srv/work");
        assert_eq!(reachable("../remote.git", top), "/srv/work/../remote.git");
        assert_eq!(reachable("/srv/a:b", top), "file:///srv/a%3Ab");
        assert_eq!(reachable("host:path", top), "host:path");
        assert_eq!(reachable("https://h/x", top), "https://h/x");
    }
}
