//! Service files: named settings of connections.
//!
//! The places and the format are libpq's (<https://www.postgresql.org/docs/current/libpq-pgservice.html>): `PGSERVICEFILE`, or
//! else `~/.pg_service.conf`, and then `pg_service.conf` in `PGSYSCONFDIR` or the system's folder.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::endpoint::{is_known_key, unknown_key};
use crate::failure::Failure;
use crate::host::fs::{self, acts_as_root, escape_path};
use crate::host::secret::Secret;
use crate::host::users::{acting_user, name_or_id};

/// The maximum size of a service file (1 MiB).
const MAX_SERVICE_FILE_BYTES: u64 = 1 << 20;

/// The settings that are ignored. They do not change which server is reached, how it is verified, or what is queried.
const IGNORED: &[&str] =
    &["client_encoding", "fallback_application_name", "gsslib", "krbsrvname", "sslcompression", "sslsni"];

/// A service, and the file that it was found in.
pub(super) struct Service {
    pub file: PathBuf,
    /// All settings except the password.
    pub settings: BTreeMap<String, String>,
    pub password: Option<Secret>,
}

/// A place for services.
pub(super) struct ServiceFile {
    pub path: PathBuf,
    /// Whether it is an error if the file does not exist.
    pub is_required: bool,
}

/// Finds the service with this name in the first file that has it. `origin` describes where the name comes from, for messages.
///
/// # Errors
/// No file has the service, or a file cannot be used.
pub(super) fn find(name: &str, origin: &str, files: &[ServiceFile]) -> Result<Service, Failure> {
    let mut searched = Vec::new();
    for ServiceFile { path, is_required } in files {
        let text = match read(path)? {
            Some(text) => text,
            None if *is_required => {
                let failure = Failure::new(format!("the service file {} does not exist", escape_path(path)));
                return Err(failure.hint("correct or unset PGSERVICEFILE"));
            }
            None => continue,
        };
        if let Some(lines) = section(&text, name) {
            return parse(&lines, path);
        }
        searched.push(escape_path(path));
    }
    let wanted = files.first().map(|file| escape_path(&file.path)).unwrap_or_default();
    let place = match searched.as_slice() {
        [] => "because there is no service file".to_owned(),
        files => format!("in {}", files.join(" or ")),
    };
    let failure = Failure::new(format!("service `{name}`{origin} is not defined {place}"));
    Err(failure.hint(format!("add it to {wanted}: a line [{name}], and below it host=, port=, dbname= and user=")))
}

fn read(file: &Path) -> Result<Option<Zeroizing<String>>, Failure> {
    let failed = |why: String| Failure::new(format!("cannot read the service file {}: {why}", escape_path(file)));
    let seen = match fs::read_file(file, MAX_SERVICE_FILE_BYTES) {
        Ok(seen) => seen,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error.to_string())),
    };
    if let Some(refusal) = untrusted(file).map_err(|error| failed(error.to_string()))? {
        return Err(refusal);
    }
    let text = std::str::from_utf8(&seen.bytes).map_err(|_| failed("it is not UTF-8".to_owned()))?;
    Ok(Some(Zeroizing::new(text.to_owned())))
}

/// Refuses, as root, a file that other users can change. They could redirect the connection and its password.
fn untrusted(file: &Path) -> std::io::Result<Option<Failure>> {
    if !acts_as_root() {
        return Ok(None);
    }
    let real = std::fs::canonicalize(file)?;
    for part in real.ancestors().chain(file.ancestors()).filter(|part| !part.as_os_str().is_empty()) {
        let found = std::fs::symlink_metadata(part)?;
        let is_open = !found.is_symlink() && found.mode() & 0o022 != 0 && found.mode() & 0o1000 == 0;
        let who = match found.uid() {
            0 if is_open => "others can write to it".to_owned(),
            0 => continue,
            owner => format!("it belongs to {}", name_or_id(owner)),
        };
        let why = if part == real.as_path() { who } else { format!("{}: {who}", escape_path(part)) };
        let failure = Failure::new(format!("cannot trust the service file {} as root: {why}", escape_path(file)));
        return Ok(Some(failure.hint(format!(
            "put the service into a file that only {} can change, and name it in PGSERVICEFILE",
            acting_user()
        ))));
    }
    Ok(None)
}

/// Returns the numbered lines of the first section of that name.
fn section<'a>(text: &'a str, name: &str) -> Option<Vec<(usize, &'a str)>> {
    let mut lines = (1..).zip(text.lines().map(str::trim));
    let is_header = |line: &str| {
        line.strip_prefix('[').and_then(|rest| rest.strip_prefix(name)).is_some_and(|rest| rest.starts_with(']'))
    };
    lines.find(|(_, line)| is_header(line))?;
    let own = lines.take_while(|(_, line)| !line.starts_with('['));
    Some(own.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')).collect())
}

/// Parses `key=value` lines. As in libpq, the first of two lines with the same key counts.
fn parse(lines: &[(usize, &str)], file: &Path) -> Result<Service, Failure> {
    let mut service = Service { file: file.to_owned(), settings: BTreeMap::new(), password: None };
    let place = |number: usize| format!("{}:{number}", escape_path(file));
    for (number, line) in lines {
        let Some((key, value)) = line.split_once('=') else {
            return Err(Failure::new(format!("{}: expected key=value", place(*number))));
        };
        if key.starts_with("ldap://") {
            return Err(Failure::new(format!("{}: services in LDAP are not supported", place(*number)))
                .hint("copy its settings into the file"));
        }
        let is_off = key == "gssencmode" && ["disable", "prefer"].contains(&value);
        if IGNORED.contains(&key) || is_off {
            continue;
        }
        match key {
            "service" => {
                return Err(Failure::new(format!("{}: a service cannot name another service", place(*number))));
            }
            "password" => {
                service.password = service.password.or_else(|| Some(Secret::copy_of(value.as_bytes())));
            }
            key if is_known_key(key) => {
                service.settings.entry(key.to_owned()).or_insert_with(|| value.to_owned());
            }
            key => return Err(Failure::new(format!("{}: {}", place(*number), unknown_key(key)))),
        }
    }
    Ok(service)
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,80}|(\\[wh\\]|[a-z]{1,8}=?[^\n]{0,8}|\n){0,12}") {
            if let Some(lines) = section(&text, "wh") {
                let _either = parse(&lines, Path::new("/f"));
            }
        }
    }
}
