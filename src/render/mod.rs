//! Renders events for people and scripts. Renderers depend only on events.

mod annotations;
mod deployment;
mod human;
mod json;
mod markdown;
mod metrics;
pub mod output;
pub mod report;
mod target;

pub use annotations::{Annotation, GitHub};
pub use human::Human;
pub use json::{Json, escape_hidden, to_json_line};
pub use markdown::Markdown;
pub use metrics::{Metrics, Run as MetricsRun, is_metrics_file, known_plan, names_its_plan};
pub use target::with_target;
