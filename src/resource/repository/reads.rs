//! The files with which git and ssh reach a remote. A step that makes one of them has to run first.

use std::path::{Path, PathBuf};

use crate::git::remote::{absolute, local_path, ssh_host};
use crate::host::ssh::known_hosts::{KnownHosts, is_listed};
use crate::plan::claim::Host;

/// The keys that ssh tries by default (ssh_config(5), IdentityFile).
const KEYS: [&str; 6] = ["id_rsa", "id_ecdsa", "id_ecdsa_sk", "id_ed25519", "id_ed25519_sk", "id_dsa"];
/// The keywords of ssh_config(5) that name files.
const KEYWORDS: [&str; 5] =
    ["identityfile", "certificatefile", "userknownhostsfile", "globalknownhostsfile", "include"];
/// The configurations of ssh for the whole system.
const SYSTEM: [&str; 2] = ["/etc/ssh/ssh_config", "/etc/ssh/ssh_config.d"];

/// Returns the paths that reaching the remote of the checkout at `top` reads if they are there. Without a `url`, that of the
/// checkout counts.
pub fn paths(url: Option<&str>, top: &Path, home: Option<&Path>, host: &dyn Host) -> Vec<PathBuf> {
    let urls = match url {
        Some(url) => vec![url.to_owned()],
        None => configured(&text(&top.join(".git/config"), host)),
    };
    let in_home = |names: &[&str]| -> Vec<PathBuf> {
        home.map_or_else(Vec::new, |home| names.iter().map(|name| home.join(name)).collect())
    };
    let mut paths = in_home(&[".gitconfig", ".config/git/config"]);
    paths.push(PathBuf::from("/etc/gitconfig"));
    for url in urls {
        let url = absolute(&url, top);
        if let Some(path) = local_path(&url) {
            let path = Path::new(path);
            paths.push(if path.ends_with(".git") { path.to_owned() } else { path.join(".git") });
        } else if let Some(remote) = ssh_host(&url) {
            paths.extend(SYSTEM.iter().map(PathBuf::from));
            paths.extend(KnownHosts::of(home).paths().iter().cloned());
            paths.extend(home.into_iter().flat_map(|home| ssh_files(&remote.name, home, host)));
        } else {
            paths.extend(in_home(&[".netrc", ".git-credentials", ".config/git/credentials"]));
        }
    }
    paths
}

/// Returns the user's configuration of ssh, the keys with usual names, and what the configuration names for this remote host.
fn ssh_files(remote: &str, home: &Path, host: &dyn Host) -> Vec<PathBuf> {
    let ssh = home.join(".ssh");
    let config = ssh.join("config");
    let mut files: Vec<PathBuf> = KEYS.iter().map(|name| ssh.join(name)).collect();
    let mut applies = true;
    for line in text(&config, host).lines() {
        let words = line.split(|c: char| c.is_whitespace() || c == '=').filter(|word| !word.is_empty());
        let mut words = words.map(|word| word.trim_matches('"'));
        let Some(keyword) = words.next().map(str::to_ascii_lowercase) else { continue };
        match keyword.as_str() {
            "host" => applies = is_listed(words.clone(), &remote.to_lowercase()),
            // Whether it applies may depend on a program.
            "match" => applies = true,
            _ => {}
        }
        if !applies || !KEYWORDS.contains(&keyword.as_str()) {
            continue;
        }
        for word in words {
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
            ("https://h/x", "/home/u/.config/git/credentials"),
            ("https://h/x", "/home/u/.gitconfig"),
            ("git@h:x", "/home/u/.config/git/config"),
            ("ssh://h/x", "/etc/ssh/ssh_config.d"),
        ] {
            assert!(has(Some(url), &Unseen, path), "{url}");
        }
        for url in ["https://h/x", "/srv/other", "file:///srv/other"] {
            for path in ["/home/u/.ssh/config", "/home/u/.ssh/id_rsa", "/etc/ssh/ssh_config", "/etc/ssh/ssh_config.d"] {
                assert!(!has(Some(url), &Unseen, path), "{url} {path}");
            }
        }
        let all = ["https://h/x", "ssh://h/x", "/srv/other"]
            .map(|url| paths(Some(url), Path::new("/srv/app"), Some(Path::new("/home/u")), &Unseen));
        for name in ["ignore", "attributes"] {
            let path = Path::new("/home/u/.config/git").join(name);
            assert!(!all.iter().flatten().any(|read| path.starts_with(read)), "{name}");
        }
    }

    #[test]
    fn what_the_configuration_names_is_read() {
        let config =
            "Host h\n  IdentityFile ~/keys/deploy\nIdentityFile=%d/two\ninclude config.d/*\n# IdentityFile /no\n";
        for path in ["/home/u/keys/deploy", "/home/u/two", "/home/u/.ssh/config.d"] {
            assert!(has(Some("h:x"), &Same(config), path), "{path}");
        }
        let config = "IdentityFile ~/all\nHost bastion x?.example !x1.example\n IdentityFile ~/some\nHost *\n IdentityFile ~/every\n\
                      Match exec true\n IdentityFile ~/match\nHost \"other\"\n Include ~/more\n";
        let files = ["all", "some", "every", "match", "more"];
        for (url, read) in [
            ("git@h:x", &["all", "every", "match"][..]),
            ("ssh://git@bastion:22/x", &["all", "some", "every", "match"]),
            ("X2.example:x", &["all", "some", "every", "match"]),
            ("x1.example:x", &["all", "every", "match"]),
            ("other:x", &["all", "every", "match", "more"]),
        ] {
            let found = files.iter().filter(|file| has(Some(url), &Same(config), &format!("/home/u/{file}")));
            assert!(found.eq(read), "{url}");
        }
        assert!(has(None, &Same("[remote \"origin\"]\n\turl = git@h:x\n"), "/home/u/.ssh/id_rsa"));
    }
}
