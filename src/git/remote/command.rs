//! Runs the `git` program so that it uses the configuration that applies to the checkout and writes only to the scratch
//! directory.
//!
//! Conditional includes depend on the path of the git directory, so git gets the real one, or the one that is to be
//! (`GIT_DIR`). What a fetch writes, and what is configured differently, is in the scratch directory, which serves as the
//! "common directory" of gitrepository-layout(5) (`GIT_COMMON_DIR`). It includes the checkout's configuration and borrows its
//! objects.
//!
//! A fetch from a shallow remote creates a file in the git directory itself. So a fetch runs with a substitute, whose refs are
//! symlinks to the checkout's: git tells the remote what exists already, and writes no ref since no destination is given.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use super::remedy::Remote;
use super::settings::{Settings, quoted};
use super::shim::shell_quoted;
use super::site::{CheckoutState, Site};
use super::ssh::{self, Ssh, SshCommand};
use super::{failure, login, url, withheld};
use crate::failure::Failure;
use crate::git::configuration::including;
use crate::git::error::io_failure;
use crate::host::environment;
use crate::host::gate::Gate;
use crate::host::program::{self, Ended, Limits};
use crate::host::users::as_root;
use crate::text::io_error_text;

/// The oldest supported version of git, that of Debian 11.
const OLDEST: (u32, u32) = (2, 30);

/// The limits of commands that need no network.
const LOCAL_LIMITS: Limits = Limits { silence: Duration::from_secs(10), total: Duration::from_secs(10), memory: None };

/// Settings that override the user's configuration (git-config(1)).
const OVERRIDES: &str = "\
[core]
	hooksPath = /dev/null
	fsmonitor = false
	logAllRefUpdates = false
[gc]
	auto = 0
[maintenance]
	auto = false
[fetch]
	unpackLimit = 1
	writeCommitGraph = false
	recurseSubmodules = false
	prune = false
	pruneTags = false
	bundleURI =
[submodule]
	recurse = false
[pack]
	writeReverseIndex = false
[transfer]
	bundleURI = false
[http]
	saveCookies = false
[color]
	ui = false
	remote = false
";

/// Makes git only ask credential helpers. It would also tell every helper to store a password that was accepted, and to erase
/// one that was rejected. So it gets a single helper that passes questions on to those that the user has configured, with
/// the path by which they may be selected.
const CREDENTIALS: &str = r#"[credential]
	useHttpPath = true
	helper = "!f() { test \"$1\" = get || exit 0; unset GIT_CONFIG_PARAMETERS; exec git -c include.path=\"$PROVISION_SCRATCH/conditions\" credential fill; }; f"
"#;

/// git's connections to ssh hosts, by the names in their URLs. A fetch may take hours, but logs in within seconds.
static CONNECTIONS: Gate = Gate::new(3, Duration::from_secs(10));

/// The pauses before a connection that an ssh host closed before its greeting is opened again.
const CUT_OFF_PAUSES: [Duration; 2] = [Duration::from_millis(400), Duration::from_millis(800)];

/// The `git` program at one place.
pub struct Git {
    scratch: PathBuf,
    git_dir: PathBuf,
    common: Option<PathBuf>,
    folder: PathBuf,
    protocols: String,
    ssh: Option<Ssh>,
    own_ssh: SshCommand,
    settings: Settings,
    /// The URL as it is configured.
    url: String,
    /// The URL that it stands for (`insteadOf`).
    resolved: String,
}

