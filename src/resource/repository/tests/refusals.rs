//! States in which a checkout is left exactly as it is, with one clear error.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::bench::{Bench, copy, git, plan, refusal, snapshot, try_git, write};
use crate::failure::Failure;
use crate::resource::repository::Repository;

/// A bench whose checkout is behind, so that there would be something to do.
pub fn behind() -> Bench {
    let bench = Bench::new();
    bench.push("more", &[("a", Some("a2\n"))]);
    bench
}

#[track_caller]
pub fn refused(bench: &Bench, words: &[&str]) {
    let before = snapshot(bench.dir.path());
    let refusal = refusal(&bench.desired());
    let text = format!("{} / {}", refusal.message, refusal.hint.as_deref().expect("a remedy"));
    for word in words {
        assert!(text.contains(word), "{word}: {text}");
    }
    assert_eq!(snapshot(bench.dir.path()), before);
}

#[track_caller]
fn failed(bench: &Bench, words: &[&str]) {
    let failure = plan(&bench.desired()).unwrap_err();
    let text = format!("{} / {}", failure.message, failure.hint.as_deref().expect("a remedy"));
    for word in words {
        assert!(text.contains(word), "{word}: {text}");
    }
}

/// git reports such a ref as an error of the remote.
#[test]
fn a_ref_without_its_object_is_not_blamed_on_the_remote() {
    for name in ["refs/tags/broken", "refs/remotes/origin/broken", "refs/heads/broken"] {
        let bench = Bench::new();
        write(&bench.checkout(), &format!(".git/{name}"), Some("1234567890123456789012345678901234567890\n"));
        let found = plan(&bench.desired()).unwrap().unwrap();
        assert!(found.notes[0].contains("the next update will be refused"), "{name}: {found:?}");
        bench.push("more", &[("a", Some("a2\n"))]);
        let missing = format!(
            "{name} in {} points to an object that is missing or damaged: 1234567890",
            bench.checkout().display()
        );
        refused(&bench, &[&missing, &format!("update-ref -d {name}")]);
    }
}

#[test]
fn operations_in_progress() {
    let bench = behind();
    let top = bench.checkout();
    write(&top, "a", Some("mine\n"));
    git(&top, &["commit", "-qam", "mine"]);
    git(&top, &["fetch", "-q"]);
    for (command, word) in [("merge", "a merge"), ("rebase", "a rebase"), ("cherry-pick", "a cherry-pick")] {
        assert!(!try_git(&top, &[command, "origin/qa"]).status.success());
        refused(&bench, &[word, "git -C"]);
        git(&top, &[command, "--abort"]);
    }
    git(&top, &["bisect", "start"]);
    refused(&bench, &["a bisect"]);
}

#[test]
fn conflicts_without_an_operation() {
    let bench = behind();
    let top = bench.checkout();
    write(&top, "a", Some("mine\n"));
    git(&top, &["stash", "-q"]);
    git(&top, &["pull", "-q"]);
    assert!(!try_git(&top, &["stash", "pop"]).status.success());
    refused(&bench, &["a conflict in a"]);
}

#[test]
fn repositories_of_other_kinds() {
    let bench = behind();
    let top = bench.checkout();
    git(&top, &["config", "core.bare", "true"]);
    refused(&bench, &["bare repository", "config core.bare false"]);
    fs::remove_dir_all(&top).unwrap();
    git(bench.dir.path(), &["clone", "-q", "--bare", "remote.git", "checkout"]);
    refused(&bench, &["bare repository"]);
    fs::remove_dir_all(&top).unwrap();
    git(&bench.seed(), &["worktree", "add", "-q", "-f", top.to_str().unwrap(), "main"]);
    refused(&bench, &["linked worktree"]);
}

#[test]
fn sparse_checkouts_and_branches_of_other_worktrees() {
    let bench = behind();
    git(&bench.checkout(), &["sparse-checkout", "set", "d"]);
    refused(&bench, &["sparse checkout", "sparse-checkout disable"]);
    git(&bench.checkout(), &["sparse-checkout", "disable"]);
    git(&bench.checkout(), &["checkout", "-q", "main"]);
    git(&bench.checkout(), &["worktree", "add", "-q", "../other", "qa"]);
    refused(&bench, &["another worktree", "other"]);
}

