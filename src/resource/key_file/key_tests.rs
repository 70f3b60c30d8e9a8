//! Every key that ssh-keygen and openssl make, against what ssh-keygen says of it.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::KeyRead;
use crate::host::testing::folder;

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Makes a key with ssh-keygen, and gives its path.
pub(super) fn keygen(folder: &Path, more: &[&str]) -> PathBuf {
    let path = folder.join(format!("key-{}", more.join("")));
    let at = path.to_str().unwrap();
    run("ssh-keygen", &[&["-q", "-N", "", "-C", "a comment", "-f", at], more].concat());
    path
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
fn every_key_that_ssh_keygen_makes_is_read_as_ssh_keygen_reads_it() {
    let folder = folder();
    let mut kinds = 0;
    for kind in [
        &["-t", "ed25519"][..],
        &["-t", "rsa", "-b", "2048"],
        &["-t", "rsa", "-b", "3072"],
        &["-t", "ecdsa", "-b", "256"],
        &["-t", "ecdsa", "-b", "384"],
        &["-t", "ecdsa", "-b", "521"],
        &["-t", "dsa"],
    ] {
        // OpenSSH 10 makes no DSA keys any more.
        let can = kind[1] != "dsa" || run("ssh", &["-Q", "key"]).contains("ssh-dss");
        for format in [&[][..], &["-m", "PEM"], &["-m", "PKCS8"]].into_iter().filter(|_| can) {
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
            cut_off(&bytes);
            assert_eq!(reason(&std::fs::read(&public).unwrap()), "is a public key");
            kinds += 1;
        }
    }
    assert!(kinds >= 18);
}

/// No beginning of a key is a key, but for one that lacks the last line ending of a PEM file, which ssh reads.
fn cut_off(bytes: &[u8]) {
    let openssh = bytes.starts_with(b"-----BEGIN OPENSSH");
    let whole = if openssh { bytes.len() } else { bytes.len() - 1 };
    for length in (0..whole).step_by(7).chain([whole - 1, whole - 2, whole / 2]) {
        assert!(KeyRead::of(&bytes[..length]).key().is_none(), "{length} of {} bytes", bytes.len());
    }
    // A line missing in the middle.
    let text = std::str::from_utf8(bytes).unwrap();
    let lines: Vec<_> = text.split_inclusive('\n').collect();
    let gap: String = lines.iter().enumerate().filter(|(at, _)| *at != 2).map(|(_, line)| *line).collect();
    assert!(KeyRead::of(gap.as_bytes()).key().is_none());
}

#[test]
fn a_key_of_openssl_is_read_too() {
    let folder = folder();
    let at = folder.path().join("key");
    let at = at.to_str().unwrap();
    run("openssl", &["genpkey", "-algorithm", "ed25519", "-out", at]);
    assert_eq!(KeyRead::of(&std::fs::read(at).unwrap()).key().unwrap().algorithm, "ssh-ed25519");
    // With the block of parameters before it that openssl writes.
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
        assert!(reason(&std::fs::read(at).unwrap()).contains("of a kind that SSH does not know"));
    }
}

#[test]
fn what_is_no_usable_private_key_is_told_apart() {
    let folder = folder();
    let path = keygen(folder.path(), &["-t", "ed25519"]);
    let text = std::fs::read_to_string(&path).unwrap();
    let pem = std::fs::read_to_string(keygen(folder.path(), &["-t", "rsa", "-m", "PEM"])).unwrap();
    let at = path.to_str().unwrap();
    run("ssh-keygen", &["-q", "-s", at, "-I", "id", "-n", "user", &format!("{at}.pub")]);
    let certificate = std::fs::read(format!("{at}-cert.pub")).unwrap();
    for (bytes, told) in [
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
        (format!("\u{feff}{text}").into_bytes(), "byte order mark"),
        (text.replace('\n', "\r\n").into_bytes(), "CRLF"),
        (pem.replace('\n', "\r\n").into_bytes(), "CRLF"),
        (format!("\n{text}").into_bytes(), "before its BEGIN line"),
        (text.trim_end().as_bytes().to_vec(), "lacks the line ending"),
        (text.replace("-----END", "").into_bytes(), "is cut off"),
        (pem.replace("RSA PRIVATE", "EC PRIVATE").into_bytes(), "is damaged"),
        (b"-----BEGIN OPENSSH PRIVATE KEY-----\n!!!!\n-----END OPENSSH PRIVATE KEY-----\n".to_vec(), "is damaged"),
    ] {
        let found = reason(&bytes);
        assert!(found.contains(told), "{told}: {found}");
    }
    for format in ["RFC4716", "PEM", "PKCS8"] {
        let path = folder.path().join(format!("locked-{format}"));
        run("ssh-keygen", &["-q", "-t", "rsa", "-m", format, "-N", "passphrase", "-f", path.to_str().unwrap()]);
        assert!(reason(&std::fs::read(&path).unwrap()).contains("passphrase"), "{format}");
    }
}

#[test]
fn lines_of_any_length_are_read() {
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