impl Git {
    /// Prepares git at `site`. The scratch directory `scratch` is already a bare repository.
    ///
    /// # Errors
    /// git is not installed or too old, or cannot read its configuration.
    pub fn prepare(site: &Site<'_>, scratch: &Path) -> Result<Self, Failure> {
        let top = site.top;
        let scratch = fs::canonicalize(scratch).map_err(io_failure("read", scratch))?;
        let (git_dir, common) = match site.checkout {
            CheckoutState::Present => (top.join(".git"), Some(scratch.clone())),
            CheckoutState::Missing => {
                let url = url::absolute(site.url, top);
                let remote = format!("[remote {}]\n\turl = {}\n", quoted(site.remote), quoted(&url));
                append(&scratch.join("config"), remote)?;
                (create_git_directory(&scratch, top, site.branch, &scratch)?, None)
            }
            CheckoutState::Building(git) => (create_git_directory(&scratch, top, site.branch, git)?, None),
        };
        let folder = if top.is_dir() { top.to_owned() } else { PathBuf::from("/") };
        let mut git = Self {
            scratch,
            git_dir,
            common,
            folder,
            protocols: String::new(),
            ssh: None,
            own_ssh: SshCommand::default(),
            settings: Settings::default(),
            url: site.url.to_owned(),
            resolved: String::new(),
        };
        let settings = git.settings(matches!(site.checkout, CheckoutState::Present));
        let settings = settings.map_err(|failure| check_version().err().unwrap_or(failure))?;
        let own_protocols = environment::variable("GIT_ALLOW_PROTOCOL").map(|own| own.to_string_lossy().into_owned());
        git.protocols = settings.allowed_protocols(own_protocols.as_deref());
        git.override_settings(&settings, site)?;
        let from = |source, text: Option<String>| {
            let text = text.filter(|text| !text.trim().is_empty());
            text.map(|text| SshCommand { text, source: Some(source), folder: git.folder.clone() })
        };
        git.own_ssh = from("GIT_SSH_COMMAND", environment::text("GIT_SSH_COMMAND"))
            .or_else(|| from("core.sshCommand", settings.get("core.sshcommand").map(str::to_owned)))
            .or_else(|| from("GIT_SSH", environment::text("GIT_SSH").map(|program| shell_quoted(&program))))
            .unwrap_or_default();
        let variant = environment::text("GIT_SSH_VARIANT").or_else(|| settings.get("ssh.variant").map(str::to_owned));
        let variant = variant.as_deref().filter(|variant| *variant != "auto");
        git.ssh = Some(ssh::prepare(&git.own_ssh, variant, &git.scratch)?);
        git.resolved = settings.resolve(&url::absolute(site.url, site.top));
        git.settings = settings;
        Ok(git)
    }

    /// Reads the settings that apply. If the checkout does not exist yet, the conditions of includes are repeated for the git
    /// directory that takes its place.
    fn settings(&self, exists: bool) -> Result<Settings, Failure> {
        let root = self.scratch.join("at");
        let home = environment::home().unwrap_or_default();
        let file = self.scratch.join("conditions");
        let mut conditions = String::new();
        loop {
            fs::write(&file, &conditions).map_err(io_failure("write", &file))?;
            let settings = self.list(&self.git_dir)?;
            if exists {
                return Ok(settings);
            }
            // An included file can have conditions of its own.
            let moved: std::collections::BTreeSet<String> =
                settings.conditions().filter_map(|condition| condition.below(&root, &home)).collect();
            let moved: String = moved.into_iter().collect();
            if moved.len() <= conditions.len() {
                return Ok(settings);
            }
            conditions = moved;
        }
    }

    /// Reads all settings that apply to the git directory `git_dir`.
    fn list(&self, git_dir: &Path) -> Result<Settings, Failure> {
        let mut listed = Vec::new();
        let ended = self.run_at(git_dir, &["config", "--null", "--list", "--show-origin"], LOCAL_LIMITS, |piece| {
            listed.extend_from_slice(piece);
            listed.len() < 16 << 20
        })?;
        if !ended.is_success() {
            return Err(Failure::new(format!("cannot read git's configuration: {}", failure::reason("", &ended)))
                .hint("correct it: `git config --list --show-origin` as the step's user shows where each setting comes from"));
        }
        Ok(Settings::parse(&listed))
    }

    fn override_settings(&self, settings: &Settings, site: &Site<'_>) -> Result<(), Failure> {
        let mut text = OVERRIDES.to_owned();
        for key in settings.keys("http.", ".savecookies") {
            if let Some(server) = key.strip_prefix("http.").and_then(|key| key.strip_suffix(".savecookies")) {
                text.push_str(&format!("[http {}]\n\tsaveCookies = false\n", quoted(server)));
            }
        }
        text.push_str(&format!("[remote {}]\n\tfollowRemoteHEAD = never\n", quoted(site.remote)));
        let configured = match site.checkout {
            CheckoutState::Missing => url::absolute(site.url, site.top),
            _ => site.url.to_owned(),
        };
        let resolved = settings.resolve(&configured);
        let resolved = site.login.and_then(|url| login::with_login_of(url, &resolved)).unwrap_or(resolved);
        login::check(&configured, &resolved)?;
        text.push_str("[credential]\n\thelper =\n");
        text.push_str(&login::hide(&configured, &resolved, &self.scratch)?);
        text.push_str(CREDENTIALS);
        append(&self.scratch.join("overrides"), text)
    }

    /// Runs git with arguments by which it writes nothing and asks the remote.
    pub fn run(&self, args: &[&str], limits: Limits, mut take: impl FnMut(&[u8]) -> bool) -> Result<Ended, Failure> {
        self.at_remote(|| self.run_at(&self.git_dir, args, limits, &mut take))
    }

