//! Checks that the two halves of a key pair match.
//!
//! `ssh-keygen -y` prints the public half that is stored beside the private half, so it also loads a key whose private half is
//! damaged. Its signatures are invalid, so no server accepts a login.

use std::ops::Deref;

use openssl::bn::{BigNum, BigNumContext, BigNumRef};
use openssl::dsa::DsaRef;
use openssl::ec::{EcGroup, EcKey, EcPoint};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{Id, PKey, Private};
use openssl::rsa::{Rsa, RsaPrivateKeyBuilder, RsaRef};
use openssl::sign::{Signer, Verifier};
use ssh_key::private::{DsaKeypair, Ed25519Keypair, KeypairData, RsaKeypair};
use ssh_key::{EcdsaCurve, Mpint};

/// Whether the halves match. An error means that a number is impossible, such as a modulus of zero.
type Matches = Result<bool, ErrorStack>;

/// A number that is overwritten when it is dropped, because it may be part of a private half.
struct Number(BigNum);

impl Deref for Number {
    type Target = BigNum;

    fn deref(&self) -> &BigNum {
        &self.0
    }
}

impl Number {
    /// Returns a copy for OpenSSL, which overwrites the private numbers of a key when it is freed.
    fn owned(&self) -> Result<BigNum, ErrorStack> {
        self.0.to_owned()
    }
}

impl Drop for Number {
    fn drop(&mut self) {
        self.0.clear();
    }
}

/// Compares the halves of a key pair in OpenSSH's format, except for [`on_curve`]. The private half of a key on a security key is not
/// in the file.
pub(super) fn in_openssh_format(pair: &KeypairData) -> Matches {
    match pair {
        KeypairData::Ed25519(pair) => ed25519(pair),
        KeypairData::Rsa(pair) => rsa(pair),
        KeypairData::Dsa(DsaKeypair { public, private }) => {
            let (p, q) = (number(&public.p)?, number(&public.q)?);
            let (g, y) = (number(&public.g)?, number(&public.y)?);
            let private = number(private.as_mpint())?;
            dsa(&p, &q, &g, (&y, &private))
        }
        _ => Ok(true),
    }
}

/// Compares the halves of a key pair that OpenSSL has parsed.
pub(super) fn in_pem(key: &PKey<Private>) -> Matches {
    match key.id() {
        Id::RSA => rsa_of_pem(&*key.rsa()?),
        Id::DSA => {
            let key: &DsaRef<Private> = &*key.dsa()?;
            dsa(key.p(), key.q(), key.g(), (key.pub_key(), key.priv_key()))
        }
        Id::EC => Ok(key.ec_key()?.check_key().is_ok()),
        _ => Ok(true),
    }
}

/// Compares the halves of an ECDSA key.
pub(super) fn on_curve(curve: EcdsaCurve, point: &[u8], secret: &[u8]) -> Matches {
    let group = EcGroup::from_curve_name(match curve {
        EcdsaCurve::NistP256 => Nid::X9_62_PRIME256V1,
        EcdsaCurve::NistP384 => Nid::SECP384R1,
        EcdsaCurve::NistP521 => Nid::SECP521R1,
    })?;
    let point = EcPoint::from_bytes(&group, point, &mut *BigNumContext::new()?)?;
    let secret = Number(BigNum::from_slice(secret)?);
    Ok(EcKey::from_private_components(&group, &secret, &point)?.check_key().is_ok())
}

fn ed25519(pair: &Ed25519Keypair) -> Matches {
    // OpenSSL would otherwise be cleaned up when the process ends, while the thread of a tunnel still uses it.
    openssl::init();
    let private = PKey::private_key_from_raw_bytes(pair.private.as_ref(), Id::ED25519)?;
    Ok(private.raw_public_key()? == pair.public.as_ref())
}

fn rsa(RsaKeypair { public, private }: &RsaKeypair) -> Matches {
    let (n, e, d) = (number(&public.n)?, number(&public.e)?, number(&private.d)?);
    let (p, q, inverse) = (number(&private.p)?, number(&private.q)?, number(&private.iqmp)?);
    if rsa_numbers(&n, &e, (&p, &q), &inverse, (&d, &d)).is_ok_and(|matches| matches) {
        return Ok(true);
    }
    // As `ssh` passes them to OpenSSL.
    let (for_p, for_q) = (remainder(&d, &less_one(&p)?.0)?, remainder(&d, &less_one(&q)?.0)?);
    let key = RsaPrivateKeyBuilder::new(n.owned()?, e.owned()?, d.owned()?)?
        .set_factors(p.owned()?, q.owned()?)?
        .set_crt_params(for_p.owned()?, for_q.owned()?, inverse.owned()?)?
        .build();
    signs(&key)
}

