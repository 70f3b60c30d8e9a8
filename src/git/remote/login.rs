//! Hides the user and password in a URL. git would pass them to its helper programs as an argument, which every user of the
//! host can read. So git gets the URL without them, and a credential helper that answers when the server asks.

use crate::text::RedactedUrl;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use percent_encoding::percent_decode_str;
use zeroize::Zeroizing;

use super::settings::quoted;
use super::url::default_port;
use crate::failure::Failure;
use crate::git::error::io_failure;

/// Refuses a URL with a secret in a part that cannot be hidden. `url` stands for `resolved` (`insteadOf`).
pub fn check(url: &str, resolved: &str) -> Result<(), Failure> {
    let shown = RedactedUrl::of(url);
    let web =
        resolved.split_once("://").filter(|(scheme, _)| ["http", "https"].contains(&&*scheme.to_ascii_lowercase()));
    if let Some((_, place)) = web {
        if !place.contains(['?', '#']) {
            return Ok(());
        }
        let what = format!(
            "the remote's url {shown} has a part after `?` or `#`: git would show it to every user of this host"
        );
        return Err(Failure::new(what)
            .hint("take it out of the url; if it is a token, let a credential helper of the step's user know it"));
    }
    if !resolved.contains("://") && RedactedUrl::of(resolved).as_str() != resolved {
        let what =
            format!("the remote's url {shown} has a password before the `@`, which a url of this form cannot have");
        return Err(Failure::new(what)
            .hint("write https://USER@HOST/PATH, and let a credential helper of the step's user know the password"));
    }
    Ok(())
}

/// The parts of a URL with a scheme.
struct Parts<'a> {
    scheme: &'a str,
    /// The user, and the password after a colon.
    login: Option<&'a str>,
    /// The host and the port.
    place: &'a str,
    /// The rest, with the slash before it.
    path: &'a str,
}

impl<'a> Parts<'a> {
    fn of(url: &'a str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let (login, place) =
            authority.rsplit_once('@').map_or((None, authority), |(login, place)| (Some(login), place));
        Some(Self { scheme, login, place, path })
    }

    /// The host and its port, unless that is the default.
    fn server(&self) -> String {
        let scheme = self.scheme.to_ascii_lowercase();
        let port = default_port(&scheme).map(|port| format!(":{port}")).unwrap_or_default();
        let place = self.place.strip_suffix(&port).unwrap_or(self.place);
        place.strip_suffix(':').unwrap_or(place).to_ascii_lowercase()
    }

    fn is_web(&self) -> bool {
        ["http", "https"].iter().any(|scheme| self.scheme.eq_ignore_ascii_case(scheme))
    }
}

/// Returns the URL `to` with the user and password of another URL of the same server, if that has any. `None` for other servers,
/// which must not get them.
pub fn with_login_of(from: &str, to: &str) -> Option<String> {
    let (from, to) = (Parts::of(from)?, Parts::of(to)?);
    let is_same = (from.scheme.to_ascii_lowercase(), from.server()) == (to.scheme.to_ascii_lowercase(), to.server());
    let login = from.login.filter(|_| to.is_web() && is_same)?;
    Some(format!("{}://{login}@{}{}", to.scheme, to.place, to.path))
}

