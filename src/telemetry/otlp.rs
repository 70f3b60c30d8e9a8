//! Spans for an OpenTelemetry collector, sent with OTLP over HTTP (OpenTelemetry Protocol Exporter specification). They are
//! sent if `OTEL_EXPORTER_OTLP_ENDPOINT` or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` is set. The exporter reads those and the
//! other variables of the specification itself. `TRACEPARENT` (W3C Trace Context) names the parent span of the run.

use std::collections::HashMap;
use std::sync::mpsc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use opentelemetry::trace::{Event, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{RetryPolicy, SpanExporter, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanExporter as _, SpanLinks};
use serde_json::Value;

use super::record::{Fields, Record};
use crate::text::RedactedUrl;

/// How long the end of a run waits for the collector.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);
/// The maximum number of spans of a run. They are kept in memory until its end.
const MAX_SPANS: usize = 100_000;
/// The maximum number of spans in one request, as in the batch processor of the specification.
const MAX_BATCH: usize = 512;

/// The variables that enable it.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];

/// The variables that choose the protocol, and the only one that is supported.
const PROTOCOLS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];
const SUPPORTED: &str = "http/protobuf";

/// Collects spans until the end of the run.
pub struct Otlp {
    trace: TraceId,
    flags: TraceFlags,
    /// The parent span of the run.
    parent: Option<SpanId>,
    /// Distinguishes the span ids of this run from others in the same trace.
    mask: u64,
    open: HashMap<u64, SpanData>,
    ended: Vec<SpanData>,
    resource: Resource,
    /// The endpoint as configured.
    endpoint: String,
    /// The variable that names the endpoint.
    variable: &'static str,
    /// A protocol that is asked for and not supported.
    protocol: Option<String>,
}

impl Otlp {
    /// Returns the settings of the environment. `None` if there are none. `variable` returns environment variables.
    pub fn of(variable: &dyn Fn(&str) -> Option<String>, host: &str) -> Option<Self> {
        let given = |name: &str| variable(name).filter(|value| !value.is_empty());
        let (variable_name, endpoint) = ENDPOINTS.iter().find_map(|name| Some((*name, given(name)?)))?;
        if given("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return None;
        }
        let protocol = PROTOCOLS.iter().find_map(|name| given(name)).filter(|protocol| protocol != SUPPORTED);
        let mut random = [0; 24];
        openssl::rand::rand_bytes(&mut random).ok()?;
        let (trace, mask) = random.split_at(16);
        let (own_trace, mask) =
            (TraceId::from_bytes(trace.try_into().ok()?), u64::from_be_bytes(mask.try_into().ok()?));
        let context = given("TRACEPARENT").and_then(|text| trace_context(&text));
        let (trace, parent, flags) = match context {
            // The trace was started without recording.
            Some((_, _, flags)) if !flags.is_sampled() => return None,
            Some((trace, parent, flags)) => (trace, Some(parent), flags),
            None => (own_trace, None, TraceFlags::SAMPLED),
        };
        let resource = Resource::builder()
            .with_attributes([
                KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
                KeyValue::new("host.name", host.to_owned()),
            ])
            .with_service_name(given("OTEL_SERVICE_NAME").unwrap_or_else(|| "provision".to_owned()))
            .build();
        Some(Self {
            trace,
            flags,
            parent,
            mask,
            open: HashMap::new(),
            ended: Vec::new(),
            resource,
            endpoint,
            variable: variable_name,
            protocol,
        })
    }

    /// Adds a record.
    pub fn take(&mut self, record: &Record) {
        match record {
            Record::Open { id, parent, target, name, at, fields, .. } => {
                if self.open.len() + self.ended.len() >= MAX_SPANS {
                    return;
                }
                let context = SpanContext::new(self.trace, self.span_id(*id), self.flags, false, TraceState::default());
                let parent_span = parent.map(|parent| self.span_id(parent));
                let span = SpanData {
                    span_context: context,
                    parent_span_id: parent_span.or(self.parent).unwrap_or(SpanId::INVALID),
                    parent_span_is_remote: parent_span.is_none() && self.parent.is_some(),
                    span_kind: SpanKind::Internal,
                    name: name.clone().into(),
                    start_time: time(*at),
                    end_time: time(*at),
                    attributes: attributes(fields),
                    dropped_attributes_count: 0,
                    events: SpanEvents::default(),
                    links: SpanLinks::default(),
                    status: Status::Unset,
                    instrumentation_scope: InstrumentationScope::builder(target.clone()).build(),
                };
                self.open.insert(*id, span);
            }
            Record::Close { id, at, fields } => {
                if let Some(mut span) = self.open.remove(id) {
                    span.end_time = time(*at);
                    span.attributes.extend(attributes(fields));
                    self.ended.push(span);
                }
            }
            Record::Event { parent, at, message, fields, .. } => {
                if let Some(span) = parent.and_then(|parent| self.open.get_mut(&parent)) {
                    span.events.events.push(Event::new(message.clone(), time(*at), attributes(fields), 0));
                }
            }
        }
    }

