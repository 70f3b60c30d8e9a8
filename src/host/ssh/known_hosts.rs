//! Checks host keys against `known_hosts` files.
//!
//! The format is OpenSSH's (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT): plain, wildcard, negated and hashed names, other
//! ports as `[host]:port`, and `@revoked`. A host that is not listed with its port is looked up without it, as by ssh.
//! `@cert-authority` lines are only found for messages, because host certificates are not supported.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::sign::Signer;

use crate::host::fs;
use crate::host::users::{as_acting_user, as_root};
use crate::text::shell_word;

/// The maximum size of a known_hosts file (16 MiB).
const MAX_KNOWN_HOSTS_BYTES: u64 = 16 << 20;

/// The files of one user, the user's own files first.
#[derive(Debug, Clone, Default)]
pub struct KnownHosts {
    files: Vec<PathBuf>,
}

/// The result of looking up a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Known,
    /// No line lists the host.
    Unknown,
    /// The host is listed with other keys. The value is the first of them, as `file:line`.
    Changed(String),
    /// The key is marked as revoked at this place.
    Revoked(String),
}

/// The port of an address that names none.
const DEFAULT_PORT: u16 = 22;

struct Entry {
    place: String,
    mark: Mark,
    algorithm: String,
    key: Vec<u8>,
}

/// The marker at the start of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    None,
    Revoked,
    Authority,
}

impl KnownHosts {
    /// Returns the files in this home directory, and those of the system (ssh_config(5), UserKnownHostsFile and
    /// GlobalKnownHostsFile).
    pub fn of(home: Option<&Path>) -> Self {
        let own =
            home.into_iter().flat_map(|home| ["known_hosts", "known_hosts2"].map(|name| home.join(".ssh").join(name)));
        Self {
            files: own.chain(["/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"].map(PathBuf::from)).collect(),
        }
    }

    /// Returns the files, which need not exist.
    pub fn paths(&self) -> &[PathBuf] {
        &self.files
    }

    /// Looks up the key (in its wire form) of a host and port.
    pub fn check(&self, host: &str, port: u16, key: &[u8]) -> Verdict {
        match verdict(&self.entries(host, port), key) {
            // Another key that is listed without a port does not mean that this key has changed.
            Verdict::Unknown if port != DEFAULT_PORT => match verdict(&self.entries(host, DEFAULT_PORT), key) {
                Verdict::Changed(_) => Verdict::Unknown,
                verdict => verdict,
            },
            verdict => verdict,
        }
    }

    /// Returns the place of a line with a certificate authority for the host.
    pub fn authority(&self, host: &str, port: u16) -> Option<String> {
        let names = [port, DEFAULT_PORT].map(|port| self.lines(host, port));
        names.into_iter().flatten().find(|entry| entry.mark == Mark::Authority).map(|entry| entry.place)
    }

    /// Returns the paths of the files, for a message.
    pub fn files(&self) -> String {
        let existing = self.files.iter().enumerate().filter(|(at, file)| *at == 0 || file.exists());
        existing.map(|(_, file)| fs::escape_path(file)).collect::<Vec<_>>().join(" or ")
    }

    /// Returns the path of the file to which a person adds a key, as a word for a shell.
    pub fn first_file(&self) -> String {
        self.files.first().map_or_else(String::new, shell_word)
    }

    /// Returns the directory of that file as a word for a shell, if it does not exist.
    pub fn missing_directory(&self) -> Option<String> {
        let directory = self.files.first()?.parent()?;
        (!directory.exists()).then(|| shell_word(directory))
    }

