//! Names the launcher's variables that a login may need and git does not get: those of another user, and secrets of the plan file.

use super::settings::Settings;
use super::url::ssh_host;
use crate::failure::Failure;
use crate::host::environment;
use crate::host::users::{acting_user, is_launcher};

/// What ssh uses for a login.
const OF_SSH: [&str; 2] = ["SSH_AUTH_SOCK", "KRB5CCNAME"];
/// What git and common credential helpers use for one.
const OF_WEB: [&str; 6] =
    ["KRB5CCNAME", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS", "GITHUB_TOKEN", "GH_TOKEN", "GITLAB_TOKEN"];
/// The words with which git and ssh report a refused login.
const REFUSED: [&str; 6] = [
    "could not read username",
    "could not read password",
    "authentication failed",
    "permission denied (",
    "returned error: 401",
    "returned error: 403",
];

/// Adds to the failure of a login at the remote which variables git did not get.
pub fn explain(failure: Failure, resolved: &str, settings: &Settings) -> Failure {
    let message = failure.message.to_lowercase();
    let is_ssh = ssh_host(resolved).is_some();
    if !is_ssh && !REFUSED.iter().any(|words| message.contains(words)) {
        return failure;
    }
    // Every session has these. Only a helper uses them.
    let has_helper = settings.keys("credential.", "helper").next().is_some();
    let is_of_session = |name: &str| ["XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"].contains(&name);
    let usual: &[&str] = if is_ssh { &OF_SSH } else { &OF_WEB };
    let is_usual = |name: &str| {
        usual.contains(&name)
            && (!is_of_session(name) || has_helper)
            && REFUSED.iter().any(|words| message.contains(words))
    };
    let names = environment::withheld_from_git();
    let names = names.into_iter().filter(|name| is_usual(name) || is_named(settings, name));
    let names: Vec<&str> = names.collect();
    if names.is_empty() {
        return failure;
    }
    let are = if names.len() == 1 { "is" } else { "are" };
    let why = match is_launcher() {
        true => {
            format!("{} {are} not passed on to git, because the plan file uses the value as a secret", names.join(", "))
        }
        false => {
            format!("{} of the user who starts provision {are} not passed on to {}", names.join(", "), acting_user())
        }
    };
    let hint = failure.hint.as_ref().map_or_else(|| why.clone(), |hint| format!("{hint}\n{why}"));
    failure.hint(hint)
}

/// Returns whether a command in git's configuration names the variable.
pub fn is_named(settings: &Settings, name: &str) -> bool {
    let commands = settings.keys("credential.", "helper").chain(settings.keys("core.", "sshcommand"));
    commands
        .chain(settings.keys("core.", "askpass"))
        .filter_map(|key| settings.get(key))
        .any(|text| names_variable(text, name))
}

/// Whether a shell would insert the variable into this text: `$NAME` or `${NAME…}`.
fn names_variable(text: &str, name: &str) -> bool {
    text.match_indices('$').any(|(at, _)| {
        let rest = text[at + 1..].trim_start_matches('{');
        let rest = rest.strip_prefix(name);
        rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_in_the_text_of_a_helper_are_found() {
        let text = "!f() { echo password=$TOKEN; echo username=${USER_NAME:-x}; }; f";
        let names = ["TOKEN", "USER_NAME", "TOK", "USER", "password"];
        assert_eq!(names.map(|name| names_variable(text, name)), [true, true, false, false, false]);
    }
}
