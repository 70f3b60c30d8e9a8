//! Whether text has colours: `--color`, else NO_COLOR (no-color.org), CLICOLOR and CLICOLOR_FORCE (bixense.com/clicolors).

use std::ffi::{OsStr, OsString};
use std::io::IsTerminal;

use anstream::ColorChoice;
use clap::ValueEnum;

use crate::host::environment;

/// When text has colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// If the output is a terminal that supports colours
    Auto,
    /// Also into pipes and files
    Always,
    /// Not even on a terminal
    Never,
}

/// Decides for the whole process whether text has colours. The arguments are read before they are checked, because help and
/// messages about wrong arguments have colours too.
pub fn choose(arguments: &[OsString]) {
    let choice = match given(arguments) {
        Some(Color::Always) => ColorChoice::Always,
        Some(Color::Never) => ColorChoice::Never,
        _ if is_not_forced() => unforced(),
        _ => ColorChoice::Auto,
    };
    choice.write_global();
}

/// Returns the last `--color` among the arguments. clap reports a wrong value.
fn given(arguments: &[OsString]) -> Option<Color> {
    let options = arguments.iter().skip(1).take_while(|argument| *argument != "--");
    let mut found = None;
    let mut is_value = false;
    for argument in options {
        let text = argument.to_string_lossy();
        let value = if is_value { Some(&*text) } else { text.strip_prefix("--color=") };
        found = value.and_then(|value| Color::from_str(value, false).ok()).or(found);
        is_value = !is_value && text == "--color";
    }
    found
}

/// Returns whether CLICOLOR_FORCE is 0, which means the same as unset. anstream treats every value like 1.
fn is_not_forced() -> bool {
    environment::variable("CLICOLOR_FORCE").as_deref() == Some(OsStr::new("0"))
}

/// Returns what anstream decides without CLICOLOR_FORCE. Standard output decides for both streams.
#[expect(clippy::disallowed_methods, reason = "it asks whether standard output is a terminal")]
fn unforced() -> ColorChoice {
    let is = |name: &str, value: &str| environment::variable(name).as_deref() == Some(OsStr::new(value));
    let is_set = |name: &str| environment::variable(name).is_some_and(|value| !value.is_empty());
    let is_plain = is_set("NO_COLOR") || is("CLICOLOR", "0") || is("TERM", "dumb") || !is_set("TERM");
    if is_plain || !std::io::stdout().is_terminal() { ColorChoice::Never } else { ColorChoice::Always }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_option_is_found_wherever_it_is() {
        let given = |line: &str| given(&line.split(' ').map(OsString::from).collect::<Vec<_>>());
        assert_eq!(given("provision plan"), None);
        assert_eq!(given("provision --color always plan"), Some(Color::Always));
        assert_eq!(given("provision plan --color=never x.yaml"), Some(Color::Never));
        assert_eq!(given("provision plan --color never --color=always"), Some(Color::Always));
        assert_eq!(given("provision plan --color"), None);
        assert_eq!(given("provision plan --color sometimes"), None);
        assert_eq!(given("provision plan -- --color=never"), None);
        assert_eq!(given("--color=never"), None, "the first word is the program");
    }
}
