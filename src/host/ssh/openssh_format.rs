//! Parses OpenSSH's own format of private keys (PROTOCOL.key).
//!
//! The crate ssh-key parses the parts. Its `PrivateKey` cannot parse the whole: it rejects an ECDSA key whose secret
//! number starts with zeros, which is one in 256 P-256 keys and every second P-521 key.

use openssl::bn::{BigNum, BigNumContext};
use openssl::ec::{EcGroup, EcKey, EcPoint};
use openssl::error::ErrorStack;
use openssl::nid::Nid;
use ssh_encoding::Decode;
use ssh_key::EcdsaCurve;

use ssh_key::private::KeypairData;
use ssh_key::public::{EcdsaPublicKey, KeyData};
use zeroize::Zeroizing;

const MAGIC: &[u8] = b"openssh-key-v1\0";
/// The padding block size of an unencrypted secret part, in bytes.
const BLOCK: usize = 8;

/// Why a key cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unusable {
    Damaged,
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
    let _derivation = Vec::<u8>::decode(&mut rest)?;
    let _its_options = Vec::<u8>::decode(&mut rest)?;
    let keys = u32::decode(&mut rest)?;
    let public = Vec::<u8>::decode(&mut rest)?;
    let secret = Zeroizing::new(Vec::<u8>::decode(&mut rest)?);
    let public = ssh_key::PublicKey::from_bytes(&public)?.key_data().clone();
    if cipher != b"none" {
        return Err(Unusable::Encrypted);
    }
    let pair = pair(&secret, &public)?;
    if keys == 1 && rest.is_empty() && pair == public { Ok(public) } else { Err(Unusable::Damaged) }
}

/// Returns the public half derived from the secret part.
fn pair(secret: &[u8], public: &KeyData) -> Result<KeyData, Unusable> {
    let mut rest = secret;
    let same = u32::decode(&mut rest)? == u32::decode(&mut rest)?;
    let pair = match public.ecdsa() {
        Some(key) => KeyData::Ecdsa(ecdsa(&mut rest, key)?),
        None => KeyData::try_from(&KeypairData::decode(&mut rest)?)?,
    };
    let _comment = Vec::<u8>::decode(&mut rest)?;
    let filled = rest.len() < BLOCK && rest.iter().zip(1..).all(|(byte, place)| *byte == place);
    if same && filled && secret.len().is_multiple_of(BLOCK) { Ok(pair) } else { Err(Unusable::Damaged) }
}

/// Parses a key pair on the curve of `public`, and checks that its halves match.
fn ecdsa(rest: &mut &[u8], public: &EcdsaPublicKey) -> Result<EcdsaPublicKey, Unusable> {
    let _algorithm = Vec::<u8>::decode(rest)?;
    let curve = String::decode(rest)?;
    let point = Vec::<u8>::decode(rest)?;
    let number = Zeroizing::new(Vec::<u8>::decode(rest)?);
    if curve != public.curve().as_str() {
        return Err(Unusable::Damaged);
    }
    check(public.curve(), &point, &number)?;
    Ok(EcdsaPublicKey::from_sec1_bytes(&point)?)
}

fn check(curve: EcdsaCurve, point: &[u8], number: &[u8]) -> Result<(), ErrorStack> {
    let group = EcGroup::from_curve_name(match curve {
        EcdsaCurve::NistP256 => Nid::X9_62_PRIME256V1,
        EcdsaCurve::NistP384 => Nid::SECP384R1,
        EcdsaCurve::NistP521 => Nid::SECP521R1,
    })?;
    let mut context = BigNumContext::new()?;
    let point = EcPoint::from_bytes(&group, point, &mut context)?;
    let mut number = BigNum::from_slice(number)?;
    let pair = EcKey::from_private_components(&group, &number, &point);
    number.clear();
    pair?.check_key()
}
