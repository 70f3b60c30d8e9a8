//! What a change is about, in one line.

/// Prefixes a summary with its target, unless the summary mentions it.
pub fn with_target(target: &str, summary: &str) -> String {
    if summary.contains(target) { summary.to_owned() } else { format!("{target}: {summary}") }
}
