//! Certificates created at run time.

use std::path::{Path, PathBuf};

use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509Builder, X509Name};

/// An authority that signs server certificates.
pub struct Authority {
    key: PKey<Private>,
    certificate: X509,
}

impl Authority {
    pub fn new() -> Self {
        let key = PKey::generate_ed25519().unwrap();
        let mut builder = unsigned("Test Authority", &key, false);
        builder.append_extension(BasicConstraints::new().critical().ca().build().unwrap()).unwrap();
        let name = name("Test Authority");
        builder.set_issuer_name(&name).unwrap();
        builder.sign(&key, MessageDigest::null()).unwrap();
        Self { certificate: builder.build(), key }
    }

    /// Writes the authority's own certificate.
    pub fn write(&self, path: &Path) -> PathBuf {
        std::fs::write(path, self.certificate.to_pem().unwrap()).unwrap();
        path.to_owned()
    }

    /// Writes `server.crt` and `server.key` for a name into a folder.
    pub fn sign(&self, folder: &Path, host: &str, expired: bool) {
        let key = PKey::generate_ed25519().unwrap();
        let mut builder = unsigned(host, &key, expired);
        let names = SubjectAlternativeName::new()
            .dns(host)
            .build(&builder.x509v3_context(Some(&self.certificate), None))
            .unwrap();
        builder.append_extension(names).unwrap();
        builder.set_issuer_name(self.certificate.subject_name()).unwrap();
        builder.sign(&self.key, MessageDigest::null()).unwrap();
        std::fs::write(folder.join("server.crt"), builder.build().to_pem().unwrap()).unwrap();
        std::fs::write(folder.join("server.key"), key.private_key_to_pem_pkcs8().unwrap()).unwrap();
    }
}

fn name(common: &str) -> X509Name {
    let mut name = X509Name::builder().unwrap();
    name.append_entry_by_text("CN", common).unwrap();
    name.build()
}

fn unsigned(common: &str, key: &PKey<Private>, expired: bool) -> X509Builder {
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    let mut serial = [0; 8];
    openssl::rand::rand_bytes(&mut serial).unwrap();
    builder.set_serial_number(&BigNum::from_slice(&serial).unwrap().to_asn1_integer().unwrap()).unwrap();
    builder.set_subject_name(&name(common)).unwrap();
    builder.set_pubkey(key).unwrap();
    let now =
        i64::try_from(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()).unwrap();
    let end = if expired { now - 3600 } else { now + 86_400 };
    builder.set_not_before(&Asn1Time::from_unix(now - 7200).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::from_unix(end).unwrap()).unwrap();
    builder
}