#[test]
fn other_object_and_ref_formats() {
    let bench = behind();
    let config = bench.checkout().join(".git/config");
    let before = fs::read_to_string(&config).unwrap();
    let cloned = Repository { url: Some(bench.remote().display().to_string()), ..bench.desired() };
    let text = |step: &Repository| {
        let Failure { message, hint } = refusal(step);
        format!("{message} / {}", hint.unwrap())
    };
    git(&bench.checkout(), &["config", "core.repositoryFormatVersion", "1"]);
    git(&bench.checkout(), &["config", "extensions.refStorage", "reftable"]);
    refused(&bench, &["not supported", "unsupported extension name extensions.refstorage", "give the step a `url`"]);
    assert!(text(&cloned).contains("mv -T --backup=numbered") && !text(&bench.desired()).contains("mv "));
    fs::write(&config, before).unwrap();
    git(&bench.checkout(), &["config", "core.repositoryFormatVersion", "2"]);
    refused(&bench, &["not supported", "version", "give the step a `url`"]);
    assert!(text(&cloned).contains("mv -T --backup=numbered"));
    fs::remove_dir_all(bench.checkout()).unwrap();
    git(bench.dir.path(), &["init", "-q", "--object-format=sha256", "checkout"]);
    // A new clone would have the same format.
    refused(&bench, &["not supported", "sha256", "update this checkout with git"]);
    assert!(!text(&cloned).contains("mv "));
}

#[test]
fn other_index_formats() {
    let bench = behind();
    let top = bench.checkout();
    for (make, undo) in [
        ("git config core.splitIndex true && git update-index --split-index", "update-index --no-split-index"),
        ("git sparse-checkout set --cone --sparse-index d", "sparse-checkout disable"),
    ] {
        let run = |command: &str| {
            assert!(
                Command::new("bash").args(["-c", command]).current_dir(&top).status().unwrap().success(),
                "{command}"
            );
        };
        run(make);
        refused(&bench, &["not supported", undo]);
        let hint = refusal(&bench.desired()).hint.unwrap();
        run(hint.split('`').nth(1).unwrap());
        git(&top, &["add", "-A"]);
        assert_eq!(plan(&bench.desired()).unwrap().unwrap().changes.len(), 1, "{make}");
    }
}

#[test]
fn broken_repositories() {
    let bench = behind();
    let backup = bench.dir.path().join("backup");
    copy(&bench.checkout(), &backup);
    let restore = || {
        fs::remove_dir_all(bench.checkout()).unwrap();
        copy(&backup, &bench.checkout());
    };
    let git_dir = bench.checkout().join(".git");
    fs::write(git_dir.join("HEAD"), "rubbish\n").unwrap();
    refused(&bench, &["is broken"]);
    restore();
    fs::write(git_dir.join("refs/heads/qa"), "rubbish\n").unwrap();
    refused(&bench, &["is broken"]);
    restore();
    fs::write(git_dir.join("index"), "rubbish").unwrap();
    refused(&bench, &["the index of ", "is damaged"]);
    restore();
    fs::remove_dir_all(git_dir.join("objects")).unwrap();
    fs::create_dir(git_dir.join("objects")).unwrap();
    refused(&bench, &["is broken"]);
    restore();
    fs::write(git_dir.join("config"), "[core\n").unwrap();
    refused(&bench, &["cannot read git's configuration", ".git/config", "line 1"]);
}

#[test]
fn what_is_no_checkout() {
    let bench = behind();
    let top = bench.checkout();
    let moved = bench.dir.path().join("moved");
    fs::rename(&top, &moved).unwrap();
    fs::write(&top, "").unwrap();
    refused(&bench, &["is a file"]);
    fs::remove_file(&top).unwrap();
    std::os::unix::fs::symlink(&moved, &top).unwrap();
    refused(&bench, &["is a symbolic link"]);
}

