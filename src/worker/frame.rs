//! The worker protocol's frames: a length (4 bytes, big endian), a tag (1 byte), a body.
//!
//! Secrets travel in frames of their own, as raw bytes, so that they pass through no text encoding that would leave
//! copies behind.

use crate::failure::Failure;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use zeroize::Zeroizing;

use crate::host::secret::Secret;
use crate::plan::conflict::{ClaimedBelow, TreeAbove};
use crate::resource::{AnyActual, AnyChange, AnyResource, RescueAnswer, RescueRequest};
use crate::telemetry::Record;

/// Spoken by this build. A worker is this same binary, so another number means a file that was replaced in between.
pub const VERSION: u32 = 4;

/// No frame is longer (64 MiB): whoever announces more is not believed.
const MAX_FRAME: u32 = 64 << 20;

/// No secret's frame is longer: the value of a source (1 MiB) and the id of its step.
const MAX_SECRET_FRAME: u32 = (1 << 20) + (64 << 10) + 2;

const TAG_MESSAGE: u8 = b'M';
const TAG_SECRET: u8 = b'S';

/// What a launcher asks of a worker. Steps are named by their ids: there is no way to name a path or a program that no
/// step of the greeting names, since a change is made only where the worker itself decided on it (see `server`).
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// The first: all that the worker will be asked about.
    Greeting {
        version: u32,
        run: String,
        steps: Vec<Task>,
        /// What the worker records of its work, and the number of its namespace; `None`: nothing.
        recording: Option<(String, u16)>,
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
        /// The launcher's span, under which those of the worker stand.
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
    /// How many things the step may change in one run; `None`: any number.
    pub max_changes: Option<u64>,
    /// What other steps own below the step's path.
    pub below: Vec<ClaimedBelow>,
    /// Trees of other steps in which the step makes things.
    pub above: Vec<TreeAbove>,
}

/// What a worker answers.
#[expect(clippy::large_enum_variant, reason = "an answer is made once and sent")]
#[derive(Debug, Serialize, Deserialize)]
pub enum Answer {
    /// To the greeting.
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
    /// What the worker recorded of its work.
    Recorded(Vec<Record>),
    /// How far the work on a request has come; its answer follows.
    Progress {
        ticket: u64,
        text: String,
    },
}

/// One frame as it was read.
pub enum Frame<T> {
    Message(T),
    /// A secret and what it is: a step's id and the key of its source (see [`secret_name`]), or empty for the run's digest
    /// key.
    Secret(String, Secret),
}

/// Writes a message.
///
/// # Errors
/// Where the other side is gone, or the message is too long for a frame.
pub async fn send<T: Serialize>(to: &mut (impl AsyncWriteExt + Unpin), message: &T) -> std::io::Result<()> {
    write(to, TAG_MESSAGE, &serde_json::to_vec(message)?).await
}

/// The name under which a step's secret travels. No id holds a NUL.
pub fn secret_name(step: &str, key: &str) -> String {
    format!("{step}\0{key}")
}

/// Writes a secret.
///
/// # Errors
/// As [`send`].
pub async fn send_secret(to: &mut (impl AsyncWriteExt + Unpin), name: &str, secret: &[u8]) -> std::io::Result<()> {
    let length = u16::try_from(name.len()).map_err(std::io::Error::other)?;
    let mut body = Zeroizing::new(Vec::with_capacity(2 + name.len() + secret.len()));
    body.extend_from_slice(&length.to_be_bytes());
    body.extend_from_slice(name.as_bytes());
    body.extend_from_slice(secret);
    write(to, TAG_SECRET, &body).await
}

async fn write(to: &mut (impl AsyncWriteExt + Unpin), tag: u8, body: &[u8]) -> std::io::Result<()> {
    let length = u32::try_from(body.len()).ok().filter(|length| *length <= MAX_FRAME);
    let length = length.ok_or_else(|| std::io::Error::other("the message is too long for the worker protocol"))?;
    to.write_all(&length.to_be_bytes()).await?;
    to.write_all(&[tag]).await?;
    to.write_all(body).await?;
    to.flush().await
}

/// Reads a frame; `None` at a clean end.
///
/// # Errors
/// Where the other side is gone in the middle of a frame, or what it sent is none.
pub async fn receive<T: DeserializeOwned>(from: &mut (impl AsyncReadExt + Unpin)) -> std::io::Result<Option<Frame<T>>> {
    let mut head = [0; 5];
    match from.read_exact(&mut head[..1]).await {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        result => result?,
    };
    from.read_exact(&mut head[1..]).await?;
    let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
    let announced = || std::io::Error::other(format!("a frame of {length} bytes is announced"));
    let bounded = |most| Some(length).filter(|length| *length <= most).ok_or_else(announced);
    match head[4] {
        TAG_MESSAGE => {
            // Grows with what really comes, not with what was announced.
            let mut body = Vec::new();
            let length = bounded(MAX_FRAME)?;
            from.take(length.into()).read_to_end(&mut body).await?;
            if body.len() != length as usize {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            Ok(Some(Frame::Message(serde_json::from_slice(&body)?)))
        }
        TAG_SECRET => {
            // Never moved while it is filled, so that no copy is left behind.
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
    fn what_is_sent_is_received() {
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
    fn a_frame_that_is_none_is_refused() {
        let largest = frame(MAX_FRAME + 1, TAG_MESSAGE, b"");
        let secret = frame(MAX_SECRET_FRAME + 1, TAG_SECRET, b"");
        let unknown = frame(0, b'X', b"");
        for (bytes, told) in [
            (&largest[..], "a frame of 67108865 bytes is announced"),
            (&secret, "a frame of 1114115 bytes is announced"),
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
                Ok(_) => panic!("{bytes:?} was taken for a frame"),
                Err(error) => assert!(error.to_string().contains(told), "{bytes:?}: {error}"),
            }
        }
    }
}