    /// Runs a command that connects to the remote, with few connections to an ssh host at a time. Runs it again if the host
    /// closed the connection before its greeting, because other programs may log in there at this moment.
    fn at_remote(&self, mut run: impl FnMut() -> Result<Ended, Failure>) -> Result<Ended, Failure> {
        let Some(host) = url::ssh_host(&self.resolved) else { return run() };
        let _permit = CONNECTIONS.enter(&host.name);
        let mut ended = run()?;
        for pause in CUT_OFF_PAUSES {
            let is_cut_off =
                |line: &String| line.starts_with("kex_exchange_identification: ") && line.contains("Connection ");
            if ended.is_success() || !ended.said.iter().any(is_cut_off) {
                break;
            }
            std::thread::sleep(pause);
            ended = run()?;
        }
        Ok(ended)
    }

    /// Runs `git fetch`. It writes only to the scratch directory, except for the refs that the arguments name as destinations.
    pub fn fetch(&self, args: &[&str], limits: Limits) -> Result<Ended, Failure> {
        check_version()?;
        if self.common.is_none() {
            return self.at_remote(|| self.run_at(&self.git_dir, args, limits, |_| true));
        }
        let git_dir = self.scratch.join("aside");
        if !git_dir.exists() {
            self.create_substitute(&git_dir)?;
        }
        self.at_remote(|| self.run_at(&git_dir, args, limits, |_| true))
    }

    /// Creates a git directory with the HEAD, the refs and the settings of the checkout's.
    fn create_substitute(&self, aside: &Path) -> Result<(), Failure> {
        fs::create_dir(aside).map_err(io_failure("create", aside))?;
        let head = self.git_dir.join("HEAD");
        fs::copy(&head, aside.join("HEAD")).map_err(io_failure("read", &head))?;
        for name in ["refs", "packed-refs"] {
            let link = aside.join(name);
            std::os::unix::fs::symlink(self.git_dir.join(name), &link).map_err(io_failure("create", &link))?;
        }
        append(&aside.join("config.worktree"), including(&self.git_dir.join("config.worktree")))?;
        // A condition on the path of the checkout does not hold here.
        for path in self.settings.conditions().filter_map(|condition| condition.included()) {
            if self.settings.is_read(&path) && !self.list(aside)?.is_read(&path) {
                append(&self.scratch.join("conditions"), including(&path))?;
            }
        }
        Ok(())
    }

    fn run_at(
        &self,
        git_dir: &Path,
        args: &[&str],
        limits: Limits,
        take: impl FnMut(&[u8]) -> bool,
    ) -> Result<Ended, Failure> {
        let mut command = Command::new("git");
        for file in ["conditions", "overrides"] {
            let path = self.scratch.join(file);
            if path.exists() {
                let mut include = OsString::from("include.path=");
                include.push(&path);
                command.arg("-c").arg(include);
            }
        }
        command
            .args(args)
            .current_dir(&self.folder)
            .envs(environment::for_git(|name| withheld::is_named(&self.settings, name)));
        command.env("GIT_DIR", git_dir).env("PROVISION_SCRATCH", &self.scratch);
        if let Some(common) = &self.common {
            command.env("GIT_COMMON_DIR", common);
        }
        command.env("GIT_ALLOW_PROTOCOL", &self.protocols);
        if let Some(ssh) = &self.ssh {
            command.env("GIT_SSH_COMMAND", &ssh.command);
            command.envs(ssh.variant.map(|variant| ("GIT_SSH_VARIANT", variant)));
            if let Some(programs) = &ssh.programs {
                let mut path = programs.clone().into_os_string();
                path.push(":");
                path.push(environment::search_path());
                command.env("PATH", path);
            }
        }
        // Its messages are parsed. It must not ask, trace, take optional locks, or fetch on demand.
        command.env("LC_ALL", "C").env_remove("LANGUAGE").env("GIT_TERMINAL_PROMPT", "0");
        command.envs(["GIT_TRACE2", "GIT_TRACE2_EVENT", "GIT_TRACE2_PERF"].map(|name| (name, "0")));
        command.env("GIT_OPTIONAL_LOCKS", "0").env("GIT_NO_LAZY_FETCH", "1");
        program::run(command, limits, take).map_err(|error| not_started(&error, &self.folder))
    }

    /// Returns the value of a setting, whose key is written as in `git config --list`.
    pub fn setting(&self, key: &str) -> Option<&str> {
        self.settings.get(key)
    }

