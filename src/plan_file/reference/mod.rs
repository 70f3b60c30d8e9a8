//! The plan file's own keys as data. These and the keys of the kinds are the source of the schema for editors, `explain KIND`,
//! the plan file that `init` writes, and docs/reference.md.

mod init;
mod schema;
#[cfg(test)]
mod tests;
mod text;

pub use init::example;
pub use schema::schema;
pub use text::{document, explain};

use crate::resource::REFERENCES;
use crate::resource::reference::{Key, Reference, SECRET_SOURCE, Shape};

/// The plan file.
pub static PLAN_FILE: Reference = Reference {
    summary: "The desired state of a host: variables, connections, and an ordered list of steps.",
    keys: &[
        Key::required("name", Shape::Word, "example", "Names the plan in output and in the history."),
        Key::optional(
            "vars",
            Shape::Named(&Shape::Scalar),
            "no variables",
            "{ home: /srv/app }",
            "Variables for templates (`{{ home }}`). `--var NAME=VALUE` sets one that is declared here.",
        ),
        Key::optional(
            "connections",
            Shape::Named(&Shape::Keys(&CONNECTION)),
            "no connections",
            "{ warehouse: { url: \"postgresql://etl@db.example:5439/dw\" } }",
            "The warehouses that steps work on.",
        ),
        Key::required("steps", Shape::List(&Shape::Keys(&STEP)), "[]", "The steps, in the order in which they run."),
    ],
    rules: &[],
};

/// A step. It also has the key of its kind.
pub static STEP: Reference = Reference {
    summary: "One piece of desired state. A step also has the key of exactly one kind.",
    keys: &[
        Key::required("id", Shape::Word, "app-logs", "Names the step. It is unique in the plan file."),
        Key::usual(
            "title",
            Shape::Prose,
            "no title",
            "The logs of the application",
            "What the step does, in a few words.",
        ),
        Key::optional("why", Shape::Prose, "none", "The containers write here.", "Why the step exists."),
        Key::optional(
            "symptom",
            Shape::Prose,
            "none",
            "Permission denied",
            "What users see if the step has not been done.",
        ),
        Key::optional(
            "when",
            Shape::Prose,
            "none",
            "every deploy",
            "When the step is needed. This is prose and is not evaluated.",
        ),
        Key::optional(
            "run_as",
            Shape::NotEmpty,
            "the user who starts the program",
            "ubuntu",
            "The user that the step runs as.",
        ),
        Key::optional(
            "after",
            Shape::OneOrMany(&Shape::Word),
            "the order of the file, and what steps need",
            "[code]",
            "Steps that come first.",
        ),
        Key::optional(
            "max_changes",
            Shape::Whole(u64::MAX),
            "no limit",
            "100",
            "The step is blocked if it would change more things than that.",
        ),
    ],
    rules: &[],
};

/// A connection.
pub static CONNECTION: Reference = Reference {
    summary: "How a warehouse is reached.",
    keys: &[
        Key::required(
            "url",
            Shape::DatabaseUrl,
            "\"postgresql://etl@db.example:5439/dw?sslmode=verify-full\"",
            "A libpq URL, or a string of keywords (`host=… dbname=…`, `service=…`).",
        ),
        Key::optional(
            "password",
            Shape::Source,
            "the URL's, the service's, or a password file's",
            "{ env: DB_PASSWORD }",
            "Where the password comes from.",
        ),
        Key::optional(
            "connect_timeout",
            Shape::Whole(u32::MAX as u64),
            "10",
            "10",
            "Seconds for reaching the server and logging in.",
        ),
        Key::optional(
            "statement_timeout",
            Shape::Whole(u32::MAX as u64),
            "60",
            "60",
            "Seconds for one statement; 0 is no limit.",
        ),
        Key::optional(
            "tunnel",
            Shape::Keys(&TUNNEL),
            "a direct connection",
            "{ ssh: ubuntu@bastion.example, key: /srv/key.pem }",
            "An SSH server that forwards to the warehouse.",
        ),
    ],
    rules: &[],
};

/// A tunnel.
pub static TUNNEL: Reference = Reference {
    summary: "An SSH server that forwards to the warehouse.",
    keys: &[
        Key::required("ssh", Shape::Ssh, "ubuntu@bastion.example:22", "The account and the host."),
        Key::required(
            "key",
            Shape::PathOrSource,
            "/srv/key.pem",
            "The private key's file, or a source of the key. A step that makes the file comes first.",
        ),
        Key::optional(
            "host_key",
            Shape::Fingerprint,
            "the server has to be in known_hosts",
            "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU",
            "The fingerprint of the server's host key.",
        ),
    ],
    rules: &[],
};

/// Returns the references that `explain` can show, by name.
pub fn topics() -> Vec<(&'static str, &'static Reference)> {
    let own =
        [("plan_file", &PLAN_FILE), ("step", &STEP), ("connection", &CONNECTION), ("secret_source", &SECRET_SOURCE)];
    REFERENCES.iter().copied().chain(own).collect()
}
