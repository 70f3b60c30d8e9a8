//! The meaning of a kind's keys as data. The schema, `explain KIND`, `init` and docs/reference.md are generated from
//! it. A test compares each table with the type that parses the keys.

/// A kind, or another mapping of the plan file.
#[derive(Debug)]
pub struct Reference {
    /// Its purpose in one sentence.
    pub summary: &'static str,
    pub keys: &'static [Key],
    pub rules: &'static [Rule],
}

/// A rule for several keys of a mapping.
#[derive(Debug)]
pub enum Rule {
    /// Exactly one of these keys is given.
    ExactlyOne(&'static [&'static str]),
    /// The first key is given only together with the second.
    Requires(&'static str, &'static str),
}

/// One key of a mapping.
#[derive(Debug)]
pub struct Key {
    pub name: &'static str,
    pub shape: Shape,
    pub presence: Presence,
    /// What it does, in one or two sentences.
    pub doc: &'static str,
    /// A value as in a plan file.
    pub example: &'static str,
}

/// Whether a key is required.
#[derive(Debug, Clone, Copy)]
pub enum Presence {
    Required,
    /// The behaviour without it.
    Default(&'static str),
    /// The behaviour without it, for keys that most plan files have.
    Usual(&'static str),
}

/// The values of a key. Every scalar can be a template unless stated otherwise.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    Text,
    /// Text that the step writes: a template as a whole, which may name the step's secrets.
    Document,
    /// The path of a template from the plan file's folder; its text is as [`Shape::Document`].
    TemplateFile,
    /// A text without templates: one word of letters, digits, `-`, `_` and `.`.
    Word,
    /// Any scalar: text for people.
    Prose,
    /// An absolute path.
    Path,
    /// Permission bits in quotes.
    Mode,
    /// Permission bits in quotes, or symbolic as in chmod(1) (`u=rwX,g=rX,o=`).
    ModeRule,
    /// A name or a number.
    Account,
    Boolean,
    /// A boolean, or one of these words.
    BooleanOr(&'static [&'static str]),
    /// A whole number from 0 to this maximum.
    Whole(u64),
    /// A whole number from 1 to this maximum.
    Positive(u64),
    OneOf(&'static [&'static str]),
    /// `user@host` or `user@host:port`.
    Ssh,
    /// `SHA256:…`
    Fingerprint,
    /// A name with exactly one `{period}`.
    PeriodName,
    /// `schema.table`
    Table,
    /// A period or `current`.
    Period,
    /// The name of a branch.
    Branch,
    /// The name of a variable in a compose file.
    Variable,
    /// The name of an environment variable, without templates.
    EnvName,
    /// A libpq URL, or a string of keywords.
    DatabaseUrl,
    /// A text that is not empty.
    NotEmpty,
    /// An account that gets privileges.
    Grantee,
    /// `{ env: NAME }`, `{ file: PATH }` or `{ command: […] }`.
    Source,
    /// An absolute path of a file with the secret, or a source.
    PathOrSource,
    List(&'static Shape),
    /// A list that is not empty.
    Some(&'static Shape),
    /// A single value or a list.
    OneOrMany(&'static Shape),
    /// A single value or a list that is not empty.
    OneOrSome(&'static Shape),
    Keys(&'static Reference),
    /// A mapping with names chosen by the plan file.
    Named(&'static Shape),
    /// Any scalar, for a variable.
    Scalar,
}

impl Key {
    /// Creates a required key.
    pub const fn required(name: &'static str, shape: Shape, example: &'static str, doc: &'static str) -> Self {
        Self { name, shape, presence: Presence::Required, doc, example }
    }

    /// Creates an optional key. `default` describes the behaviour without it.
    pub const fn optional(
        name: &'static str,
        shape: Shape,
        default: &'static str,
        example: &'static str,
        doc: &'static str,
    ) -> Self {
        Self { name, shape, presence: Presence::Default(default), doc, example }
    }

    /// Creates an optional key that most plan files have.
    pub const fn usual(
        name: &'static str,
        shape: Shape,
        default: &'static str,
        example: &'static str,
        doc: &'static str,
    ) -> Self {
        Self { name, shape, presence: Presence::Usual(default), doc, example }
    }

    /// Returns whether a required key accepts null as absent: the host of a proof, which can come from an empty
    /// template.
    pub fn is_nullable(&self) -> bool {
        matches!(self.shape, Shape::Ssh)
    }

    /// Returns whether the key is required.
    pub fn is_required(&self) -> bool {
        matches!(self.presence, Presence::Required)
    }
}

impl Reference {
    /// Returns the key with this name.
    pub fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

impl Shape {
    /// Describes the values for people.
    pub fn words(&self) -> String {
        match self {
            Self::Text | Self::NotEmpty => "text".to_owned(),
            Self::Document => "text, a template".to_owned(),
            Self::TemplateFile => "path of a template, from the plan file's folder".to_owned(),
            Self::Word => "one word".to_owned(),
            Self::Prose => "text for people".to_owned(),
            Self::Path => "absolute path".to_owned(),
            Self::Mode => "three or four octal digits in quotes".to_owned(),
            Self::ModeRule => "octal digits in quotes, or symbolic as in chmod".to_owned(),
            Self::BooleanOr(words) => format!("true, false or {}", Self::OneOf(words).words()),
            Self::Account => "name or number".to_owned(),
            Self::Boolean => "true or false".to_owned(),
            Self::Whole(u64::MAX) => "whole number".to_owned(),
            Self::Whole(max) => format!("whole number, at most {max}"),
            Self::Positive(max) => format!("whole number from 1 to {max}"),
            Self::OneOf(words) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(" or "),
            Self::Ssh => "user@host or user@host:port".to_owned(),
            Self::Fingerprint => "fingerprint (SHA256:…)".to_owned(),
            Self::PeriodName => "schema.table with {period} in the table name".to_owned(),
            Self::Table => "schema.table".to_owned(),
            Self::Branch => "name of a branch".to_owned(),
            Self::Variable | Self::EnvName => "name of a variable".to_owned(),
            Self::DatabaseUrl => "libpq URL, or keywords".to_owned(),
            Self::Period => "period or `current`".to_owned(),
            Self::Grantee => "user, `public`, { group: NAME } or { role: NAME }".to_owned(),
            Self::Source => "secret source".to_owned(),
            Self::PathOrSource => "absolute path, or secret source".to_owned(),
            Self::List(shape) | Self::Some(shape) => format!("list of: {}", shape.words()),
            Self::OneOrMany(shape) | Self::OneOrSome(shape) => format!("{}, or a list", shape.words()),
            Self::Keys(_) => "mapping".to_owned(),
            Self::Named(shape) => format!("mapping of names, each: {}", shape.words()),
            Self::Scalar => "text, number, true, false or null".to_owned(),
        }
    }

    /// Returns the keys of the mapping in it, if there is one.
    pub fn nested(&self) -> Option<&'static Reference> {
        match self {
            Self::Keys(reference) => Some(reference),
            Self::List(shape)
            | Self::Some(shape)
            | Self::OneOrMany(shape)
            | Self::OneOrSome(shape)
            | Self::Named(shape) => shape.nested(),
            Self::Source | Self::PathOrSource => Some(&SECRET_SOURCE),
            _ => None,
        }
    }
}

/// The source of a secret.
pub static SECRET_SOURCE: Reference = Reference {
    summary: "The source of a secret: exactly one of `env`, `file` and `command`. The user who starts provision reads it, \
              and the value reaches only its target.",
    keys: &[
        Key::optional(
            "env",
            Shape::EnvName,
            "another source",
            "SMTP_PASSWORD",
            "An environment variable of the process. If it is unset or empty, the existing value is left alone. A template of the \
             plan file cannot show a variable that is the source of a secret, except in the `url` of a connection.",
        ),
        Key::optional(
            "file",
            Shape::Path,
            "another source",
            "/run/secrets/smtp",
            "A file. If it is empty, the step is blocked.",
        ),
        Key::optional(
            "command",
            Shape::Some(&Shape::Text),
            "another source",
            "[pass, show, smtp]",
            "A program, named by its absolute path or looked up in PATH, and its arguments. It prints the secret. No shell is involved.",
        ),
        Key::optional(
            "encoding",
            Shape::OneOf(&["base64"]),
            "the value is not encoded",
            "base64",
            "How the value is encoded.",
        ),
        Key::optional(
            "json",
            Shape::Text,
            "the whole value",
            "/data/password",
            "The JSON pointer to the value in a JSON text (RFC 6901).",
        ),
    ],
    rules: &[Rule::ExactlyOne(&["env", "file", "command"])],
};

/// Privileges for an account.
pub static GRANT: Reference = Reference {
    summary: "The privileges of an account on the table.",
    keys: &[
        Key::required("to", Shape::Grantee, "dbt", "The account."),
        Key::required(
            "privileges",
            Shape::OneOrSome(&Shape::OneOf(&["select", "insert", "update", "delete", "references"])),
            "[select, insert]",
            "The privileges. Other privileges of the account are left alone.",
        ),
    ],
    rules: &[],
};
