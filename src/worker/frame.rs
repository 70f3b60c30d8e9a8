//! The worker protocol's frames: a length (4 bytes, big endian), a tag (1 byte), a body.
//!
//! Secrets travel in frames of their own, as raw bytes, so that they pass through no text encoding that would leave
//! copies behind.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use zeroize::Zeroizing;

use crate::host::secret::Secret;
use crate::resource::{AnyActual, AnyChange, AnyResource, Failure, RescueAnswer, RescueRequest};

/// Spoken by this build. A worker is this same binary, so another number means a file that was replaced in between.
pub const VERSION: u32 = 1;

/// No frame is longer (64 MiB): whoever announces more is not believed.
const MAX_FRAME: u32 = 64 << 20;

const TAG_MESSAGE: u8 = b'M';
const TAG_SECRET: u8 = b'S';

/// What a launcher asks of a worker. Steps are named by their ids: there is no way to name a path or a program that no
/// step of the greeting names.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// The first: all that the worker will be asked about.
    Greeting {
        version: u32,
        run: String,
        steps: Vec<(String, AnyResource)>,
    },
    Observe {
        ticket: u64,
        step: String,
    },
    Execute {
        ticket: u64,
        step: String,
        change: AnyChange,
    },
    Rescue {
        ticket: u64,
        step: String,
        request: RescueRequest,
    },
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
}

/// One frame as it was read.
pub enum Frame<T> {
    Message(T),
    /// A secret and what it is: a step's id, or empty for the run's digest key.
    Secret(String, Secret),
}

/// Writes a message.
///
/// # Errors
/// Where the other side is gone, or the message is too long for a frame.
pub async fn send<T: Serialize>(to: &mut (impl AsyncWriteExt + Unpin), message: &T) -> std::io::Result<()> {
    write(to, TAG_MESSAGE, &serde_json::to_vec(message)?).await
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
    if length > MAX_FRAME {
        return Err(std::io::Error::other(format!("a frame of {length} bytes is announced")));
    }
    // Grows with what really comes, not with what was announced.
    let mut body = Zeroizing::new(Vec::new());
    from.take(length.into()).read_to_end(&mut body).await?;
    if body.len() != length as usize {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    match head[4] {
        TAG_MESSAGE => Ok(Some(Frame::Message(serde_json::from_slice(&body)?))),
        TAG_SECRET => {
            let malformed = || std::io::Error::other("a malformed secret frame");
            let (length, rest) = body.split_first_chunk::<2>().ok_or_else(malformed)?;
            let (name, secret) =
                rest.split_at_checked(usize::from(u16::from_be_bytes(*length))).ok_or_else(malformed)?;
            let name = std::str::from_utf8(name).map_err(|_| malformed())?;
            Ok(Some(Frame::Secret(name.to_owned(), Secret::new(secret.to_vec()))))
        }
        tag => Err(std::io::Error::other(format!("a frame of unknown kind {tag}"))),
    }
}
