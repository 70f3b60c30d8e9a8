//! The ssh that git starts: it uses the user's command and configuration, but asks nothing and leaves nothing behind.
//!
//! The same options apply to an ssh that ssh starts for a jump host or a `ProxyCommand`, so [`shim`] is run in its place. A user's
//! own program finds the shim first in the search path, and gets our options as arguments. If it calls ssh by its path, the shim
//! is not used. Such an ssh accepts no new host key, even if the user's configuration allows it.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::shim::{self, shell_quoted};
use super::ssh_config::{self, OPTIONS, STRICT_CONFIG, STRICT_MARK};
use crate::failure::Failure;
use crate::host::environment;
use crate::host::program::Ended;
use crate::text::shell_words;

/// How much of a program is searched for a configuration file that it names, in bytes.
const MAX_SCRIPT: u64 = 64 << 10;

/// Programs with other options than OpenSSH's.
const OTHERS: [&str; 4] = ["plink", "putty", "tortoiseplink", "simple"];

/// The user's command for ssh.
#[derive(Debug, Clone, PartialEq)]
pub struct SshCommand {
    pub text: String,
    /// The setting or variable that names it; `None` for `ssh` itself.
    pub source: Option<&'static str>,
    /// The directory in which git runs it.
    pub folder: PathBuf,
}

impl Default for SshCommand {
    fn default() -> Self {
        Self { text: "ssh".to_owned(), source: None, folder: PathBuf::from("/") }
    }
}

impl SshCommand {
    /// Returns the program that it runs.
    fn program(&self) -> &str {
        self.text.split_whitespace().find(|word| !word.contains('=')).unwrap_or("ssh")
    }

    /// Returns it for a message, so that it works in any directory and for any user, if it is ssh with options that are no secret,
    /// or else `ssh`.
    pub fn shown(&self) -> String {
        words(&self.text).and_then(|words| self.shown_words(words)).unwrap_or_else(|| "ssh".to_owned())
    }

    fn shown_words(&self, words: Vec<String>) -> Option<String> {
        let mut words = words.into_iter();
        let program = words.next().filter(|program| program.rsplit('/').next() == Some("ssh"))?;
        let mut shown = vec![if program.contains('/') { self.absolute(&program) } else { program }];
        while let Some(word) = words.next() {
            if ["-4", "-6", "-v", "-vv", "-vvv"].contains(&word.as_str()) {
                shown.push(word);
                continue;
            }
            // With this option, ssh would not show its error.
            if word == "-q" {
                continue;
            }
            let option = word.get(..2)?;
            let value = if word.len() > 2 { word[2..].to_owned() } else { words.next()? };
            let value = match option {
                // ssh itself knows `none`, and `~` in quotation marks.
                "-i" | "-F" if value == "none" || value.starts_with('~') => value,
                "-i" | "-F" => self.absolute(&value),
                "-J" if value.split(',').all(is_hop) => value,
                "-p" | "-l" if is_plain(&value) => value,
                "-o" => match self.shown_option(&value)? {
                    Some(shown) => shown,
                    None => continue,
                },
                _ => return None,
            };
            shown.extend([option.to_owned(), value]);
        }
        Some(shell_words(&shown))
    }

    /// Returns the value of `-o` for a command that a person runs. Returns `Some(None)` if that command must not have the option,
    /// and `None` if the value may be a secret.
    fn shown_option(&self, option: &str) -> Option<Option<String>> {
        let (name, value) = option.split_once(['=', ' '])?;
        Some(match name.trim().to_ascii_lowercase().as_str() {
            "batchmode" | "stricthostkeychecking" | "loglevel" => None,
            "identitiesonly" | "port" | "user" if is_plain(value) => Some(format!("{name}={value}")),
            "userknownhostsfile" | "globalknownhostsfile" | "identityfile" | "certificatefile" => {
                let is_path = value.starts_with(['/', '~']) || is_plain(value);
                let path = match value {
                    _ if !is_path => return None,
                    "none" => value.to_owned(),
                    _ if value.starts_with('~') => value.to_owned(),
                    _ => self.absolute(value),
                };
                Some(format!("{name}={path}"))
            }
            _ => return None,
        })
    }

    fn absolute(&self, path: &str) -> String {
        self.folder.join(path).to_string_lossy().into_owned()
    }

    /// Returns the remedy if a shell says that it cannot run the program.
    pub fn if_missing(&self, ended: &Ended) -> Option<String> {
        let program = words(&self.text)?.into_iter().find(|word| !word.contains('='))?;
        let reasons = [": not found", ": command not found", ": No such file or directory", ": Permission denied"];
        let denied = |line: &String| {
            let named = reasons.iter().find_map(|reason| line.strip_suffix(reason));
            named.and_then(|named| named.strip_suffix(program.as_str())).is_some_and(|before| before.ends_with(' '))
        };
        // git first runs the program to detect its options, and takes a missing program for one without options.
        let is_gone = program.starts_with('/') && !Path::new(&program).exists();
        let asked = |line: &String| is_gone && line.contains("ssh variant 'simple' does not support");
        ended.said.iter().any(|line| denied(line) || asked(line)).then(|| match self.source {
            Some(source) => format!("{source} names {program}, which cannot be run here: correct it"),
            None => "install ssh; git needs it to reach the remote".to_owned(),
        })
    }
}

