//! Parses the two forms of a connection string of libpq, and recognises the URLs of other programs.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::failure::Failure;

/// Parses what follows `postgresql://`: `[user[:password]@][host[:port][,…]][/database][?key=value&…]`.
pub(super) fn url_pairs(rest: &str) -> Result<Vec<(String, String)>, String> {
    let mut pairs = Vec::new();
    let mut set = |key: &str, value: &str| -> Result<(), String> {
        if !value.is_empty() {
            pairs.push((key.to_owned(), decoded(key, value)?));
        }
        Ok(())
    };
    // As in libpq, an @ before the first slash ends the login. The last one counts, so an @ in a password is accepted.
    let authority_end = rest.find('/').unwrap_or(rest.len());
    let login_end = rest[..authority_end].rfind('@');
    let rest = match login_end {
        Some(end) => {
            let (user, password) = rest[..end].split_once(':').unwrap_or((&rest[..end], ""));
            set("user", user)?;
            set("password", password)?;
            &rest[end + 1..]
        }
        None => rest,
    };
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = place.split_once('/').unwrap_or((place, ""));
    if database.contains('@') {
        return Err(
            "the URL has an @ after its first `/`: write `/` in a password as %2F, and @ in a name as %40".into()
        );
    }
    let mut hosts = Vec::new();
    let mut ports = Vec::new();
    for server in authority.split(',') {
        let (host, port) = match server.strip_prefix('[') {
            Some(address) => {
                let (address, rest) = address.split_once(']').ok_or("an IPv6 address in the URL has no `]`")?;
                (address, rest.strip_prefix(':').unwrap_or(rest))
            }
            None => server.split_once(':').unwrap_or((server, "")),
        };
        if !port.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err("the URL's port is not a number (write `/`, `@` or `:` in a password as %2F, %40, %3A)".into());
        }
        hosts.push(host);
        ports.push(port);
    }
    set("host", &hosts.join(","))?;
    if ports.iter().any(|port| !port.is_empty()) {
        let ports: Vec<_> = ports.iter().map(|port| if port.is_empty() { "5432" } else { port }).collect();
        set("port", &ports.join(","))?;
    }
    set("dbname", database)?;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair
            .split_once('=')
            .ok_or("an option in the URL has no `=` (write `?` and `&` in a password as %3F and %26)")?;
        pairs.push((decoded("option", key)?, decoded(key, value)?));
    }
    Ok(pairs)
}

fn decoded(key: &str, value: &str) -> Result<String, String> {
    // The decoder would accept a lone %. libpq rejects it, because the result would not be the intended password.
    let mut rest = value;
    while let Some(at) = rest.find('%') {
        let digits = rest.get(at + 1..at + 3).unwrap_or_default();
        if digits.len() != 2 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(format!("the URL's {key} has a % that does not start an escape: write it as %25"));
        }
        rest = &rest[at + 3..];
    }
    let decoded = percent_decode_str(value).decode_utf8().map_err(|_| format!("the URL's {key} is not UTF-8"))?;
    Ok(decoded.into_owned())
}

/// Parses `key = value key='quoted value'`, with backslash escapes as in libpq.
pub(super) fn key_value_pairs(text: &str) -> Result<Vec<(String, String)>, Failure> {
    let mut pairs = Vec::new();
    let mut letters = text.chars().peekable();
    loop {
        while letters.next_if(|letter| letter.is_whitespace()).is_some() {}
        if letters.peek().is_none() {
            return Ok(pairs);
        }
        let mut key = String::new();
        while let Some(letter) = letters.next_if(|letter| *letter != '=' && !letter.is_whitespace()) {
            key.push(letter);
        }
        while letters.next_if(|letter| letter.is_whitespace()).is_some() {}
        if letters.next() != Some('=') {
            return Err(Failure::new("the connection is neither a postgresql:// URL nor a list of key=value")
                .hint("write postgresql://USER@HOST:PORT/DATABASE"));
        }
        while letters.next_if(|letter| letter.is_whitespace()).is_some() {}
        let quoted = letters.next_if_eq(&'\'').is_some();
        let mut value = String::new();
        loop {
            match letters.next() {
                Some('\'') if quoted => break,
                Some('\\') => value.extend(letters.next()),
                Some(letter) if !quoted && letter.is_whitespace() => break,
                Some(letter) => value.push(letter),
                None if quoted => return Err(format!("a quotation mark after `{key}=` is not closed").into()),
                None => break,
            }
        }
        pairs.push((key, value));
    }
}

/// What stays as it is in a user or a database name.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Returns the libpq form of a URL of JDBC, SQLAlchemy or asyncpg, without its password and options, if it is one.
pub(super) fn rewritten(scheme: &str, rest: &str) -> Option<String> {
    if !["redshift", "postgres"].iter().any(|known| scheme.contains(known)) {
        return None;
    }
    // JDBC also separates options by semicolons.
    let (place, semicolons) = rest.split_once(';').unwrap_or((rest, ""));
    let pairs = url_pairs(place).ok()?;
    let written = |name: &str| pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    let options = || semicolons.split(';').filter_map(|option| option.split_once('='));
    let in_options = || options().find(|(key, _)| key.eq_ignore_ascii_case("UID")).map(|(_, user)| user.to_owned());
    let user = written("user").or_else(in_options).map(|user| format!("{}@", utf8_percent_encode(&user, ESCAPED)));
    let port = written("port").map(|port| format!(":{port}"));
    let database = written("dbname").map(|name| format!("/{}", utf8_percent_encode(&name, ESCAPED)));
    let (user, port, database) = (user.unwrap_or_default(), port.unwrap_or_default(), database.unwrap_or_default());
    let host = written("host").map(|host| if host.contains(':') { format!("[{host}]") } else { host })?;
    let url = format!("postgresql://{user}{host}{port}{database}");
    let has_password = written("password").is_some() || options().any(|(key, _)| key.eq_ignore_ascii_case("PWD"));
    Some(if has_password { format!("{url}, and the password under `password:`") } else { url })
}
