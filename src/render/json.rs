//! One JSON object a line on standard output.

use std::io::Write;
use std::sync::{Mutex, PoisonError};

use crate::engine::event::{Event, Sink};

/// Writes events as JSON lines.
#[derive(Default)]
pub struct Json(Mutex<()>);

impl Sink for Json {
    fn event(&self, event: &Event) {
        let _one_at_a_time = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(mut line) = serde_json::to_vec(event) else { return };
        line.push(b'\n');
        let mut out = std::io::stdout().lock();
        // A reader that went away has seen what it wanted; the exit code still tells the rest.
        drop(out.write_all(&line).and_then(|()| out.flush()));
    }
}
