//! Claims and the order of steps as pure data. Nothing here touches the host.

pub mod claim;
pub mod conflict;
pub mod graph;
pub mod period;
#[cfg(test)]
mod properties;
mod series;
