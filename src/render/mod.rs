//! Events as people and scripts read them. Renderers see events and nothing else.

mod human;
mod json;

pub use human::Human;
pub use json::Json;
