//! The keys of the kind, for people and editors.

use crate::resource::reference::{Key, Reference, Shape};

/// The keys of a private key file in a plan file.
pub static REFERENCE: Reference = Reference {
    summary: "A private key in a file, with its mode and owner. A file is never replaced by a key that OpenSSH cannot load.",
    keys: &[
        Key::required(
            "path",
            Shape::Path,
            "/home/ubuntu/.ssh/bastion.pem",
            "The key's file. Missing parents are created.",
        ),
        Key::usual(
            "source",
            Shape::Source,
            "existing content is left alone",
            "{ env: BASTION_KEY }",
            "Where the key comes from.",
        ),
        Key::optional("mode", Shape::Mode, "0400", "\"0400\"", "The file's permission bits."),
        Key::optional("owner", Shape::Account, "left unchanged", "ubuntu", "The file's user."),
        Key::optional("group", Shape::Account, "left unchanged", "ubuntu", "The file's group."),
        Key::optional(
            "verify",
            Shape::Keys(&VERIFY),
            "the key is not tested",
            "{ ssh: etl@bastion.example }",
            "A host that has to accept the key before and after it replaces another one.",
        ),
    ],
    rules: &[],
};

/// How a key is proven.
pub static VERIFY: Reference = Reference {
    summary: "A login that proves the key.",
    keys: &[
        Key::required(
            "ssh",
            Shape::Ssh,
            "etl@bastion.example:2222",
            "The account and the host. An empty template disables the test.",
        ),
        Key::optional(
            "host_key",
            Shape::Fingerprint,
            "the host has to be in known_hosts",
            "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU",
            "The host key's fingerprint.",
        ),
        Key::optional("timeout", Shape::Positive(300), "10", "30", "Seconds that a login may take."),
        Key::optional("required", Shape::Boolean, "false", "true", "Whether an unreachable host blocks the step."),
        Key::optional(
            "retire",
            Shape::Boolean,
            "false",
            "true",
            "Whether to warn if the host still accepts the replaced key.",
        ),
    ],
    rules: &[],
};
