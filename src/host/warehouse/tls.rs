//! TLS as the connection's `sslmode` says.
//!
//! Certificates are read when a server has agreed to TLS and not before: OpenSSL parses the system's whole store, which
//! takes longer than everything else that a converged plan needs.

use std::convert::Infallible;
use std::error::Error;
use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;

use openssl::error::ErrorStack;
use openssl::ssl::{SslConnector, SslFiletype, SslMethod, SslVerifyMode};
use postgres_openssl::{MakeTlsConnector, TlsStream};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_postgres::config::{SslMode as Wire, SslNegotiation};
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};

use super::endpoint::{Endpoint, RootCert, Server, SslMode};
use crate::failure::Failure;
use crate::host::fs;

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

/// Sets up TLS for one server, once that server agrees to it.
#[derive(Clone)]
pub(super) struct Connector {
    pub endpoint: Endpoint,
    pub mode: SslMode,
}

/// The TLS handshake with a server of this name.
pub(super) struct Handshake {
    connector: Connector,
    name: String,
}

impl Connector {
    /// The handshake with a server whose certificate has to be for `name`.
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

/// The failure of setting TLS up, where that is why connecting failed: no other way of connecting is tried after it.
pub(super) fn set_up_failure(error: &tokio_postgres::Error) -> Option<&Failure> {
    error.source()?.downcast_ref()
}

/// A maker of TLS sessions that verifies what `mode` asks for.
///
/// Fails if a certificate or key that the endpoint names cannot be read.
fn set_up(endpoint: &Endpoint, mode: SslMode) -> Result<MakeTlsConnector, Failure> {
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
