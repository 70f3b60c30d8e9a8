//! Parses OpenSSH's own format of private keys (PROTOCOL.key).
//!
//! The crate ssh-key parses the parts. Its `PrivateKey` cannot parse the whole: it rejects an ECDSA key whose secret
//! number starts with zeros, which is one in 256 P-256 keys and every second P-521 key.

use openssl::error::ErrorStack;
use ssh_encoding::{Decode, Encode};
use ssh_key::private::KeypairData;
use ssh_key::public::{EcdsaPublicKey, KeyData};
use zeroize::Zeroizing;

use super::key_pair;

const MAGIC: &[u8] = b"openssh-key-v1\0";
/// The padding block size of an unencrypted secret part, in bytes.
const BLOCK: usize = 8;

/// Why a key cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unusable {
    Damaged,
    /// The private half does not match the public half.
    Mismatch,
    Encrypted,
}

impl<E: std::error::Error> From<E> for Unusable {
    fn from(_: E) -> Self {
        Self::Damaged
    }
}

/// Returns the public half of the one key in `bytes`, if the secret half matches it.
pub(super) fn read(bytes: &[u8]) -> Result<KeyData, Unusable> {
    let mut rest = bytes.strip_prefix(MAGIC).ok_or(Unusable::Damaged)?;
    let cipher = Vec::<u8>::decode(&mut rest)?;
    let derivation = Vec::<u8>::decode(&mut rest)?;
    let its_options = Vec::<u8>::decode(&mut rest)?;
    let keys = u32::decode(&mut rest)?;
    let public_bytes = Vec::<u8>::decode(&mut rest)?;
    let secret = Zeroizing::new(Vec::<u8>::decode(&mut rest)?);
    let public = ssh_key::PublicKey::from_bytes(&public_bytes)?;
    // The crate does not check every length.
    if public.to_bytes()? != public_bytes {
        return Err(Unusable::Damaged);
    }
    let public = public.key_data().clone();
    if cipher != b"none" {
        return Err(Unusable::Encrypted);
    }
    if derivation != b"none" || !its_options.is_empty() {
        return Err(Unusable::Damaged);
    }
    let pair = pair(&secret, &public)?;
    if keys == 1 && rest.is_empty() && pair == public { Ok(public) } else { Err(Unusable::Damaged) }
}

/// Returns the public half that is stored in the secret part, if the private half matches it.
fn pair(secret: &[u8], public: &KeyData) -> Result<KeyData, Unusable> {
    let mut rest = secret;
    let same = u32::decode(&mut rest)? == u32::decode(&mut rest)?;
    let pair = match public.ecdsa() {
        Some(key) => KeyData::Ecdsa(ecdsa(&mut rest, key)?),
        None => {
            let before = rest;
            let pair = KeypairData::decode(&mut rest)?;
            let mut encoded = Zeroizing::new(Vec::with_capacity(before.len()));
            pair.encode(&mut *encoded)?;
            // The crate does not check every length.
            if !before.starts_with(&encoded) || encoded.len() + rest.len() != before.len() {
                return Err(Unusable::Damaged);
            }
            matching(key_pair::in_openssh_format(&pair))?;
            KeyData::try_from(&pair)?
        }
    };
    let _comment = Vec::<u8>::decode(&mut rest)?;
    let filled = rest.len() < BLOCK && rest.iter().zip(1..).all(|(byte, place)| *byte == place);
    if same && filled && secret.len().is_multiple_of(BLOCK) { Ok(pair) } else { Err(Unusable::Damaged) }
}

/// Parses a key pair on the curve of `public`, and checks that its halves match.
fn ecdsa(rest: &mut &[u8], public: &EcdsaPublicKey) -> Result<EcdsaPublicKey, Unusable> {
    let algorithm = String::decode(rest)?;
    let curve = String::decode(rest)?;
    let point = Vec::<u8>::decode(rest)?;
    let number = Zeroizing::new(Vec::<u8>::decode(rest)?);
    if curve != public.curve().as_str() || algorithm != format!("ecdsa-sha2-{curve}") {
        return Err(Unusable::Damaged);
    }
    matching(key_pair::on_curve(public.curve(), &point, &number))?;
    Ok(EcdsaPublicKey::from_sec1_bytes(&point)?)
}

fn matching(matches: Result<bool, ErrorStack>) -> Result<(), Unusable> {
    if matches.is_ok_and(|matches| matches) { Ok(()) } else { Err(Unusable::Mismatch) }
}
