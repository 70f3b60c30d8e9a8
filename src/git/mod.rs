//! What the kind `repository` stands on: one checkout, and the remotes that it comes from. Nothing here decides what a step
//! does.
//!
//! - [`open`] opens repositories; [`ownership`], [`configuration`] and [`special_files`] say first whether that is safe.
//! - [`head`], [`refs`], [`index`], [`tree`] and [`worktree`] read and write one part of a checkout each, [`work_area`]
//!   prepares what is written.
//! - [`remote`] reaches remotes by the `git` program, and keeps what it fetches in scratch storage.
//! - [`unreadable`] finds what the acting user may not read when something failed.
//! - [`broken_refs`] finds refs that prevent every fetch, and how each is repaired.
//! - [`obstacle`] has the words for each state in which a checkout is not touched, [`pasted`] the commands with paths in them.
#![expect(clippy::disallowed_methods, reason = "git reaches a checkout by path, and so does this room")]

pub mod broken_refs;
pub mod configuration;
pub mod error;
pub mod hash;
pub mod head;
pub mod index;
pub mod obstacle;
#[cfg(test)]
mod obstacle_tests;
pub mod open;
pub mod ownership;
pub mod pack;
pub mod pasted;
pub mod path;
mod place;
pub mod refs;
pub mod remote;
pub mod shared;
pub mod special_files;
pub mod tree;
pub mod tree_check;
pub mod unreadable;
pub mod work_area;
pub mod worktree;

pub use obstacle::Obstacle;
pub use path::RepoPath;