    /// Sends all spans. Open spans end now. Waits at most two seconds for the collector.
    ///
    /// # Errors
    /// The collector did not accept the spans.
    pub fn flush(&mut self) -> Result<(), String> {
        self.try_flush().map_err(|why| {
            let variable = self.variable;
            // A value that is not a URL could be a secret, so it is not shown.
            let endpoint = match self.endpoint.split_once("://") {
                Some(("http" | "https", _)) => RedactedUrl::of(&self.endpoint).to_string(),
                _ => format!("the value of {variable}, which is not an http or https URL"),
            };
            // An error may repeat it.
            let why = why.replace(&self.endpoint, "…");
            let why: Vec<String> = why.split(' ').map(RedactedUrl::in_word).collect();
            let advice = match &self.protocol {
                Some(protocol) => {
                    format!("OTEL_EXPORTER_OTLP_PROTOCOL is {protocol}, but only {SUPPORTED} is supported")
                }
                None => format!("correct {variable} or unset it; its usual port is 4318"),
            };
            format!("cannot send the trace to the OpenTelemetry collector at {endpoint}: {}; {advice}", why.join(" "))
        })
    }

    fn try_flush(&mut self) -> Result<(), String> {
        let mut spans = std::mem::take(&mut self.ended);
        let now = SystemTime::now();
        spans.extend(self.open.drain().map(|(_, span)| SpanData { end_time: now, ..span }));
        if spans.is_empty() {
            return Ok(());
        }
        let resource = self.resource.clone();
        let (done, waiting) = mpsc::channel();
        // A separate thread, because the exporter may block for longer than the run waits.
        let sending = std::thread::Builder::new().spawn(move || drop(done.send(send(spans, &resource))));
        sending.map_err(|error| error.to_string())?;
        waiting.recv_timeout(FLUSH_TIMEOUT).unwrap_or_else(|_| Err("it did not answer within 2 s".to_owned()))
    }

    fn span_id(&self, id: u64) -> SpanId {
        SpanId::from_bytes((id ^ self.mask).to_be_bytes())
    }
}

fn send(mut spans: Vec<SpanData>, resource: &Resource) -> Result<(), String> {
    // The end of a run does not wait for a collector that is not there.
    let once = RetryPolicy::default().with_max_retries(0);
    let exporter = SpanExporter::builder().with_http().with_http_client(Client).with_retry_policy(once).build();
    let mut exporter = exporter.map_err(|error| error.to_string())?;
    exporter.set_resource(resource);
    let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(|error| error.to_string())?;
    while !spans.is_empty() {
        let batch = spans.drain(..spans.len().min(MAX_BATCH)).collect();
        runtime.block_on(exporter.export(batch)).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// The HTTP client of the exporter.
#[derive(Debug)]
struct Client;

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .timeout_global(Some(FLUSH_TIMEOUT))
            .http_status_as_error(false)
            // A redirect could send the headers, and a token in them, to another host.
            .max_redirects(0)
            .tls_config(
                ureq::tls::TlsConfig::builder()
                    .provider(ureq::tls::TlsProvider::NativeTls)
                    .root_certs(ureq::tls::RootCerts::PlatformVerifier)
                    .build(),
            )
            .build()
            .into();
        let (parts, body) = request.into_parts();
        let response = agent.run(Request::from_parts(parts, body.to_vec()))?;
        let (parts, mut body) = response.into_parts();
        let bytes = body.with_config().limit(64 << 10).read_to_vec()?;
        Ok(Response::from_parts(parts, Bytes::from(bytes)))
    }
}

fn attributes(fields: &Fields) -> Vec<KeyValue> {
    let value = |value: &Value| match value {
        Value::Bool(value) => opentelemetry::Value::from(*value),
        Value::Number(number) => match number.as_i64() {
            Some(number) => number.into(),
            None => number.as_f64().unwrap_or_default().into(),
        },
        Value::String(text) => text.clone().into(),
        other => other.to_string().into(),
    };
    fields.iter().map(|(name, field)| KeyValue::new(name.clone(), value(field))).collect()
}

fn time(at: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_micros(at)
}

/// Returns the trace, the span and the flags of a `traceparent` (W3C Trace Context, version 00 or later).
fn trace_context(text: &str) -> Option<(TraceId, SpanId, TraceFlags)> {
    let mut parts = text.trim().split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_hex =
        |text: &str, length| text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if !is_hex(version, 2) || version == "ff" || !is_hex(trace, 32) || !is_hex(span, 16) || !is_hex(flags, 2) {
        return None;
    }
    if version == "00" && parts.next().is_some() {
        return None;
    }
    let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?);
    (trace != TraceId::INVALID && span != SpanId::INVALID).then_some((trace, span, flags))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_joins_the_trace_of_the_environment() {
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let (trace, span, flags) = trace_context(parent).unwrap();
        assert_eq!((trace.to_string().as_str(), span.to_string().as_str()), (&parent[3..35], &parent[36..52]));
        assert!(flags.is_sampled());
        for wrong in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        ] {
            assert!(trace_context(wrong).is_none(), "{wrong}");
        }
        assert!(trace_context("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-later").is_some());
    }

    #[test]
    fn nothing_is_collected_without_an_endpoint() {
        let with = |name: &'static str, value: &'static str| {
            Otlp::of(&move |asked| (asked == name).then(|| value.to_owned()), "host").is_some()
        };
        assert!(with("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318"));
        assert!(!with("OTEL_EXPORTER_OTLP_ENDPOINT", "") && !with("OTEL_SERVICE_NAME", "x"));
    }
}
