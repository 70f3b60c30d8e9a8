//! The keys of the kind, for people and editors.

use crate::resource::reference::{Key, Reference, Rule, Shape};

/// The keys of a directory in a plan file.
pub static REFERENCE: Reference = Reference {
    summary: "A directory with its owner, group and mode, and with `recursive` the owner and group of everything in it.",
    keys: &[
        Key::required("path", Shape::Path, "/srv/app/logs", "The directory. Missing parents are created."),
        Key::optional(
            "owner",
            Shape::Account,
            "left unchanged",
            "root",
            "The user. A number needs no account on the host.",
        ),
        Key::optional(
            "group",
            Shape::Account,
            "left unchanged",
            "root",
            "The group. A number needs no entry on the host.",
        ),
        Key::optional(
            "mode",
            Shape::Mode,
            "0755 for a new directory",
            "\"0750\"",
            "All permission bits of the directory.",
        ),
        Key::optional(
            "recursive",
            Shape::BooleanOr(&["owner"]),
            "false",
            "owner",
            "Whether owner and group apply to every entry below it too. `owner` applies only the owner.",
        ),
        Key::optional(
            "dir_mode",
            Shape::ModeRule,
            "left unchanged",
            "\"2775\"",
            "The mode of every directory below. Requires `recursive`.",
        ),
        Key::optional(
            "file_mode",
            Shape::ModeRule,
            "left unchanged",
            "\"u=rwX,g=rX,o=\"",
            "The mode of every regular file below. Requires `recursive`.",
        ),
        Key::optional(
            "exclude",
            Shape::List(&Shape::Text),
            "nothing is excluded",
            "[\"cache/**\", \"*.sock\"]",
            "Entries below that are excluded. Requires `recursive`.",
        ),
        Key::optional(
            "hard_links",
            Shape::OneOf(&["refuse", "change"]),
            "refuse",
            "refuse",
            "How files are handled that have several names, possibly outside the directory.",
        ),
    ],
    rules: &[
        Rule::Requires("dir_mode", "recursive"),
        Rule::Requires("file_mode", "recursive"),
        Rule::Requires("exclude", "recursive"),
    ],
};
