//! Opens repositories so that their configuration is read only once, and creates bare ones that borrow a checkout's objects.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use git2::{Repository, RepositoryOpenFlags};

use super::configuration;
use super::error::{git_failure, git_text, io_failure};
use crate::failure::Failure;

/// Opens the repository at `path`. Its parents are not searched.
#[expect(clippy::disallowed_methods, reason = "all others call this function")]
pub fn open_repository(path: &Path) -> Result<Repository, git2::Error> {
    configuration::set_up_libgit2();
    let repo = Repository::open_ext(path, RepositoryOpenFlags::NO_SEARCH, std::iter::empty::<&Path>())?;
    read_configuration_once(&repo)?;
    Ok(repo)
}

/// Makes `repo` use a snapshot of its configuration. Otherwise libgit2 reads the files again at each look-up, and if one
/// cannot be read at that moment, it frees memory that it does not own (`get_entry` in its config.c) or silently uses its own
/// defaults (`crlf_check` in its crlf.c: CRLF line endings).
pub fn read_configuration_once(repo: &Repository) -> Result<(), git2::Error> {
    let mut config = repo.config()?;
    for (level, file) in configuration::named_files() {
        config.add_file(&file, level, true)?;
    }
    repo.set_config(&config.snapshot()?)
}

/// Creates a bare repository in the empty directory `at`. With `checkout`, the git directory of a checkout, it borrows the
/// objects, the configuration and the shallow boundary of that checkout.
#[expect(clippy::disallowed_methods, reason = "as a bare repository, whatever the configuration says")]
pub fn bare_beside(at: &Path, checkout: Option<&Path>) -> Result<Repository, Failure> {
    let failed = io_failure("write to the temporary directory", at);
    for part in ["objects/info", "objects/pack", "refs/heads"] {
        fs::create_dir_all(at.join(part)).map_err(&failed)?;
    }
    fs::write(at.join("HEAD"), "ref: refs/heads/scratch\n").map_err(&failed)?;
    let mut config = b"[core]\n\trepositoryformatversion = 0\n\tbare = true\n".to_vec();
    if let Some(checkout) = checkout {
        let path = checkout.join("config");
        // git reads the format of a repository from this file, without its includes.
        if fs::symlink_metadata(checkout.join("config.worktree")).is_ok() {
            config = b"[core]\n\trepositoryformatversion = 1\n[extensions]\n\tworktreeConfig = true\n".to_vec();
        }
        config.extend(configuration::including(&path));
        config.extend(b"[core]\n\tbare = true\n");
        let mut alternates = checkout.join("objects").as_os_str().as_bytes().to_vec();
        alternates.push(b'\n');
        fs::write(at.join("objects/info/alternates"), alternates).map_err(&failed)?;
        match fs::copy(checkout.join("shallow"), at.join("shallow")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
    }
    fs::write(at.join("config"), config).map_err(&failed)?;
    let failed = |error: git2::Error| match configuration::cause(&git_text(&error), at) {
        Some(obstacle) => obstacle.refusal(at),
        None => git_failure("use the temporary repository", at)(error),
    };
    configuration::set_up_libgit2();
    let flags = RepositoryOpenFlags::NO_SEARCH | RepositoryOpenFlags::BARE;
    let repo = Repository::open_ext(at, flags, std::iter::empty::<&Path>()).map_err(failed)?;
    read_configuration_once(&repo).map_err(failed)?;
    Ok(repo)
}
