//! Recognises private keys and common mistakes, and returns a key's public fingerprint.

use base64::Engine as _;
use openssl::pkey::{Id, PKey, Private};
use serde::{Deserialize, Serialize};
use ssh_key::public::{DsaPublicKey, EcdsaPublicKey, KeyData, RsaPublicKey};
use ssh_key::{HashAlg, Mpint};
use zeroize::Zeroizing;

use super::openssh_format::{self, Unusable};
use super::{key_pair, keygen};
use crate::host::secret::{Secret, is_plain};
use crate::text::is_hidden;

/// What the bytes are, as far as that may be shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum KeyRead {
    /// A private key without a passphrase.
    PrivateKey(PublicFacts),
    /// Something else.
    Other(UnusableKey),
}

/// The public properties of a private key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicFacts {
    /// The SSH name: `ssh-ed25519`, `ssh-rsa`.
    pub algorithm: String,
    /// As printed by `ssh-keygen -lf`: `SHA256:…`.
    pub fingerprint: String,
}

/// Why the bytes are not a usable private key. Neither text quotes them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnusableKey {
    /// The predicate of a sentence that starts with "the source".
    pub reason: String,
    pub remedy: String,
    /// Whether the bytes have nothing of a key, so that the remedy would only damage them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_something_else: bool,
    /// Whether the private half does not match the public half, which `ssh-keygen` does not check.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_mismatched: bool,
}

impl KeyRead {
    /// Parses the content of a file. A key counts only if every version of OpenSSH can load it.
    pub fn of(bytes: &[u8]) -> Self {
        match read(bytes) {
            Ok(key) => Self::PrivateKey(PublicFacts::of(&key)),
            Err(other) => Self::Other(UnusableKey { is_something_else: !has_part_of_key(bytes), ..other }),
        }
    }

    /// Parses the content of a file as the OpenSSH of this host does. If `ssh-keygen` is installed, its verdict
    /// decides, except about halves that do not match.
    pub fn on_this_host(bytes: &[u8]) -> Self {
        let own = Self::of(bytes);
        let is_mismatched = matches!(&own, Self::Other(other) if other.is_mismatched);
        // `ssh` cannot load a key without this text.
        if is_mismatched || !bytes.windows(PRIVATE.len()).any(|window| window == PRIVATE) {
            return own;
        }
        match (keygen::load(bytes), own) {
            (None, own) | (Some(Err(_)), own @ Self::Other(_)) => own,
            (Some(Ok(key)), _) => Self::PrivateKey(PublicFacts::of(&key)),
            (Some(Err(why)), Self::PrivateKey(facts)) => Self::Other(not_a_key(
                format!("is a key of type {} that ssh on this host cannot load ({why})", facts.algorithm),
                "give the key in a form that `ssh-keygen -y -f KEY` reads on this host",
            )),
        }
    }

    /// Parses a key that is already in use. `ssh-keygen`, which costs a process, decides only about a key that not every OpenSSH loads.
    pub fn in_use(bytes: &[u8]) -> Self {
        match Self::of(bytes) {
            // OpenSSH 10 loads no DSA keys.
            Self::PrivateKey(facts) if facts.algorithm != "ssh-dss" => Self::PrivateKey(facts),
            _ => Self::on_this_host(bytes),
        }
    }

    /// Returns the public properties, if it is a key.
    pub fn key(&self) -> Option<&PublicFacts> {
        match self {
            Self::PrivateKey(facts) => Some(facts),
            Self::Other(_) => None,
        }
    }
}

