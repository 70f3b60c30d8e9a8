//! TLS as the connection's `sslmode` says.

use openssl::error::ErrorStack;
use openssl::ssl::{SslConnector, SslFiletype, SslMethod, SslVerifyMode};
use postgres_openssl::MakeTlsConnector;
use tokio_postgres::config::{SslMode as Wire, SslNegotiation};

use super::endpoint::{Endpoint, RootCert, Server, SslMode};
use crate::host::fs;
use crate::resource::Failure;

/// A system's whole store of certificates has some 200 KiB; a larger file (16 MiB) is something else.
const LARGEST: u64 = 16 << 20;

/// The mode in force for a server: the one that is written, else `verify-full`, and for this machine itself `prefer`.
pub(super) fn mode(endpoint: &Endpoint, server: &Server, tunnelled: bool) -> SslMode {
    if server.name.is_none() {
        // A Unix socket: libpq ignores the mode there too.
        return SslMode::Disable;
    }
    let default = if server.is_local() && !tunnelled { SslMode::Prefer } else { SslMode::VerifyFull };
    endpoint.sslmode.unwrap_or(default)
}

/// The modes in which the wire protocol is tried, one after the other: `prefer` and `allow` have a second way.
pub(super) fn attempts(mode: SslMode) -> &'static [Wire] {
    match mode {
        SslMode::Disable => &[Wire::Disable],
        SslMode::Allow => &[Wire::Disable, Wire::Require],
        SslMode::Prefer => &[Wire::Prefer, Wire::Disable],
        SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => &[Wire::Require],
    }
}

/// A maker of TLS sessions that verifies what `mode` asks for.
pub(super) fn connector(endpoint: &Endpoint, mode: SslMode) -> Result<MakeTlsConnector, Failure> {
    let failed = |error: ErrorStack| Failure::new(format!("cannot set up TLS: {error}"));
    let mut builder = SslConnector::builder(SslMethod::tls_client()).map_err(failed)?;
    if let Some(RootCert::File(path)) = &endpoint.root_cert {
        // Its own authorities alone: the system's would let anybody with a public certificate in.
        let mut store = openssl::x509::store::X509StoreBuilder::new().map_err(failed)?;
        let unreadable = |reason: String| {
            Failure::new(format!("cannot read the certificates of `sslrootcert` in {}: {reason}", path.display()))
                .hint("give a file of PEM certificates, or `sslrootcert=system`")
        };
        let seen = fs::read_file(path, LARGEST).map_err(|error| unreadable(error.to_string()))?;
        let certificates =
            openssl::x509::X509::stack_from_pem(&seen.bytes).map_err(|error| unreadable(error.to_string()))?;
        if certificates.is_empty() {
            return Err(unreadable("there is none in it".into()));
        }
        for certificate in certificates {
            store.add_cert(certificate).map_err(failed)?;
        }
        builder.set_cert_store(store.build());
    }
    if let Some((certificate, key)) = &endpoint.client_cert {
        let unreadable = |error: ErrorStack| {
            Failure::new(format!(
                "cannot use the client certificate {} with the key {}: {error}",
                certificate.display(),
                key.display()
            ))
        };
        builder.set_certificate_chain_file(certificate).map_err(unreadable)?;
        builder.set_private_key_file(key, SslFiletype::PEM).map_err(unreadable)?;
        builder.check_private_key().map_err(unreadable)?;
    }
    if endpoint.config.get_ssl_negotiation() == SslNegotiation::Direct {
        postgres_openssl::set_postgresql_alpn(&mut builder).map_err(failed)?;
    }
    // As libpq: with authorities named, `require` verifies like `verify-ca`.
    let verifies = mode >= SslMode::VerifyCa || (mode == SslMode::Require && endpoint.root_cert.is_some());
    builder.set_verify(if verifies { SslVerifyMode::PEER } else { SslVerifyMode::NONE });
    let mut maker = MakeTlsConnector::new(builder.build());
    maker.set_callback(move |session, _| {
        session.set_verify_hostname(mode == SslMode::VerifyFull);
        Ok(())
    });
    Ok(maker)
}
