//! Finds the default plan file.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::engine::run::reason;
use crate::failure::Failure;
use crate::text::file_word;

const NAMES: [&str; 2] = ["provision.yaml", "provision.yml"];
const FOLDER: &str = "plans";
const FILE: &str = "FILE";

/// Returns `./provision.yaml` or `./provision.yml`, or else the only `*.yaml` or `*.yml` under `./plans`.
///
/// Hints contain the command `verb`. The plan file replaces the word FILE in it, or else follows it.
///
/// # Errors
/// There is no plan file, there are several, or `./plans` cannot be read.
pub fn default_plan_file(verb: &str) -> Result<PathBuf, Failure> {
    let mut found: Vec<PathBuf> =
        NAMES.iter().map(PathBuf::from).filter(|path| path.symlink_metadata().is_ok()).collect();
    if found.is_empty() {
        found = entries(Path::new(FOLDER))?;
        found.retain(|path| has_ending(path, &["yaml", "yml"]) && !path.is_dir());
    }
    match found.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(not_found(verb)),
        several => {
            let names: Vec<String> = several.iter().map(|path| path.display().to_string()).collect();
            let first = file_word(&several[0]);
            Err(Failure::new(format!("found several plan files: {}", names.join(", ")))
                .hint(format!("choose one: `{}`", command(verb, &first))))
        }
    }
}

fn has_ending(path: &Path, endings: &[&str]) -> bool {
    endings.iter().any(|ending| path.extension() == Some(OsStr::new(ending)))
}

/// Returns the sorted entries of a directory. A directory that does not exist has none.
#[expect(clippy::disallowed_methods, reason = "the user's own working directory is searched")]
fn entries(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let read = std::fs::read_dir(folder).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    match read {
        Ok(paths) => {
            let mut paths: Vec<PathBuf> = paths;
            paths.sort();
            Ok(paths)
        }
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            Ok(Vec::new())
        }
        Err(error) => Err(Failure::new(format!("cannot look for plan files in ./{FOLDER}: {}", reason(&error)))
            .hint(format!("make it readable: `chmod u+rx {FOLDER}`; or name the path of the plan file"))),
    }
}

/// Returns the failure if there is no plan file. The hint suggests a file that looks like one.
fn not_found(verb: &str) -> Failure {
    let failure = Failure::new("no plan file found: neither ./provision.yaml nor a *.yaml or *.yml under ./plans");
    let here = entries(Path::new(".")).unwrap_or_default();
    let near = here.iter().chain(&entries(Path::new(FOLDER)).unwrap_or_default()).find_map(|path| {
        let path = path.strip_prefix(".").unwrap_or(path).to_owned();
        let lower = PathBuf::from(path.to_string_lossy().to_lowercase());
        (path.is_file() && has_ending(&lower, &["yaml", "yml"])).then_some(path)
    });
    failure.hint(match near {
        Some(path) => format!("did you mean this one? `{}`", command(verb, &file_word(path))),
        None => "name the path of the plan file; to start one: `provision init > provision.yaml`".to_owned(),
    })
}

/// Returns the command line for a plan file.
fn command(verb: &str, file: &str) -> String {
    match verb.split_once(FILE) {
        Some((before, after)) => format!("provision {before}{file}{after}"),
        None => format!("provision {verb} {file}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_has_the_words_after_the_plan_file() {
        assert_eq!(command("plan", "a.yaml"), "provision plan a.yaml");
        assert_eq!(command("rescue show FILE FILE-1", "a.yaml"), "provision rescue show a.yaml FILE-1");
    }
}
