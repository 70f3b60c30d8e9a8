//! Events as people and scripts read them. Renderers see events and nothing else.

mod human;
mod json;
mod markdown;
mod metrics;
pub mod output;
pub mod report;

pub use human::{Human, with_target};
pub use json::{Json, escape_hidden, to_json_line};
pub use markdown::Markdown;
pub use metrics::{Metrics, Run as MetricsRun};
