//! What a kind's keys mean, as data: the schema, `explain KIND`, `init` and docs/reference.md are made of it. A test holds
//! each table against the type that reads the keys.

/// A kind, or another mapping of the plan file.
#[derive(Debug)]
pub struct Reference {
    /// One sentence: what it is for.
    pub summary: &'static str,
    pub keys: &'static [Key],
}

/// One key of a mapping.
#[derive(Debug)]
pub struct Key {
    pub name: &'static str,
    pub shape: Shape,
    pub presence: Presence,
    /// What it does, in one or two sentences.
    pub doc: &'static str,
    /// A value as a plan file has it.
    pub example: &'static str,
}

/// Whether a key has to be there.
#[derive(Debug, Clone, Copy)]
pub enum Presence {
    Required,
    /// What holds without it.
    Default(&'static str),
    /// What holds without it; most plan files have it.
    Usual(&'static str),
}

/// What can stand under a key. A template can stand for every scalar, unless it is said otherwise.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    Text,
    /// A text without templates that is one word of letters, digits, `-`, `_` and `.`.
    Word,
    /// Any scalar: text for people.
    Prose,
    /// An absolute path.
    Path,
    /// Permission bits in quotes.
    Mode,
    /// Permission bits in quotes, or as chmod has them (`u=rwX,g=rX,o=`).
    ModeRule,
    /// A name or a number.
    Account,
    Boolean,
    /// A boolean, or one of these words.
    BooleanOr(&'static [&'static str]),
    /// A whole number from 0 up.
    Whole(u64),
    OneOf(&'static [&'static str]),
    /// `user@host` or `user@host:port`.
    Ssh,
    /// `SHA256:…`
    Fingerprint,
    /// A name with one `{period}` in it.
    PeriodName,
    /// `schema.table`
    Table,
    /// Who is granted something.
    Grantee,
    /// `{ env: NAME }`, `{ file: PATH }` or `{ command: […] }`.
    Source,
    List(&'static Shape),
    /// A list that is not empty.
    Some(&'static Shape),
    /// One of it, or a list.
    OneOrMany(&'static Shape),
    Keys(&'static Reference),
    /// A mapping of names that the plan file chooses.
    Named(&'static Shape),
    /// Any scalar, for a variable.
    Scalar,
}

impl Key {
    /// A key that has to be there.
    pub const fn required(name: &'static str, shape: Shape, example: &'static str, doc: &'static str) -> Self {
        Self { name, shape, presence: Presence::Required, doc, example }
    }

    /// A key that can be left out; `default` is what holds then.
    pub const fn optional(
        name: &'static str,
        shape: Shape,
        default: &'static str,
        example: &'static str,
        doc: &'static str,
    ) -> Self {
        Self { name, shape, presence: Presence::Default(default), doc, example }
    }

    /// A key that can be left out, and that most plan files have.
    pub const fn usual(
        name: &'static str,
        shape: Shape,
        default: &'static str,
        example: &'static str,
        doc: &'static str,
    ) -> Self {
        Self { name, shape, presence: Presence::Usual(default), doc, example }
    }

    /// Whether null counts as not given though the key has to be there: a proof whose host a template leaves out.
    pub fn is_nullable(&self) -> bool {
        matches!(self.shape, Shape::Ssh)
    }

    /// Whether the key has to be there.
    pub fn is_required(&self) -> bool {
        matches!(self.presence, Presence::Required)
    }
}

impl Reference {
    /// The key of this name.
    pub fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

impl Shape {
    /// What can stand there, for people.
    pub fn words(&self) -> String {
        match self {
            Self::Text => "text".to_owned(),
            Self::Word => "one word".to_owned(),
            Self::Prose => "text for people".to_owned(),
            Self::Path => "absolute path".to_owned(),
            Self::Mode => "three or four octal digits in quotes".to_owned(),
            Self::ModeRule => "octal digits in quotes, or symbolic as chmod has it".to_owned(),
            Self::BooleanOr(words) => format!("true, false or {}", Self::OneOf(words).words()),
            Self::Account => "name or number".to_owned(),
            Self::Boolean => "true or false".to_owned(),
            Self::Whole(u64::MAX) => "whole number".to_owned(),
            Self::Whole(max) => format!("whole number, at most {max}"),
            Self::OneOf(words) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(" or "),
            Self::Ssh => "user@host or user@host:port".to_owned(),
            Self::Fingerprint => "fingerprint (SHA256:…)".to_owned(),
            Self::PeriodName => "schema.table with {period} in the table's name".to_owned(),
            Self::Table => "schema.table".to_owned(),
            Self::Grantee => "user, `public`, { group: NAME } or { role: NAME }".to_owned(),
            Self::Source => "secret source".to_owned(),
            Self::List(shape) | Self::Some(shape) => format!("list of: {}", shape.words()),
            Self::OneOrMany(shape) => format!("{}, or a list", shape.words()),
            Self::Keys(_) => "mapping".to_owned(),
            Self::Named(shape) => format!("mapping of names, each: {}", shape.words()),
            Self::Scalar => "text, number, true, false or null".to_owned(),
        }
    }

    /// The keys of a mapping in it.
    pub fn nested(&self) -> Option<&'static Reference> {
        match self {
            Self::Keys(reference) => Some(reference),
            Self::List(shape) | Self::Some(shape) | Self::OneOrMany(shape) | Self::Named(shape) => shape.nested(),
            Self::Source => Some(&SECRET_SOURCE),
            _ => None,
        }
    }
}

/// Where a secret's value comes from.
pub static SECRET_SOURCE: Reference = Reference {
    summary: "Where a secret's value comes from: exactly one of `env`, `file` and `command`. It is read by whoever starts \
              the program, and reaches its target alone.",
    keys: &[
        Key::optional(
            "env",
            Shape::Text,
            "another source",
            "SMTP_PASSWORD",
            "An environment variable of whoever starts the program. If it is unset or empty, what is there is left alone.",
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
            "A program and its arguments, which prints the secret. No shell is involved.",
        ),
        Key::optional(
            "encoding",
            Shape::OneOf(&["base64"]),
            "the value as it is",
            "base64",
            "How the value is encoded.",
        ),
        Key::optional(
            "json",
            Shape::Text,
            "the whole value",
            "/data/password",
            "Where the value stands in a JSON text (RFC 6901).",
        ),
    ],
};

/// Privileges for an account.
pub static GRANT: Reference = Reference {
    summary: "Privileges that an account holds on the table.",
    keys: &[
        Key::required("to", Shape::Grantee, "dbt", "The account."),
        Key::required(
            "privileges",
            Shape::Some(&Shape::OneOf(&["select", "insert", "update", "delete", "references"])),
            "[select, insert]",
            "The privileges. Others that the account holds are left alone.",
        ),
    ],
};
