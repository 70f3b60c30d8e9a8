//! What a server sends at the start of a connection (RFC 4253, sections 4.2 and 7.1), read without libssh2. libssh2 has one error
//! for many causes of a failed handshake. The greeting distinguishes them.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// The maximum number of bytes that are read before and in the first packet. OpenSSH's packets have at most 35,000.
const MAX_BYTES: usize = 64 << 10;
/// The maximum length of a line that is quoted.
const MAX_QUOTED: usize = 60;
/// SSH_MSG_KEXINIT.
const KEXINIT: u8 = 20;

/// What a server sends first.
#[derive(Debug, PartialEq, Eq)]
pub enum Greeting {
    /// It closed the connection without sending anything.
    Closed,
    /// It is not an SSH server. The value is its first line, shortened.
    NotSsh(String),
    /// It supports only this old version of the protocol.
    OldVersion(String),
    Offer(Offer),
}

/// The algorithms that a server offers.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Offer {
    pub key_exchange: Vec<String>,
    pub host_key: Vec<String>,
    pub cipher: Vec<String>,
    pub mac: Vec<String>,
}

impl Greeting {
    /// Reads the greeting from a new connection. Returns `None` if it does not arrive in time or is malformed.
    pub fn read(stream: TcpStream, limit: Duration) -> Option<Self> {
        let mut wire = Wire { stream, deadline: Instant::now() + limit, left: MAX_BYTES };
        let _ = wire.stream.write_all(b"SSH-2.0-provision\r\n");
        let mut first = None;
        let version = loop {
            match wire.line() {
                Ok(line) => match line.strip_prefix("SSH-") {
                    Some(version) => break version.to_owned(),
                    // Other lines may come before the version.
                    None => first = first.or(Some(line)),
                },
                Err(error) if error.kind() == io::ErrorKind::TimedOut => return None,
                Err(_) => return Some(first.map_or(Self::Closed, Self::NotSsh)),
            }
        };
        match version.split('-').next() {
            Some("2.0" | "1.99") => Offer::parse(&wire.packet().ok()?).map(Self::Offer),
            version => Some(Self::OldVersion(version.unwrap_or_default().to_owned())),
        }
    }
}

impl Offer {
    /// Parses the payload of a packet.
    fn parse(payload: &[u8]) -> Option<Self> {
        // The type, and a random cookie.
        let (head, mut rest) = payload.split_at_checked(17)?;
        let mut list = || -> Option<Vec<String>> {
            let (length, after) = rest.split_at_checked(4)?;
            let length = usize::try_from(u32::from_be_bytes(length.try_into().ok()?)).ok()?;
            let (names, after) = after.split_at_checked(length)?;
            rest = after;
            Some(String::from_utf8_lossy(names).split(',').map(str::to_owned).collect())
        };
        (head.first() == Some(&KEXINIT)).then_some(())?;
        let (key_exchange, host_key, cipher, _, mac) = (list()?, list()?, list()?, list()?, list()?);
        Some(Self { key_exchange, host_key, cipher, mac })
    }
}

/// A connection with a limit in time and in size.
struct Wire {
    stream: TcpStream,
    deadline: Instant,
    left: usize,
}

impl Wire {
    fn fill(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        let mut filled = 0;
        while filled < buffer.len() {
            let left = self.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || self.left == 0 {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.stream.set_read_timeout(Some(left))?;
            match self.stream.read(&mut buffer[filled..]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => {
                    filled += read;
                    self.left = self.left.saturating_sub(read);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(io::ErrorKind::TimedOut.into()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads a line and returns its beginning, without control characters.
    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        let mut byte = [0];
        loop {
            match self.fill(&mut byte) {
                Ok(()) if byte[0] == b'\n' => break,
                Ok(()) => line.push(byte[0]),
                // The connection ends before the end of the line.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && !line.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        let text = String::from_utf8_lossy(&line);
        Ok(text.chars().filter(|letter| !letter.is_control()).take(MAX_QUOTED).collect())
    }

    /// Reads a packet before the key exchange: the length, the length of the padding, the payload, the padding.
    fn packet(&mut self) -> io::Result<Vec<u8>> {
        let mut head = [0; 5];
        self.fill(&mut head)?;
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let padding = usize::from(head[4]);
        if length > MAX_BYTES || padding + 1 > length {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut payload = vec![0; length - 1];
        self.fill(&mut payload)?;
        payload.truncate(length - 1 - padding);
        Ok(payload)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn greeting_of(text: &[u8]) -> Option<Greeting> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        server.write_all(text).unwrap();
        server.shutdown(std::net::Shutdown::Write).unwrap();
        let greeting = Greeting::read(stream, Duration::from_secs(5));
        drop(server);
        greeting
    }

    fn kexinit(lists: &[&str]) -> Vec<u8> {
        let mut payload = vec![KEXINIT];
        payload.extend([7; 16]);
        for list in lists {
            payload.extend(u32::try_from(list.len()).unwrap().to_be_bytes());
            payload.extend(list.as_bytes());
        }
        let mut packet = u32::try_from(payload.len() + 5).unwrap().to_be_bytes().to_vec();
        packet.push(4);
        packet.extend(payload);
        packet.extend([0; 4]);
        packet
    }

    #[test]
    fn servers_are_distinguished() {
        assert_eq!(greeting_of(b""), Some(Greeting::Closed));
        assert_eq!(
            greeting_of(b"HTTP/1.1 400 Bad\x1b Request\r\n\r\n"),
            Some(Greeting::NotSsh("HTTP/1.1 400 Bad Request".into()))
        );
        assert_eq!(greeting_of(b"220 mail"), Some(Greeting::NotSsh("220 mail".into())));
        assert_eq!(greeting_of(b"SSH-1.5-x\r\n"), Some(Greeting::OldVersion("1.5".into())));
        assert_eq!(greeting_of(b"SSH-2.0-x\r\n"), None);
        assert_eq!(greeting_of(b"SSH-2.0-x\r\n\xff\xff\xff\xff\xff"), None);
        let packet = kexinit(&["a,b", "c", "d", "d", "e", "e"]);
        let text = [b"welcome\r\nSSH-2.0-x\r\n".as_slice(), &packet].concat();
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let offer =
            Offer { key_exchange: list(&["a", "b"]), host_key: list(&["c"]), cipher: list(&["d"]), mac: list(&["e"]) };
        assert_eq!(greeting_of(&text), Some(Greeting::Offer(offer)));
        for cut in 0..packet.len() {
            assert_eq!(greeting_of(&[b"SSH-2.0-x\r\n", &packet[..cut]].concat()), None, "{cut}");
        }
    }
}
