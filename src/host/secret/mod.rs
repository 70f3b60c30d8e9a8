//! Secrets: their sources, how they are kept in memory, and how they are compared without being shown.

use crate::failure::Failure;
use crate::text::io_error_text;
use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};
use secrecy::{ExposeSecret, SecretSlice};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

mod command;
mod command_line;
mod decode;
mod ends;
mod read;
mod source;

pub use ends::ends_warning;
pub use read::{SecretError, SecretReader, SecretResult, exposure_warning};
pub use source::{
    Encoding, Origin, Pointer, SecretSource, Word, how_to_give, is_plain, optional_source, written_out, yields_nothing,
};

/// The maximum size of a secret (1 MiB).
const MAX_SECRET: u64 = 1 << 20;
/// U+FEFF in UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The bytes of a secret. They are wiped on drop. There is no `Display` or `Serialize`, and `Debug` hides the value.
#[derive(Clone)]
pub struct Secret(SecretSlice<u8>);

impl Secret {
    /// Takes the bytes and wipes the caller's buffer.
    pub fn new(bytes: Vec<u8>) -> Self {
        // The buffer itself is not reused: shrinking it could move it and leave the bytes behind.
        Self::copy_of(&Zeroizing::new(bytes))
    }

    /// Copies the bytes. Their owner has to wipe them.
    pub fn copy_of(bytes: &[u8]) -> Self {
        Self(SecretSlice::new(bytes.into()))
    }

    /// Returns the value, for the one place that writes it to its target.
    pub fn expose(&self) -> &[u8] {
        self.0.expose_secret()
    }

    /// Returns whether a text shows a line of the value, as it is or as JSON escapes it. A line of less than four bytes counts only
    /// as a whole word, since it is in many texts by chance.
    pub fn is_in(&self, text: &str) -> bool {
        const SHORT: usize = 4;
        let Ok(value) = std::str::from_utf8(self.expose()) else { return false };
        let is_word_at = |at: usize, line: &str| {
            let (before, after) = (&text[..at], &text[at + line.len()..]);
            !before.ends_with(char::is_alphanumeric) && !after.starts_with(char::is_alphanumeric)
        };
        value.lines().map(str::trim).filter(|line| line.contains(char::is_alphanumeric)).any(|line| {
            if line.len() < SHORT {
                return text.match_indices(line).any(|(at, _)| is_word_at(at, line));
            }
            let escaped = Zeroizing::new(serde_json::Value::from(line).to_string());
            text.contains(line) || text.contains(escaped.trim_matches('"'))
        })
    }

    /// Returns the value as a password: without one trailing line ending, which editors and `echo` add, and without a
    /// byte order mark at the start, which some editors add. This rule applies to all kinds, connections and sources.
    pub fn as_password(&self) -> Secret {
        let bytes = self.expose();
        let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
        let line = bytes.strip_suffix(b"\r\n").or_else(|| bytes.strip_suffix(b"\n"));
        Secret::copy_of(line.unwrap_or(bytes))
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

/// A keyed hash of a secret. Two digests of one run are equal if the values are equal. Without the run's key nothing
/// can be guessed from a digest, unlike from a plain SHA-256 of a weak password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest(String);

impl Digest {
    /// Creates a digest from its text in a fixture or a worker's answer.
    pub fn from_text(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the first eight digits.
    pub fn short(&self) -> &str {
        self.0.get(..8).unwrap_or(&self.0)
    }
}

/// Computes digests with the key of one run (32 random bytes). Only a saved plan stores its key, for the run that
/// applies it.
#[derive(Clone)]
pub struct Digester(Zeroizing<[u8; 32]>);

impl Digester {
    /// Creates a digester with a given key. A worker gets the key of its launcher.
    pub fn with_key(key: [u8; 32]) -> Self {
        Self(Zeroizing::new(key))
    }

    /// Creates a digester with a new key from the kernel's random source.
    ///
    /// # Errors
    /// There are no random numbers.
    pub fn fresh() -> Result<Self, Failure> {
        let mut key = [0; 32];
        // The kernel's source avoids the initialisation of OpenSSL, which most runs do not need.
        let mut filled = 0;
        while filled < key.len() {
            match getrandom(&mut key[filled..], GetRandomFlags::empty()) {
                Ok(count) => filled += count,
                Err(Errno::INTR) => {}
                Err(errno) => {
                    let why = io_error_text(&errno.into());
                    return Err(Failure::new(format!("cannot get random numbers: {why}")));
                }
            }
        }
        Ok(Self::with_key(key))
    }

    /// Returns the key, for the worker that has to compare digests.
    pub fn key(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns the keyed hash of a value: 16 bytes of BLAKE3 as hexadecimal digits.
    pub fn digest(&self, value: &[u8]) -> Digest {
        let hash = blake3::keyed_hash(&self.0, value);
        Digest(hash.to_hex()[..32].to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_with_a_secret_are_known() {
        let key = "-----BEGIN KEY-----\nabcdefghij\n}\n-----END KEY-----\n";
        for (value, text, is_in) in [
            ("hunter2\n", "-pw = hunter2\n+pw = x", true),
            ("hunter2", "-pw = hunter\n", false),
            ("123", "-pin = 123\n", true),
            // By chance.
            ("1", "-port = 8081\n", false),
            ("a\"bcdefgh", "-{ \"pw\": \"a\\\"bcdefgh\" }\n", true),
            ("admin\nhunter2\n", "-password = hunter2\n", true),
            ("", "anything", false),
            ("admin\ns3cretvalue\n", "-password = s3cretvalue\n", true),
            ("admin\ns3cretvalue\n", "-user = administrator\n", true),
            ("admin\ns3cretvalue\n", "-user = root\n", false),
            (key, "-abcdefghij\n", true),
            (key, "-}\n", false),
        ] {
            assert_eq!(Secret::copy_of(value.as_bytes()).is_in(text), is_in, "{value:?} {text:?}");
        }
    }

    #[test]
    fn only_one_line_ending_is_removed() {
        for (value, line) in [
            ("a\n", "a"),
            ("a\r\n", "a"),
            ("a\n\n", "a\n"),
            ("a\r", "a\r"),
            ("a", "a"),
            ("\n", ""),
            ("\u{feff}a\n", "a"),
            ("a\u{feff}", "a\u{feff}"),
        ] {
            assert_eq!(Secret::copy_of(value.as_bytes()).as_password().expose(), line.as_bytes(), "{value:?}");
        }
    }
}