/// Repairs the line structure of a key for `ssh`: no text before its BEGIN line, no spaces at line ends, and a line
/// ending after its END line. Returns `None` if the key needs no repair or cannot be repaired this way.
pub fn repaired(bytes: &[u8]) -> Option<Secret> {
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

/// Part of the first line of every private key that OpenSSH can load.
const PRIVATE: &[u8] = b"PRIVATE KEY-----";
/// The shortest RSA key that OpenSSH loads, in bits (`SSH_RSA_MINIMUM_MODULUS_SIZE` in its ssh-rsa.c).
const MIN_RSA_BITS: usize = 1024;
const BEGIN: &str = "-----BEGIN ";
/// [`BEGIN`] in base64, and that in base64 again.
const BASE64_BEGIN: &str = "LS0tLS1CRUdJTi";
const BASE64_TWICE_BEGIN: &str = "TFMwdExTMUNSVWRKVGlC";
const OPENSSH_BEGIN: &str = "-----BEGIN OPENSSH PRIVATE KEY-----";
const OPENSSH_END: &str = "-----END OPENSSH PRIVATE KEY-----";
/// How files begin that these programs have encrypted.
const ENCRYPTED_BY: [(&str, &str); 4] = [
    ("$ANSIBLE_VAULT;", "Ansible Vault"),
    ("age-encryption.org/", "age"),
    ("-----BEGIN AGE ENCRYPTED FILE-----", "age"),
    ("-----BEGIN PGP MESSAGE-----", "PGP"),
];
const GIVE_PRIVATE: &str = "give the private key, the file without .pub";

fn not_a_key(reason: impl Into<String>, remedy: impl Into<String>) -> UnusableKey {
    UnusableKey { reason: reason.into(), remedy: remedy.into(), is_something_else: false, is_mismatched: false }
}

/// Returns whether the bytes have a mark of a private key, a public key or a certificate, in any encoding.
fn has_part_of_key(bytes: &[u8]) -> bool {
    const MARKS: [&[u8]; 7] = [
        b"-----BEGIN",
        b"---- BEGIN ",
        b"PRIVATE KEY",
        b"PuTTY-User-Key-File",
        BASE64_BEGIN.as_bytes(),
        BASE64_TWICE_BEGIN.as_bytes(),
        b"AAAA",
    ];
    // UTF-16 has a zero byte beside each letter.
    let text: Zeroizing<Vec<u8>> = Zeroizing::new(bytes.iter().copied().filter(|byte| *byte != 0).collect());
    // A DER key is a sequence.
    let is_der = matches!(bytes, [0x30, 0x20..=0xff, ..]) && std::str::from_utf8(bytes).is_err();
    is_der || MARKS.iter().any(|mark| text.windows(mark.len()).any(|window| window == *mark))
}

/// Returns the remedy that replaces the content of a key, of which `KEY.orig` is a copy. The file keeps its owner and mode, and its
/// content if the command fails.
fn in_place(what: &str, command: &str) -> String {
    format!("{what}: `cp -p --backup=numbered KEY KEY.orig && {{ {command} || {{ cp -p KEY.orig KEY; false; }}; }}`")
}

/// Recognises content that is not text. Its bytes tell what it is.
fn not_text(bytes: &[u8]) -> Result<&str, UnusableKey> {
    if let Some((_, program)) = ENCRYPTED_BY.iter().find(|(mark, _)| bytes.starts_with(mark.as_bytes())) {
        return Err(encrypted(program));
    }
    // UTF-16 has a zero byte beside each letter.
    let utf_16 = match bytes {
        [0, 1..=255, 0, 1..=255, ..] => Some("UTF-16BE"),
        [1..=255, 0, 1..=255, 0, ..] => Some("UTF-16LE"),
        _ => None,
    };
    if let Some(encoding) = utf_16.filter(|_| bytes.contains(&b'-')) {
        let command = format!("iconv -f {encoding} -t ASCII KEY.orig > KEY");
        return Err(not_a_key("is UTF-16 text", in_place("convert it", &command)));
    }
    match (bytes, std::str::from_utf8(bytes)) {
        ([0x1f, 0x8b, ..], _) => {
            Err(not_a_key("is compressed with gzip", in_place("unpack it", "gzip -dc KEY.orig > KEY")))
        }
        ([0x30, 0x20..=0xff, ..], Err(_)) => Err(not_a_key(
            "contains binary data",
            in_place("convert the key to text", "openssl pkey -inform DER -in KEY.orig -out KEY"),
        )),
        (_, Err(_)) => Err(not_a_key("contains binary data", "check where the key comes from")),
        (_, Ok(text)) if text.contains('\0') => {
            let rest: Zeroizing<Vec<u8>> = Zeroizing::new(bytes.iter().copied().filter(|byte| *byte != 0).collect());
            Err(match read(&rest) {
                Ok(_) => not_a_key("contains NUL bytes", in_place("remove them", "tr -d '\\000' < KEY.orig > KEY")),
                Err(_) => not_a_key("contains binary data", "check where the key comes from"),
            })
        }
        (_, Ok(text)) => Ok(text),
    }
}

fn read(bytes: &[u8]) -> Result<KeyData, UnusableKey> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(not_a_key("is empty", "check where the key comes from"));
    }
    if bytes.starts_with(b"\xef\xbb\xbf") || bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Err(not_a_key("starts with a byte order mark", "save the key as plain ASCII text"));
    }
    let text = not_text(bytes)?;
    if text.contains('\r') && !text.contains('\n') && text.contains(BEGIN) {
        let command = "tr '\\r' '\\n' < KEY.orig > KEY";
        return Err(not_a_key("has CR line endings, as old Macs wrote them", in_place("convert it", command)));
    }
    mistaken(text)?;
    damaged_in_transit(text)?;
    let labels: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix(BEGIN)?.strip_suffix("-----")).collect();
    let Some(label) = labels.iter().find(|label| label.ends_with("PRIVATE KEY")) else {
        return Err(misspelt(text).unwrap_or_else(|| no_private_key_block(&labels)));
    };
    if text.contains('\r') {
        return Err(not_a_key("has CRLF line endings, as Windows writes them", "convert it: `sed -i 's/\\r$//' KEY`"));
    }
    if !text.contains(&format!("-----END {label}-----")) {
        return Err(not_a_key("is incomplete: its END line is missing", "copy the whole file"));
    }
    if *label == "ENCRYPTED PRIVATE KEY" || text.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(passphrase());
    }
    let key = if *label == "OPENSSH PRIVATE KEY" { openssh(text)? } else { pem(text)? };
    match key.rsa().map(|rsa| rsa.n.as_positive_bytes().map_or(0, bit_length)) {
        Some(bits) if bits < MIN_RSA_BITS => Err(not_a_key(
            format!("is an RSA key of {bits} bits; OpenSSH requires at least {MIN_RSA_BITS}"),
            "create a new key, and install its public half on the remote host: `ssh-keygen -t ed25519 -f NEW`",
        )),
        _ => Ok(key),
    }
}

