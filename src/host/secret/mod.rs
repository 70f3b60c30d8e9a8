//! Secrets: where they come from, how they are held, and how two of them are compared without being shown.

use secrecy::{ExposeSecret, SecretSlice};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

mod command;
mod decode;
mod read;
mod source;

pub use read::{SecretError, SecretReader, SecretResult};
pub use source::{
    Encoding, Origin, Pointer, SecretSource, Word, how_to_give, is_plain, optional_source, yields_nothing,
};

/// A secret is a password or a key: whatever is larger (1 MiB) is something else.
const MAX_SECRET: u64 = 1 << 20;
/// U+FEFF in UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A secret's bytes. Wiped when dropped; there is no `Display`, no `Serialize`, and `Debug` hides the value.
#[derive(Clone)]
pub struct Secret(SecretSlice<u8>);

impl Secret {
    /// Takes the bytes over; the caller's buffer is wiped.
    pub fn new(bytes: Vec<u8>) -> Self {
        // Not the buffer itself: giving its spare room back could move it, and leave the bytes where they were.
        Self::copy_of(&Zeroizing::new(bytes))
    }

    /// A copy of the bytes, whose owner has to wipe them.
    pub fn copy_of(bytes: &[u8]) -> Self {
        Self(SecretSlice::new(bytes.into()))
    }

    /// The value itself, for the one place that writes it to its target.
    pub fn expose(&self) -> &[u8] {
        self.0.expose_secret()
    }

    /// The value as a password: without one line ending at its end, which editors and `echo` add, and without a byte
    /// order mark, which some editors put at its start. One rule for every kind, every connection and every source.
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

/// A keyed hash of a secret. Two digests of one run are equal where the values are; without the run's key nothing
/// can be guessed from one, which a bare SHA-256 of a weak password would allow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest(String);

impl Digest {
    /// A digest as a fixture or a worker's answer spells it.
    pub fn from_text(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Eight of its digits.
    pub fn short(&self) -> &str {
        self.0.get(..8).unwrap_or(&self.0)
    }
}

/// Makes digests under one run's key (32 random bytes). A saved plan alone keeps one, for the run that applies it.
#[derive(Clone)]
pub struct Digester(Zeroizing<[u8; 32]>);

impl Digester {
    /// A digester under a key that is given: a worker gets its launcher's.
    pub fn with_key(key: [u8; 32]) -> Self {
        Self(Zeroizing::new(key))
    }

    /// A digester under a fresh key from the kernel's random source.
    pub fn fresh() -> std::io::Result<Self> {
        let mut key = [0; 32];
        openssl::rand::rand_bytes(&mut key).map_err(std::io::Error::other)?;
        Ok(Self::with_key(key))
    }

    /// The key, for the worker that has to compare under it.
    pub fn key(&self) -> &[u8; 32] {
        &self.0
    }

    /// The keyed hash (BLAKE3, 16 of its bytes as hexadecimal digits) of a value.
    pub fn digest(&self, value: &[u8]) -> Digest {
        let hash = blake3::keyed_hash(&self.0, value);
        Digest(hash.to_hex()[..32].to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_ending_alone_is_taken_off() {
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
