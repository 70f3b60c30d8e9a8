//! SHA-256 sums, by OpenSSL.

/// Returns the SHA-256 sum of some bytes.
///
/// OpenSSL is initialised first. Otherwise it would initialise itself so that it is cleaned up when the process ends, while the
/// thread of a tunnel still uses it.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    openssl::init();
    openssl::sha::sha256(bytes)
}
