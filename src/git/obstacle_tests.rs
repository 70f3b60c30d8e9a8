//! The manual lists every state of a checkout that is refused.

/// Each obstacle, and words of its entry in the manual.
const LISTED: [(&str, &str); 35] = [
    ("Broken", "the repository, git's configuration, or a file that git needs cannot be read"),
    ("Unreadable", "or a file that git needs cannot be read"),
    ("UnreadableWork", "or may not be read"),
    ("Configuration", "git's configuration"),
    ("Unsupported", "a format that libgit2 does not support"),
    ("Bare", "a bare repository"),
    ("BareSetting", "`core.bare`"),
    ("NotOwned", "the checkout or its directory belongs to another user"),
    ("TopNotOwned", "the checkout or its directory belongs to another user"),
    ("Untrusted", "others can change what the path leads to"),
    ("SeparateGitDirectory", "a linked worktree, a submodule or a separate git directory"),
    ("WorktreeElsewhere", "`core.worktree`"),
    ("Operation", "a merge, rebase, cherry-pick, revert or bisect is in progress"),
    ("Unmerged", "the index holds a conflict"),
    ("Locked", "a lock of git's"),
    ("DamagedIndex", "a damaged index"),
    ("BrokenRef", "a ref that points to an object that is missing"),
    ("AnotherRun", "another provision run"),
    ("PartialClone", "a partial clone"),
    ("Sparse", "a sparse checkout"),
    ("LeftOut", "skip-worktree"),
    ("Submodules", "- submodules, "),
    ("Lfs", "git LFS"),
    ("Filter", "other filters"),
    ("Encoding", "`working-tree-encoding`"),
    ("CheckedOutElsewhere", "checked out in another worktree"),
    ("Denied", "a file, a directory or a file of `.git` that has to change and cannot be changed"),
    ("Unwritable", "a file, a directory or a file of `.git` that has to change and cannot be changed"),
    ("UnwritableParent", "no right to create the checkout in its parent directory"),
    ("RefConflict", "a ref of the repository whose name is a directory of the branch's name"),
    ("UnwritableGit", "a file of `.git` that has to change"),
    ("NestedRepository", "in the place of a file: another repository"),
    ("SpecialFile", "a FIFO, socket or device"),
    ("StagedSubmodule", "a staged submodule"),
    ("UnsafeName", "a path in the remote's tree that git does not check out"),
];

#[test]
fn the_manual_lists_every_state_that_is_refused() {
    let source = include_str!("obstacle.rs");
    let variants = source.split("pub enum Obstacle {").nth(1).unwrap().split("\n}\n").next().unwrap();
    let is_variant = |line: &&str| line.starts_with("    ") && line[4..].starts_with(|c: char| c.is_ascii_uppercase());
    let names: Vec<&str> =
        variants.lines().filter(is_variant).map(|line| line.trim().split([' ', ',']).next().unwrap()).collect();
    assert_eq!(names, LISTED.map(|(name, _)| name), "each obstacle has its words in the manual");
    let manual = include_str!("../../docs/manual.md");
    let (_, rest) = manual.split_once("These states of a checkout are always refused").unwrap();
    let (list, _) = rest.split_once("\n**").unwrap();
    for (name, words) in LISTED {
        assert!(list.contains(words), "{name}: {words:?}");
    }
}
