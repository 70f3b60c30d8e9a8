//! One JSON object a line on standard output.

use std::sync::{Mutex, PoisonError};

use super::output;
use crate::engine::event::{Event, Sink};
use crate::text::is_hidden;

/// Writes events as JSON lines.
#[derive(Default)]
pub struct Json(Mutex<()>);

impl Sink for Json {
    fn event(&self, event: &Event) {
        if matches!(event, Event::StepProgress { .. }) {
            return;
        }
        let _one_at_a_time = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(line) = serde_json::to_string(event) else { return };
        output::print_raw(format!("{}\n", escape_hidden(&line)).as_bytes());
    }
}

/// JSON as output shows it. Hidden characters, which stand in strings alone, become JSON's own escapes: a reader gets the
/// same string, and a terminal shows them.
pub fn escape_hidden(json: &str) -> String {
    let mut line = String::with_capacity(json.len());
    for c in json.chars() {
        if is_hidden(c) {
            let mut units = [0; 2];
            line.extend(c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")));
        } else {
            line.push(c);
        }
    }
    line
}
