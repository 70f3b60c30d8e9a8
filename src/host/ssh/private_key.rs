//! Tells a private key from what people take for one, and gives a key's public fingerprint.

use base64::Engine as _;
use openssl::pkey::{Id, PKey, Private};
use serde::{Deserialize, Serialize};
use ssh_key::public::{DsaPublicKey, EcdsaPublicKey, KeyData, RsaPublicKey};
use ssh_key::{HashAlg, Mpint};
use zeroize::Zeroizing;

use super::keygen;
use super::openssh_format::{self, Unusable};
use crate::host::secret::Secret;

/// What some bytes are, as far as it may be shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum KeyRead {
    /// A private key that needs no passphrase.
    PrivateKey(PublicFacts),
    /// Something else.
    Other(NoKey),
}

/// What everybody may know of a private key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicFacts {
    /// As SSH names it: `ssh-ed25519`, `ssh-rsa`.
    pub algorithm: String,
    /// As `ssh-keygen -lf` prints it: `SHA256:…`.
    pub fingerprint: String,
}

/// Why some bytes are no usable private key. Neither text quotes them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoKey {
    /// Completes "the source …".
    pub reason: String,
    pub remedy: String,
}

impl KeyRead {
    /// Reads a file's content as every OpenSSH would: what some versions cannot load is no key.
    pub fn of(bytes: &[u8]) -> Self {
        match read(bytes) {
            Ok(key) => Self::PrivateKey(PublicFacts::of(&key)),
            Err(other) => Self::Other(other),
        }
    }

    /// Reads a file's content as the OpenSSH of this host does, whose `ssh-keygen` has the last word where there is one.
    pub fn on_this_host(bytes: &[u8]) -> Self {
        let own = Self::of(bytes);
        // Whatever else it may be, `ssh` loads nothing without it.
        if !bytes.windows(PRIVATE.len()).any(|window| window == PRIVATE) {
            return own;
        }
        match (keygen::load(bytes), own) {
            (None, own) | (Some(Err(_)), own @ Self::Other(_)) => own,
            (Some(Ok(key)), _) => Self::PrivateKey(PublicFacts::of(&key)),
            (Some(Err(why)), Self::PrivateKey(facts)) => Self::Other(no(
                format!("is a key of type {} that ssh on this host cannot load ({why})", facts.algorithm),
                "give the key in a form that `ssh-keygen -y -f KEY` reads on this host",
            )),
        }
    }

    /// The public facts, where it is a key.
    pub fn key(&self) -> Option<&PublicFacts> {
        match self {
            Self::PrivateKey(facts) => Some(facts),
            Self::Other(_) => None,
        }
    }
}

/// A key whose armour has come to harm on its way, as `ssh` wants it: nothing before its BEGIN line, no blanks at the ends
/// of its lines, and a line ending after its END line. `None` where it is good as it is, or that is not all.
pub fn mended(bytes: &[u8]) -> Option<Secret> {
    if KeyRead::of(bytes).key().is_some() {
        return bytes.ends_with(b"-----").then(|| Secret::new([bytes, b"\n"].concat()));
    }
    let text = std::str::from_utf8(bytes).ok()?.trim();
    let mut whole = Zeroizing::new(String::with_capacity(text.len() + 1));
    for line in text.split('\n') {
        whole.push_str(line.trim_end_matches([' ', '\t']));
        whole.push('\n');
    }
    KeyRead::of(whole.as_bytes()).key().map(|_| Secret::copy_of(whole.as_bytes()))
}

impl PublicFacts {
    fn of(key: &KeyData) -> Self {
        let fingerprint = key.fingerprint(HashAlg::Sha256).to_string();
        Self { algorithm: key.algorithm().to_string(), fingerprint }
    }
}

/// In the first line of every private key that OpenSSH reads.
const PRIVATE: &[u8] = b"PRIVATE KEY-----";
/// OpenSSH loads no shorter RSA key, in bits (`SSH_RSA_MINIMUM_MODULUS_SIZE` in its ssh-rsa.c).
const MIN_RSA_BITS: usize = 1024;
const BEGIN: &str = "-----BEGIN ";
const OPENSSH_BEGIN: &str = "-----BEGIN OPENSSH PRIVATE KEY-----";
const OPENSSH_END: &str = "-----END OPENSSH PRIVATE KEY-----";
const GIVE_PRIVATE: &str = "give the private key, the file without .pub";

fn no(reason: impl Into<String>, remedy: impl Into<String>) -> NoKey {
    NoKey { reason: reason.into(), remedy: remedy.into() }
}

