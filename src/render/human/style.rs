//! The colours and signs of text for people. The same text without colour is as clear.

use anstyle::{AnsiColor, Style};

use crate::engine::event::{Action, Certainty, Description, Planned};

pub const GREEN: Style = AnsiColor::Green.on_default();
pub const YELLOW: Style = AnsiColor::Yellow.on_default();
pub const RED: Style = AnsiColor::Red.on_default().bold();
pub const RED_PLAIN: Style = AnsiColor::Red.on_default();
pub const DIM: Style = Style::new().dimmed();
pub const BOLD: Style = Style::new().bold();

/// Returns the sign of a change.
pub fn of_action(action: Action) -> (Style, char) {
    match action {
        Action::Create => (GREEN, '+'),
        Action::Update => (YELLOW, '~'),
        Action::Delete => (RED_PLAIN, '-'),
    }
}

/// Returns the sign of a step in a plan. One that makes or removes everything has the sign of that.
pub fn of_step(outcome: Planned, certainty: Certainty, changes: &[Description]) -> (Style, char) {
    match outcome {
        Planned::Unchanged if certainty == Certainty::Exact => (GREEN, '✓'),
        Planned::Unchanged | Planned::Unchecked => (YELLOW, '?'),
        Planned::Drifted | Planned::Blocked | Planned::Failed => (RED, '✗'),
        Planned::Changes => match changes {
            [first, rest @ ..] if rest.iter().all(|change| change.action == first.action) => of_action(first.action),
            _ => of_action(Action::Update),
        },
    }
}
