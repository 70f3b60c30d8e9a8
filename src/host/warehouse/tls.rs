//! TLS according to the connection's `sslmode`.
//!
//! Certificates are read only after a server has agreed to TLS. OpenSSL parses the whole system store, which takes
//! longer than the rest of a converged plan.

use std::convert::Infallible;
use std::error::Error;
use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;

use openssl::error::ErrorStack;
use openssl::ssl::{SslConnector, SslConnectorBuilder, SslFiletype, SslMethod, SslVerifyMode};
use postgres_openssl::{MakeTlsConnector, TlsStream};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_postgres::config::{SslMode as Wire, SslNegotiation};
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};

use super::endpoint::{Endpoint, RootCert, Server, SslMode};
use crate::failure::Failure;
use crate::host::fs;

/// The maximum size of a certificate file (16 MiB). The whole store of a system has about 200 KiB.
const MAX_CERTIFICATES_BYTES: u64 = 16 << 20;

/// Returns the effective mode for a server: the given one, or else `prefer` for this machine and `verify-full` for
/// others.
pub(super) fn mode(endpoint: &Endpoint, server: &Server, tunnelled: bool) -> SslMode {
    if server.name.is_none() {
        // A Unix socket. libpq ignores the mode as well.
        return SslMode::Disable;
    }
    let default = if server.is_local() && !tunnelled { SslMode::Prefer } else { SslMode::VerifyFull };
    endpoint.sslmode.unwrap_or(default)
}

/// Returns the protocol modes to try in order. `prefer` and `allow` have two.
pub(super) fn attempts(mode: SslMode) -> &'static [Wire] {
    match mode {
        SslMode::Disable => &[Wire::Disable],
        SslMode::Allow => &[Wire::Disable, Wire::Require],
        SslMode::Prefer => &[Wire::Prefer, Wire::Disable],
        SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => &[Wire::Require],
    }
}

/// Sets up TLS for one server after it has agreed to TLS.
#[derive(Clone)]
pub(super) struct Connector {
    pub endpoint: Endpoint,
    pub mode: SslMode,
}

/// The TLS handshake with a server.
pub(super) struct Handshake {
    connector: Connector,
    name: String,
}

impl Connector {
    /// Creates the handshake with a server whose certificate has to be for `name`.
    pub(super) fn handshake(&self, name: &str) -> Handshake {
        Handshake { connector: self.clone(), name: name.to_owned() }
    }
}

impl<S> MakeTlsConnect<S> for Connector
where
    S: AsyncRead + AsyncWrite + Unpin + Debug + Send + Sync + 'static,
{
    type Stream = TlsStream<S>;
    type TlsConnect = Handshake;
    type Error = Infallible;

    fn make_tls_connect(&mut self, name: &str) -> Result<Handshake, Infallible> {
        Ok(self.handshake(name))
    }
}

impl<S> TlsConnect<S> for Handshake
where
    S: AsyncRead + AsyncWrite + Unpin + Debug + Send + Sync + 'static,
{
    type Stream = TlsStream<S>;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<TlsStream<S>, Self::Error>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        Box::pin(async move {
            let mut maker = set_up(&self.connector.endpoint, self.connector.mode)?;
            let handshake = MakeTlsConnect::<S>::make_tls_connect(&mut maker, &self.name)?;
            handshake.connect(stream).await
        })
    }
}

/// Returns the failure of the TLS setup, if that caused the error. Other modes are then not tried.
pub(super) fn set_up_failure(error: &tokio_postgres::Error) -> Option<&Failure> {
    error.source()?.downcast_ref()
}

/// Creates a TLS connector that verifies what `mode` requires.
///
/// Fails if a certificate or key of the endpoint cannot be read.
fn set_up(endpoint: &Endpoint, mode: SslMode) -> Result<MakeTlsConnector, Failure> {
    let failed = |error: ErrorStack| Failure::new(format!("cannot set up TLS: {error}"));
    let mut builder = SslConnector::builder(SslMethod::tls_client()).map_err(failed)?;
    if let Some(RootCert::File(path)) = &endpoint.root_cert {
        // Only the given authorities are trusted. With those of the system, any public certificate would be accepted.
        let mut store = openssl::x509::store::X509StoreBuilder::new().map_err(failed)?;
        let unreadable = |reason: String| {
            Failure::new(format!("cannot read the certificates of `sslrootcert` in {}: {reason}", path.display()))
                .hint("use a file of PEM certificates, or `sslrootcert=system`")
        };
        let seen = fs::read_file(path, MAX_CERTIFICATES_BYTES).map_err(|error| unreadable(error.to_string()))?;
        let certificates =
            openssl::x509::X509::stack_from_pem(&seen.bytes).map_err(|error| unreadable(error.to_string()))?;
        if certificates.is_empty() {
            return Err(unreadable("it contains none".into()));
        }
        for certificate in certificates {
            store.add_cert(certificate).map_err(failed)?;
        }
        builder.set_cert_store(store.build());
    } else {
        trust_system(&mut builder);
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
    // As in libpq, `require` verifies like `verify-ca` if authorities are given.
    let verifies = mode >= SslMode::VerifyCa || (mode == SslMode::Require && endpoint.root_cert.is_some());
    builder.set_verify(if verifies { SslVerifyMode::PEER } else { SslVerifyMode::NONE });
    let mut maker = MakeTlsConnector::new(builder.build());
    maker.set_callback(move |session, _| {
        session.set_verify_hostname(mode == SslMode::VerifyFull);
        Ok(())
    });
    Ok(maker)
}

/// Trusts the authorities of this system. The system's own OpenSSL already does.
#[cfg(not(feature = "portable"))]
fn trust_system(_: &mut SslConnectorBuilder) {}

/// Trusts the authorities of this system, in the places of all distributions. What cannot be read is left out, as OpenSSL does
/// with its default places.
#[cfg(feature = "portable")]
fn trust_system(builder: &mut SslConnectorBuilder) {
    let found = openssl_probe::probe();
    // The crate `openssl` panics at other paths.
    let is_text = |path: &&std::path::PathBuf| path.to_str().is_some();
    if let Some(file) = found.cert_file.as_ref().filter(is_text) {
        let _ignored = builder.load_verify_locations(Some(file), None);
    }
    for directory in found.cert_dir.iter().filter(is_text) {
        let _ignored = builder.load_verify_locations(None, Some(directory));
    }
}
