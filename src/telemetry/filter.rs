//! What is recorded: levels for the parts of this program and, where they are named, of other crates.

use std::fmt;

use tracing::Metadata;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;

use super::record::Level;
use crate::failure::Failure;

/// The target of this program's own records; its parts are below it (`provision::git`).
const OWN: &str = "provision";

/// Records of other crates at a lower level can hold statements and packets, and with them secrets.
const MAX_FOREIGN_LEVEL: LevelFilter = LevelFilter::INFO;

/// A filter: `debug`, or `info,git=debug,warehouse=off`, or with other crates `debug,tokio_postgres=info`.
#[derive(Debug, Clone)]
pub struct Filter {
    /// As it was written, for a worker.
    text: String,
    targets: Targets,
}

impl Filter {
    /// Reads a filter. A level alone holds for this program; a part of it can be named without its prefix.
    ///
    /// # Errors
    /// A level is not one.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let mut targets = Targets::new();
        for directive in text.split(',').map(str::trim).filter(|directive| !directive.is_empty()) {
            let (target, level) = match directive.split_once('=') {
                Some((target, level)) => (full_target(target.trim()), level.trim()),
                None => (OWN.to_owned(), directive),
            };
            let level: LevelFilter = level.parse().map_err(|_| {
                Failure::new(format!("invalid log filter `{text}`: `{level}` is not a level")).hint(
                    "the levels are error, warn, info, debug, trace and off; `info,git=debug` sets one for a part",
                )
            })?;
            let is_own = target == OWN || target.starts_with("provision::");
            targets = targets.with_target(target, if is_own { level } else { level.min(MAX_FOREIGN_LEVEL) });
        }
        Ok(Self { text: text.to_owned(), targets })
    }

    /// The filter that lets through what a log or a timeline takes; `None` where there is neither.
    pub fn covering(log: Option<&Self>, timeline: bool) -> Option<Self> {
        match (log, timeline) {
            (None, false) => None,
            (Some(filter), false) => Some(filter.clone()),
            // A timeline has every span; what the log takes of them is its own affair.
            (log, true) => {
                let foreign = log.map(|filter| filter.text.as_str()).unwrap_or_default();
                Self::parse(&format!("{foreign},debug")).ok()
            }
        }
    }

    /// Whether it lets a record of this target and level through.
    pub fn allows(&self, target: &str, level: Level) -> bool {
        let level = match level {
            Level::Error => tracing::Level::ERROR,
            Level::Warn => tracing::Level::WARN,
            Level::Info => tracing::Level::INFO,
            Level::Debug => tracing::Level::DEBUG,
            Level::Trace => tracing::Level::TRACE,
        };
        self.targets.would_enable(target, &level)
    }

    /// Whether it lets the records of a call site through.
    pub(super) fn enables(&self, metadata: &Metadata<'_>) -> bool {
        self.targets.would_enable(metadata.target(), metadata.level())
    }

    /// The lowest level that it lets through anywhere.
    pub(super) fn max_level(&self) -> LevelFilter {
        self.targets.iter().map(|(_, level)| level).max().unwrap_or(LevelFilter::OFF)
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The parts of this program that have records of their own.
const PARTS: [&str; 8] = ["engine", "worker", "secret", "warehouse", "ssh", "git", "fs", "plan_file"];

fn full_target(target: &str) -> String {
    if PARTS.contains(&target) { format!("{OWN}::{target}") } else { target.to_owned() }
}
