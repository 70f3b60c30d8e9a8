//! The keys of the kind, for people and editors.

use crate::resource::reference::{Key, Reference, Rule, Shape};

/// The keys of a file in a plan file.
pub static REFERENCE: Reference = Reference {
    summary: "A file with its content, owner, group and mode. What it held before is kept as a rescue.",
    keys: &[
        Key::required("path", Shape::Path, "/etc/app/app.conf", "The file. Missing parents are created."),
        Key::usual(
            "content",
            Shape::Document,
            "`template`",
            r#""port = 8080\n""#,
            "The whole content, a Jinja template: `{{ name }}` is a variable, `{{ secret('NAME') }}` a secret.",
        ),
        Key::optional(
            "template",
            Shape::TemplateFile,
            "`content`",
            "templates/app.conf.j2",
            "A file with the content instead, in the plan file's folder or below it. Nothing in it is escaped, and its last \
             line ending is kept.",
        ),
        Key::optional(
            "secrets",
            Shape::Named(&Shape::Source),
            "no secrets",
            "{ db: { env: DB_PASSWORD } }",
            "The secrets that the content names, each with its source. A line ending at the end of a value is left out. \
             The differences of a file with secrets are not shown.",
        ),
        Key::optional("owner", Shape::Account, "left as it is", "root", "The file's user."),
        Key::optional("group", Shape::Account, "left as it is", "root", "The file's group."),
        Key::optional(
            "mode",
            Shape::Mode,
            "0644 when it is created, left as it is later; 0600 with secrets",
            "\"0640\"",
            "The file's permission bits.",
        ),
    ],
    rules: &[Rule::ExactlyOne(&["content", "template"])],
};