fn read(bytes: &[u8]) -> Result<KeyData, NoKey> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(no("is empty", "check where the key comes from"));
    }
    if bytes.starts_with(b"\xef\xbb\xbf") || bytes.starts_with(b"\xff\xfe") {
        return Err(no("begins with a byte order mark", "save the key as plain ASCII text"));
    }
    if bytes.len() > 2 && (bytes[0] == 0 || bytes[1] == 0) && bytes.contains(&b'-') {
        return Err(no("is UTF-16 text", "convert it: iconv -f UTF-16 -t ASCII KEY > COPY"));
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        return Err(no("holds binary data", "convert the key to text: openssl pkey -inform DER -in KEY -out KEY.pem"));
    };
    mistaken(text)?;
    damaged_on_its_way(text)?;
    if text.contains('\r') {
        return Err(no("has CRLF line endings, as Windows writes them", "convert it: sed -i 's/\\r$//' KEY"));
    }
    let labels: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix(BEGIN)?.strip_suffix("-----")).collect();
    let Some(label) = labels.iter().find(|label| label.ends_with("PRIVATE KEY")) else {
        return Err(not_begun(&labels));
    };
    if !text.contains(&format!("-----END {label}-----")) {
        return Err(no("is cut off: its END line is missing", "copy the whole file"));
    }
    if *label == "ENCRYPTED PRIVATE KEY" || text.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(passphrase());
    }
    let key = if *label == "OPENSSH PRIVATE KEY" { openssh(text)? } else { pem(text)? };
    match key.rsa().map(|rsa| rsa.n.as_positive_bytes().map_or(0, bit_length)) {
        Some(bits) if bits < MIN_RSA_BITS => Err(no(
            format!("is an RSA key of {bits} bits, and OpenSSH loads none below {MIN_RSA_BITS}"),
            "make a new one, and give its public half to the host that it is for: ssh-keygen -t ed25519 -f NEW",
        )),
        _ => Ok(key),
    }
}

/// The number of bits of a number, its first byte first.
fn bit_length(bytes: &[u8]) -> usize {
    bytes.first().map_or(0, |first| bytes.len() * 8 - first.leading_zeros() as usize)
}

/// What people take for a private key, and can be told by its looks.
fn mistaken(text: &str) -> Result<(), NoKey> {
    let start = text.trim_start();
    let first_word = start.split_ascii_whitespace().next().unwrap_or_default();
    let ssh_word = ["ssh-", "ecdsa-sha2-", "sk-"].iter().any(|prefix| first_word.starts_with(prefix));
    if start.starts_with("PuTTY-User-Key-File") {
        return Err(no("is a PuTTY key (.ppk)", "convert it: puttygen KEY.ppk -O private-openssh -o KEY"));
    }
    if start.starts_with('<') {
        return Err(no("is a web page", "download the key itself, not the page about it"));
    }
    if ssh_word && first_word.contains("-cert-v") {
        return Err(no("is an SSH certificate", GIVE_PRIVATE));
    }
    if ssh_word || start.starts_with("---- BEGIN SSH2 PUBLIC KEY") {
        return Err(no("is a public key", GIVE_PRIVATE));
    }
    Ok(())
}

/// What becomes of a text of several lines in variables, JSON and `.env` files, and can be told by its looks.
fn damaged_on_its_way(text: &str) -> Result<(), NoKey> {
    let start = text.trim_start();
    // `-----BEGIN` in base64.
    if start.starts_with("LS0tLS1CRUdJTi") {
        return Err(no("is base64", "add `encoding: base64` to the source"));
    }
    if start.starts_with(['"', '\'']) && start[1..].starts_with(BEGIN) {
        return Err(no("stands in quotation marks", "take the quotation marks away"));
    }
    let Some((_, rest)) = start.split_once("PRIVATE KEY-----").filter(|_| start.starts_with(BEGIN)) else {
        return Ok(());
    };
    if rest.starts_with("\\n") || rest.starts_with("\\r\\n") {
        return Err(no("has the two letters \\n in place of line endings", "write it with line endings: printf '%b'"));
    }
    if rest.starts_with([' ', '\t']) && rest.trim_end().lines().count() == 1 {
        return Err(no(
            "is all on one line, with blanks in place of line endings",
            "put quotation marks around the variable where it is set: NAME=\"$(cat FILE)\"",
        ));
    }
    if text.lines().any(|line| line.starts_with([' ', '\t']) && line.trim_start().starts_with("-----END ")) {
        return Err(no("is indented", "take the blanks at the beginnings of its lines away: sed 's/^[ \\t]*//' KEY"));
    }
    Ok(())
}

