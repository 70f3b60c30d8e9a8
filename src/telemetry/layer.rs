//! Converts what `tracing` collects into records.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::FilterFn;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::{LookupSpan, Registry};
use tracing_subscriber::util::SubscriberInitExt;

use super::filter::Filter;
use super::record::{Fields, Level, Record};

/// The field of a worker's span that contains its parent, a span of the launcher.
const REMOTE_PARENT: &str = "remote_parent";
/// The number of bits of an id for the number of the span. The bits above are the number of the process.
const NUMBER_BITS: u32 = 48;

/// Starts collecting the records of this process. A second call has no effect.
pub fn install(filter: Filter, namespace: u16, send: Arc<dyn Fn(Record) + Send + Sync>) {
    // It fails if something is already collecting.
    drop(subscriber(filter, namespace, send).try_init());
}

/// Collects the records of this thread during `work`.
#[cfg(test)]
pub fn collect_here(filter: Filter, namespace: u16, send: Arc<dyn Fn(Record) + Send + Sync>, work: impl FnOnce()) {
    tracing::subscriber::with_default(subscriber(filter, namespace, send), work);
}

fn subscriber(
    filter: Filter,
    namespace: u16,
    send: Arc<dyn Fn(Record) + Send + Sync>,
) -> impl Subscriber + Send + Sync {
    let max_level = filter.max_level();
    let filter = FilterFn::new(move |metadata| filter.enables(metadata)).with_max_level_hint(max_level);
    let recorder = Recorder { next: AtomicU64::new((u64::from(namespace) << NUMBER_BITS) + 1), send };
    tracing_subscriber::registry().with(recorder.with_filter(filter))
}

/// Returns the id of a span in its records.
pub fn record_id(span: &tracing::Span) -> Option<u64> {
    span.with_subscriber(|(id, dispatch)| {
        let registry = dispatch.downcast_ref::<Registry>()?;
        Some(registry.span(id)?.extensions().get::<Recorded>()?.id)
    })?
}

struct Recorder {
    next: AtomicU64,
    send: Arc<dyn Fn(Record) + Send + Sync>,
}

/// The data of a span that is kept until it ends.
struct Recorded {
    id: u64,
    /// The fields that were added after its start.
    later: Fields,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Recorder {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Values::default();
        attributes.record(&mut fields);
        let remote = fields.0.remove(REMOTE_PARENT).and_then(|id| id.as_u64());
        let parent =
            remote.or_else(|| span.parent().and_then(|parent| Some(parent.extensions().get::<Recorded>()?.id)));
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        span.extensions_mut().insert(Recorded { id, later: Fields::new() });
        let metadata = attributes.metadata();
        (self.send)(Record::Open {
            id,
            parent,
            target: metadata.target().to_owned(),
            name: metadata.name().to_owned(),
            level: Level::from(metadata.level()),
            at: now(),
            fields: fields.0,
        });
    }

    fn on_record(&self, id: &Id, values: &tracing::span::Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Values::default();
        values.record(&mut fields);
        if let Some(recorded) = span.extensions_mut().get_mut::<Recorded>() {
            recorded.later.extend(fields.0);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let parent = context.event_span(event).and_then(|span| Some(span.extensions().get::<Recorded>()?.id));
        let mut fields = Values::default();
        event.record(&mut fields);
        let message = fields.0.remove("message").and_then(|text| text.as_str().map(str::to_owned)).unwrap_or_default();
        // Records from the crate `log` have their target in a field.
        let target = fields.0.remove("log.target").and_then(|text| text.as_str().map(str::to_owned));
        fields.0.retain(|name, _| !name.starts_with("log."));
        let metadata = event.metadata();
        (self.send)(Record::Event {
            parent,
            target: target.unwrap_or_else(|| metadata.target().to_owned()),
            level: Level::from(metadata.level()),
            at: now(),
            message,
            fields: fields.0,
        });
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else { return };
        let recorded = span.extensions_mut().remove::<Recorded>();
        if let Some(Recorded { id, later }) = recorded {
            (self.send)(Record::Close { id, at: now(), fields: later });
        }
    }
}

/// Microseconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// Fields as JSON values.
#[derive(Default)]
struct Values(Fields);

impl Visit for Values {
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().to_owned(), Value::from(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().to_owned(), Value::from(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().to_owned(), Value::from(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), Value::from(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name().to_owned(), Value::from(format!("{value:?}")));
    }
}
