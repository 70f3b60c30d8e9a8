//! The frames of the worker protocol: a length (4 bytes, big endian), a tag (1 byte), and a body.
//!
//! Secrets have their own frames and are sent as raw bytes. No text encoding leaves copies of them behind.

use crate::failure::Failure;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use zeroize::Zeroizing;

use crate::host::secret::Secret;
use crate::plan::conflict::{ClaimedBelow, TreeAbove};
use crate::resource::{AnyActual, AnyChange, AnyResource, RescueAnswer, RescueRequest};
use crate::telemetry::Record;

/// The protocol version of this build. A worker is the same binary, so another version means that the file was replaced
/// meanwhile.
pub const VERSION: u32 = 7;

/// The maximum length of a frame (64 MiB).
const MAX_FRAME: u32 = 64 << 20;

/// The capacity that is reserved for a message before its content has arrived, in bytes.
const FIRST_PIECE: u32 = 64 << 10;

/// The maximum length of a secret's frame: the value of a source (1 MiB) and the id of its step.
const MAX_SECRET_FRAME: u32 = (1 << 20) + (64 << 10) + 2;

/// The bytes of a frame before its body: the length and the tag.
const HEAD: usize = 5;

const TAG_MESSAGE: u8 = b'M';
const TAG_SECRET: u8 = b'S';

/// What a launcher asks of a worker. Requests refer to steps by id. A request cannot name a path or a program that is
/// not part of a step, because a worker only makes changes that it has decided on itself (see `server`).
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// The first request. It contains all steps of the worker.
    Greeting {
        version: u32,
        run: String,
        steps: Vec<Task>,
        /// Whether the run makes changes.
        makes_changes: bool,
        /// What the worker records, and its namespace number. `None` disables recording.
        recording: Option<(String, u16)>,
        /// The names of the launcher's environment variables.
        variables: Vec<String>,
    },
    Observe {
        ticket: u64,
        step: String,
        span: Option<u64>,
    },
    Execute {
        ticket: u64,
        step: String,
        change: AnyChange,
        /// The launcher's span, the parent of the worker's spans.
        span: Option<u64>,
    },
    Rescue {
        ticket: u64,
        step: String,
        request: RescueRequest,
    },
}

/// A step as its worker knows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Task {
    pub id: String,
    pub resource: AnyResource,
    /// The maximum number of things that the step may change in one run, if it is limited.
    pub max_changes: Option<u64>,
    /// What other steps own below the step's path.
    pub below: Vec<ClaimedBelow>,
    /// The trees of other steps in which this step creates things.
    pub above: Vec<TreeAbove>,
}

/// The answers of a worker.
#[expect(clippy::large_enum_variant, reason = "an answer is made once and sent")]
#[derive(Debug, Serialize, Deserialize)]
pub enum Answer {
    /// The answer to the greeting.
    Ready {
        version: u32,
    },
    Observed {
        ticket: u64,
        result: Result<AnyActual, Failure>,
    },
    Executed {
        ticket: u64,
        result: Result<(), Failure>,
    },
    Rescued {
        ticket: u64,
        result: Result<RescueAnswer, Failure>,
    },
    /// Records of the worker.
    Recorded(Vec<Record>),
    /// Progress on a request. Its answer follows.
    Progress {
        ticket: u64,
        text: String,
    },
}

/// A frame that was received.
pub enum Frame<T> {
    Message(T),
    /// A secret with its name: the id of a step and the key of its source (see [`secret_name`]). The name is empty for
    /// the run's digest key.
    Secret(String, Secret),
}

/// Writes a message.
///
/// # Errors
/// The other side is gone, or the message is too long for a frame.
pub async fn send<T: Serialize>(to: &mut (impl AsyncWriteExt + Unpin), message: &T) -> std::io::Result<()> {
    let mut frame = vec![0; HEAD];
    serde_json::to_writer(&mut frame, message)?;
    write(to, TAG_MESSAGE, &mut frame).await
}

/// Returns the name under which a step's secret is sent. An id never contains NUL.
pub fn secret_name(step: &str, key: &str) -> String {
    format!("{step}\0{key}")
}

/// Returns the name of an environment variable for git, in the frame that has its value. No step has the empty id.
pub fn variable_name(name: &str) -> String {
    secret_name("", name)
}

/// Writes a secret.
///
/// # Errors
/// As [`send`].
pub async fn send_secret(to: &mut (impl AsyncWriteExt + Unpin), name: &str, secret: &[u8]) -> std::io::Result<()> {
    let length = u16::try_from(name.len()).map_err(std::io::Error::other)?;
    // The buffer never grows, so that no copy of the secret remains in memory.
    let mut frame = Zeroizing::new(Vec::with_capacity(HEAD + 2 + name.len() + secret.len()));
    frame.extend_from_slice(&[0; HEAD]);
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(name.as_bytes());
    frame.extend_from_slice(secret);
    write(to, TAG_SECRET, &mut frame).await
}

