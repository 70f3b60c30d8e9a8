//! Renders events for people and scripts. Renderers depend only on events.

mod human;
mod json;
mod markdown;
mod metrics;
pub mod output;
pub mod report;

pub use human::{Human, with_target};
pub use json::{Json, escape_hidden, to_json_line};
pub use markdown::Markdown;
pub use metrics::{Metrics, Run as MetricsRun, is_metrics_file, known_plan};
