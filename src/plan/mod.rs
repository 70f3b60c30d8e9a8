//! What a plan is made of, as pure data: what steps claim, and which waits for which. Nothing here touches the host.

pub mod claim;
pub mod conflict;
pub mod graph;
pub mod period;