/// Fills in the head of a frame and writes the frame, usually with one system call.
async fn write(to: &mut (impl AsyncWriteExt + Unpin), tag: u8, frame: &mut [u8]) -> std::io::Result<()> {
    let too_long = || std::io::Error::other("the message is too long for the worker protocol");
    let length = u32::try_from(frame.len() - HEAD).ok().filter(|length| *length <= MAX_FRAME).ok_or_else(too_long)?;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    frame[4] = tag;
    to.write_all(frame).await?;
    to.flush().await
}

/// Reads a frame. Returns `None` at the end of the stream.
///
/// # Errors
/// The stream ends within a frame, or the data is not a valid frame.
pub async fn receive<T: DeserializeOwned>(from: &mut (impl AsyncReadExt + Unpin)) -> std::io::Result<Option<Frame<T>>> {
    let mut head = [0; HEAD];
    match from.read_exact(&mut head[..1]).await {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        result => result?,
    };
    from.read_exact(&mut head[1..]).await?;
    let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
    let announced = || std::io::Error::other(format!("a frame of {length} bytes is too long"));
    let bounded = |max| Some(length).filter(|length| *length <= max).ok_or_else(announced);
    match head[4] {
        TAG_MESSAGE => {
            // The buffer grows with the data that arrives, not with the announced length.
            let length = bounded(MAX_FRAME)?;
            let mut body = Vec::with_capacity(length.min(FIRST_PIECE) as usize);
            from.take(length.into()).read_to_end(&mut body).await?;
            if body.len() != length as usize {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            Ok(Some(Frame::Message(serde_json::from_slice(&body)?)))
        }
        TAG_SECRET => {
            // The buffer never moves while it is filled, so that no copy is left behind.
            let mut body = Zeroizing::new(vec![0; bounded(MAX_SECRET_FRAME)? as usize]);
            from.read_exact(&mut body).await?;
            let malformed = || std::io::Error::other("a malformed secret frame");
            let (length, rest) = body.split_first_chunk::<2>().ok_or_else(malformed)?;
            let (name, secret) =
                rest.split_at_checked(usize::from(u16::from_be_bytes(*length))).ok_or_else(malformed)?;
            let name = std::str::from_utf8(name).map_err(|_| malformed())?;
            Ok(Some(Frame::Secret(name.to_owned(), Secret::copy_of(secret))))
        }
        tag => Err(std::io::Error::other(format!("a frame of unknown kind {tag}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> std::io::Result<Option<Frame<Request>>> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(receive(&mut &*bytes))
    }

    fn frame(length: u32, tag: u8, body: &[u8]) -> Vec<u8> {
        [&length.to_be_bytes(), &[tag][..], body].concat()
    }

    #[test]
    fn sent_frames_are_received() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut sent = Vec::new();
        runtime.block_on(send_secret(&mut sent, "key", b"hunter2")).unwrap();
        let Some(Frame::Secret(name, secret)) = read(&sent).unwrap() else { panic!("a secret was sent") };
        assert_eq!((name.as_str(), secret.expose()), ("key", &b"hunter2"[..]));
        let mut sent = Vec::new();
        let request = Request::Observe { ticket: 7, step: "key".to_owned(), span: None };
        runtime.block_on(send(&mut sent, &request)).unwrap();
        let received = read(&sent).unwrap();
        assert!(matches!(received, Some(Frame::Message(Request::Observe { ticket: 7, step, .. })) if step == "key"));
        assert!(read(b"").unwrap().is_none());
    }

    #[test]
    fn invalid_frames_are_rejected() {
        let largest = frame(MAX_FRAME + 1, TAG_MESSAGE, b"");
        let secret = frame(MAX_SECRET_FRAME + 1, TAG_SECRET, b"");
        let unknown = frame(0, b'X', b"");
        for (bytes, expected) in [
            (&largest[..], "a frame of 67108865 bytes is too long"),
            (&secret, "a frame of 1114115 bytes is too long"),
            (&unknown, "a frame of unknown kind 88"),
            (&frame(1, TAG_SECRET, b"x"), "a malformed secret frame"),
            (&frame(3, TAG_SECRET, b"\0\x09x"), "a malformed secret frame"),
            (&frame(3, TAG_SECRET, b"\0\x01\xff"), "a malformed secret frame"),
            (&frame(2, TAG_MESSAGE, b"{}"), "expected value"),
            (&frame(18, TAG_MESSAGE, br#"{"Shell":"whoami"}"#), "unknown variant `Shell`"),
            (&frame(MAX_FRAME, TAG_MESSAGE, b"cut"), "unexpected end of file"),
            (b"\0\0", "early eof"),
            (b"GET / HTTP/1.1\r\n\r\n", "a frame of unknown kind 47"),
        ] {
            match read(bytes) {
                Ok(_) => panic!("{bytes:?} was accepted as a frame"),
                Err(error) => assert!(error.to_string().contains(expected), "{bytes:?}: {error}"),
            }
        }
    }
}
