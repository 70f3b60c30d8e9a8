//! Trees at the remote that are not checked out.

use std::fs;

use super::bench::{Bench, git, plan, refusal};
use super::refusals::{behind, refused};
use crate::resource::repository::Repository;

#[test]
fn trees_that_ask_for_more() {
    let bench = Bench::new();
    bench.push("lfs", &[("d/.gitattributes", Some("*.bin filter=lfs\n"))]);
    refused(&bench, &["d/.gitattributes stores files in git LFS"]);
    bench.push("filter", &[("d/.gitattributes", Some("*.bin filter=own\n"))]);
    assert_eq!(plan(&bench.desired()).unwrap().unwrap().changes.len(), 1, "an unknown filter is none");
    git(&bench.checkout(), &["config", "filter.own.smudge", "touch /tmp/x"]);
    refused(&bench, &["filter `own`"]);
    bench.push("encoding", &[("d/.gitattributes", Some("*.bin working-tree-encoding=UTF-16\n"))]);
    refused(&bench, &["working-tree-encoding"]);
    bench.push("none", &[("d/.gitattributes", None)]);
    git(&bench.seed(), &["-c", "protocol.file.allow=always", "submodule", "add", "-q", "../remote.git", "sub"]);
    bench.push("submodule", &[]);
    refused(&bench, &["sub in", "submodule"]);
}

#[test]
fn a_tree_nested_too_deep_is_an_error() {
    let bench = behind();
    let repo = crate::git::open::open_repository(&bench.remote()).unwrap();
    let mut tree = repo.treebuilder(None).unwrap();
    tree.insert("f", repo.blob(b"x").unwrap(), 0o100_644).unwrap();
    let mut tree = tree.write().unwrap();
    for _ in 0..3_000 {
        let mut above = repo.treebuilder(None).unwrap();
        above.insert("d", tree, 0o040_000).unwrap();
        tree = above.write().unwrap();
    }
    let who = git2::Signature::now("A", "a@example.org").unwrap();
    let head = repo.find_reference("refs/heads/qa").unwrap().peel_to_commit().unwrap();
    let tree = repo.find_tree(tree).unwrap();
    repo.commit(Some("refs/heads/qa"), &who, &who, "deep", &tree, &[&head]).unwrap();
    let failure = plan(&bench.desired()).unwrap_err();
    assert!(failure.message.contains("tree depth") && failure.hint.unwrap().contains("nested too deep"));
}

/// Adds a commit to the remote's branch whose tree has only this entry.
fn push_tree(bench: &Bench, mode: &str, name: &str, id: &str) {
    let bytes = (0..40).step_by(2).map(|at| u8::from_str_radix(&id[at..at + 2], 16).unwrap());
    let tree: Vec<u8> = format!("{mode} {name}\0").into_bytes().into_iter().chain(bytes).collect();
    let file = bench.dir.path().join("tree");
    fs::write(&file, tree).unwrap();
    let remote = bench.remote();
    let tree = git(&remote, &["hash-object", "-t", "tree", "-w", "--literally", file.to_str().unwrap()]);
    let commit = git(&remote, &["commit-tree", "-p", "qa", "-m", "hostile", tree.trim()]);
    git(&remote, &["update-ref", "refs/heads/qa", commit.trim()]);
    fs::remove_file(file).unwrap();
}

#[test]
fn trees_with_names_that_no_checkout_may_have() {
    let names =
        [".git", ".GIT", "git~1", "GIT~1", "..", ".", ".git ", ".git.", ".Git::$INDEX_ALLOCATION", "a\\.git", "a/b"];
    for (name, is_link) in
        names.map(|name| (name, false)).into_iter().chain([(".gitmodules", true), ("gi7eb~10", true)])
    {
        let bench = Bench::new();
        let folder = git(&bench.remote(), &["rev-parse", "qa^{tree}"]);
        let blob = git(&bench.remote(), &["rev-parse", "qa:a"]);
        match is_link {
            true => push_tree(&bench, "120000", name, &blob),
            false => push_tree(&bench, "40000", name, &folder),
        }
        refused(&bench, &["does not check out", &name.trim_end().replace('\\', "\\x5c"), "who can push"]);
        let new = Repository { path: bench.dir.path().join("new"), ..bench.desired() };
        let new = Repository { url: Some(bench.remote().display().to_string()), ..new };
        let refusal = refusal(&new);
        assert!(refusal.message.contains("does not check out"), "{name}: {refusal:?}");
    }
}

#[test]
fn names_that_hfs_takes_for_git_are_refused_where_git_refuses_them() {
    let bench = Bench::new();
    let [folder, blob] = ["qa^{tree}", "qa:a"].map(|of| git(&bench.remote(), &["rev-parse", of]));
    for (mode, name, id) in [("40000", ".g\u{200c}it", &folder), ("120000", ".git\u{feff}modules", &blob)] {
        push_tree(&bench, mode, name, id);
        git(&bench.checkout(), &["config", "core.protectHFS", "false"]);
        assert_eq!(plan(&bench.desired()).unwrap().unwrap().changes.len(), 1, "{name}");
        git(&bench.checkout(), &["config", "core.protectHFS", "true"]);
        refused(&bench, &["does not check out", "core.protectHFS", "who can push"]);
    }
    // Names for NTFS are refused, whatever the configuration says.
    push_tree(&bench, "40000", "git~1", &folder);
    git(&bench.checkout(), &["config", "core.protectNTFS", "false"]);
    refused(&bench, &["does not check out", "even with core.protectNTFS=false", "who can push"]);
}
