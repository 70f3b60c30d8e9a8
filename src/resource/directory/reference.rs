//! The keys of the kind, for people and editors.

use crate::resource::reference::{Key, Reference, Shape};

/// What a plan file can say of a directory.
pub static REFERENCE: Reference = Reference {
    summary: "A directory with its owner, group and mode, and with `recursive` those of everything in it.",
    keys: &[
        Key::required("path", Shape::Path, "/srv/app/logs", "The directory. Missing parents are created."),
        Key::optional(
            "owner",
            Shape::Account,
            "left as it is",
            "root",
            "Its user; a number needs no account on the host.",
        ),
        Key::optional(
            "group",
            Shape::Account,
            "left as it is",
            "root",
            "Its group; a number needs no entry on the host.",
        ),
        Key::optional("mode", Shape::Mode, "0755 when it is created", "\"0750\"", "Its permission bits, all of them."),
        Key::optional(
            "recursive",
            Shape::BooleanOr(&["owner"]),
            "false",
            "owner",
            "Whether owner and group hold for every entry below it, too; `owner`: the owner alone.",
        ),
        Key::optional(
            "dir_mode",
            Shape::ModeRule,
            "left as they are",
            "\"2775\"",
            "The mode of every directory below. It takes `recursive`.",
        ),
        Key::optional(
            "file_mode",
            Shape::ModeRule,
            "left as they are",
            "u=rwX,g=rX,o=",
            "The mode of every regular file below. It takes `recursive`.",
        ),
        Key::optional(
            "exclude",
            Shape::List(&Shape::Text),
            "nothing is left out",
            "[\"cache/**\", \"*.sock\"]",
            "Entries below that are left out. It takes `recursive`.",
        ),
        Key::optional(
            "hard_links",
            Shape::OneOf(&["refuse", "change"]),
            "refuse",
            "refuse",
            "What happens to files that have a second name, perhaps outside of the directory.",
        ),
    ],
};
