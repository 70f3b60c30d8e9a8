//! Log filters: levels for the parts of this program, and for other crates if they are named.

use std::fmt;

use tracing::Metadata;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;

use super::record::Level;
use crate::failure::Failure;
use crate::text::nearest;

/// The target of this program's own records. Its parts are below it (`provision::git`).
const OWN: &str = "provision";

/// The lowest level for other crates. Below it, records can contain statements and packets, and so secrets.
const MAX_FOREIGN_LEVEL: LevelFilter = LevelFilter::INFO;

/// A filter such as `debug`, `info,git=debug,warehouse=off`, or with other crates `debug,tokio_postgres=info`.
#[derive(Debug, Clone)]
pub struct Filter {
    /// The original text, for a worker.
    text: String,
    targets: Targets,
}

impl Filter {
    /// Parses a filter. A level alone applies to this program. Its parts can be named without a prefix.
    ///
    /// # Errors
    /// A level is invalid, or a part is misspelt.
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
            if !is_own(&target)
                && !ALIKE.contains(&target.as_str())
                && let Some(part) = nearest(&target, PARTS)
            {
                return Err(Failure::new(format!(
                    "invalid log filter `{text}`: `{target}` is not a part of provision"
                ))
                .hint(format!("did you mean `{part}`? The parts are {}", PARTS.join(", "))));
            }
            let level = if is_own(&target) { level } else { level.min(MAX_FOREIGN_LEVEL) };
            targets = targets.with_target(target, level);
        }
        Ok(Self { text: text.to_owned(), targets })
    }

    /// Returns a filter that passes everything that a log or a timeline needs. `None` if there is neither. The log shows less.
    pub fn covering(log: Option<&Self>, timeline: bool) -> Option<Self> {
        match (log, timeline) {
            (None, false) => None,
            (Some(filter), false) if filter.max_level() == LevelFilter::OFF => Some(filter.clone()),
            // The log needs these spans to name the step of a line, even if it does not show them.
            (Some(filter), false) => Self::parse(&format!("{},engine=debug,worker=debug", filter.text)).ok(),
            // A timeline contains every span. The log applies its own filter.
            (log, true) => {
                let directives = log.into_iter().flat_map(|filter| filter.text.split(','));
                let foreign = directives.filter(|directive| {
                    directive.split_once('=').is_some_and(|(target, _)| !is_own(&full_target(target.trim())))
                });
                Self::parse(&foreign.chain(["debug"]).collect::<Vec<_>>().join(",")).ok()
            }
        }
    }

    /// Returns whether it passes records of this target and level.
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

    /// Returns whether it passes the records of a call site.
    pub(super) fn enables(&self, metadata: &Metadata<'_>) -> bool {
        self.targets.would_enable(metadata.target(), metadata.level())
    }

    /// Returns the lowest level that it passes for any target.
    pub(super) fn max_level(&self) -> LevelFilter {
        self.targets.iter().map(|(_, level)| level).max().unwrap_or(LevelFilter::OFF)
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The parts of this program that have their own records.
const PARTS: [&str; 7] = ["engine", "worker", "secret", "warehouse", "ssh", "git", "fs"];

/// Crates whose names are like those of parts.
const ALIKE: [&str; 2] = ["git2", "ssh2"];

fn is_own(target: &str) -> bool {
    target == OWN || target.starts_with("provision::")
}

fn full_target(target: &str) -> String {
    if PARTS.contains(&target) { format!("{OWN}::{target}") } else { target.to_owned() }
}