fn rsa_of_pem(key: &RsaRef<Private>) -> Matches {
    let matches = || {
        let (Some(p), Some(q), Some(inverse)) = (key.p(), key.q(), key.iqmp()) else { return Ok(false) };
        let (Some(for_p), Some(for_q)) = (key.dmp1(), key.dmq1()) else { return Ok(false) };
        Ok::<_, ErrorStack>(
            rsa_numbers(key.n(), key.e(), (p, q), inverse, (key.d(), key.d()))?
                && rsa_numbers(key.n(), key.e(), (p, q), inverse, (for_p, for_q))?,
        )
    };
    Ok(matches().is_ok_and(|matches| matches) || signs(key)?)
}

/// Returns whether a signature of a key is valid. Keys with three primes, or with wrong numbers that OpenSSL does not need, can log in
/// although the equations do not hold.
fn signs(key: &RsaRef<Private>) -> Matches {
    // OpenSSL would otherwise be cleaned up when the process ends, while the thread of a tunnel still uses it.
    openssl::init();
    let public = PKey::from_rsa(Rsa::from_public_components(key.n().to_owned()?, key.e().to_owned()?)?)?;
    let private = PKey::from_rsa(key.to_owned())?;
    let signature = Signer::new(MessageDigest::sha256(), &private)?.sign_oneshot_to_vec(b"test")?;
    Verifier::new(MessageDigest::sha256(), &public)?.verify_oneshot(&signature, b"test")
}

/// Checks the equations of RFC 8017, section 3.2. `inverse` is that of the prime `q` modulo the prime `p`, and `exponents` are the secret
/// exponents modulo each prime less one.
fn rsa_numbers(
    n: &BigNumRef,
    e: &BigNumRef,
    (p, q): (&BigNumRef, &BigNumRef),
    inverse: &BigNumRef,
    exponents: (&BigNumRef, &BigNumRef),
) -> Matches {
    let mut product = Number(BigNum::new()?);
    product.0.checked_mul(p, q, &mut *BigNumContext::new()?)?;
    Ok(**product == *n
        && are_inverse(q, inverse, p)?
        && are_inverse(e, exponents.0, &less_one(p)?.0)?
        && are_inverse(e, exponents.1, &less_one(q)?.0)?)
}

/// Whether the product of two numbers is one, modulo a third.
fn are_inverse(one: &BigNumRef, other: &BigNumRef, modulus: &BigNumRef) -> Matches {
    let mut product = Number(BigNum::new()?);
    product.0.mod_mul(one, other, modulus, &mut *BigNumContext::new()?)?;
    Ok(*product == BigNum::from_u32(1)?)
}

fn remainder(number: &BigNumRef, modulus: &BigNumRef) -> Result<Number, ErrorStack> {
    let mut remainder = Number(BigNum::new()?);
    remainder.0.nnmod(number, modulus, &mut *BigNumContext::new()?)?;
    Ok(remainder)
}

fn less_one(number: &BigNumRef) -> Result<Number, ErrorStack> {
    let mut less = Number(BigNum::new()?);
    less.0.checked_sub(number, &*BigNum::from_u32(1)?)?;
    Ok(less)
}

fn number(number: &Mpint) -> Result<Number, ErrorStack> {
    Ok(Number(BigNum::from_slice(number.as_positive_bytes().unwrap_or_default())?))
}

/// Checks the equations of FIPS 186-4, section 4.1: `q` is the order of `g` modulo the prime `p`, and `y` is `g` to the power of the
/// private number.
fn dsa(p: &BigNumRef, q: &BigNumRef, g: &BigNumRef, (y, private): (&BigNumRef, &BigNumRef)) -> Matches {
    let power = |exponent: &BigNumRef| {
        let mut power = BigNum::new()?;
        power.mod_exp(g, exponent, p, &mut *BigNumContext::new()?)?;
        Ok::<_, ErrorStack>(power)
    };
    Ok(power(q)? == BigNum::from_u32(1)? && *power(private)? == *y)
}