#[test]
fn remotes_that_are_wrong() {
    let bench = behind();
    let mut desired = bench.desired();
    desired.url = Some("https://user:secret@example.org/x.git".to_owned());
    let refused_url = refusal(&desired);
    let text = format!("{refused_url:?}");
    assert!(text.contains("remote set-url origin https://example.org/x.git"), "{text}");
    assert!(!text.contains("secret"), "{text}");
    desired = bench.desired();
    desired.branch = "qaa".to_owned();
    let missing = refusal(&desired);
    assert!(missing.message.contains("no branch qaa"), "{missing:?}");
    assert_eq!(missing.hint.as_deref(), Some("it has qa, main"));
    for (branch, hint) in [
        ("origin/main", "write `branch: main`"),
        ("refs/heads/qa", "write `branch: qa`"),
        ("refs/remotes/origin/qa", "write `branch: qa`"),
        ("heads/main", "write `branch: main`"),
    ] {
        desired.branch = branch.to_owned();
        assert_eq!(refusal(&desired).hint.as_deref(), Some(hint));
    }
    let remote = bench.remote();
    git(&remote, &["tag", "v1.0", "main"]);
    for name in ["v1.0", "tags/v1.0", "refs/tags/v1.0"] {
        desired.branch = name.to_owned();
        let expected = format!("has no branch {name}: {name} is a tag");
        assert!(refusal(&desired).message.ends_with(&expected), "{:?}", refusal(&desired));
    }
    let main = git(&remote, &["rev-parse", "main"]);
    fs::create_dir(remote.join("refs/heads/feature")).unwrap();
    for number in 0..299 {
        fs::write(remote.join(format!("refs/heads/feature/x{number}")), &main).unwrap();
    }
    desired.branch = "mian".to_owned();
    let hint = refusal(&desired).hint.unwrap();
    assert!(hint.starts_with("it has main, ") && hint.ends_with(" and 293 more"), "{hint}");
    git(&bench.checkout(), &["remote", "rename", "origin", "upstream"]);
    refused(&bench, &["no remote named origin", "remote add origin"]);
    git(&bench.checkout(), &["remote", "add", "origin", "/nowhere/x.git"]);
    failed(&bench, &["cannot reach the remote /nowhere/x.git", "check the url"]);
    for url in ["https://127.0.0.1:9/x.git", "git@localhost.invalid:x.git"] {
        git(&bench.checkout(), &["remote", "set-url", "origin", url]);
        failed(&bench, &["cannot reach the remote", url]);
    }
    fs::create_dir(bench.dir.path().join("empty.git")).unwrap();
    git(bench.dir.path(), &["init", "-q", "--bare", "empty.git"]);
    git(&bench.checkout(), &["remote", "set-url", "origin", "../empty.git"]);
    refused(&bench, &["no branch qa", "has no branches"]);
}

