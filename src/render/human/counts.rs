//! The last line: how many steps there are of each outcome.

use crate::engine::event::{Counts, RunOutcome};
use crate::text::plural;

/// Returns such as `2 steps failed, 3 to change, 1 in order`. What needs attention comes first.
pub fn text(counts: &Counts) -> String {
    let part = |(number, (count, word)): (usize, (usize, &str))| {
        if number == 0 { format!("{} {word}", plural(count, "step")) } else { format!("{count} {word}") }
    };
    counts.parts().enumerate().map(part).collect::<Vec<_>>().join(", ")
}

/// Returns the last line of a run, without its style.
pub fn last_line(command: &str, outcome: RunOutcome, counts: &Counts) -> String {
    let name = match command {
        "apply" => "Apply",
        _ => "Plan",
    };
    if *counts == Counts::default() {
        return format!("{name}: no steps were evaluated");
    }
    let converged = outcome == RunOutcome::Ok && counts.changed == 0 && counts.unchecked == 0;
    if converged { format!("Nothing to change: {}.", text(counts)) } else { format!("{name}: {}.", text(counts)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_says_what_it_counts() {
        let counts = Counts { changes: 3, unchanged: 1, ..Counts::default() };
        assert_eq!(last_line("plan", RunOutcome::Changes, &counts), "Plan: 3 steps to change, 1 in order.");
        let counts = Counts { unchanged: 1, ..Counts::default() };
        assert_eq!(last_line("apply", RunOutcome::Ok, &counts), "Nothing to change: 1 step in order.");
        let counts = Counts { failed: 1, skipped: 2, changed: 1, ..Counts::default() };
        assert_eq!(last_line("apply", RunOutcome::Failed, &counts), "Apply: 1 step failed, 1 changed, 2 skipped.");
        assert_eq!(last_line("plan", RunOutcome::Failed, &Counts::default()), "Plan: no steps were evaluated");
    }
}