/// Whether the value of an option is a single user, host or number.
fn is_plain(value: &str) -> bool {
    value.starts_with(|first: char| first.is_ascii_alphanumeric())
        && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-+".contains(&byte))
}

/// Whether a part of `-J` is a host, with a user and a port at most.
fn is_hop(hop: &str) -> bool {
    let (user, place) = hop.rsplit_once('@').unwrap_or(("u", hop));
    is_plain(user) && place.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-:[]".contains(&byte))
}

/// How git is to start ssh.
pub struct Ssh {
    /// The value of `GIT_SSH_COMMAND`.
    pub command: String,
    /// A directory to put first in the search path.
    pub programs: Option<PathBuf>,
    /// The value of `GIT_SSH_VARIANT`, if git cannot tell from the command whose options it takes.
    pub variant: Option<&'static str>,
}

/// Prepares the user's ssh command, with files in the directory `at`. `variant` is git's `ssh.variant`.
pub fn prepare(own: &SshCommand, variant: Option<&str>, at: &Path) -> Result<Ssh, Failure> {
    let (command, program) = (own.text.as_str(), own.program());
    let name = program.rsplit('/').next().unwrap_or(program);
    if variant.is_some_and(|variant| OTHERS.contains(&variant))
        || variant.is_none() && OTHERS.contains(&name.trim_end_matches(".exe"))
    {
        return Ok(Ssh { command: command.to_owned(), programs: None, variant: None });
    }
    let named = config_option(command, &own.folder);
    ssh_config::create(at, named.as_ref().map(|(_, path)| path.as_path())).map_err(|failure| match own.source {
        Some(source) => failure.hint(format!("{source} names it: correct it")),
        None => failure,
    })?;
    let is_ssh = name == "ssh";
    let by_path = (is_ssh && program.starts_with('/')).then(|| PathBuf::from(program));
    let in_path = environment::program("ssh");
    let shim = in_path.as_ref().or(by_path.as_ref()).map(|real| shim::create(at, real)).transpose()?;
    let file = format!("-F {}", shell_quoted(&at.join(STRICT_CONFIG).to_string_lossy()));
    // The word itself, and not the same letters in a value before it.
    let at_word = command.match_indices(program).map(|(at, _)| at).find(|at| {
        let (before, after) = (&command[..*at], &command[at + program.len()..]);
        (before.is_empty() || before.ends_with([' ', '\t', '"', '\'']))
            && (after.is_empty() || after.starts_with([' ', '\t', '"', '\'']))
    });
    let parts = at_word.map(|at| (&command[..at], &command[at + program.len()..])).filter(|_| is_ssh);
    if let (Some((before, after)), Some(shim)) = (parts, &shim) {
        let real = match &by_path {
            Some(real) => format!("PROVISION_SSH={} ", shell_quoted(&real.to_string_lossy())),
            // The shell expands `~` and variables in an assignment.
            None if program.contains('/') => format!("PROVISION_SSH={program} "),
            None => String::new(),
        };
        let shim = shell_quoted(&shim.to_string_lossy());
        // The last `-F` counts.
        let file = if named.is_some() { format!(" {file}") } else { String::new() };
        let command = format!("{before}{real}/bin/sh {shim}{after}{file}");
        return Ok(Ssh { command, programs: in_path.map(|_| at.join("bin")), variant: Some("ssh") });
    }
    let options = OPTIONS.map(|option| format!("-o {option}")).join(" ");
    let file =
        if named.is_none() && is_script_with_config(command, &own.folder) { String::new() } else { format!(" {file}") };
    let command = format!("{command} {options} -o {}{file}", shell_quoted(STRICT_MARK));
    Ok(Ssh { command, programs: in_path.map(|_| at.join("bin")), variant: None })
}

/// Whether a command runs a script that calls ssh with a configuration file of its own (`-F`).
fn is_script_with_config(command: &str, folder: &Path) -> bool {
    let program = words(command).and_then(|words| words.into_iter().find(|word| !word.contains('=')));
    let Some(program) = program else { return false };
    let path = if program.contains('/') { Some(folder.join(&program)) } else { environment::program(&program) };
    let Some(path) = path.filter(|path| path.is_file()) else { return false };
    let mut text = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_SCRIPT).read_to_end(&mut text));
    let text = String::from_utf8_lossy(&text);
    let names_config = |line: &str| {
        let mut words = line.split(|letter: char| letter.is_whitespace() || "'\"".contains(letter));
        let is_ssh = |word: &str| word.rsplit('/').next() == Some("ssh");
        !line.trim_start().starts_with('#') && words.any(is_ssh) && words.any(|word| word.starts_with("-F"))
    };
    read.is_ok() && text.starts_with("#!") && text.replace("\\\n", " ").lines().any(names_config)
}