/// Returns the bit length of a big-endian number.
fn bit_length(bytes: &[u8]) -> usize {
    bytes.first().map_or(0, |first| bytes.len() * 8 - first.leading_zeros() as usize)
}

/// Recognises files that are commonly mistaken for a private key.
fn mistaken(text: &str) -> Result<(), UnusableKey> {
    let start = text.trim_start();
    let first_word = start.split_ascii_whitespace().next().unwrap_or_default();
    let ssh_word = ["ssh-", "ecdsa-sha2-", "sk-"].iter().any(|prefix| first_word.starts_with(prefix));
    if start.starts_with("PuTTY-User-Key-File") {
        return Err(not_a_key(
            "is a PuTTY key (.ppk)",
            in_place("convert it (Debian package putty-tools)", "puttygen KEY.orig -O private-openssh -o KEY"),
        ));
    }
    // sops(1) encrypts each value of a document, or wraps another file in one.
    if text.contains("ENC[AES256_GCM,") {
        return Err(encrypted("SOPS"));
    }
    if start.starts_with('<') {
        return Err(not_a_key("is a web page", "download the key itself, not the page about it"));
    }
    if ssh_word && first_word.contains("-cert-v") {
        return Err(not_a_key("is an SSH certificate", GIVE_PRIVATE));
    }
    if ssh_word || start.starts_with("---- BEGIN SSH2 PUBLIC KEY") {
        return Err(not_a_key("is a public key", GIVE_PRIVATE));
    }
    Ok(())
}

