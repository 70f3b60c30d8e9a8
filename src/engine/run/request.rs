//! What a run is asked to do.

use std::collections::BTreeMap;

use jiff::civil::Date;
use jiff::{Timestamp, tz::TimeZone};

use super::source::Source;
use crate::host::environment::Environment;
use crate::plan_file::Selection;

/// What a run is asked to do.
#[derive(Debug, Clone)]
pub struct Request {
    pub command: Command,
    /// The plan file, or for an apply a saved plan.
    pub source: Source,
    pub selection: Selection,
    /// The values of `--var`.
    pub vars: BTreeMap<String, String>,
    /// The date that determines the current period. Today (UTC) if it is `None`.
    pub as_of: Option<Date>,
    pub environment: Environment,
}

/// The command of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    Plan,
    Apply,
}

impl Command {
    /// Returns the name of the command, as used in events.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plan => "plan",
            Self::Apply => "apply",
        }
    }
}

/// Returns the date that determines the current period. It is in UTC, like Redshift's clock.
pub fn today() -> Date {
    Timestamp::now().to_zoned_datetime(TimeZone::UTC).date()
}
