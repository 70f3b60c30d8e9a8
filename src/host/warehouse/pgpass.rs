//! Password files: `passfile=` in the connection string, or else `PGPASSFILE`, or else `~/.pgpass`.
//!
//! The format, and the rule that no other user may be able to read the file, are libpq's
//! (<https://www.postgresql.org/docs/current/libpq-pgpass.html>).

use std::path::Path;

use tokio_postgres::config::Host;
use zeroize::Zeroizing;

use super::defaults::ClientDefaults;
use super::endpoint::Server;
use crate::host::fs;
use crate::host::secret::Secret;
use crate::text::shell_word;

/// The maximum size of a password file (1 MiB).
const MAX_PASSFILE_BYTES: u64 = 1 << 20;

/// The result of looking up a password.
#[derive(Debug)]
pub(super) enum Found {
    Password(Secret),
    /// There is no file, or no matching line.
    Nothing,
    /// The file was ignored for this reason.
    Ignored(String),
}

impl ClientDefaults {
    /// Looks up the password of `user` on `server`.
    pub(super) fn look_up(&self, named: Option<&Path>, server: &Server, database: &str, user: &str) -> Found {
        let Some(path) = named.map(Path::to_owned).or_else(|| self.default_passfile()) else {
            return Found::Nothing;
        };
        let ignored = |why: String| Found::Ignored(format!("{} was ignored: {why}", path.display()));
        let seen = match fs::read_file(&path, MAX_PASSFILE_BYTES) {
            Ok(seen) => seen,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Found::Nothing,
            Err(error) => return ignored(error.to_string()),
        };
        let mode = seen.stat.mode;
        if mode & 0o077 != 0 {
            return ignored(format!(
                "its mode is {mode:04o}, so other users may read it; remove these permissions: `chmod 600 {}`",
                shell_word(&path)
            ));
        }
        match find(&seen.bytes, server, database, user) {
            Some(password) => Found::Password(Secret::new(password.to_vec())),
            None => Found::Nothing,
        }
    }
}

/// Returns the password of the first matching line.
fn find(text: &[u8], server: &Server, database: &str, user: &str) -> Option<Zeroizing<Vec<u8>>> {
    let port = server.port.to_string();
    // A line contains the host as the user wrote it. The folder of a Unix socket also counts as localhost.
    let hosts = match (&server.host, &server.name) {
        (Host::Unix(folder), _) => vec![folder.to_string_lossy().into_owned(), "localhost".to_owned()],
        (Host::Tcp(host), Some(name)) => vec![name.clone(), host.clone()],
        (Host::Tcp(host), None) => vec![host.clone()],
    };
    text.split(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .filter(|line| !line.starts_with(b"#"))
        .find_map(|line| {
            let mut fields = fields(line);
            let password = fields.pop().filter(|_| fields.len() == 4)?;
            let matches = |at: usize, value: &str| *fields[at] == *b"*" || *fields[at] == *value.as_bytes();
            let host = hosts.iter().any(|host| matches(0, host));
            (host && matches(1, &port) && matches(2, database) && matches(3, user)).then_some(password)
        })
}

/// Splits a line into its four fields and the password. A backslash escapes the next character.
fn fields(line: &[u8]) -> Vec<Zeroizing<Vec<u8>>> {
    let mut fields = vec![Zeroizing::new(Vec::new())];
    let mut bytes = line.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b':' if fields.len() < 5 => fields.push(Zeroizing::new(Vec::new())),
            byte => {
                let byte = if byte == b'\\' { bytes.next().unwrap_or(byte) } else { byte };
                if let Some(field) = fields.last_mut() {
                    field.push(byte);
                }
            }
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn server(host: &str, port: u16) -> Server {
        Server { host: Host::Tcp(host.into()), name: Some(host.into()), port }
    }

    #[test]
    fn uses_the_first_matching_line() {
        let text = b"# a comment\nother:*:*:*:no\ndb:5439:dev:etl:it\\:s \\\\ ok\n*:*:*:*:last:with:colons\r\n";
        let found = |host: &str, user: &str| {
            find(text, &server(host, 5439), "dev", user).map(|found| String::from_utf8(found.to_vec()).unwrap())
        };
        assert_eq!(found("db", "etl").as_deref(), Some("it:s \\ ok"));
        assert_eq!(found("db", "dbt").as_deref(), Some("last:with:colons"));
        assert_eq!(find(b"db:1:dev:etl\n", &server("db", 1), "dev", "etl"), None);
    }

    #[test]
    fn ignores_a_file_that_others_can_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".pgpass");
        std::fs::write(&path, "*:*:*:*:hunter2").unwrap();
        let file = ClientDefaults { home: Some(folder.path().to_owned()), ..ClientDefaults::default() };
        for (mode, readable) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            match file.look_up(None, &server("db", 1), "d", "u") {
                Found::Password(password) => assert!(readable && password.expose() == b"hunter2"),
                Found::Ignored(why) => assert!(!readable && why.contains("chmod 600"), "{why}"),
                Found::Nothing => panic!("{mode:o}"),
            }
        }
    }
}
