//! The keys of the kind, for people and editors.

use crate::resource::reference::{Key, Reference, Shape};

/// The keys of a checkout.
pub static REFERENCE: Reference = Reference {
    summary: "A git checkout at the head of a remote's branch. Local work that is in the way is rescued first.",
    keys: &[
        Key::required("path", Shape::Path, "/srv/app/code", "The checkout's top directory."),
        Key::required("branch", Shape::Branch, "main", "The branch, here and at the remote."),
        Key::usual(
            "url",
            Shape::Text,
            "the checkout has to be there",
            "git@git.example:team/code.git",
            "Where to clone from. The remote of a checkout that is there has to agree with it.",
        ),
        Key::optional(
            "remote",
            Shape::Text,
            "origin",
            "origin",
            "The remote's name in the repository's configuration.",
        ),
        Key::optional(
            "local_commits",
            Shape::OneOf(&["refuse", "rescue_and_reset"]),
            "refuse",
            "refuse",
            "What happens to commits that the remote does not have: the step is blocked, or they are rescued.",
        ),
    ],
    rules: &[],
};