/// Returns the word by which a simple command names a configuration file (`-F`), and the file. It may be `none`.
fn config_option(command: &str, top: &Path) -> Option<(String, PathBuf)> {
    let mut words = words(command)?.into_iter();
    let mut found = None;
    while let Some(word) = words.next() {
        let value = match word.strip_prefix("-F") {
            Some("") => words.next()?,
            Some(value) => value.to_owned(),
            None => continue,
        };
        let path = if value == "none" { PathBuf::from(&value) } else { top.join(&value) };
        found = Some((word, path));
    }
    found
}

/// Splits a simple shell command into words. Returns `None` for anything more complex.
fn words(command: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut letters = command.chars().peekable();
    let mut quote = None;
    while let Some(letter) = letters.next() {
        match (letter, quote) {
            ('\'' | '"', None) => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (end, Some(open)) if end == open => quote = None,
            ('\\', None | Some('"')) => word.get_or_insert_default().push(letters.next()?),
            ('`', None | Some('"')) | (';' | '|' | '&' | '<' | '>' | '(' | ')' | '\n', None) => return None,
            ('$', None | Some('"')) => {
                let braces = letters.next_if_eq(&'{').is_some();
                let mut name = String::new();
                while let Some(letter) = letters.next_if(|letter| letter.is_ascii_alphanumeric() || *letter == '_') {
                    name.push(letter);
                }
                if name.is_empty() || braces && letters.next() != Some('}') {
                    return None;
                }
                word.get_or_insert_default().push_str(environment::variable(&name)?.to_str()?);
            }
            ('~', None) if word.is_none() && matches!(letters.peek(), Some('/')) => {
                word.get_or_insert_default().push_str(environment::variable("HOME")?.to_str()?);
            }
            (space, None) if space.is_whitespace() => words.extend(word.take()),
            (letter, _) => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn prepared(command: &str) -> (String, String) {
        let at = tempfile::tempdir().unwrap();
        fs::write(at.path().join("own config"), "Host own\n").unwrap();
        let own = SshCommand { text: command.to_owned(), source: None, folder: at.path().to_owned() };
        fs::write(at.path().join("wrapper"), "#!/bin/sh\nexec ssh -F own \"$@\"\n").unwrap();
        let ssh = prepare(&own, None, at.path()).unwrap();
        let config = fs::read_to_string(at.path().join("ssh_config")).unwrap_or_default();
        let options = OPTIONS.map(|option| format!("-o {option}")).join(" ") + &format!(" -o '{STRICT_MARK}'");
        let command = ssh.command.replace(&at.path().display().to_string(), "AT").replace(&options, "-o …");
        (command, config)
    }

    #[test]
    fn the_users_command_keeps_its_options() {
        assert_eq!(prepared("ssh").0, "/bin/sh 'AT/bin/ssh'");
        assert_eq!(prepared("A=b /usr/bin/ssh -i k").0, "A=b PROVISION_SSH='/usr/bin/ssh' /bin/sh 'AT/bin/ssh' -i k");
        assert_eq!(prepared("ssh \"$@\"; true").0, "/bin/sh 'AT/bin/ssh' \"$@\"; true");
        assert_eq!(prepared("./wrapper -4").0, "./wrapper -4 -o …");
        assert_eq!(prepared("sshpass -e ssh").0, "sshpass -e ssh -o … -F 'AT/ssh_config'");
        assert_eq!(prepared("plink -batch").0, "plink -batch");
        assert!(prepared("ssh").1.ends_with("Include ~/.ssh/config\nInclude /etc/ssh/ssh_config\n"));
    }

    #[test]
    fn a_configuration_file_of_the_users_command_is_kept() {
        for command in ["ssh -F 'own config'", "ssh -i k -F\"own config\" -v", r"ssh -F own\ config"] {
            let (command, config) = prepared(command);
            assert!(command.ends_with(" -F 'AT/ssh_config'"), "{command}");
            assert!(config.starts_with("BatchMode yes\n") && config.ends_with("Host own\n"), "{config}");
        }
        assert!(prepared("ssh -F none").1.ends_with("StrictHostKeyChecking yes\n"));
    }

    #[test]
    fn words_are_those_of_the_shell() {
        let split = |command: &str| words(command).unwrap();
        assert_eq!(split(r#"a 'b c' d"e f"g \h "" "#), ["a", "b c", "de fg", "h", ""]);
        assert_eq!(split("~/x ${HOME}/y a~"), [split("$HOME/x")[0].clone(), split("$HOME/y")[0].clone(), "a~".into()]);
        for more in ["a; b", "a | b", "`a`", "$(a)", "a > b", "'a", "$1x$"] {
            assert_eq!(words(more), None, "{more}");
        }
    }
}
