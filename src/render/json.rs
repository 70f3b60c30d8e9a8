//! One JSON object a line on standard output.

use std::sync::{Mutex, PoisonError};

use super::output;
use crate::engine::event::{Event, Sink};

/// Writes events as JSON lines.
#[derive(Default)]
pub struct Json(Mutex<()>);

impl Sink for Json {
    fn event(&self, event: &Event) {
        let _one_at_a_time = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(mut line) = serde_json::to_vec(event) else { return };
        line.push(b'\n');
        output::print_raw(&line);
    }
}