    /// Returns the algorithms of the known keys of a host. They are requested first, because a key of another algorithm
    /// would look like a changed key.
    pub fn algorithms(&self, host: &str, port: u16) -> Vec<String> {
        let mut algorithms: Vec<String> = Vec::new();
        let with_port = self.entries(host, port);
        let without_port = if port == DEFAULT_PORT { Vec::new() } else { self.entries(host, DEFAULT_PORT) };
        for entry in with_port.into_iter().chain(without_port).filter(|entry| entry.mark == Mark::None) {
            if !algorithms.contains(&entry.algorithm) {
                algorithms.push(entry.algorithm);
            }
        }
        algorithms
    }

    /// Returns the lines with keys of a host.
    fn entries(&self, host: &str, port: u16) -> Vec<Entry> {
        self.lines(host, port).into_iter().filter(|entry| entry.mark != Mark::Authority).collect()
    }

    /// Returns the lines that list a host. A file that is missing or unreadable has none.
    fn lines(&self, host: &str, port: u16) -> Vec<Entry> {
        let host = host.to_lowercase();
        let name = if port == DEFAULT_PORT { host } else { format!("[{host}]:{port}") };
        let mut entries = Vec::new();
        for file in &self.files {
            let Ok(seen) = fs::read_file(file, MAX_KNOWN_HOSTS_BYTES) else { continue };
            let text = String::from_utf8_lossy(&seen.bytes);
            let lines = text.lines().enumerate();
            entries
                .extend(lines.filter_map(|(at, line)| entry(line, &name, || format!("{}:{}", file.display(), at + 1))));
        }
        entries
    }
}

/// Returns the command that removes the keys of a host from the file of a [`Verdict::Changed`].
pub fn removal(place: &str, host: &str, port: u16) -> String {
    let name = if port == DEFAULT_PORT { host.to_owned() } else { format!("[{host}]:{port}") };
    let file = place.rsplit_once(':').map_or(place, |(file, _)| file);
    let command = format!("ssh-keygen -f {} -R {}", shell_word(file), shell_word(name));
    if file.starts_with("/etc/") { as_root(&command) } else { as_acting_user(&command) }
}

fn verdict(entries: &[Entry], key: &[u8]) -> Verdict {
    if let Some(revoked) = entries.iter().find(|entry| entry.mark == Mark::Revoked && entry.key == key) {
        return Verdict::Revoked(revoked.place.clone());
    }
    let mut known = entries.iter().filter(|entry| entry.mark == Mark::None);
    match known.clone().find(|entry| entry.key == key) {
        Some(_) => Verdict::Known,
        None => known.next().map_or(Verdict::Unknown, |entry| Verdict::Changed(entry.place.clone())),
    }
}

/// Parses a line, if it lists the host.
fn entry(line: &str, name: &str, place: impl Fn() -> String) -> Option<Entry> {
    let mut words = line.split_whitespace();
    let mut names = words.next().filter(|word| !word.starts_with('#'))?;
    let mark = match names {
        "@revoked" => Mark::Revoked,
        "@cert-authority" => Mark::Authority,
        other if other.starts_with('@') => return None,
        _ => Mark::None,
    };
    if mark != Mark::None {
        names = words.next()?;
    }
    let (algorithm, key) = (words.next()?, words.next()?);
    let named = match names.strip_prefix("|1|") {
        Some(hashed) => is_hash_of(hashed, name),
        None => is_listed(names.split(','), name),
    };
    let key = STANDARD.decode(key).ok()?;
    named.then(|| Entry { place: place(), mark, algorithm: algorithm.to_owned(), key })
}

/// Checks a hashed name: `salt|hash`, both in base64, is the HMAC-SHA1 of the name.
fn is_hash_of(hashed: &str, name: &str) -> bool {
    let hash = || -> Option<bool> {
        let (salt, hash) = hashed.split_once('|')?;
        let (salt, hash) = (STANDARD.decode(salt).ok()?, STANDARD.decode(hash).ok()?);
        let key = PKey::hmac(&salt).ok()?;
        let mut signer = Signer::new(MessageDigest::sha1(), &key).ok()?;
        Some(signer.sign_oneshot_to_vec(name.as_bytes()).ok()? == hash)
    };
    hash().unwrap_or(false)
}