/// Recognises the damage that happens to multi-line text in variables, JSON and `.env` files.
fn damaged_in_transit(text: &str) -> Result<(), UnusableKey> {
    let start = text.trim_start();
    if start.starts_with(BASE64_BEGIN) {
        return Err(not_a_key(
            "is base64",
            "add `encoding: base64` to the source; if it is there, the key was encoded twice: encode it once",
        ));
    }
    if start.starts_with(BASE64_TWICE_BEGIN) {
        return Err(not_a_key("is base64 in base64", "encode it once, and add `encoding: base64` to the source"));
    }
    if start.starts_with("-----BEGIN%20") || start.starts_with("-----BEGIN+") {
        return Err(not_a_key("is encoded for a URL", "give the key as it was before: decode it where it is stored"));
    }
    if start.split_once(BEGIN).is_some_and(|(before, _)| is_assignment(before)) {
        return Err(not_a_key(
            "has the name of a variable before its BEGIN line",
            "give the value alone, without NAME= and quotation marks",
        ));
    }
    if start.starts_with(['"', '\'']) && start[1..].starts_with(BEGIN) {
        return Err(not_a_key("is in quotation marks", "remove the quotation marks"));
    }
    let Some((_, rest)) = start.split_once("PRIVATE KEY-----").filter(|_| start.starts_with(BEGIN)) else {
        return Ok(());
    };
    if rest.starts_with("\\n") || rest.starts_with("\\r\\n") {
        return Err(not_a_key(
            "contains a literal \\n instead of line endings",
            in_place("convert it", "printf '%b\\n' \"$(cat KEY.orig)\" > KEY"),
        ));
    }
    if rest.trim_end().lines().count() == 1 && (rest.starts_with([' ', '\t']) || rest.contains("-----END ")) {
        let instead = if rest.starts_with([' ', '\t']) {
            "with spaces instead of line endings"
        } else {
            "without its line endings"
        };
        return Err(not_a_key(
            format!("is on one line, {instead}"),
            "quote the variable where it is set: `NAME=\"$(cat FILE)\"`",
        ));
    }
    if text.lines().any(|line| line.starts_with([' ', '\t']) && line.trim_start().starts_with("-----END ")) {
        return Err(not_a_key(
            "is indented",
            "remove the spaces at the start of its lines: `sed -i 's/^[ \\t]*//' KEY`",
        ));
    }
    Ok(())
}

/// Whether a text is `NAME=`, perhaps with `export` before it and a quotation mark after it.
fn is_assignment(text: &str) -> bool {
    let name = text.trim_end_matches(['"', '\'']).strip_suffix('=');
    name.map(|name| name.strip_prefix("export ").unwrap_or(name)).is_some_and(is_plain)
}

/// Whether a character is invisible and never part of a key.
fn is_invisible(c: char) -> bool {
    (is_hidden(c) && !matches!(c, '\n' | '\r' | '\t')) || (c.is_whitespace() && !c.is_ascii())
}

/// Recognises a BEGIN line that only looks like one.
fn misspelt(text: &str) -> Option<UnusableKey> {
    if !text.contains("PRIVATE") {
        return None;
    }
    if text.contains(['\u{2013}', '\u{2014}']) {
        let remedy = "copy the key again, as plain text";
        return Some(not_a_key("has typographic dashes, as word processors write them", remedy));
    }
    if !text.contains(is_invisible) {
        return None;
    }
    let spaced = Zeroizing::new(text.replace('\u{a0}', " "));
    let is_kept = |byte: &u8| matches!(byte, b'\t' | b'\n' | b'\r' | b' '..=b'~');
    let rest: Zeroizing<Vec<u8>> = Zeroizing::new(spaced.bytes().filter(is_kept).collect());
    let command = "LC_ALL=C sed 's/\\xc2\\xa0/ /g' KEY.orig | LC_ALL=C tr -cd '\\11\\12\\15\\40-\\176' > KEY";
    let remedy = match read(&rest) {
        Ok(_) => in_place("remove them", command),
        // Remains of control sequences, or a wrong kind of space.
        Err(_) => "copy the key again, as plain text".to_owned(),
    };
    Some(not_a_key("has invisible characters", remedy))
}

