//! Renders events as one JSON object per line on standard output.

use std::sync::{Mutex, PoisonError};

use super::output;
use crate::engine::event::{Event, Sink};
use crate::text::is_hidden;

/// Writes events as JSON lines.
#[derive(Default)]
pub struct Json(Mutex<()>);

impl Sink for Json {
    fn event(&self, event: &Event) {
        if matches!(event, Event::StepProgress { .. } | Event::FollowUpsExpected { .. }) {
            return;
        }
        let _one_at_a_time = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        output::print_raw(to_json_line(event).as_bytes());
    }
}

/// Returns a value as a line of JSON without hidden characters.
pub fn to_json_line(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).map(|line| escape_hidden(&line) + "\n").unwrap_or_default()
}

/// Replaces hidden characters by JSON escapes. They occur only in strings, so a parser reads the same value, and a
/// terminal shows them.
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
