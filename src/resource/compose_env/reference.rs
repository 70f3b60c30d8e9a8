//! Describes the keys of the kind for people and editors.

use crate::resource::reference::{Key, Reference, Shape};

/// The keys of `compose_env`.
pub static REFERENCE: Reference = Reference {
    summary: "The value of a variable in the `environment` of a Docker Compose file, or in the `.env` that the file refers to.",
    keys: &[
        Key::required(
            "file",
            Shape::Path,
            "/srv/app/docker-compose.yml",
            "The compose file. Only the value is edited, byte for byte.",
        ),
        Key::required("variable", Shape::Variable, "SMTP_PASSWORD", "The variable's name."),
        Key::usual(
            "value",
            Shape::Source,
            "what is there is left alone",
            "{ env: SMTP_PASSWORD }",
            "Where the value comes from.",
        ),
        Key::optional(
            "service",
            Shape::Text,
            "every service that has the variable",
            "mailer",
            "The one service that is meant.",
        ),
        Key::optional(
            "env_file",
            Shape::Path,
            "`.env` beside `file`",
            "/srv/app/shared/.env",
            "The file with the values of `${NAME}`: where a symlink `.env` leads, or what `docker compose --env-file` names.",
        ),
    ],
    rules: &[],
};