/// Returns the error for a text without a private key block.
fn no_private_key_block(labels: &[&str]) -> UnusableKey {
    match labels.first() {
        Some(label) if label.ends_with("PUBLIC KEY") => not_a_key("is a public key", GIVE_PRIVATE),
        Some(label) if label.starts_with("CERTIFICATE") || label.ends_with("CERTIFICATE") => {
            not_a_key("is a certificate", "give the private key that belongs to it")
        }
        _ => not_a_key(
            "is not a private key: no BEGIN … PRIVATE KEY line",
            "check that the whole private key was copied",
        ),
    }
}

fn encrypted(program: &str) -> UnusableKey {
    let remedy = "let the source decrypt it: a `command` that prints the key, or a file that is decrypted";
    not_a_key(format!("is encrypted with {program}"), remedy)
}

fn passphrase() -> UnusableKey {
    not_a_key(
        "is protected by a passphrase, which cannot be entered here",
        in_place("remove the passphrase, which it asks for", "ssh-keygen -p -N '' -f KEY"),
    )
}

fn mismatched() -> UnusableKey {
    let reason = "is damaged: its private half does not match its public half";
    UnusableKey { is_mismatched: true, ..not_a_key(reason, "copy the whole file again") }
}

fn damaged() -> UnusableKey {
    not_a_key("is damaged: it is not a valid private key", "copy the whole file again")
}

/// Parses OpenSSH's own format (PROTOCOL.key). It is as strict about the first and last line as `ssh`.
fn openssh(text: &str) -> Result<KeyData, UnusableKey> {
    let Some(body) = text.strip_prefix(OPENSSH_BEGIN).and_then(|rest| rest.strip_prefix('\n')) else {
        return Err(not_a_key("has text before its BEGIN line", "remove the text before it"));
    };
    let Some((body, rest)) = body.split_once(OPENSSH_END) else { return Err(damaged()) };
    if !rest.starts_with('\n') {
        return Err(not_a_key("has no line ending after its END line, which ssh requires", "add a line ending"));
    }
    // Lines may have any length, because not every program breaks them at 70 characters.
    let mut letters = Zeroizing::new(Vec::with_capacity(body.len()));
    letters.extend(body.bytes().filter(|letter| *letter != b'\n'));
    // The buffer is as large as the text, so it never moves and leaves no copy behind.
    let mut binary = Zeroizing::new(vec![0; letters.len()]);
    let length = base64::engine::general_purpose::STANDARD
        .decode_slice(letters.as_slice(), binary.as_mut_slice())
        .map_err(|_| damaged())?;
    openssh_format::read(&binary[..length]).map_err(|unusable| match unusable {
        Unusable::Encrypted => passphrase(),
        Unusable::Mismatch => mismatched(),
        Unusable::Damaged => damaged(),
    })
}

/// Parses PKCS#1, SEC1 and PKCS#8, for which `ssh` uses OpenSSL as well.
fn pem(text: &str) -> Result<KeyData, UnusableKey> {
    // Without a callback OpenSSL would ask for a passphrase on the terminal.
    let key = PKey::private_key_from_pem_callback(text.as_bytes(), |_| Ok(0)).map_err(|_| damaged())?;
    if key.id() == Id::ED25519 {
        return Err(not_a_key(
            "is an Ed25519 key in PKCS#8 form, which OpenSSH before 9.6 cannot load",
            "use the same key in OpenSSH's own format (in Terraform `private_key_openssh`); OpenSSH 9.6 and later \
             convert it: `cp -p --backup=numbered KEY KEY.orig && ssh-keygen -p -N '' -f KEY`",
        ));
    }
    let public = public_half(&key)?;
    if public.is_some() && !key_pair::in_pem(&key).is_ok_and(|matches| matches) {
        return Err(mismatched());
    }
    public
        .ok_or_else(|| not_a_key("is a private key of a type that SSH does not support", "create one with ssh-keygen"))
}

fn public_half(key: &PKey<Private>) -> Result<Option<KeyData>, UnusableKey> {
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
