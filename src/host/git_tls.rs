//! When libgit2 reads the certificates of the system: for an https remote alone.
//!
//! libgit2 reads them all at its first use, which takes longer than everything else that a converged checkout needs.
//! It takes their place from the environment, so it is started with an empty one.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

const FILE: &str = "SSL_CERT_FILE";
const FOLDER: &str = "SSL_CERT_DIR";

/// Where the environment says that certificates are.
static CHOSEN: OnceLock<(Option<OsString>, Option<OsString>)> = OnceLock::new();

/// Starts libgit2 without certificates. The environment is afterwards as it was. To be called at the start of the
/// process, before there is a second thread; without the call all works the same, only slower.
pub fn start() {
    let chosen = CHOSEN.get_or_init(|| (std::env::var_os(FILE), std::env::var_os(FOLDER)));
    #[expect(unsafe_code, reason = "the environment is the only way to tell OpenSSL's default locations")]
    // SAFETY: the caller has no other thread, so nobody reads the environment meanwhile.
    unsafe {
        std::env::set_var(FILE, "/dev/null");
        std::env::set_var(FOLDER, "/dev/null");
        // Any setting starts libgit2; this one is its default.
        git2::opts::strict_hash_verification(true);
        for (name, value) in [(FILE, &chosen.0), (FOLDER, &chosen.1)] {
            match value {
                Some(value) => std::env::set_var(name, value),
                None => std::env::remove_var(name),
            }
        }
    }
}

/// Gives libgit2 the system's certificates. To be called before it speaks https.
pub fn load_certificates() -> Result<(), git2::Error> {
    static LOADED: OnceLock<Result<(), String>> = OnceLock::new();
    LOADED
        .get_or_init(|| {
            let Some((file, folder)) = CHOSEN.get() else { return Ok(()) };
            let existing = |path: &Path| path.exists().then(|| path.to_owned());
            let mut file: Option<PathBuf> = file.as_ref().map(PathBuf::from);
            let mut folder: Option<PathBuf> = folder.as_ref().map(PathBuf::from);
            if file.is_none() && folder.is_none() {
                file = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"]
                    .iter()
                    .find_map(|path| existing(Path::new(path)));
                folder = existing(Path::new("/etc/ssl/certs")).filter(|_| file.is_none());
            }
            #[expect(unsafe_code, reason = "git2 marks libgit2's process-wide settings unsafe")]
            // SAFETY: the OnceLock lets one thread alone do this, and those that are about to speak https wait for it.
            let set = unsafe {
                let file = file.map_or(Ok(()), |file| git2::opts::set_ssl_cert_file(file));
                file.and_then(|()| folder.map_or(Ok(()), |folder| git2::opts::set_ssl_cert_dir(folder)))
            };
            set.map_err(|error| error.message().to_owned())
        })
        .clone()
        .map_err(|message| git2::Error::from_str(&message))
}
