use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::{Deserialize, Serialize, Serializer};

use super::sha256::sha256;

/// The port of an address that names none.
const DEFAULT_PORT: u16 = 22;

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
        if text.contains("://") {
            return Err(format!("{}, without `ssh://`", wrong()));
        }
        let (user, place) = text.rsplit_once('@').ok_or_else(wrong)?;
        let (host, port) = match place.strip_prefix('[') {
            Some(rest) => match rest.split_once(']').ok_or_else(wrong)? {
                (host, "") => (host, None),
                (host, rest) => (host, Some(rest.strip_prefix(':').ok_or_else(wrong)?)),
            },
            None if place.matches(':').count() > 1 => {
                return Err(format!("{}; an IPv6 address is in brackets", wrong()));
            }
            None => match place.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (place, None),
            },
        };
        let port = port.map_or(Ok(DEFAULT_PORT), str::parse).map_err(|_| wrong())?;
        // `ssh` would take a word that starts with a hyphen for an option.
        let odd = |part: &str, also: &str| {
            let is_odd = |c: char| c.is_whitespace() || c.is_control() || "/\\'\"`$;&|<>(){}[]".contains(c);
            part.is_empty() || part.starts_with('-') || part.contains(|c| is_odd(c) || also.contains(c))
        };
        if odd(user, ":") || odd(host, "@") || port == 0 {
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
        if self.port == DEFAULT_PORT { Ok(()) } else { write!(f, ":{}", self.port) }
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
        Self(format!("SHA256:{}", STANDARD_NO_PAD.encode(sha256(key))))
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
        assert_eq!("me@corp.example@b".parse::<Address>().unwrap().user, "me@corp.example");
        for text in [
            "",
            "host",
            "@host",
            "a@",
            "a@b:x",
            "a@b:0",
            "a@b:70000",
            "a b@c",
            "ssh://u@h",
            "ssh://u@h:22/x",
            "-l@h",
            "u@-h",
            "u@h/x",
            "u@[h",
            "u@h]",
            "u@[::1]22",
            "u@::1",
            "u@fe80::1",
            "u:pw@h",
            "u@h:",
            "u@[]",
            "u@h;x",
            "u@$h",
        ] {
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
