//! Checks host keys against `known_hosts` files.
//!
//! The format is OpenSSH's (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT): plain, wildcard, negated and hashed names, other
//! ports as `[host]:port`, and `@revoked`. `@cert-authority` lines are ignored, because host certificates are not
//! supported.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::sign::Signer;

use crate::host::fs;

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

struct Entry {
    place: String,
    revoked: bool,
    algorithm: String,
    key: Vec<u8>,
}

impl KnownHosts {
    /// Returns `~/.ssh/known_hosts` in this home directory, and the file of the system.
    pub fn of(home: Option<&Path>) -> Self {
        let own =
            home.into_iter().flat_map(|home| ["known_hosts", "known_hosts2"].map(|name| home.join(".ssh").join(name)));
        Self { files: own.chain([PathBuf::from("/etc/ssh/ssh_known_hosts")]).collect() }
    }

    /// Looks up the key (in its wire form) of a host and port.
    pub fn check(&self, host: &str, port: u16, key: &[u8]) -> Verdict {
        let entries = self.entries(host, port);
        if let Some(revoked) = entries.iter().find(|entry| entry.revoked && entry.key == key) {
            return Verdict::Revoked(revoked.place.clone());
        }
        let mut known = entries.iter().filter(|entry| !entry.revoked);
        match known.clone().find(|entry| entry.key == key) {
            Some(_) => Verdict::Known,
            None => known.next().map_or(Verdict::Unknown, |entry| Verdict::Changed(entry.place.clone())),
        }
    }

    /// Returns the algorithms of the known keys of a host. They are requested first, because a key of another algorithm
    /// would look like a changed key.
    pub fn algorithms(&self, host: &str, port: u16) -> Vec<String> {
        let mut algorithms: Vec<String> = Vec::new();
        for entry in self.entries(host, port).into_iter().filter(|entry| !entry.revoked) {
            if !algorithms.contains(&entry.algorithm) {
                algorithms.push(entry.algorithm);
            }
        }
        algorithms
    }

    /// Returns the lines that list a host. A file that is missing or unreadable has none.
    fn entries(&self, host: &str, port: u16) -> Vec<Entry> {
        let host = host.to_lowercase();
        let name = if port == 22 { host } else { format!("[{host}]:{port}") };
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

/// Parses a line, if it lists the host.
fn entry(line: &str, name: &str, place: impl Fn() -> String) -> Option<Entry> {
    let mut words = line.split_whitespace();
    let mut names = words.next().filter(|word| !word.starts_with('#'))?;
    let revoked = names == "@revoked";
    if revoked {
        names = words.next()?;
    } else if names.starts_with('@') {
        return None;
    }
    let (algorithm, key) = (words.next()?, words.next()?);
    let named = match names.strip_prefix("|1|") {
        Some(hashed) => is_hash_of(hashed, name),
        None => is_listed(names, name),
    };
    let key = STANDARD.decode(key).ok()?;
    named.then(|| Entry { place: place(), revoked, algorithm: algorithm.to_owned(), key })
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

/// Matches a list of patterns. A negated pattern that matches excludes the host.
fn is_listed(names: &str, name: &str) -> bool {
    let mut listed = false;
    for pattern in names.split(',') {
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