#[test]
fn things_that_cannot_be_kept() {
    let bench = Bench::new();
    bench.push("more", &[("place", Some("x\n")), ("pipe", Some("x\n")), ("a", Some("a2\n"))]);
    let top = bench.checkout();
    nix::unistd::mkfifo(&top.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    refused(&bench, &["pipe is a FIFO"]);
    fs::remove_file(top.join("pipe")).unwrap();
    fs::create_dir(top.join("place")).unwrap();
    git(&top.join("place"), &["init", "-q"]);
    refused(&bench, &["place is a repository of its own"]);
    fs::remove_dir_all(top.join("place")).unwrap();
    let commit = git(&top, &["rev-parse", "HEAD"]);
    for name in ["place", "place/below", "pipe", "a"] {
        git(&top, &["update-index", "--add", "--cacheinfo", &format!("160000,{},{name}", commit.trim())]);
        refused(&bench, &[&format!("{name} in "), "staged as a submodule", &format!("reset -q -- {name}`")]);
        git(&top, &["reset", "-q", "--", name]);
        assert_eq!(plan(&bench.desired()).unwrap().unwrap().changes.len(), 1);
    }
}

#[test]
fn checkouts_of_others() {
    let bench = behind();
    chown(&bench.checkout(), 4321);
    refused(&bench, &["belongs to 4321", "run_as: 4321"]);
    chown(&bench.checkout().join(".git"), 0);
    refused(&bench, &["belongs to 4321"]);
}

fn chown(path: &Path, uid: u32) {
    let done = std::process::Command::new("chown").args(["-R", &uid.to_string()]).arg(path).status().unwrap();
    assert!(done.success());
}

#[test]
fn a_remote_name_with_a_nul_is_refused() {
    let step = serde_yaml::from_str::<crate::resource::repository::Repository>(
        "path: /srv/x\nbranch: qa\nremote: \"a\\0b\"\n",
    );
    assert!(step.unwrap_err().to_string().contains("not a valid name of a remote"));
}

#[test]
fn files_of_lfs_at_the_head_are_not_called_up_to_date() {
    let bench = behind();
    bench.push("lfs", &[(".gitattributes", Some("*.bin filter=lfs\n"))]);
    git(&bench.checkout(), &["pull", "-q"]);
    let found = plan(&bench.desired()).unwrap().unwrap();
    assert!(found.changes.is_empty());
    assert_eq!(found.notes, [".gitattributes stores files in git LFS: whether they are present is not checked"]);
}

/// In a sparse checkout, git clears the mark of files that are present.
#[test]
fn a_file_outside_of_a_sparse_checkout_that_is_present_is_a_local_change() {
    let bench = Bench::new();
    let top = bench.checkout();
    git(&top, &["sparse-checkout", "set", "--cone", "other"]);
    write(&top, "d/c", Some("mine\n"));
    let notes = plan(&bench.desired()).unwrap().unwrap().notes;
    assert!(notes.iter().any(|note| note == "1 local change kept: d/c (modified)"), "{notes:?}");
    // It also writes the index without the mark.
    assert_eq!(git(&top, &["status", "--porcelain"]), " M d/c\n");
}

/// A converged plan notes what the next update will be refused for.
#[test]
fn what_an_update_is_refused_for_is_noted_before() {
    let prefix = "the next update will be refused: ";
    for (command, word) in [
        ("git sparse-checkout set --cone d", "sparse"),
        ("git sparse-checkout set --cone other", "sparse"),
        ("git update-index --skip-worktree a", "a"),
        ("git update-index --skip-worktree a; rm a", "a"),
        ("git update-index --skip-worktree a; echo mine > a", "a"),
        ("git config remote.origin.promisor true; git config remote.origin.partialclonefilter blob:none", "partial"),
        ("echo '* filter=x' > .git/info/attributes; git config filter.x.smudge cat", "filter"),
        ("git worktree add -q -f ../other qa", "another worktree"),
    ] {
        let bench = Bench::new();
        let done = Command::new("bash").args(["-euc", command]).current_dir(bench.checkout()).status().unwrap();
        assert!(done.success(), "{command}");
        let found = plan(&bench.desired()).unwrap().unwrap();
        assert!(found.changes.is_empty(), "{command}: {found:?}");
        let [note] = &found.notes[..] else { panic!("{command}: {:?}", found.notes) };
        assert!(note.starts_with(prefix) && note.contains(word), "{command}: {note}");
        bench.push("news", &[("a", Some("news\n"))]);
        let reason = refusal(&bench.desired()).message;
        assert_eq!(note.strip_prefix(prefix).unwrap(), reason, "{command}");
    }
    // A filter that is not configured is none.
    let bench = Bench::new();
    fs::write(bench.checkout().join(".git/info/attributes"), "* filter=x\n").unwrap();
    assert!(plan(&bench.desired()).unwrap().unwrap().notes.is_empty());
}

/// The missing objects can be at a remote other than the step's, or at one that was removed.
#[test]
fn a_partial_clone_is_refused_whichever_remote_has_the_rest() {
    let extension = "git config core.repositoryformatversion 1; git config extensions.partialClone";
    for commands in [
        "true".to_owned(),
        "git remote rename origin upstream; git remote add origin $URL".to_owned(),
        format!(
            "git remote rename origin upstream; git remote add origin $URL; git config --unset remote.upstream.promisor; {extension} upstream"
        ),
        format!("git remote remove origin; git remote add origin $URL; {extension} gone"),
        "git config remote.other.promisor yes".to_owned(),
    ] {
        let bench = Bench::new();
        git(&bench.remote(), &["config", "uploadpack.allowFilter", "true"]);
        bench.push("more", &[("a", Some("a2\n"))]);
        let url = format!("file://{}", bench.remote().display());
        fs::remove_dir_all(bench.checkout()).unwrap();
        git(bench.dir.path(), &["clone", "-q", "--filter=blob:none", "-b", "qa", &url, "checkout"]);
        let paste = |command: &str| {
            let mut shell = Command::new("bash");
            shell.args(["-euc", command]).current_dir(bench.checkout()).env("URL", &url);
            assert!(shell.status().unwrap().success(), "{commands}: {command}");
        };
        paste(&commands);
        bench.push("news", &[("a", Some("a3\n"))]);
        refused(&bench, &["is a partial clone"]);
        // One after the other, if there are several.
        while let Err(refusal) = plan(&bench.desired()).unwrap() {
            paste(refusal.hint.unwrap().split('`').nth(1).unwrap());
        }
        super::bench::apply(&bench.desired(), "run-1");
        git(&bench.checkout(), &["fsck"]);
    }
}

#[test]
fn refs_that_cannot_stand_beside_the_wanted_ones_are_named() {
    for (packed, remedy) in
        [("refs/heads/feature", "branch -m feature"), ("refs/remotes/origin/feature", "remote prune origin")]
    {
        let bench = behind();
        git(&bench.seed(), &["push", "-q", "origin", "qa:feature/x"]);
        git(&bench.checkout(), &["update-ref", packed, "HEAD"]);
        git(&bench.checkout(), &["pack-refs", "--all"]);
        let mut desired = bench.desired();
        desired.branch = "feature/x".to_owned();
        let before = snapshot(bench.dir.path());
        let refusal = plan(&desired).unwrap().unwrap_err();
        assert!(refusal.message.contains(&format!("{packed}, which cannot exist beside")), "{refusal:?}");
        assert!(refusal.hint.unwrap().contains(remedy));
        assert_eq!(snapshot(bench.dir.path()), before);
    }
}

#[test]
fn a_link_on_the_way_to_a_checkout_is_followed_and_another_working_tree_is_named() {
    let bench = behind();
    let link = bench.dir.path().join("link");
    std::os::unix::fs::symlink(bench.dir.path(), &link).unwrap();
    super::bench::apply(&super::bench::desired(&link.join("checkout")), "run-1");
    assert_eq!(fs::read_to_string(bench.checkout().join("a")).unwrap(), "a2\n");
    git(&bench.checkout(), &["config", "core.worktree", "../../seed"]);
    refused(&bench, &["has its working tree at", "--unset-all core.worktree"]);
}

#[test]
fn of_several_urls_the_first_is_fetched_from() {
    let bench = Bench::new();
    let top = bench.checkout();
    let remote = bench.remote().display().to_string();
    git(bench.dir.path(), &["clone", "-q", "--bare", &remote, "mirror.git"]);
    let mirror = bench.dir.path().join("mirror.git").display().to_string();
    bench.commit("at the mirror alone", &[("a", Some("mirrored\n"))]);
    git(&bench.seed(), &["push", "-q", &mirror, "qa"]);
    git(&top, &["remote", "set-url", "--add", "origin", &mirror]);
    let mut desired = bench.desired();
    assert_eq!(plan(&desired).unwrap().unwrap().changes, []);
    desired.url = Some(remote.clone());
    assert_eq!(plan(&desired).unwrap().unwrap().changes, []);

    desired.url = Some(mirror.clone());
    let refused = refusal(&desired);
    assert!(refused.message.contains(&format!("origin of {} is {remote}, and", top.display())), "{refused:?}");
    let hint = refused.hint.unwrap();
    let command = hint.split('`').nth(1).unwrap().strip_prefix("git ").unwrap();
    git(&top, &command.split(' ').collect::<Vec<_>>());
    assert_eq!(git(&top, &["remote", "get-url", "--all", "origin"]), format!("{mirror}\n"));
    assert_eq!(plan(&desired).unwrap().unwrap().changes.len(), 1);
}

#[test]
fn a_url_may_be_spelled_in_another_way_than_the_remote() {
    let bench = behind();
    let top = bench.checkout();
    let remote = bench.remote().display().to_string();
    let without_end = remote.strip_suffix(".git").unwrap();
    git(&top, &["config", &format!("url.{}/.insteadOf", bench.dir.path().display()), "ours:"]);
    let short = format!("ours:{}", bench.remote().file_name().unwrap().to_str().unwrap());
    let mut desired = bench.desired();
    for (configured, step) in
        [(&*remote, without_end), (without_end, &*remote), (&*short, &*remote), (&*remote, &*short)]
    {
        git(&top, &["remote", "set-url", "origin", configured]);
        desired.url = Some(step.to_owned());
        assert_eq!(plan(&desired).unwrap().unwrap().changes.len(), 1, "{configured} {step}");
    }
    desired.url = Some("ours:other.git".to_owned());
    assert!(refusal(&desired).message.contains("the url of the step is ours:other.git"));
}