/// No block of a private key begins.
fn not_begun(labels: &[&str]) -> NoKey {
    match labels.first() {
        Some(label) if label.ends_with("PUBLIC KEY") => no("is a public key", GIVE_PRIVATE),
        Some(label) if label.starts_with("CERTIFICATE") || label.ends_with("CERTIFICATE") => {
            no("is a certificate", "give the private key that belongs to it")
        }
        _ => no("is not a private key: no BEGIN … PRIVATE KEY line", "check that it is the key, and all of it"),
    }
}

fn passphrase() -> NoKey {
    no(
        "is protected by a passphrase, which nobody can type for a program",
        "take the passphrase off a copy: ssh-keygen -p -N '' -f COPY",
    )
}

fn damaged() -> NoKey {
    no("is damaged: it does not parse as a private key", "copy the whole file again")
}

/// OpenSSH's own format (PROTOCOL.key), as strict about the first and last line as `ssh` is.
fn openssh(text: &str) -> Result<KeyData, NoKey> {
    let Some(body) = text.strip_prefix(OPENSSH_BEGIN).and_then(|rest| rest.strip_prefix('\n')) else {
        return Err(no("has something before its BEGIN line", "take away what stands before it"));
    };
    let Some((body, rest)) = body.split_once(OPENSSH_END) else { return Err(damaged()) };
    if !rest.starts_with('\n') {
        return Err(no(
            "lacks the line ending after its END line, without which ssh cannot read it",
            "add a line ending",
        ));
    }
    // Lines may have any length: not every program that writes keys breaks them at 70 letters.
    let mut letters = Zeroizing::new(Vec::with_capacity(body.len()));
    letters.extend(body.bytes().filter(|letter| *letter != b'\n'));
    // As large as its text, so that the buffer never moves and leaves a copy behind.
    let mut binary = Zeroizing::new(vec![0; letters.len()]);
    let length = base64::engine::general_purpose::STANDARD
        .decode_slice(letters.as_slice(), binary.as_mut_slice())
        .map_err(|_| damaged())?;
    openssh_format::read(&binary[..length]).map_err(|unusable| match unusable {
        Unusable::Encrypted => passphrase(),
        Unusable::Damaged => damaged(),
    })
}

/// PKCS#1, SEC1 and PKCS#8, which `ssh` leaves to OpenSSL as well.
fn pem(text: &str) -> Result<KeyData, NoKey> {
    // Without a callback, OpenSSL would ask for a passphrase on the terminal.
    let key = PKey::private_key_from_pem_callback(text.as_bytes(), |_| Ok(0)).map_err(|_| damaged())?;
    if key.id() == Id::ED25519 {
        return Err(no(
            "is an Ed25519 key in PKCS#8 form, which OpenSSH before 9.6 cannot load",
            "give the same key in OpenSSH's own form (in Terraform `private_key_openssh`); OpenSSH 9.6 and later \
             converts a copy: ssh-keygen -p -N '' -f COPY",
        ));
    }
    public_half(&key)?
        .ok_or_else(|| no("is a private key of a kind that SSH does not know", "make one with ssh-keygen"))
}

fn public_half(key: &PKey<Private>) -> Result<Option<KeyData>, NoKey> {
    let number = |number: &openssl::bn::BigNumRef| Mpint::from_positive_bytes(&number.to_vec()).map_err(|_| damaged());
    let parts = match key.id() {
        Id::RSA => {
            let rsa = key.rsa().map_err(|_| damaged())?;
            KeyData::Rsa(RsaPublicKey { e: number(rsa.e())?, n: number(rsa.n())? })
        }
        Id::DSA => {
            let dsa = key.dsa().map_err(|_| damaged())?;
            let (p, q, g) = (number(dsa.p())?, number(dsa.q())?, number(dsa.g())?);
            KeyData::Dsa(DsaPublicKey { p, q, g, y: number(dsa.pub_key())? })
        }
        Id::EC => {
            let ec = key.ec_key().map_err(|_| damaged())?;
            let mut context = openssl::bn::BigNumContext::new().map_err(|_| damaged())?;
            let form = openssl::ec::PointConversionForm::UNCOMPRESSED;
            let point = ec.public_key().to_bytes(ec.group(), form, &mut context).map_err(|_| damaged())?;
            let known =
                [openssl::nid::Nid::X9_62_PRIME256V1, openssl::nid::Nid::SECP384R1, openssl::nid::Nid::SECP521R1];
            if !ec.group().curve_name().is_some_and(|curve| known.contains(&curve)) {
                return Ok(None);
            }
            KeyData::Ecdsa(EcdsaPublicKey::from_sec1_bytes(&point).map_err(|_| damaged())?)
        }
        _ => return Ok(None),
    };
    Ok(Some(parts))
}
