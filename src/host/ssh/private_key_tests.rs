//! Compares the parsing of all keys that ssh-keygen and openssl can create with ssh-keygen.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::KeyRead;
use crate::host::testing::folder;

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Creates a key with ssh-keygen and returns its path.
pub fn keygen(folder: &Path, more: &[&str]) -> PathBuf {
    let path = folder.join(format!("key-{}", more.join("")));
    let at = path.to_str().unwrap();
    run("ssh-keygen", &[&["-q", "-N", "", "-C", "a comment", "-f", at], more].concat());
    path
}

/// The arguments for each type and size of key that this host's ssh-keygen creates.
fn kinds_of_ssh_keygen() -> impl Iterator<Item = &'static [&'static str]> {
    let kinds: [&[&str]; 6] = [
        &["-t", "ed25519"],
        &["-t", "rsa", "-b", "2048"],
        &["-t", "ecdsa", "-b", "256"],
        &["-t", "ecdsa", "-b", "384"],
        &["-t", "ecdsa", "-b", "521"],
        &["-t", "dsa"],
    ];
    kinds.into_iter().filter(|kind| can_create(kind))
}

/// OpenSSH 10 no longer creates DSA keys.
fn can_create(arguments: &[&str]) -> bool {
    arguments[1] != "dsa" || run("ssh", &["-Q", "key"]).contains("ssh-dss")
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn reason(bytes: &[u8]) -> String {
    match KeyRead::of(bytes) {
        KeyRead::Other(other) => {
            assert!(!other.remedy.is_empty());
            other.reason
        }
        KeyRead::PrivateKey(facts) => panic!("taken for a key: {facts:?}"),
    }
}

#[test]
fn keys_of_ssh_keygen_are_parsed_like_ssh_keygen_does() {
    let folder = folder();
    let mut kinds = 0;
    for kind in kinds_of_ssh_keygen().chain([&["-t", "rsa", "-b", "3072"][..]]) {
        for format in [&[][..], &["-m", "PEM"], &["-m", "PKCS8"]] {
            let path = keygen(folder.path(), &[kind, format].concat());
            let bytes = std::fs::read(&path).unwrap();
            let public = format!("{}.pub", path.display());
            let expected = run("ssh-keygen", &["-lf", &public]);
            let expected = expected.split(' ').nth(1).unwrap();
            let algorithm = std::fs::read_to_string(&public).unwrap();
            let read = KeyRead::of(&bytes);
            let facts = read.key().unwrap_or_else(|| panic!("{kind:?} {format:?}: {read:?}"));
            assert_eq!(facts.fingerprint, expected, "{kind:?} {format:?}");
            assert_eq!(facts.algorithm, algorithm.split(' ').next().unwrap());
            assert_truncations_are_rejected(&bytes);
            assert_eq!(reason(&std::fs::read(&public).unwrap()), "is a public key");
            kinds += 1;
        }
    }
    assert!(kinds >= 18);
}

/// A truncated key is not a key, except for a PEM file without its last line ending, which ssh accepts.
fn assert_truncations_are_rejected(bytes: &[u8]) {
    let openssh = bytes.starts_with(b"-----BEGIN OPENSSH");
    let whole = if openssh { bytes.len() } else { bytes.len() - 1 };
    for length in (0..whole).step_by(7).chain([whole - 1, whole - 2, whole / 2]) {
        assert!(KeyRead::of(&bytes[..length]).key().is_none(), "{length} of {} bytes", bytes.len());
    }
    // A line is missing in the middle.
    let text = std::str::from_utf8(bytes).unwrap();
    let lines: Vec<_> = text.split_inclusive('\n').collect();
    let gap: String = lines.iter().enumerate().filter(|(at, _)| *at != 2).map(|(_, line)| *line).collect();
    assert!(KeyRead::of(gap.as_bytes()).key().is_none());
}

#[test]
fn keys_of_openssl_are_parsed() {
    let folder = folder();
    let at = folder.path().join("key");
    let at = at.to_str().unwrap();
    // openssl writes a block of parameters before the key.
    run("openssl", &["ecparam", "-name", "prime256v1", "-genkey", "-out", at]);
    let bytes = std::fs::read(at).unwrap();
    assert!(bytes.starts_with(b"-----BEGIN EC PARAMETERS"));
    run("chmod", &["600", at]);
    let public = run("ssh-keygen", &["-yf", at]);
    std::fs::write(folder.path().join("pub"), public).unwrap();
    let expected = run("ssh-keygen", &["-lf", folder.path().join("pub").to_str().unwrap()]);
    let read = KeyRead::of(&bytes);
    assert_eq!(read.key().unwrap().fingerprint, expected.split(' ').nth(1).unwrap());
    for other in [&["genpkey", "-algorithm", "x25519"][..], &["ecparam", "-name", "secp256k1", "-genkey"]] {
        run("openssl", &[other, &["-out", at]].concat());
        assert!(reason(&std::fs::read(at).unwrap()).contains("of a type that SSH does not support"));
    }
}

/// Returns whether this host's OpenSSH loads a key.
fn loads(path: &Path) -> bool {
    run("chmod", &["600", path.to_str().unwrap()]);
    let output = Command::new("ssh-keygen").args(["-y", "-P", "", "-f"]).arg(path).output().unwrap();
    output.status.success()
}

#[test]
fn keys_that_ssh_on_this_host_cannot_load_are_rejected() {
    let folder = folder();
    let at = folder.path().join("key");
    let path = at.to_str().unwrap();
    let mut refused = 0;
    for (arguments, expected) in [
        (&["genpkey", "-algorithm", "ed25519", "-out", path][..], "in PKCS#8 form"),
        (&["genrsa", "-traditional", "-out", path, "768"], "of 768 bits"),
        (&["genrsa", "-traditional", "-out", path, "1000"], "of 1000 bits"),
        (&["genrsa", "-traditional", "-out", path, "1023"], "of 1023 bits"),
        (&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1000", "-out", path], "of 1000 bits"),
        (&["genrsa", "-traditional", "-out", path, "1024"], ""),
        (&["ecparam", "-name", "secp256k1", "-genkey", "-noout", "-out", path], "of a type that SSH does not support"),
        (&["ecparam", "-name", "brainpoolP256r1", "-genkey", "-noout", "-out", path], "does not support"),
        (&["genpkey", "-algorithm", "ed448", "-out", path], "does not support"),
        (&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", path], ""),
    ] {
        run("openssl", arguments);
        let bytes = std::fs::read(path).unwrap();
        let read = KeyRead::on_this_host(&bytes);
        assert_eq!(read.key().is_some(), loads(&at), "{arguments:?}: {read:?}");
        // Without ssh-keygen, a key that some version cannot load is rejected.
        assert_eq!(KeyRead::of(&bytes).key().is_none(), !expected.is_empty(), "{arguments:?}");
        if let KeyRead::Other(other) = read {
            assert!(other.reason.contains(expected), "{arguments:?}: {other:?}");
            refused += 1;
        }
    }
    assert!(refused >= 7);
}

#[test]
fn keys_that_ssh_on_this_host_loads_are_accepted() {
    let folder = folder();
    let pem = std::fs::read_to_string(keygen(folder.path(), &["-t", "rsa", "-m", "PEM"])).unwrap();
    let openssh = std::fs::read_to_string(keygen(folder.path(), &["-t", "ed25519"])).unwrap();
    let at = folder.path().join("copy");
    for text in [&pem, &openssh] {
        for copy in [
            text.replace('\n', "\r\n"),
            format!("\u{feff}{text}"),
            text.trim_end().to_owned(),
            format!("\n{text}"),
            format!("Bag Attributes\n{text}"),
            format!("{text}\n\n"),
            text.replace('\n', " \n"),
        ] {
            std::fs::write(&at, &copy).unwrap();
            let read = KeyRead::on_this_host(copy.as_bytes());
            assert_eq!(read.key().is_some(), loads(&at), "{read:?}\n{copy}");
            assert!(read.key().is_none_or(|facts| Some(facts) == KeyRead::of(text.as_bytes()).key()));
        }
    }
}

#[test]
fn unusable_keys_have_specific_reasons() {
    let folder = folder();
    let path = keygen(folder.path(), &["-t", "ed25519"]);
    let text = std::fs::read_to_string(&path).unwrap();
    let pem = std::fs::read_to_string(keygen(folder.path(), &["-t", "rsa", "-m", "PEM"])).unwrap();
    let at = path.to_str().unwrap();
    run("ssh-keygen", &["-q", "-s", at, "-I", "id", "-n", "user", &format!("{at}.pub")]);
    let certificate = std::fs::read(format!("{at}-cert.pub")).unwrap();
    for (bytes, expected) in [
        (b"".to_vec(), "is empty"),
        (b" \r\n\t\n".to_vec(), "is empty"),
        (certificate, "is an SSH certificate"),
        (b"<!DOCTYPE html><html><body>Not found</body></html>".to_vec(), "is a web page"),
        (b"PuTTY-User-Key-File-3: ssh-ed25519\r\n".to_vec(), "PuTTY"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_vec(), "is a certificate"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n".to_vec(), "is a public key"),
        (b"---- BEGIN SSH2 PUBLIC KEY ----\n".to_vec(), "is a public key"),
        (b"hello\n".to_vec(), "is not a private key"),
        (b"\x30\x82\x04\xa4\x02\x01".to_vec(), "binary data"),
        (b"\x89PNG\r\n\x1a\n".to_vec(), "binary data"),
        (b"age-encryption.org/v1\n-> X25519 a\n\xff\xfe\x00".to_vec(), "is encrypted with age"),
        (b"{\n\t\"data\": \"ENC[AES256_GCM,data:aa,iv:bb]\"\n}\n".to_vec(), "is encrypted with SOPS"),
        (b"key\0\0\0ustar\0-----BEGIN OPENSSH PRIVATE KEY-----\n".to_vec(), "binary data"),
        (b"\xfe\xff\0-\0-".to_vec(), "byte order mark"),
        (b"$ANSIBLE_VAULT;1.1;AES256\n6238\n".to_vec(), "is encrypted with Ansible Vault"),
        (b"-----BEGIN PGP MESSAGE-----\n\nhQ\n-----END PGP MESSAGE-----\n".to_vec(), "is encrypted with PGP"),
        (text.replace('\n', "\r").into_bytes(), "CR line endings"),
        (text.replace('\n', "").into_bytes(), "is on one line, without its line endings"),
        (text.replace('\n', " ").into_bytes(), "is on one line, with spaces instead of line endings"),
        (text.replace("-----", "\u{2014}--").into_bytes(), "has typographic dashes"),
        (format!("\u{200b}{text}").into_bytes(), "has invisible characters"),
        (format!("\u{1b}[0m{text}").into_bytes(), "has invisible characters"),
        (text.replace(' ', "\u{a0}").into_bytes(), "has invisible characters"),
        (format!("KEY=\"{text}\"").into_bytes(), "has the name of a variable before its BEGIN line"),
        (format!("export KEY='{text}'").into_bytes(), "has the name of a variable"),
        (text.replace(' ', "%20").replace('\n', "%0A").into_bytes(), "is encoded for a URL"),
        (text.replace(' ', "+").replace('\n', "%0A").into_bytes(), "is encoded for a URL"),
        (base64(text.as_bytes()).into_bytes(), "is base64"),
        (base64(base64(text.as_bytes()).as_bytes()).into_bytes(), "is base64 in base64"),
        (format!("\u{feff}{text}").into_bytes(), "byte order mark"),
        (text.replace('\n', "\r\n").into_bytes(), "CRLF"),
        (pem.replace('\n', "\r\n").into_bytes(), "CRLF"),
        (format!("\n{text}").into_bytes(), "before its BEGIN line"),
        (text.trim_end().as_bytes().to_vec(), "has no line ending"),
        (text.replace("-----END", "").into_bytes(), "is incomplete"),
        (pem.replace("RSA PRIVATE", "EC PRIVATE").into_bytes(), "is damaged"),
        (b"-----BEGIN OPENSSH PRIVATE KEY-----\n!!!!\n-----END OPENSSH PRIVATE KEY-----\n".to_vec(), "is damaged"),
    ] {
        let found = reason(&bytes);
        assert!(found.contains(expected), "{expected}: {found}");
        // None of it is another kind of file, for which a step of the kind `file` would be right.
        let KeyRead::Other(other) = KeyRead::of(&bytes) else { panic!("{expected}") };
        let was_key = bytes.windows(7).any(|window| window == b"PRIVATE") || expected.contains("base64");
        assert!(!(was_key && other.is_something_else), "{expected}");
    }
    for format in ["RFC4716", "PEM", "PKCS8"] {
        let path = folder.path().join(format!("locked-{format}"));
        run("ssh-keygen", &["-q", "-t", "rsa", "-m", format, "-N", "passphrase", "-f", path.to_str().unwrap()]);
        assert!(reason(&std::fs::read(&path).unwrap()).contains("passphrase"), "{format}");
    }
}

/// Runs the command of a remedy for a key in a folder of its own. Returns whether it succeeded.
fn paste(folder: &Path, bytes: &[u8]) -> bool {
    let key = folder.join("KEY");
    std::fs::write(&key, bytes).unwrap();
    let KeyRead::Other(unusable) = KeyRead::of(bytes) else { panic!("taken for a key") };
    let command = unusable.remedy.split('`').nth(1).unwrap_or_else(|| panic!("no command: {}", unusable.remedy));
    Command::new("bash").args(["-c", command]).current_dir(folder).status().unwrap().success()
}

#[test]
fn conversions_of_keys_succeed_or_keep_the_key() {
    let folder = folder();
    let path = keygen(folder.path(), &["-t", "rsa", "-m", "PEM"]);
    let text = std::fs::read_to_string(&path).unwrap();
    let utf_16 = |to_bytes: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(to_bytes).collect::<Vec<u8>>();
    let zipped = folder.path().join("zipped");
    let at = path.to_str().unwrap();
    run("bash", &["-c", &format!("gzip -c {at} > {}", zipped.display())]);
    let der = folder.path().join("der");
    run("openssl", &["pkey", "-in", at, "-outform", "DER", "-out", der.to_str().unwrap()]);
    for bytes in [
        utf_16(u16::to_le_bytes),
        utf_16(u16::to_be_bytes),
        [b"\0", text.as_bytes()].concat(),
        std::fs::read(&zipped).unwrap(),
        std::fs::read(&der).unwrap(),
        text.replace('\n', "\r").into_bytes(),
        format!("\u{200b}{}", text.replace(' ', "\u{a0}")).into_bytes(),
        text.trim_end().replace('\n', "\\n").into_bytes(),
    ] {
        let shown = reason(&bytes);
        assert!(paste(folder.path(), &bytes), "{shown}");
        let converted = KeyRead::of(&std::fs::read(folder.path().join("KEY")).unwrap());
        assert_eq!(converted.key(), KeyRead::of(text.as_bytes()).key(), "{shown}");
    }
    // Removing these characters does not give a key.
    for bytes in [format!("\u{1b}[0m{text}"), text.replace(' ', "\u{202f}")] {
        let KeyRead::Other(other) = KeyRead::of(bytes.as_bytes()) else { panic!("taken for a key") };
        assert_eq!((&*other.reason, &*other.remedy), ("has invisible characters", "copy the key again, as plain text"));
    }
    // What cannot be converted stays as it was.
    for bytes in [&b"\x1f\x8bnothing"[..], &b"\x30\x82\x04\xa4\x02\x01"[..]] {
        assert!(!paste(folder.path(), bytes));
        assert_eq!(std::fs::read(folder.path().join("KEY")).unwrap(), bytes);
    }
}

#[test]
fn lines_of_any_length_are_parsed() {
    let folder = folder();
    let path = keygen(folder.path(), &["-t", "ecdsa"]);
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<_> = text.lines().collect();
    let body = lines[1..lines.len() - 1].concat();
    let long = format!("{}\n{body}\n{}\n", lines[0], lines[lines.len() - 1]);
    std::fs::write(&path, &long).unwrap();
    run("ssh-keygen", &["-yf", path.to_str().unwrap()]);
    assert_eq!(KeyRead::of(long.as_bytes()), KeyRead::of(text.as_bytes()));
    assert!(KeyRead::of(long.as_bytes()).key().is_some());
}

#[test]
fn secret_numbers_with_leading_zeros_are_accepted() {
    let folder = folder();
    // Every second key on P-521 has leading zeros. Sixteen without would be a chance of 1 in 65,536.
    for number in 0..16 {
        let path = keygen(folder.path(), &["-t", "ecdsa", "-b", "521", "-C", &number.to_string()]);
        assert!(KeyRead::of(&std::fs::read(path).unwrap()).key().is_some());
    }
}

/// Returns the binary content of a key in PEM or in OpenSSH's format, and what wraps such content again.
fn unwrapped(path: &Path) -> (Vec<u8>, impl Fn(&[u8]) -> String + use<>) {
    use base64::Engine as _;
    let base64 = base64::engine::general_purpose::STANDARD;
    let text = std::fs::read_to_string(path).unwrap();
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let bytes = base64.decode(lines[1..lines.len() - 1].concat()).unwrap();
    let wrap = move |bytes: &[u8]| {
        let body: Vec<String> =
            base64.encode(bytes).as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line).into_owned()).collect();
        format!("{}\n{}\n{}\n", lines[0], body.join("\n"), lines[lines.len() - 1])
    };
    (bytes, wrap)
}

#[test]
fn mismatched_halves_are_rejected() {
    let folder = folder();
    for kind in ["ed25519", "ecdsa", "rsa"] {
        let (bytes, wrap) = unwrapped(&keygen(folder.path(), &["-t", kind]));
        assert!(KeyRead::of(wrap(&bytes).as_bytes()).key().is_some());
        // One bit in the public half, which starts about 60 bytes in.
        let mut changed = bytes.clone();
        changed[90] ^= 1;
        assert_eq!(KeyRead::of(wrap(&changed).as_bytes()).key(), None, "{kind}");
        changed = bytes.clone();
        changed.push(0);
        assert_eq!(KeyRead::of(wrap(&changed).as_bytes()).key(), None, "{kind}");
    }
}

/// Returns whether `ssh-keygen` signs with a key, so that the signature is one of `public`.
fn signs(folder: &Path, key: &str, public: &str) -> bool {
    let (at, signers, signed) = (folder.join("signing"), folder.join("signers"), folder.join("signed"));
    std::fs::write(&at, key).unwrap();
    run("chmod", &["600", at.to_str().unwrap()]);
    // It needs the public half of a key in PEM.
    std::fs::write(at.with_extension("pub"), public).unwrap();
    std::fs::write(&signers, format!("me {public}\n")).unwrap();
    std::fs::write(&signed, "text").unwrap();
    let command = "rm -f signed.sig; ssh-keygen -q -Y sign -f signing -n test signed && \
                   ssh-keygen -q -Y verify -f signers -I me -n test -s signed.sig < signed";
    Command::new("bash").args(["-c", command]).current_dir(folder).output().unwrap().status.success()
}

/// A key with one changed bit is refused, unless it still signs. `ssh-keygen -y` loads it either way.
#[test]
fn a_key_with_a_changed_bit_is_a_key_only_if_it_signs() {
    let folder = folder();
    let (mut loaded_by_ssh_keygen, mut signing, mut refused) = (0, 0, 0);
    let in_pem: [&[&str]; 5] = [
        &["-t", "rsa", "-b", "2048", "-m", "PEM"],
        &["-t", "ecdsa", "-m", "PEM"],
        &["-t", "dsa", "-m", "PEM"],
        &["-t", "rsa", "-b", "2048", "-m", "PKCS8"],
        &["-t", "ecdsa", "-m", "PKCS8"],
    ];
    for arguments in kinds_of_ssh_keygen().chain(in_pem).filter(|arguments| can_create(arguments)) {
        let path = keygen(folder.path(), arguments);
        let public = std::fs::read_to_string(path.with_extension("pub")).unwrap();
        let (bytes, wrap) = unwrapped(&path);
        let whole = KeyRead::of(wrap(&bytes).as_bytes());
        assert!(whole.key().is_some() && (arguments[1] == "dsa" || signs(folder.path(), &wrap(&bytes), &public)));
        let comment = bytes.windows(9).rposition(|window| window == b"a comment");
        // Long keys are long numbers, of which any part shows what all do.
        let step = if bytes.len() > 600 { 5 } else { 1 };
        for place in (0..bytes.len())
            .step_by(step)
            .filter(|place| comment.is_none_or(|start| !(start..start + 9).contains(place)))
        {
            let mut changed = bytes.clone();
            changed[place] ^= 1 << (place % 8);
            let text = wrap(&changed);
            match KeyRead::of(text.as_bytes()) {
                KeyRead::PrivateKey(facts) => {
                    assert_eq!(Some(&facts), whole.key(), "{arguments:?}, byte {place}");
                    assert!(arguments[1] == "rsa" || arguments.contains(&"-m"), "{arguments:?}, byte {place}");
                    if place % 50 == 0 {
                        assert!(signs(folder.path(), &text, &public), "{arguments:?}, byte {place}");
                        signing += 1;
                    }
                }
                KeyRead::Other(other) if other.is_mismatched && place % 25 == 0 => {
                    loaded_by_ssh_keygen += usize::from(matches!(super::keygen::load(text.as_bytes()), Some(Ok(_))));
                    assert_eq!(KeyRead::on_this_host(text.as_bytes()).key(), None, "{arguments:?}, byte {place}");
                    assert!(!signs(folder.path(), &text, &public), "{arguments:?}, byte {place}");
                    refused += 1;
                }
                KeyRead::Other(_) => {}
            }
        }
    }
    assert!(loaded_by_ssh_keygen > 5 && signing > 5 && refused > 10, "{loaded_by_ssh_keygen} {signing} {refused}");
}

/// OpenSSL signs with these, and so does `ssh`.
#[test]
fn keys_whose_numbers_are_unusual_are_keys() {
    let folder = folder();
    let at = folder.path().join("key");
    let path = at.to_str().unwrap();
    run("openssl", &["genrsa", "-traditional", "-primes", "3", "-out", path, "3072"]);
    assert!(loads(&at));
    let read = KeyRead::of(&std::fs::read(&at).unwrap());
    assert!(read.key().is_some(), "{read:?}");
}

proptest::proptest! {
    #[test]
    fn parsing_never_panics(bytes: Vec<u8>, kind in 0..3_usize) {
        use base64::Engine as _;
        KeyRead::of(&bytes);
        let body = [b"openssh-key-v1\0\0\0\0\x04none".as_slice(), &bytes].concat();
        let label = ["OPENSSH PRIVATE KEY", "RSA PRIVATE KEY", "PRIVATE KEY"][kind];
        let body = base64::engine::general_purpose::STANDARD.encode(body);
        let text = format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n");
        proptest::prop_assert!(KeyRead::of(text.as_bytes()).key().is_none());
    }
}
