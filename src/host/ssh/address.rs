use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::{Deserialize, Serialize, Serializer};

/// `user@host` or `user@host:port`. An IPv6 address is in brackets.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Address {
    pub user: String,
    pub host: String,
    pub port: u16,
}

impl std::str::FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a valid SSH address: write user@host or user@host:port");
        let (user, place) = text.rsplit_once('@').ok_or_else(wrong)?;
        let (host, port) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, rest)) => (host, rest.strip_prefix(':')),
            None => match place.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (place, None),
            },
        };
        let port = port.map_or(Ok(22), str::parse).map_err(|_| wrong())?;
        let blank = |part: &str| part.is_empty() || part.chars().any(char::is_whitespace);
        if blank(user) || blank(host) || port == 0 {
            return Err(wrong());
        }
        Ok(Self { user: user.to_owned(), host: host.to_owned(), port })
    }
}

impl TryFrom<String> for Address {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@", self.user)?;
        if self.host.contains(':') {
            write!(f, "[{}]", self.host)?
        } else {
            f.write_str(&self.host)?
        }
        if self.port == 22 { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The fingerprint of a key: `SHA256:` and 43 base64 characters, as printed by `ssh-keygen -lf`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Fingerprint(String);

impl Fingerprint {
    /// Returns the fingerprint of a public key in its wire form.
    pub fn of(key: &[u8]) -> Self {
        Self(format!("SHA256:{}", STANDARD_NO_PAD.encode(openssl::sha::sha256(key))))
    }
}

impl TryFrom<String> for Fingerprint {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let digest = text.strip_prefix("SHA256:").and_then(|digest| STANDARD_NO_PAD.decode(digest).ok());
        match digest {
            Some(digest) if digest.len() == 32 => Ok(Self(text)),
            _ => Err(format!("`{text}` is not a valid fingerprint: expected SHA256:… as printed by ssh-keygen -lf")),
        }
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_parsed_and_displayed() {
        for (text, user, host, port, shown) in [
            ("ubuntu@35.83.114.196", "ubuntu", "35.83.114.196", 22, "ubuntu@35.83.114.196"),
            ("a@b:2222", "a", "b", 2222, "a@b:2222"),
            ("a@[::1]:2222", "a", "::1", 2222, "a@[::1]:2222"),
            ("a@[::1]", "a", "::1", 22, "a@[::1]"),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address, Address { user: user.into(), host: host.into(), port });
            assert_eq!(address.to_string(), shown);
        }
        assert_eq!(serde_json::to_string(&"a@[::1]:2222".parse::<Address>().unwrap()).unwrap(), "\"a@[::1]:2222\"");
        for text in ["", "host", "@host", "a@", "a@b:x", "a@b:0", "a@b:70000", "a b@c"] {
            assert!(text.parse::<Address>().unwrap_err().contains("user@host:port"), "{text}");
        }
    }
    #[test]
    fn fingerprints_agree_with_ssh_keygen() {
        let of = |text: &str| Fingerprint::try_from(text.to_owned());
        let right = Fingerprint::of(b"key").to_string();
        assert_eq!(of(&right).unwrap().to_string(), right);
        for wrong in ["", "SHA256:", "SHA256:abc", &right[7..], "MD5:16:27:ac:a5:76:28:2d:36", &format!("{right}=")] {
            assert!(of(wrong).unwrap_err().contains("ssh-keygen -lf"), "{wrong}");
        }
    }
}
