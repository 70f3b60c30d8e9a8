//! The files with which git and ssh reach a remote. A step that makes one of them has to run first.

use std::path::{Path, PathBuf};

use crate::git::remote::{absolute, local_path, ssh_host};
use crate::host::ssh::known_hosts::KnownHosts;
use crate::plan::claim::Host;

/// The keys that ssh tries by default (ssh_config(5), IdentityFile).
const KEYS: [&str; 6] = ["id_rsa", "id_ecdsa", "id_ecdsa_sk", "id_ed25519", "id_ed25519_sk", "id_dsa"];
/// The keywords of ssh_config(5) that name files.
const KEYWORDS: [&str; 5] =
    ["identityfile", "certificatefile", "userknownhostsfile", "globalknownhostsfile", "include"];
/// The system-wide configurations.
const SYSTEM: [&str; 3] = ["/etc/gitconfig", "/etc/ssh/ssh_config", "/etc/ssh/ssh_config.d"];

/// Returns the paths that reaching the remote of the checkout at `top` reads if they are there. Without a `url`, that of the
/// checkout counts.
pub fn paths(url: Option<&str>, top: &Path, home: Option<&Path>, host: &dyn Host) -> Vec<PathBuf> {
    let urls = match url {
        Some(url) => vec![url.to_owned()],
        None => configured(&text(&top.join(".git/config"), host)),
    };
    let mut paths: Vec<PathBuf> = SYSTEM.iter().map(PathBuf::from).collect();
    paths.extend(home.into_iter().flat_map(|home| [".gitconfig", ".config/git"].map(|name| home.join(name))));
    for url in urls {
        let url = absolute(&url, top);
        if let Some(path) = local_path(&url) {
            let path = Path::new(path);
            paths.push(if path.ends_with(".git") { path.to_owned() } else { path.join(".git") });
        } else if ssh_host(&url).is_some() {
            paths.extend(KnownHosts::of(home).paths().iter().cloned());
            paths.extend(home.into_iter().flat_map(|home| ssh_files(home, host)));
        } else {
            paths.extend(home.into_iter().flat_map(|home| [".netrc", ".git-credentials"].map(|name| home.join(name))));
        }
    }
    paths
}

/// Returns the user's configuration of ssh, the keys with usual names, and what the configuration names.
fn ssh_files(home: &Path, host: &dyn Host) -> Vec<PathBuf> {
    let ssh = home.join(".ssh");
    let config = ssh.join("config");
    let mut files: Vec<PathBuf> = KEYS.iter().map(|name| ssh.join(name)).collect();
    for line in text(&config, host).lines() {
        let mut words = line.split(|c: char| c.is_whitespace() || c == '=').filter(|word| !word.is_empty());
        if !words.next().is_some_and(|keyword| KEYWORDS.contains(&keyword.to_ascii_lowercase().as_str())) {
            continue;
        }
        for word in words.map(|word| word.trim_matches('"')) {
            let word = word.replace("%d", &home.to_string_lossy());
            let path = match word.strip_prefix("~/") {
                Some(rest) => home.join(rest),
                None => ssh.join(&word),
            };
            // Up to the first part with a pattern.
            let is_plain = |part: &&std::ffi::OsStr| !part.to_string_lossy().contains(['*', '?', '%']);
            files.push(path.iter().take_while(is_plain).collect());
        }
    }
    files.push(config);
    files
}

/// Returns the URLs of all remotes in the text of a configuration.
fn configured(text: &str) -> Vec<String> {
    let value = |line: &str| {
        let (key, value) = line.split_once('=')?;
        key.trim().eq_ignore_ascii_case("url").then(|| value.trim().trim_matches('"').to_owned())
    };
    text.lines().filter_map(value).collect()
}

fn text(path: &Path, host: &dyn Host) -> String {
    host.read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::claim::Unseen;

    /// A host with one text in every file.
    struct Same(&'static str);

    impl Host for Same {
        fn path(&self, written: &Path) -> PathBuf {
            written.to_owned()
        }

        fn read(&self, _path: &Path) -> Option<Vec<u8>> {
            Some(self.0.into())
        }
    }

    fn has(url: Option<&str>, host: &dyn Host, path: &str) -> bool {
        paths(url, Path::new("/srv/app"), Some(Path::new("/home/u")), host).contains(&PathBuf::from(path))
    }

    #[test]
    fn a_checkout_of_this_host_and_the_files_of_ssh_and_git_are_read() {
        for (url, path) in [
            ("/srv/other", "/srv/other/.git"),
            ("file:///srv/other/.git", "/srv/other/.git"),
            ("../other", "/srv/app/../other/.git"),
            ("git@h:x", "/home/u/.ssh/id_ed25519"),
            ("ssh://h/x", "/home/u/.ssh/known_hosts"),
            ("ssh://h/x", "/home/u/.ssh/config"),
            ("https://h/x", "/home/u/.git-credentials"),
            ("https://h/x", "/home/u/.gitconfig"),
        ] {
            assert!(has(Some(url), &Unseen, path), "{url}");
        }
        assert!(!has(Some("https://h/x"), &Unseen, "/home/u/.ssh/config"));
        assert!(!has(Some("/srv/other"), &Unseen, "/home/u/.ssh/id_rsa"));
    }

    #[test]
    fn what_the_configuration_names_is_read() {
        let config =
            "Host h\n  IdentityFile ~/keys/deploy\nIdentityFile=%d/two\ninclude config.d/*\n# IdentityFile /no\n";
        for path in ["/home/u/keys/deploy", "/home/u/two", "/home/u/.ssh/config.d"] {
            assert!(has(Some("h:x"), &Same(config), path), "{path}");
        }
        assert!(has(None, &Same("[remote \"origin\"]\n\turl = git@h:x\n"), "/home/u/.ssh/id_rsa"));
    }
}
