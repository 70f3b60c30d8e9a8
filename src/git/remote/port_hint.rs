//! Recognises ssh URLs with the port or the path in the wrong place, and suggests the correct URL.

use super::url::SshHost;

/// Returns the remedy for `ssh://HOST:PATH` and `HOST:PORT:PATH`, which mean something else to git.
pub fn misspelt(url: &str, host: &SshHost) -> Option<String> {
    if let Some((_, rest)) = url.split_once("://") {
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        // The password may contain a colon.
        let place = authority.rsplit_once('@').map_or(authority, |(_, place)| place);
        let (name, first) = place.split_once(':').filter(|_| !place.contains('['))?;
        if first.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        // With an `@` later on, it may be a password with a slash.
        let right = match path.contains('@') {
            true => "correct the url".to_owned(),
            false => format!("write ssh://{}{name}/{first}{path}", host.user()),
        };
        return Some(format!("git reads the text after the colon as a port: {right}"));
    }
    let (port, path) = host.path.split_once(':').filter(|(port, path)| is_port(port) && !path.contains('@'))?;
    // A path without a slash begins at the home.
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/~/{path}") };
    Some(format!("git reads the port as part of the path: write {}", host.with_port(port, &path)))
}

/// Returns the port and the URL that `HOST:PORT/PATH` may mean. git reads it as a path that begins with a number. Returns `None` if
/// an `@` follows, because the path may then be part of a password.
pub fn maybe_port<'a>(url: &str, host: &'a SshHost) -> Option<(&'a str, String)> {
    let (port, path) = host.path.split_once('/').filter(|_| !url.contains("://") && !host.path.contains('@'))?;
    is_port(port).then(|| (port, host.with_port(port, &format!("/{path}"))))
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok_and(|port| port > 0)
}

impl SshHost {
    /// Returns the user for a URL, with the `@`.
    fn user(&self) -> String {
        self.login.rsplit_once('@').map(|(user, _)| format!("{user}@")).unwrap_or_default()
    }

    fn with_port(&self, port: &str, path: &str) -> String {
        let (user, name) = (self.user(), &self.name);
        let name = if name.contains(':') { format!("[{name}]") } else { name.clone() };
        format!("ssh://{user}{name}:{port}{path}")
    }
}
