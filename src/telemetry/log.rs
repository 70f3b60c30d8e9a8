//! The log: a line for each event, for each finished span, and at `debug` for each started span.

use std::collections::HashMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

use super::filter::Filter;
use super::record::{Fields, Level, Record};
use crate::text::clean;

/// The format of log lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// `2026-11-29T11:20:43.123456Z INFO repository: git.fetch took 0.312s remote=/srv/shop.git objects=3`
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Writes records as lines.
pub struct Log {
    filter: Filter,
    format: LogFormat,
    write: Box<dyn FnMut(&str) + Send>,
    open: HashMap<u64, OpenSpan>,
}

struct OpenSpan {
    parent: Option<u64>,
    target: String,
    name: String,
    level: Level,
    began: u64,
    fields: Fields,
}

/// A line before it is written.
struct Line<'a> {
    at: u64,
    level: Level,
    target: &'a str,
    /// The step that it belongs to.
    step: Option<String>,
    /// `event`, `begin` or `end`.
    kind: &'static str,
    /// The message of an event, or the name of a span.
    text: &'a str,
    /// How long the span took, in microseconds.
    took: Option<u64>,
    fields: &'a Fields,
}

impl Log {
    /// Creates a log of the records that the filter passes.
    pub fn new(filter: Filter, format: LogFormat, write: Box<dyn FnMut(&str) + Send>) -> Self {
        Self { filter, format, write, open: HashMap::new() }
    }

    /// Writes the log lines of a record.
    pub fn take(&mut self, record: &Record) {
        match record {
            Record::Open { id, parent, target, name, level, at, fields } => {
                let span = OpenSpan {
                    parent: *parent,
                    target: target.clone(),
                    name: name.clone(),
                    level: *level,
                    began: *at,
                    fields: fields.clone(),
                };
                self.open.insert(*id, span);
                if self.filter.allows(target, Level::Debug) {
                    let step = self.step(Some(*id));
                    self.line(&Line {
                        at: *at,
                        level: Level::Debug,
                        target,
                        step,
                        kind: "begin",
                        text: name,
                        took: None,
                        fields,
                    });
                }
            }
            Record::Close { id, at, fields } => {
                let step = self.step(Some(*id));
                let Some(mut span) = self.open.remove(id) else { return };
                span.fields.extend(fields.clone());
                if self.filter.allows(&span.target, span.level) {
                    let took = Some(at.saturating_sub(span.began));
                    let (level, target, text) = (span.level, &span.target, &span.name);
                    self.line(&Line { at: *at, level, target, step, kind: "end", text, took, fields: &span.fields });
                }
            }
            Record::Event { parent, target, level, at, message, fields } => {
                if self.filter.allows(target, *level) {
                    let step = self.step(*parent);
                    let (level, at) = (*level, *at);
                    self.line(&Line { at, level, target, step, kind: "event", text: message, took: None, fields });
                }
            }
        }
    }

    /// Returns the step that a span belongs to.
    fn step(&self, mut span: Option<u64>) -> Option<String> {
        while let Some(open) = span.and_then(|id| self.open.get(&id)) {
            if open.name == "step" {
                return open.fields.get("step").and_then(|id| id.as_str().map(str::to_owned));
            }
            span = open.parent;
        }
        None
    }

    fn line(&mut self, line: &Line<'_>) {
        let text = match self.format {
            LogFormat::Text => line.text(),
            LogFormat::Json => line.json(),
        };
        (self.write)(&text);
    }
}

impl Line<'_> {
    fn text(&self) -> String {
        let mut text = format!("{} {:>5} ", time(self.at), self.level.name());
        // Writing to a `String` cannot fail.
        let _ = self.step.as_ref().map_or(Ok(()), |step| write!(text, "{}: ", clean(step)));
        text.push_str(&clean(&self.text.replace('\n', " ")));
        let _ = match (self.kind, self.took) {
            ("begin", _) => write!(text, " begins"),
            (_, Some(took)) => write!(text, " took {}.{:06}s", took / 1_000_000, took % 1_000_000),
            _ => Ok(()),
        };
        for (name, value) in self.fields.iter().filter(|(name, _)| self.step.is_none() || *name != "step") {
            let value = match value {
                Value::String(value) if is_plain(value) => value.clone(),
                value => value.to_string(),
            };
            let _ = write!(text, " {name}={}", clean(&value));
        }
        text.push('\n');
        text
    }

    fn json(&self) -> String {
        let mut line = json!({
            "time": time(self.at),
            "level": self.level.name().to_lowercase(),
            "target": self.target,
            "kind": self.kind,
            if self.kind == "event" { "message" } else { "span" }: self.text,
        });
        if let Some(object) = line.as_object_mut() {
            object.extend(self.step.iter().map(|step| ("step".to_owned(), json!(step))));
            object.extend(self.took.map(|took| ("took_us".to_owned(), json!(took))));
            for (name, value) in self.fields.iter().filter(|(name, _)| *name != "step" || self.step.is_none()) {
                // A field of another crate may have the name of a key of every line.
                let name = if object.contains_key(name) { format!("field_{name}") } else { name.clone() };
                object.insert(name, value.clone());
            }
        }
        format!("{line}\n")
    }
}

/// Returns whether a value needs no quotes in a line of text.
fn is_plain(value: &str) -> bool {
    !value.is_empty() && !value.contains(|c: char| c.is_whitespace() || c.is_control() || "\"=".contains(c))
}

/// RFC 3339 with microseconds, UTC.
fn time(at: u64) -> String {
    let timestamp = i64::try_from(at).ok().and_then(|at| jiff::Timestamp::from_microsecond(at).ok());
    timestamp.unwrap_or_default().strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}
