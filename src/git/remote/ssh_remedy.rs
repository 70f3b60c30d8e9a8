//! Finds the remedy for a remote that ssh cannot reach, by what ssh says.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::Access;
use rustix::process::geteuid;

use super::ssh::SshCommand;
use super::url::SshHost;
use crate::host::fs::{escape_path, may_access};
use crate::host::program::Ended;
use crate::host::users::{as_acting_user, as_root, name_or_id};
use crate::text::shell_word;

/// Returns the remedy if ssh itself failed, a jump host, or the shell of the remote's user.
pub fn of_ssh(text: &str, host: &SshHost, command: &SshCommand, ended: &Ended) -> Option<String> {
    let has = |part: &str| text.contains(part);
    let login = host.login(command);
    let between = |start: &str, end: &str| {
        let mut lines = ended.said.iter().map(|line| line.trim());
        lines.find_map(|line| Some(line.split_once(start)?.1.split_once(end)?.0.to_owned()))
    };
    Some(if has("identification has changed") {
        let name = between("ost key for ", " has changed").unwrap_or_else(|| host.known_as());
        let file = between(" key in ", ":").map(|file| format!(" -f {}", shell_word(&file))).unwrap_or_default();
        let remove = as_acting_user(&format!("ssh-keygen{file} -R {}", shell_word(&name)));
        format!(
            "the host's key is not the one in known_hosts: ask its owner before you remove the old line (`{remove}`) and accept the new one (`{login}`)"
        )
    } else if has("host key verification failed") || has("host key is known") {
        format!(
            "the host's key is not in the known_hosts of the step's user, and provision accepts no new keys unless ssh is configured to accept them without a question: ask the owner for its fingerprint, and accept it by hand: `{login}`"
        )
    } else if has("permission denied (") || has("too many authentication failures") {
        of_key(ended).unwrap_or_else(|| {
            format!(
                "the host accepts none of the keys of the step's user, or they have a passphrase, which nobody enters here: try `{login}`"
            )
        })
    } else if let Some(own) = command.if_missing(ended) {
        own
    } else if has("ssh variant") && has("does not support") {
        let set = as_acting_user("git config --global ssh.variant ssh");
        format!(
            "git does not know the options of the program that it starts as ssh; if they are those of OpenSSH: `{set}`"
        )
    } else if let Some(file) = after(ended, "Bad owner or permissions on ") {
        of_config(file)
    } else if has("bad configuration option") {
        "correct that line of ssh's configuration".to_owned()
    } else if has("bad line length") {
        format!(
            "the shell of that user prints a text before git answers: `{login}` shows it; take it out of what the shell reads there (.bashrc, .profile, .zshenv, .cshrc), or print it only in interactive shells"
        )
    } else if has("upload-pack") && has("not found") {
        "the host has no git in its search path: install it there".to_owned()
    } else if has("unknown port") || has("stdio forwarding failed") || has("open failed") {
        format!("the connection failed at a jump host or ProxyCommand: see what `{login}` says")
    } else {
        return None;
    })
}

/// Returns the remedy if ssh cannot use a private key. A remote can write such lines too, so commands are only for files that have
/// the defect.
fn of_key(ended: &Ended) -> Option<String> {
    let open =
        after(ended, "Permissions 0").and_then(|rest| rest.split_once(" for '")?.1.strip_suffix("' are too open."));
    if let Some(key) = open.filter(|key| is_open_key(Path::new(key))) {
        let close = as_acting_user(&format!("chmod 600 {}", shell_word(key)));
        return Some(format!("ssh ignores a private key that others can read; close it: `{close}`"));
    }
    let (path, problem) = after(ended, "Load key \"")?.rsplit_once("\": ")?;
    let key = escape_path(Path::new(path));
    match problem {
        "Permission denied" if !may_access(Path::new(path), Access::READ_OK) => Some(format!(
            "the private key {key} is not readable for {}; give it to them, or use another key",
            name_or_id(geteuid().as_raw())
        )),
        "invalid format" | "error in libcrypto" => Some(format!(
            "ssh cannot use the private key {key}: copy it again, as a whole, with the line break at its end"
        )),
        _ => None,
    }
}

/// Returns the rest of the first line that begins with this text.
fn after<'a>(ended: &'a Ended, start: &str) -> Option<&'a str> {
    ended.said.iter().find_map(|line| line.trim().strip_prefix(start))
}

/// Whether a file is a private key of the acting user that others can read.
fn is_open_key(path: &Path) -> bool {
    let user = geteuid().as_raw();
    // Others than files are not opened, since a FIFO would block.
    let is_open =
        fs::metadata(path).is_ok_and(|found| found.is_file() && found.uid() == user && found.mode() & 0o077 != 0);
    let mut start = [0; 64];
    is_open
        && File::open(path).and_then(|mut file| file.read(&mut start)).is_ok()
        && String::from_utf8_lossy(&start).lines().next().is_some_and(|line| line.contains("PRIVATE KEY"))
}

/// Returns the remedy for a file of ssh's configuration.
fn of_config(file: &str) -> String {
    let rule = "ssh reads it only if it belongs to the step's user or root, and nobody else can write it";
    let close = format!("chmod go-w {}", shell_word(file));
    match fs::metadata(file).ok().filter(fs::Metadata::is_file).map(|found| (found.uid(), found.mode() & 0o022)) {
        Some((user, 1..)) if user == geteuid().as_raw() => format!("{rule}: `{}`", as_acting_user(&close)),
        Some((0, 1..)) => format!("{rule}: `{}`", as_root(&close)),
        Some((user, _)) if user != 0 && user != geteuid().as_raw() => {
            format!("{rule}; it belongs to {}", name_or_id(user))
        }
        _ => rule.to_owned(),
    }
}

impl SshHost {
    /// Returns the command that logs in to the host as git does, and does nothing there.
    pub fn login(&self, command: &SshCommand) -> String {
        let port = self.port.as_ref().map(|port| format!("-p {port} ")).unwrap_or_default();
        as_acting_user(&format!("{} {port}{} true", command.shown(), shell_word(&self.login)))
    }

    /// Returns the host's name in known_hosts.
    fn known_as(&self) -> String {
        match self.port.as_deref().filter(|port| *port != "22") {
            Some(port) => format!("[{}]:{port}", self.name),
            None => self.name.clone(),
        }
    }
}
