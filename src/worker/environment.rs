//! The environment of a worker: little, and known.

use std::collections::HashMap;
use std::ffi::{CStr, OsStr, OsString, c_char};
use std::os::unix::ffi::OsStrExt;

use zeroize::Zeroize;

use super::frame::variable_name;
use crate::host::secret::Secret;
use crate::host::users::User;

/// The environment variables that a worker of the launching user keeps: where its state is, how to reach the user's agent,
/// proxies and certificates, and how git reaches remotes (git(1)). All others are dropped, so a secret in the launcher's
/// environment is not passed on. git gets some more variables, which are sent with the steps ([`set_for_git`]).
const KEPT_ENV: &[&str] = &[
    "HOME",
    "PATH",
    "TMPDIR",
    "SSH_AUTH_SOCK",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "XDG_CONFIG_HOME",
    "XDG_STATE_HOME",
    "http_proxy",
    "https_proxy",
    "HTTPS_PROXY",
    "no_proxy",
    "NO_PROXY",
    "ALL_PROXY",
    "all_proxy",
    "GIT_ALLOW_PROTOCOL",
    "GIT_ASKPASS",
    "GIT_CONFIG_COUNT",
    "GIT_CONFIG_GLOBAL",
    "GIT_CONFIG_NOSYSTEM",
    "GIT_CONFIG_SYSTEM",
    "GIT_EXEC_PATH",
    "GIT_HTTP_LOW_SPEED_LIMIT",
    "GIT_HTTP_LOW_SPEED_TIME",
    "GIT_HTTP_PROXY_AUTHMETHOD",
    "GIT_HTTP_USER_AGENT",
    "GIT_PROXY_COMMAND",
    "GIT_PROXY_SSL_CAINFO",
    "GIT_PROXY_SSL_CERT",
    "GIT_PROXY_SSL_KEY",
    "GIT_SSH",
    "GIT_SSH_COMMAND",
    "GIT_SSH_VARIANT",
    "GIT_SSL_CAINFO",
    "GIT_SSL_CAPATH",
    "GIT_SSL_CERT",
    "GIT_SSL_CIPHER_LIST",
    "GIT_SSL_KEY",
    "GIT_SSL_NO_VERIFY",
    "GIT_SSL_VERSION",
];

/// The variables that belong to `GIT_CONFIG_COUNT`. Each ends with the number of a setting (git-config(1)).
const KEPT_NUMBERED: [&str; 2] = ["GIT_CONFIG_KEY_", "GIT_CONFIG_VALUE_"];

/// Returns the part of this process's environment that a worker of the launching user keeps.
#[expect(clippy::disallowed_methods, reason = "read before a worker is started")]
pub fn kept() -> impl Iterator<Item = (OsString, OsString)> {
    std::env::vars_os().filter(|(name, _)| is_passed_on(name.as_bytes()))
}

fn is_passed_on(name: &[u8]) -> bool {
    KEPT_ENV.iter().any(|kept| kept.as_bytes() == name)
        || KEPT_NUMBERED.iter().any(|begin| name.starts_with(begin.as_bytes()))
}

/// The search path of a worker with another user.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Removes everything from the environment of this process but what a worker of `user` needs, also from the memory that
/// `/proc/PID/environ` shows. `own` tells whether that is the launching user. Has to be called before the process has a
/// second thread.
#[expect(unsafe_code, reason = "std::env's setters are unsafe; a worker calls them before it has a second thread")]
#[expect(clippy::disallowed_methods, reason = "the start of a worker")]
pub fn clean(user: &User, own: bool) {
    let kept = take_environment(|name| own && is_passed_on(name));
    // SAFETY: this process has only one thread so far. `serve` runs first in a worker, and nothing else can read the
    // environment at the same time.
    unsafe {
        std::env::set_var("HOME", &user.home);
        std::env::set_var("PATH", PATH);
        std::env::set_var("USER", &user.name);
        std::env::set_var("LOGNAME", &user.name);
        std::env::set_var("LANG", "C.UTF-8");
        for (name, value) in kept {
            std::env::set_var(name, value);
        }
    }
}

/// Takes the environment variables for git out of the secrets that the launcher has sent. `of_launcher` are the names of its variables.
pub fn set_for_git(secrets: &mut HashMap<String, Secret>, of_launcher: Vec<String>) {
    let prefix = variable_name("");
    let variables = secrets.extract_if(|name, _| name.starts_with(&prefix));
    let variables = variables.map(|(name, value)| (OsString::from(&name[prefix.len()..]), value)).collect();
    crate::host::environment::set_for_git(variables, of_launcher);
}

#[expect(unsafe_code, reason = "the standard library cannot overwrite the environment")]
unsafe extern "C" {
    /// The variables of this process, ended by a null pointer (environ(7)).
    static environ: *const *mut c_char;
}

/// Empties the environment and overwrites it, and returns the variables to keep. The others are never copied, so that no
/// secret stays behind in freed memory.
#[expect(unsafe_code, reason = "the standard library cannot overwrite the environment")]
fn take_environment(is_passed_on: impl Fn(&[u8]) -> bool) -> Vec<(OsString, OsString)> {
    let mut kept = Vec::new();
    // SAFETY: this process has only one thread so far, so nothing else uses the environment. `environ` is null, or points to
    // pointers to writable strings that end with NUL. No reference to these strings remains after `clearenv`.
    unsafe {
        let mut place = environ;
        while let Some(entry) = place.as_ref().copied().filter(|entry| !entry.is_null()) {
            let text = std::slice::from_raw_parts_mut(entry.cast::<u8>(), CStr::from_ptr(entry).count_bytes());
            let (name, value) = text.split_at(text.iter().position(|byte| *byte == b'=').unwrap_or(text.len()));
            if is_passed_on(name) {
                let owned = |bytes: &[u8]| OsStr::from_bytes(bytes).to_owned();
                kept.push((owned(name), owned(value.get(1..).unwrap_or_default())));
            }
            text.zeroize();
            place = place.add(1);
        }
        nix::libc::clearenv();
    }
    kept
}
