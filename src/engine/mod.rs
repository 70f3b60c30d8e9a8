//! From steps to a converged host: order, survey, apply. It knows no kind by name, and all its output is events.

pub mod adopt;
pub mod apply;
pub mod event;
mod event_log;
pub mod follow_up;
pub mod journal;
mod live;
pub mod lock;
pub mod open_follow_ups;
pub mod report;
pub mod rescue;
pub mod run;
pub mod saved;
pub mod stop;
pub mod survey;
pub mod targets;
