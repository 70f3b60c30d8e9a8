//! Helpers for unit tests: acting as another user, converging a step, and detecting every trace on a file system.

use crate::failure::Failure;
use std::collections::BTreeMap;
use std::future::Future;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::host::fs;
use crate::host::secret::{Digester, Secret};
use crate::resource::{Diff, ExecuteContext, ObserveContext, Resource};

const FOLDER: &str = "PROVISION_TEST_FOLDER";

/// Runs the body of the test `name` (its path as shown by cargo) as user and group `uid`, in its own process. `prepare`
/// runs first, as root, in a folder that belongs to the user. Needs root.
pub fn as_user(uid: u32, name: &str, prepare: impl FnOnce(&Path), body: impl FnOnce(&Path)) {
    if let Some(folder) = std::env::var_os(FOLDER) {
        assert_eq!(fs::acting_ids(), (uid, uid));
        return body(Path::new(&folder));
    }
    assert!(fs::acts_as_root(), "this test needs root");
    let folder = folder();
    chown(folder.path(), uid, uid);
    prepare(folder.path());
    let name = name.split_once("::").map_or(name, |(_crate, test)| test);
    let output = Command::new("/proc/self/exe")
        .args([name, "--exact", "--nocapture"])
        .env(FOLDER, folder.path())
        .uid(uid)
        .gid(uid)
        .current_dir("/")
        .output()
        .unwrap();
    let output_text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{output_text}");
    assert!(output_text.contains("1 passed"), "{name} was not run: {output_text}");
}

/// Creates a folder that is removed at the end of the test, in memory if `scripts/in-memory` can have it there. Its path contains
/// no symlink.
pub fn folder() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("provision-test-").tempdir().unwrap()
}

pub fn chown(path: &Path, uid: u32, gid: u32) {
    std::os::unix::fs::lchown(path, Some(uid), Some(gid)).unwrap();
}

pub fn chmod(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
}

/// Returns the owner, group and permission bits.
pub fn attributes(path: &Path) -> (u32, u32, u32) {
    let stat = path.symlink_metadata().unwrap();
    (stat.uid(), stat.gid(), stat.mode() & 0o7777)
}

/// Returns everything that `lstat` reports for a tree, including all times.
pub fn snapshot(top: &Path) -> BTreeMap<PathBuf, Vec<i64>> {
    let mut seen = BTreeMap::new();
    let mut left = vec![top.to_owned()];
    while let Some(path) = left.pop() {
        let stat = path.symlink_metadata().unwrap();
        let times = [stat.mtime(), stat.mtime_nsec(), stat.ctime(), stat.ctime_nsec(), stat.atime(), stat.atime_nsec()];
        let mut facts = vec![stat.ino() as i64, stat.mode().into(), stat.uid().into(), stat.gid().into()];
        facts.extend([stat.nlink() as i64, stat.size() as i64]);
        facts.extend(times);
        if stat.is_dir() && !fs::acts_as_root() && stat.uid() != fs::acting_ids().0 {
            // The listing below changes the access time of another user's directory.
            facts.truncate(facts.len() - 2);
        }
        seen.insert(path.clone(), facts);
        if stat.is_dir() {
            left.extend(entries(&path));
        }
    }
    seen
}

/// Lists a directory without changing its access time.
fn entries(path: &Path) -> Vec<PathBuf> {
    use rustix::fs::{Mode, OFlags};
    let open = |flags| rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | flags, Mode::empty());
    let fd = open(OFlags::NOATIME).or_else(|_| open(OFlags::empty())).unwrap();
    let names = rustix::fs::Dir::new(fd).unwrap().map(|entry| entry.unwrap().file_name().to_bytes().to_vec());
    let names = names.filter(|name| name != b"." && name != b"..");
    names.map(|name| path.join(<std::ffi::OsString as std::os::unix::ffi::OsStringExt>::from_vec(name))).collect()
}

pub fn now<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// Creates the context of a step with the given secret.
pub fn context(secret: Option<&[u8]>) -> ObserveContext {
    let secret = secret.map(|secret| ("secret".to_owned(), Secret::new(secret.to_vec())));
    ObserveContext::on_host(Digester::with_key([7; 32]), secret.into_iter().collect())
}

pub fn desired<R: Resource>(yaml: &str) -> R {
    serde_yaml::from_str(yaml).unwrap_or_else(|error| panic!("{yaml}: {error}"))
}

/// Observes and plans.
pub fn plan<R: Resource>(desired: &R, cx: &ObserveContext) -> Result<Result<Diff<R::Change>, Failure>, Failure> {
    now(desired.observe(cx)).map(|actual| desired.diff(&actual))
}

/// Plans without leaving a trace in `folder`, makes the changes, and checks that nothing is left to do.
pub fn converge<R: Resource>(desired: &R, cx: &ObserveContext, folder: &Path) -> Diff<R::Change> {
    let before = snapshot(folder);
    let planned = plan(desired, cx).unwrap().unwrap();
    assert_eq!(snapshot(folder), before, "planning left a trace");
    let execute_cx = ExecuteContext::new(cx.clone(), "test");
    for change in &planned.changes {
        now(desired.execute(change, &execute_cx)).unwrap_or_else(|failure| panic!("{change:?}: {failure:?}"));
    }
    let left = plan(desired, cx).unwrap().unwrap();
    assert!(left.changes.is_empty(), "{:?} left after {:?}", left.changes, planned.changes);
    planned
}

/// Returns the expected failure of `diff`.
pub fn refused<R: Resource>(desired: &R, cx: &ObserveContext) -> Failure {
    plan(desired, cx).unwrap().unwrap_err()
}
