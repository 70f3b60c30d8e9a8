//! Events as people and scripts read them. Renderers see events and nothing else.

mod human;
mod json;
pub mod output;

pub use human::{Human, with_target};
pub use json::Json;