/// Returns configuration by which git uses the URL without user and password, or an empty text if it has none. `url` stands
/// for `resolved` (`insteadOf`). The password is written to a file in the directory `at`.
pub fn hide(url: &str, resolved: &str, at: &Path) -> Result<String, Failure> {
    let Some(parts) = Parts::of(resolved) else { return Ok(String::new()) };
    let Parts { scheme, login: Some(login), place, path } = parts else { return Ok(String::new()) };
    let (user, password) = login.split_once(':').map_or((login, None), |(user, password)| (user, Some(password)));
    let plain = |clean: &str| format!("[url {}]\n\tinsteadOf = {}\n", quoted(clean), quoted(url));
    match scheme.to_ascii_lowercase().as_str() {
        // ssh does not accept a password in a URL.
        "ssh" if password.is_some() => Ok(plain(&format!("{scheme}://{user}@{place}{path}"))),
        "http" | "https" => {
            let server = format!("{scheme}://{place}");
            let mut config = plain(&format!("{server}{path}"));
            let user = percent_decode_str(user).decode_utf8_lossy();
            config.push_str(&format!("[credential {}]\n\tusername = {}\n", quoted(&server), quoted(&user)));
            if let Some(password) = password {
                let file = at.join("login");
                let mut text = Zeroizing::new(format!("username={user}\npassword=").into_bytes());
                text.extend(percent_decode_str(password));
                text.push(b'\n');
                let failed = io_failure("write", &file);
                let mut options = OpenOptions::new();
                let mut open = options.write(true).create_new(true).mode(0o600).open(&file).map_err(&failed)?;
                open.write_all(&text).map_err(&failed)?;
                let helper = "!f() { test \"$1\" != get || cat \"$PROVISION_SCRATCH/login\"; }; f";
                config.push_str(&format!("\thelper = {}\n", quoted(helper)));
            }
            Ok(config)
        }
        _ => Ok(String::new()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn hidden(url: &str) -> (String, Option<String>) {
        let at = tempfile::tempdir().unwrap();
        let config = hide("c:x", url, at.path()).unwrap();
        (config, fs::read_to_string(at.path().join("login")).ok())
    }

    #[test]
    fn a_login_is_used_only_at_its_own_server() {
        let with = |from: &str| with_login_of(from, "https://old:x@H.example:8443/a.git");
        assert_eq!(with("https://u:p@h.example:8443/a.git").as_deref(), Some("https://u:p@H.example:8443/a.git"));
        for other in [
            "https://u:p@h.example/a.git",
            "http://u:p@h.example:8443/a.git",
            "https://u:p@evil.example:8443/a.git",
            "https://h.example:8443/a.git",
            "u@h.example:a.git",
        ] {
            assert_eq!(with(other), None, "{other}");
        }
        assert_eq!(with_login_of("ssh://u@h/x", "ssh://h/x"), None);
        let default = with_login_of("https://u:p@H.example:443/a", "https://h.example/a.git");
        assert_eq!(default.as_deref(), Some("https://u:p@h.example/a.git"));
    }

    #[test]
    fn a_secret_that_git_would_show_is_refused() {
        for url in ["https://h/x.git?access_token=t0ken", "HTTP://h/x#t0ken", "oauth2:t0ken@git.example:team/x.git"] {
            let failure = check(url, url).unwrap_err();
            assert!(!failure.message.contains("t0ken") && failure.hint.is_some(), "{failure:?}");
            assert!(check("c:x", url).is_err());
        }
        for plain in ["https://u:p@h/x", "git@h:x", "/srv/a?b", "host:a@b/x", "ssh://u@h/x?y"] {
            check(plain, plain).unwrap();
        }
    }

    #[test]
    fn what_the_configuration_says_of_a_login_is_no_part_of_the_url() {
        let (config, login) = hidden("https://u%40h:p%2Fw@[::1]:8443/x.git");
        assert!(config.starts_with("[url \"https://[::1]:8443/x.git\"]\n\tinsteadOf = \"c:x\"\n"), "{config}");
        assert!(config.contains("[credential \"https://[::1]:8443\"]\n\tusername = \"u@h\"\n\thelper = "), "{config}");
        assert!(!config.contains("p/w") && !config.contains("p%2Fw"), "{config}");
        assert_eq!(login.as_deref(), Some("username=u@h\npassword=p/w\n"));

        let (config, login) = hidden("https://token@h/x.git");
        assert!(config.contains("username = \"token\"") && !config.contains("helper"), "{config}");
        assert_eq!(login, None);

        assert_eq!(hidden("ssh://u:p@h/x").0, "[url \"ssh://u@h/x\"]\n\tinsteadOf = \"c:x\"\n");
        for plain in ["https://h/x@y", "ssh://git@h/x", "git@h:x", "/srv/x", "https://h"] {
            assert_eq!(hidden(plain), (String::new(), None), "{plain}");
        }
    }
}