    /// Makes a failure of a command that failed at the remote.
    pub fn failure(&self, ended: &Ended) -> Failure {
        if let Err(too_old) = check_version() {
            return too_old;
        }
        let remote = Remote { url: &self.url, resolved: &self.resolved, ssh: &self.own_ssh };
        withheld::explain(failure::failure(remote, ended), &self.resolved, &self.settings)
    }

    /// Makes the failure for a shallow remote that lacks the commits between its own and the checkout's.
    pub fn cut_off(&self) -> Failure {
        failure::cut_off(&self.url, &self.resolved)
    }
}

/// Creates a git directory for a checkout that does not exist yet. Its path below the scratch directory ends like that of the
/// checkout at `top`, and its common directory is `common` (gitrepository-layout(5)).
fn create_git_directory(scratch: &Path, top: &Path, branch: &str, common: &Path) -> Result<PathBuf, Failure> {
    let root = scratch.join("at");
    let below = |path: &Path| root.join(path.strip_prefix("/").unwrap_or(path)).join(".git");
    let (named, real) = (below(top), below(&follow_symlinks(top)));
    fs::create_dir_all(&real).map_err(io_failure("create", &real))?;
    if named != real {
        // Conditions apply to a path as it is written, and to what it leads to.
        if let Some(folder) = named.parent() {
            fs::create_dir_all(folder).map_err(io_failure("create", folder))?;
        }
        std::os::unix::fs::symlink(&real, &named).map_err(io_failure("create", &named))?;
    }
    append(&real.join("HEAD"), format!("ref: refs/heads/{branch}\n"))?;
    append(&real.join("commondir"), [common.as_os_str().as_bytes(), b"\n"].concat())?;
    Ok(named)
}

/// Follows the symlinks in a path as far as it exists.
fn follow_symlinks(path: &Path) -> PathBuf {
    for above in path.ancestors() {
        if let (Ok(real), Ok(rest)) = (fs::canonicalize(above), path.strip_prefix(above)) {
            return real.join(rest);
        }
    }
    path.to_owned()
}

fn append(path: &Path, text: impl AsRef<[u8]>) -> Result<(), Failure> {
    use std::io::Write;
    let file = fs::OpenOptions::new().append(true).create(true).open(path);
    file.and_then(|mut file| file.write_all(text.as_ref())).map_err(io_failure("write", path))
}

/// Checks once per process that git is installed and new enough. A list of refs that succeeds needs no check, which takes some
/// milliseconds: each version that reads the settings can do it without writing anything.
pub fn check_version() -> Result<(), Failure> {
    static GOOD: OnceLock<()> = OnceLock::new();
    if GOOD.get().is_some() {
        return Ok(());
    }
    let mut command = Command::new("git");
    command.arg("--version").current_dir("/");
    let mut text = Vec::new();
    program::run(command, LOCAL_LIMITS, |piece| {
        text.extend_from_slice(piece);
        text.len() < 1000
    })
    .map_err(|error| not_started(&error, Path::new("/")))?;
    let text = String::from_utf8_lossy(&text).trim().to_owned();
    // A version that cannot be parsed is assumed to be new.
    if version(&text).is_some_and(|found| found < OLDEST) {
        let (major, minor) = OLDEST;
        let what = format!("cannot reach remotes with {text}: git {major}.{minor} or newer is needed");
        return Err(Failure::new(what).hint(format!("install a newer one: `{}`", install())));
    }
    let () = *GOOD.get_or_init(|| ());
    Ok(())
}

/// Parses the first two numbers of `git version 2.47.3`.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.strip_prefix("git version ")?.split(['.', ' ']);
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn not_started(error: &std::io::Error, folder: &Path) -> Failure {
    if error.kind() == std::io::ErrorKind::NotFound {
        return Failure::new("cannot reach remotes: the program git is not installed")
            .hint(format!("install it: `{}`", install()));
    }
    Failure::new(format!("cannot run git in {}: {}", folder.display(), io_error_text(error)))
}

/// Returns the command that installs git on this host.
fn install() -> String {
    let there =
        |program: &str| Path::new("/usr/bin").join(program).exists() || Path::new("/sbin").join(program).exists();
    as_root(match () {
        () if there("apt-get") => "apt-get install git",
        () if there("dnf") => "dnf install git",
        () if there("yum") => "yum install git",
        () if there("zypper") => "zypper install git",
        () if there("apk") => "apk add git",
        () => "apt-get install git",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        assert_eq!(version("git version 2.47.3"), Some((2, 47)));
        assert_eq!(version("git version 2.39.5 (Apple Git-154)"), Some((2, 39)));
        assert_eq!(version("git version 2.9"), Some((2, 9)));
        assert_eq!(version("hub"), None);
    }
}
