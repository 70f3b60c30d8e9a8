//! URLs of remotes, as they may be shown.

use std::fmt;

/// A remote's URL without what may be a password or a token: without user and password, except for the user of an ssh URL,
/// and without the query and fragment of a web address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedactedUrl(String);

impl RedactedUrl {
    /// Redacts a URL, or the `host:path` form of one.
    pub fn of(url: &str) -> Self {
        Self(redacted(url))
    }

    /// Redacts a word of a message, which may be a quoted URL.
    pub fn in_word(word: &str) -> String {
        let start = word.find(|letter: char| letter.is_ascii_alphanumeric()).unwrap_or(0);
        match word.contains("://") {
            true => format!("{}{}", &word[..start], redacted(&word[start..])),
            false => word.to_owned(),
        }
    }

    /// Hides the pieces of the password of `url` in the message of a program. A program splits a password with a `/`, `:` or `@`,
    /// and can report a piece as a port or a host.
    pub fn without_password_of(url: &str, message: String) -> String {
        let Some((_, rest)) = url.split_once("://").filter(|_| redacted(url) != url) else { return message };
        let login = rest.rfind('@').map_or("", |end| &rest[..end]);
        let password = login.split_once(':').map_or("", |(_, password)| password);
        let pieces = password.split(['/', ':', '@']).filter(|piece| !piece.is_empty());
        pieces.fold(message, |message, piece| replace_word(&message, piece))
    }

    /// The URL as it may be shown.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RedactedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Removes user and password from `scheme://rest`.
pub fn without_login(scheme: &str, rest: &str) -> String {
    cut_login(scheme, rest, rest[..authority(rest)].rfind('@'))
}

fn redacted(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return without_scp_password(url) };
    // A password may contain an unescaped slash or `@`, so it ends at the last `@`.
    let has_password = rest.split('@').next().is_some_and(|user| user.len() < rest.len() && user.contains(':'));
    let end = if has_password { rest.rfind('@') } else { rest[..authority(rest)].rfind('@') };
    let shown = cut_login(scheme, rest, end);
    // A local path may contain these characters.
    match shown.find(['?', '#']).filter(|_| scheme != "file" && scheme != "ssh") {
        // A closing quotation mark does not belong to the URL.
        Some(end) => {
            let closing = shown[end..].rfind('\'').map_or("", |quote| &shown[end + quote..]);
            format!("{}{}…{closing}", &shown[..end], &shown[end..=end])
        }
        None => shown,
    }
}

/// Shortens `user:token@host:path`, which git treats as a path on the host `user`.
fn without_scp_password(url: &str) -> String {
    let before_path = &url[..authority(url)];
    match (before_path.find(':'), before_path.rfind('@')) {
        (Some(colon), Some(at)) if colon < at && before_path[at..].contains(':') => {
            format!("{}{}", &url[..colon], &url[at..])
        }
        _ => url.to_owned(),
    }
}

/// Replaces `word`. A short one is left where it is a part of a longer word.
fn replace_word(text: &str, word: &str) -> String {
    let is_short = word.chars().count() < 4;
    let mut shown = String::new();
    let mut end = 0;
    for (at, _) in text.match_indices(word) {
        let (before, after) = (&text[..at], &text[at + word.len()..]);
        let is_part = before.ends_with(char::is_alphanumeric) || after.starts_with(char::is_alphanumeric);
        if !(is_short && is_part) {
            shown.push_str(&text[end..at]);
            shown.push('…');
            end = at + word.len();
        }
    }
    shown + &text[end..]
}

/// Returns the length of the user and host in a URL without its scheme.
fn authority(rest: &str) -> usize {
    rest.find('/').unwrap_or(rest.len())
}

fn cut_login(scheme: &str, rest: &str, end: Option<usize>) -> String {
    let Some(end) = end else { return format!("{scheme}://{rest}") };
    let place = &rest[end + 1..];
    // In an https URL either half can be a token. In an ssh URL only the name is used.
    match rest[..end].split(':').next() {
        Some(user) if scheme == "ssh" => format!("{scheme}://{user}@{place}"),
        _ => format!("{scheme}://{place}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_and_tokens_are_not_shown() {
        let shown = |url: &str| RedactedUrl::of(url).to_string();
        assert_eq!(shown("https://u:p@h/x"), "https://h/x");
        assert_eq!(shown("https://token@h/x"), "https://h/x");
        assert_eq!(shown("ssh://git@h/x"), "ssh://git@h/x");
        assert_eq!(shown("https://u:p@ss@h/x"), "https://h/x");
        assert_eq!(shown("https://u:s3cr/et@h/x"), "https://h/x");
        assert_eq!(shown("https://u:s3@cr/et@h/x"), "https://h/x");
        assert_eq!(shown("ssh://u:s3cr/et@h/x"), "ssh://u@h/x");
        assert_eq!(shown("ssh://git@h:22/x@y"), "ssh://git@h:22/x@y");
        assert_eq!(shown("https://h:8080/x"), "https://h:8080/x");
        assert_eq!(shown("git@h:x"), "git@h:x");
        assert_eq!(shown("https://h/x@y"), "https://h/x@y");
        assert_eq!(shown("https://h/x.git?access_token=t"), "https://h/x.git?…");
        assert_eq!(shown("https://u:p@h/x.git#t"), "https://h/x.git#…");
        assert_eq!(shown("file:///srv/a?b#c"), "file:///srv/a?b#c");
        assert_eq!(shown("oauth2:t0ken@git.example:team/x.git"), "oauth2@git.example:team/x.git");
        assert_eq!(shown("host:a@b/x"), "host:a@b/x");
        let message = |url: &str, text: &str| RedactedUrl::without_password_of(url, text.to_owned());
        assert_eq!(message("ssh://u:s3c/ret@h/x", "Bad port 's3c'"), "Bad port '…'");
        assert_eq!(
            message("https://u:s3c/ret@h/x", "Could not resolve host: ret@h, s3cs"),
            "Could not resolve host: …@h, s3cs"
        );
        assert_eq!(message("https://h/a", "not found: a"), "not found: a");
        assert_eq!(RedactedUrl::in_word("'https://h/x?t=1'"), "'https://h/x?…'");
        assert_eq!(RedactedUrl::in_word("'https://h/x?t=1/':"), "'https://h/x?…':");
    }
}
