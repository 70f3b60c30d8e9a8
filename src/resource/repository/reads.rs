//! The files with which git and ssh reach a remote. A step that makes one of them has to run first.

use std::collections::BTreeSet;
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
        None => values(&text(&top.join(".git/config"), host), "url"),
    };
    let of_home = |names: &[&str]| -> Vec<PathBuf> {
        home.map_or_else(Vec::new, |home| names.iter().map(|name| home.join(name)).collect())
    };
    let mut paths = of_home(&[".gitconfig", ".config/git/config"]);
    paths.push(PathBuf::from("/etc/gitconfig"));
    let configurations: Vec<PathBuf> = paths.iter().cloned().chain([top.join(".git/config")]).collect();
    for url in urls {
        let url = absolute(&url, top);
        if let Some(path) = local_path(&url) {
            let path = Path::new(path);
            paths.push(if path.ends_with(".git") { path.to_owned() } else { path.join(".git") });
        } else if let Some(remote) = ssh_host(&url) {
            paths.extend(SYSTEM.iter().map(PathBuf::from));
            paths.extend(KnownHosts::of(home).paths().iter().cloned());
            let Some(home) = home else { continue };
            paths.extend(ssh_files(&remote.name, home, host));
            paths.extend(configurations.iter().flat_map(|path| of_ssh_command(&text(path, host), top, home)));
        } else {
            paths.extend(of_home(&[".netrc", ".git-credentials", ".config/git/credentials"]));
        }
    }
    paths
}

/// Returns the user's configuration of ssh, the keys with usual names, and what the configuration names for this remote host.
fn ssh_files(remote: &str, home: &Path, host: &dyn Host) -> Vec<PathBuf> {
    let ssh = home.join(".ssh");
    let config = ssh.join("config");
    let mut files: Vec<PathBuf> = KEYS.iter().map(|name| ssh.join(name)).collect();
    named_in(&config, remote, home, host, &mut BTreeSet::new(), &mut files);
    files.push(config);
    files
}

/// Adds the files that a configuration of ssh names for this remote host, and that those which it includes name.
fn named_in(
    config: &Path,
    remote: &str,
    home: &Path,
    host: &dyn Host,
    seen: &mut BTreeSet<PathBuf>,
    files: &mut Vec<PathBuf>,
) {
    if !seen.insert(config.to_owned()) {
        return;
    }
    let mut applies = true;
    for line in text(config, host).lines() {
        let (keyword, words) = keyword_and_arguments(line);
        match keyword.as_str() {
            "host" => applies = is_listed(words.iter().map(String::as_str), &remote.to_lowercase()),
            // Whether it applies may depend on a program.
            "match" => applies = true,
            _ => {}
        }
        if !applies || !KEYWORDS.contains(&keyword.as_str()) {
            continue;
        }
        for word in words {
            let path = in_home(&word.replace("%d", &home.to_string_lossy()), &home.join(".ssh"), home);
            // Up to the first part with a pattern.
            let is_plain = |part: &&std::ffi::OsStr| !part.to_string_lossy().contains(['*', '?', '%']);
            let plain: PathBuf = path.iter().take_while(is_plain).collect();
            if keyword == "include" && plain == path {
                named_in(&path, remote, home, host, seen, files);
            }
            files.push(plain);
        }
    }
}

/// Returns the files that the user's command for ssh names, if the text of git's configuration sets one (core.sshCommand). git runs
/// it in the checkout.
fn of_ssh_command(config: &str, top: &Path, home: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for command in values(config, "sshcommand") {
        let mut words = words(&command).into_iter();
        while let Some(word) = words.next() {
            let named = ["-i", "-F"].into_iter().find_map(|option| word.strip_prefix(option));
            let named = if named == Some("") { words.next() } else { named.map(str::to_owned) };
            files.extend(named.map(|path| in_home(&path, top, home)));
        }
    }
    files
}

/// Returns the path that a word names, relative to a directory.
fn in_home(word: &str, relative_to: &Path, home: &Path) -> PathBuf {
    match word.strip_prefix("~/") {
        Some(rest) => home.join(rest),
        None => relative_to.join(word),
    }
}

/// Returns the keyword of a line of ssh_config(5) in lower case, and its arguments.
fn keyword_and_arguments(line: &str) -> (String, Vec<String>) {
    let line = line.trim_start();
    let (keyword, rest) = line.split_at(line.find(|c: char| c.is_whitespace() || c == '=').unwrap_or(line.len()));
    let rest = rest.trim_start();
    (keyword.to_ascii_lowercase(), words(rest.strip_prefix('=').unwrap_or(rest)))
}

/// Splits a text at blanks outside of quotes, and removes the quotes.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for letter in text.chars() {
        match letter {
            '"' | '\'' if quote.is_none() => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            letter if quote == Some(letter) => quote = None,
            letter if quote.is_none() && letter.is_whitespace() => words.extend(word.take()),
            letter => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

/// Returns the values of a key in the text of git's configuration, in all sections.
fn values(text: &str, wanted: &str) -> Vec<String> {
    let value = |line: &str| {
        let (key, value) = line.split_once('=')?;
        let value = value.trim().replace("\\\"", "\"");
        let whole = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
        key.trim().eq_ignore_ascii_case(wanted).then(|| whole.unwrap_or(&value).to_owned())
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

    /// A host with these files.
    struct Files(&'static [(&'static str, &'static str)]);

    impl Host for Files {
        fn path(&self, written: &Path) -> PathBuf {
            written.to_owned()
        }

        fn read(&self, path: &Path) -> Option<Vec<u8>> {
            self.0.iter().find(|(name, _)| path == Path::new(name)).map(|(_, text)| (*text).into())
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

    #[test]
    fn quoted_names_included_files_and_the_command_for_ssh_are_read() {
        let host = Files(&[
            (
                "/home/u/.ssh/config",
                "IdentityFile \"~/my key\" '~/other key'\nInclude more.conf /etc/x/*.conf\nInclude config\n",
            ),
            ("/home/u/.ssh/more.conf", "Host bastion\n IdentityFile ~/far\nHost h\n IdentityFile = ~/a=b\n"),
            ("/home/u/.gitconfig", "[core]\n\tsshCommand = ssh -i ~/.ssh/deploy -i near -F/srv/ssh.conf\n"),
            ("/srv/app/.git/config", "[core]\n\tsshCommand = \"ssh -i \\\"/srv/a key\\\" -4\"\n"),
        ]);
        for path in [
            "/home/u/my key",
            "/home/u/other key",
            "/home/u/.ssh/more.conf",
            "/home/u/a=b",
            "/etc/x",
            "/home/u/.ssh/deploy",
            "/srv/app/near",
            "/srv/ssh.conf",
            "/srv/a key",
        ] {
            assert!(has(Some("git@h:x"), &host, path), "{path}");
        }
        assert!(!has(Some("git@h:x"), &host, "/home/u/far"));
        assert!(!has(Some("https://h/x"), &host, "/home/u/.ssh/deploy"));
    }
}
