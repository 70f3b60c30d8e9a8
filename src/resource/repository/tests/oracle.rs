//! The runbook as oracle: random local states, brought forward by git's own commands and by `execute`.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use proptest::prelude::*;

use super::bench::restore;
use crate::git::RepoPath;
use crate::resource::repository::RepositoryChange;
use crate::resource::repository::actual::LocalChange;
use crate::resource::repository::change::Update;

use super::bench::{Bench, apply, copy, desired, files, git, seen, try_git, write};

const NAMES: [&str; 9] = ["a", "b", "q", "d/c", "d/x", "n", "d", "n/m", IGNORED];

/// What the checkout's git passes over, whoever made it.
const IGNORED: &str = "ignored";

#[derive(Debug, Clone)]
enum Edit {
    Write(&'static str, String),
    Link(&'static str),
    Remove(&'static str),
    Executable(&'static str),
    Add(&'static str),
    /// `git add -N`: the index has a placeholder.
    Announce(&'static str),
    RemoveCached(&'static str),
}

fn edit() -> impl Strategy<Value = Edit> {
    let name = || proptest::sample::select(&NAMES[..]);
    prop_oneof![
        4 => (name(), "[xyz]").prop_map(|(name, text)| Edit::Write(name, format!("{text}\n"))),
        1 => name().prop_map(Edit::Link),
        2 => name().prop_map(Edit::Remove),
        1 => name().prop_map(Edit::Executable),
        3 => name().prop_map(Edit::Add),
        1 => name().prop_map(Edit::Announce),
        1 => name().prop_map(Edit::RemoveCached),
    ]
}

fn make(top: &Path, edits: &[Edit]) {
    for edit in edits {
        match edit {
            Edit::Write(name, text) => write(top, name, Some(text)),
            Edit::Link(name) => write(top, name, Some("-> somewhere")),
            Edit::Remove(name) => {
                if top.join(name).parent().unwrap().is_dir() {
                    write(top, name, None);
                }
            }
            Edit::Executable(name) => {
                try_chmod(&top.join(name));
            }
            Edit::Add(name) => {
                try_git(top, &["add", "-A", "--", name]);
            }
            Edit::Announce(name) => {
                try_git(top, &["add", "-N", "--", name]);
            }
            Edit::RemoveCached(name) => {
                try_git(top, &["rm", "-q", "-r", "--cached", "-f", "--", name]);
            }
        }
    }
}

fn try_chmod(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    if path.is_file() && !path.is_symlink() {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
}

/// `git checkout qa; git pull`, and where that does not do it, git's own way to put everything aside first.
fn by_runbook(top: &Path) -> bool {
    if try_git(top, &["checkout", "-q", "qa"]).status.success()
        && try_git(top, &["pull", "-q", "--ff-only"]).status.success()
    {
        return true;
    }
    false
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn local_states_end_as_the_runbook_ends_them(
        theirs in proptest::collection::vec(edit(), 1..5),
        mine in proptest::collection::vec(edit(), 0..6),
        from_main in any::<bool>(),
    ) {
        let bench = Bench::new();
        make(&bench.seed(), &theirs);
        git(&bench.seed(), &["add", "-A"]);
        try_git(&bench.seed(), &["commit", "-q", "--allow-empty", "-m", "theirs"]);
        git(&bench.seed(), &["push", "-q", "origin", "qa"]);
        if from_main {
            git(&bench.checkout(), &["checkout", "-q", "main"]);
        }
        write(&bench.checkout(), ".git/info/exclude", Some(IGNORED));
        make(&bench.checkout(), &mine);
        let by_git = bench.dir.path().join("by-git");
        copy(&bench.checkout(), &by_git);
        // A copy has other inodes: git is to find out now that the files are the same.
        try_git(&by_git, &["update-index", "-q", "--refresh"]);
        let work = files(&bench.checkout());
        let staged = staged_in(&bench.checkout());
        let head = git(&bench.checkout(), &["rev-parse", "HEAD"]).trim().to_owned();
        let planned = apply(&desired(&bench.checkout()), "run-1");
        let kept = planned.notes.iter().any(|note| note.contains("kept"));
        if by_runbook(&by_git) {
            // git overwrites deletions without a word; they are rescued here, and the end is the same.
            prop_assert_eq!(seen(&bench.checkout()), seen(&by_git));
        } else if !kept && try_git(&by_git, &["stash", "-q", "--include-untracked"]).status.success() {
            // A file that is staged below what has become a link is beyond git's stash.
            prop_assert!(by_runbook(&by_git));
            git(&by_git, &["stash", "drop", "-q"]);
            // With the untracked files git's stash takes every empty directory away.
            remove_empty(&bench.checkout());
            prop_assert_eq!(seen(&bench.checkout()), seen(&by_git));
        }
        let lost = lost(&bench.checkout(), &head, &work, &staged);
        prop_assert!(lost.is_empty(), "{:?}", lost);
        if let [RepositoryChange::Update(change)] = &planned.changes[..]
            && !change.in_the_way.is_empty()
        {
            restores(&bench.checkout(), &head, change, &work, &staged)?;
        }
    }
}

/// Where the checkout is as it was before anybody worked in it, the rescue brings all of that work back, save what was
/// like the remote's already. Where a directory stands in the way of that it brings nothing.
fn restores(
    top: &Path,
    head: &str,
    change: &Update,
    work: &BTreeMap<String, String>,
    staged: &str,
) -> Result<(), TestCaseError> {
    let (pulled, pulled_index) = (files(top), staged_in(top));
    git(top, &["checkout", "-q", "-f", "--detach", head]);
    git(top, &["clean", "-ffdxq"]);
    let before = seen(top);
    if let Err(failure) = restore(top, "run-1") {
        let stands_in_the_way = |local: &LocalChange| {
            let base = git(top, &["ls-files"]);
            base.lines().map(RepoPath::new).any(|name| name.is_under(&local.path) || local.path.is_under(&name))
        };
        prop_assert!(change.in_the_way.iter().any(stands_in_the_way), "{:?}", failure);
        prop_assert_eq!(seen(top), before);
        return Ok(());
    }
    let (now, restaged) = (files(top), staged_in(top));
    prop_assert_eq!(restore(top, "run-1").unwrap(), [], "it is all there");
    for local in &change.in_the_way {
        let name = local.path.to_string();
        if work.get(&name) != pulled.get(&name) {
            prop_assert_eq!(now.get(&name), work.get(&name), "{}", name);
        }
        if staged_at(staged, &name) != staged_at(&pulled_index, &name) {
            prop_assert_eq!(staged_at(&restaged, &name), staged_at(staged, &name), "{}", name);
        }
    }
    Ok(())
}

fn remove_empty(top: &Path) {
    let options = ["-path", "./.git", "-prune", "-o", "-type", "d", "-empty", "-print"];
    // What is left empty by that needs another round.
    loop {
        let found = Command::new("find").arg(".").args(options).current_dir(top).output().unwrap().stdout;
        let found = String::from_utf8(found).unwrap();
        if found.is_empty() {
            return;
        }
        for name in found.lines() {
            std::fs::remove_dir(top.join(name)).unwrap();
        }
    }
}

/// What `git ls-files -s` lists, without the placeholders of `git add -N`: no edit makes an empty file.
fn staged_in(top: &Path) -> String {
    let listed = git(top, &["ls-files", "-s"]);
    listed.lines().filter(|line| !line.contains(&hash(""))).map(|line| format!("{line}\n")).collect()
}

/// The line of a path in what `git ls-files -s` wrote.
fn staged_at<'a>(listed: &'a str, path: &str) -> Option<&'a str> {
    listed.lines().find(|line| line.split('\t').nth(1) == Some(path))
}

/// Contents that were there before and are nowhere now.
fn lost(top: &Path, head: &str, work: &BTreeMap<String, String>, staged: &str) -> Vec<String> {
    let mut lost = Vec::new();
    let now = files(top);
    let rescued: String =
        ["refs/provision/rescue/run-1", "refs/provision/rescue/run-1^2", "refs/provision/rescue/run-1^3"]
            .iter()
            .map(|tree| String::from_utf8(try_git(top, &["ls-tree", "-r", tree]).stdout).unwrap())
            .collect();
    let known = git(top, &["ls-tree", "-r", head]) + &git(top, &["ls-tree", "-r", "HEAD"]);
    for line in staged.lines() {
        // 100644 <id> 0\t<path>
        let (about, path) = line.split_once('\t').unwrap();
        let (mode, id) = (about.split(' ').next().unwrap(), about.split(' ').nth(1).unwrap());
        let wanted = format!("{mode} blob {id}\t{path}");
        let held = |text: &str| text.lines().any(|line| line == wanted);
        if !held(&rescued) && !held(&known) && !git(top, &["ls-files", "-s"]).lines().any(|now| now == line) {
            lost.push(line.to_owned());
        }
    }
    for (path, was) in work {
        if now.get(path) == Some(was) || was.starts_with('4') {
            continue;
        }
        let content = was.splitn(3, ' ').nth(2).unwrap();
        let content =
            if was.starts_with("12") { content.to_owned() } else { content.trim_matches('"').replace("\\n", "\n") };
        let id = hash(&content);
        let held = |text: &str| text.lines().any(|line| line.contains(&id) && line.ends_with(&format!("\t{path}")));
        if !held(&rescued) && !held(&known) {
            lost.push(format!("{path}: {was}"));
        }
    }
    lost
}

fn hash(content: &str) -> String {
    git2::Oid::hash_object(git2::ObjectType::Blob, content.as_bytes()).unwrap().to_string()
}
