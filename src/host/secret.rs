//! Secrets: where they come from, how they are held, and how two of them are compared without being shown.

use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretSlice};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Where a secret's value is to be had, as the plan file names it. It is no secret itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SecretSource {
    /// An environment variable of the process that was started by the user.
    Env(String),
    /// A file, read by the user who started the program.
    File(PathBuf),
    /// A program and its arguments; its standard output is the value.
    Command(Vec<String>),
}

/// A secret's bytes. Wiped when dropped; there is no `Display`, no `Serialize`, and `Debug` hides the value.
#[derive(Clone)]
pub struct Secret(SecretSlice<u8>);

impl Secret {
    /// Takes the bytes over; the caller's buffer becomes the secret's own.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(SecretSlice::from(bytes))
    }

    /// The value itself, for the one place that writes it to its target.
    pub fn expose(&self) -> &[u8] {
        self.0.expose_secret()
    }

    /// The value without one line ending at its end: editors and `echo` add one that is no part of a password.
    pub fn without_line_ending(&self) -> Secret {
        let bytes = self.expose();
        let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        Secret::new(bytes.to_vec())
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

/// Makes digests under one run's key (32 random bytes, never stored).
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
