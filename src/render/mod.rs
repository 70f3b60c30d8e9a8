//! Events as people and scripts read them. Renderers see events and nothing else.

mod human;
mod json;
mod markdown;
pub mod output;

pub use human::{Human, with_target};
pub use json::{Json, escape_hidden, to_json_line};
pub use markdown::Markdown;
