//! A timeline in Chrome's trace event format, for Perfetto (<https://ui.perfetto.dev>) and `chrome://tracing`: "Trace Event
//! Format", JSON object form, complete events (`"ph": "X"`) in microseconds.
//!
//! Each step has its own track, and the rest of the run has one. Viewers can draw only nested spans on a track. Spans that
//! overlap without being nested get additional tracks below it.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufWriter, Result, Seek, Write};
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use serde_json::{Value, json};

use super::record::{Fields, Record};

/// The maximum number of spans and events in a timeline. They are kept in memory until its end.
const MAX_ENTRIES: usize = 1_000_000;

/// How long the end of a run waits for another run that writes the same file.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// How a timeline begins.
pub const BEGINNING: &str = "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[";

/// Collects records until the end of the run.
pub struct Timeline {
    file: File,
    spans: Vec<Span>,
    /// The indices of the spans, by id.
    places: HashMap<u64, usize>,
    parents: HashMap<u64, (Option<u64>, Option<String>)>,
    events: Vec<(Option<u64>, u64, String, Fields)>,
    /// The time of the latest record.
    last: u64,
}

struct Span {
    id: u64,
    name: String,
    target: String,
    began: u64,
    ended: Option<u64>,
    fields: Fields,
}

impl Timeline {
    /// Creates a timeline that is written to the file at the end.
    pub fn new(file: File) -> Self {
        Self { file, spans: Vec::new(), places: HashMap::new(), parents: HashMap::new(), events: Vec::new(), last: 0 }
    }

    /// Adds a record.
    pub fn take(&mut self, record: Record) {
        let full = self.spans.len() + self.events.len() >= MAX_ENTRIES;
        match record {
            Record::Open { .. } | Record::Event { .. } if full => {}
            Record::Open { id, parent, target, name, at, fields, .. } => {
                let step = fields.get("step").filter(|_| name == "step").and_then(|id| id.as_str().map(str::to_owned));
                self.parents.insert(id, (parent, step));
                self.places.insert(id, self.spans.len());
                self.spans.push(Span { id, name, target, began: at, ended: None, fields });
                self.last = self.last.max(at);
            }
            Record::Close { id, at, fields } => {
                if let Some(place) = self.places.get(&id) {
                    let span = &mut self.spans[*place];
                    span.ended = Some(at);
                    span.fields.extend(fields);
                }
                self.last = self.last.max(at);
            }
            Record::Event { parent, at, message, fields, .. } => {
                self.events.push((parent, at, message, fields));
                self.last = self.last.max(at);
            }
        }
    }

    /// Writes the timeline. Open spans end with the latest record and are marked as unfinished.
    pub fn write(&mut self) -> Result<()> {
        let events = self.trace_events();
        self.lock();
        self.file.rewind()?;
        self.file.set_len(0)?;
        let mut out = BufWriter::new(&self.file);
        out.write_all(BEGINNING.as_bytes())?;
        for (number, event) in events.iter().enumerate() {
            out.write_all(if number == 0 { b"" } else { b"," })?;
            serde_json::to_writer(&mut out, event)?;
        }
        out.write_all(b"]}\n")?;
        out.flush()
    }

    /// Waits until no other run writes the same file, so that the last one leaves a whole timeline. The lock ends with the file.
    fn lock(&self) {
        let begun = Instant::now();
        while rustix::fs::flock(&self.file, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK)
            && begun.elapsed() < LOCK_TIMEOUT
        {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn trace_events(&self) -> Vec<Value> {
        let mut by_begin: Vec<&Span> = self.spans.iter().collect();
        // If two spans begin together, the outer one comes first.
        by_begin.sort_by_key(|span| (span.began, std::cmp::Reverse(self.end_of(span)), span.id));
        let mut tracks = Tracks::default();
        let mut events = Vec::new();
        for span in by_begin {
            let ended = self.end_of(span);
            let track = tracks.place(self.step(Some(span.id)), span.began, ended);
            let mut fields = span.fields.clone();
            if span.ended.is_none() {
                fields.insert("unfinished".to_owned(), json!(true));
            }
            events.push(json!({
                "name": span.name,
                "cat": span.target.rsplit("::").next().unwrap_or_default(),
                "ph": "X",
                "ts": span.began,
                "dur": ended - span.began,
                "pid": 1,
                "tid": track,
                "args": fields,
            }));
        }
        for (parent, at, message, fields) in &self.events {
            let track = tracks.first_of(self.step(*parent));
            events.push(json!({
                "name": message, "cat": "event", "ph": "i", "s": "t", "ts": at, "pid": 1, "tid": track, "args": fields,
            }));
        }
        let mut named = vec![json!({
            "name": "process_name", "ph": "M", "pid": 1, "tid": 0, "args": { "name": "provision" },
        })];
        for (track, name) in tracks.names() {
            named.push(json!({
                "name": "thread_name", "ph": "M", "pid": 1, "tid": track, "args": { "name": name },
            }));
            named.push(json!({
                "name": "thread_sort_index", "ph": "M", "pid": 1, "tid": track, "args": { "sort_index": track },
            }));
        }
        named.extend(events);
        named
    }

    /// Returns the end of a span. The end of a worker's span can arrive late or never. The enclosing spans limit it.
    fn end_of(&self, span: &Span) -> u64 {
        let mut end = span.ended.unwrap_or(self.last);
        let mut around = self.parents.get(&span.id).and_then(|(parent, _)| *parent);
        while let Some(id) = around {
            let ended = self.places.get(&id).and_then(|place| self.spans[*place].ended);
            end = end.min(ended.unwrap_or(u64::MAX));
            around = self.parents.get(&id).and_then(|(parent, _)| *parent);
        }
        end.max(span.began)
    }

    /// Returns the step that a span belongs to.
    fn step(&self, mut span: Option<u64>) -> Option<&str> {
        while let Some((parent, step)) = span.and_then(|id| self.parents.get(&id)) {
            if step.is_some() {
                return step.as_deref();
            }
            span = *parent;
        }
        None
    }
}

/// The tracks of a timeline, by step and in order of their first use.
#[derive(Default)]
struct Tracks {
    /// The tracks of each step (`None` is the run), each with the ends of its open spans.
    lanes: BTreeMap<Option<String>, Vec<(usize, Vec<u64>)>>,
    count: usize,
}

impl Tracks {
    /// Returns the track of the next span by start: one on which it is nested in the open spans, or one without open spans.
    fn place(&mut self, step: Option<&str>, began: u64, ended: u64) -> usize {
        let lanes = self.lanes.entry(step.map(str::to_owned)).or_default();
        for (track, open) in lanes.iter_mut() {
            open.retain(|end| *end > began);
            if open.last().is_none_or(|end| ended <= *end) {
                open.push(ended);
                return *track;
            }
        }
        self.count += 1;
        lanes.push((self.count, vec![ended]));
        self.count
    }

    fn first_of(&mut self, step: Option<&str>) -> usize {
        let lanes = self.lanes.entry(step.map(str::to_owned)).or_default();
        if lanes.is_empty() {
            self.count += 1;
            lanes.push((self.count, Vec::new()));
        }
        lanes[0].0
    }

    fn names(&self) -> impl Iterator<Item = (usize, &str)> {
        self.lanes
            .iter()
            .flat_map(|(step, lanes)| lanes.iter().map(move |(track, _)| (*track, step.as_deref().unwrap_or("run"))))
    }
}