/// Matches a list of patterns with a name in lower case. A negated pattern that matches excludes the host.
pub fn is_listed<'a>(patterns: impl IntoIterator<Item = &'a str>, name: &str) -> bool {
    let mut listed = false;
    for pattern in patterns {
        match pattern.strip_prefix('!') {
            Some(pattern) if matches_pattern(pattern.to_lowercase().as_bytes(), name.as_bytes()) => return false,
            Some(_) => {}
            None => listed |= matches_pattern(pattern.to_lowercase().as_bytes(), name.as_bytes()),
        }
    }
    listed
}

/// `*` matches any text, and `?` one character.
fn matches_pattern(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => (0..=name.len()).any(|skipped| matches_pattern(rest, &name[skipped..])),
        (Some((b'?', pattern)), Some((_, name))) => matches_pattern(pattern, name),
        (Some((letter, pattern)), Some((other, name))) => letter == other && matches_pattern(pattern, name),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(lines: &str) -> (tempfile::TempDir, KnownHosts) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(".ssh")).unwrap();
        std::fs::write(folder.path().join(".ssh/known_hosts"), lines).unwrap();
        let hosts = KnownHosts { files: vec![folder.path().join(".ssh/known_hosts")] };
        (folder, hosts)
    }

    #[test]
    fn distinguishes_known_unknown_changed_and_revoked() {
        let (folder, hosts) = known(
            "# comment\n\nbastion,10.0.0.1 ssh-ed25519 a2V5\n*.example,!bad.example ssh-rsa a2V5 me\n\
             [bastion]:2222 ssh-ed25519 b3RoZXI=\n@revoked * ssh-rsa b2xk\n@cert-authority * ssh-rsa a2V5\n\
             |1|AQIDBAUGBwgJCgsMDQ4PEBESExQ=|aaaa ssh-rsa a2V5\n",
        );
        let place = |line: u32| format!("{}:{line}", folder.path().join(".ssh/known_hosts").display());
        assert_eq!(hosts.check("Bastion", 22, b"key"), Verdict::Known);
        assert_eq!(hosts.check("10.0.0.1", 22, b"key"), Verdict::Known);
        assert_eq!(hosts.check("bastion", 22, b"other"), Verdict::Changed(place(3)));
        assert_eq!(hosts.check("bastion", 2222, b"other"), Verdict::Known);
        assert_eq!(hosts.check("bastion", 2022, b"other"), Verdict::Unknown);
        // Without its port, as "checking without port identifier" of ssh.
        assert_eq!(hosts.check("bastion", 2022, b"key"), Verdict::Known);
        assert_eq!(hosts.check("bastion", 2022, b"old"), Verdict::Revoked(place(6)));
        assert_eq!(hosts.authority("bastion", 22), Some(place(7)));
        assert_eq!(hosts.check("good.example", 22, b"key"), Verdict::Known);
        assert_eq!(hosts.check("bad.example", 22, b"key"), Verdict::Unknown);
        assert_eq!(hosts.check("bastion", 22, b"old"), Verdict::Revoked(place(6)));
        assert_eq!(hosts.algorithms("bastion", 22), ["ssh-ed25519"]);
    }

    #[test]
    fn reads_hashed_names_as_ssh_keygen_writes_them() {
        let (folder, hosts) =
            known("[bastion]:2222 ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f\n");
        let file = folder.path().join(".ssh/known_hosts");
        let hashed = std::process::Command::new("ssh-keygen").arg("-H").arg("-f").arg(&file).output().unwrap();
        assert!(hashed.status.success(), "{hashed:?}");
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("|1|"), "{text}");
        assert_eq!(hosts.algorithms("bastion", 2222), ["ssh-ed25519"]);
        assert_eq!(hosts.algorithms("bastion", 22), Vec::<String>::new());
    }
}
