//! The keys of the kind, for people and editors.

use crate::resource::reference::{Key, Reference, Shape};

/// What a plan file can say of a private key.
pub static REFERENCE: Reference = Reference {
    summary: "A private key in a file, with its mode and owner. A key that OpenSSH cannot load replaces none.",
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
            "what is there is left alone",
            "{ env: BASTION_KEY }",
            "Where the key comes from.",
        ),
        Key::optional("mode", Shape::Mode, "0400", "\"0400\"", "The file's permission bits."),
        Key::optional("owner", Shape::Account, "left as it is", "ubuntu", "The file's user."),
        Key::optional("group", Shape::Account, "left as it is", "ubuntu", "The file's group."),
        Key::optional(
            "verify",
            Shape::Keys(&VERIFY),
            "the key is not tried",
            "{ ssh: etl@bastion.example }",
            "A host that has to take the key before it replaces another, and again afterwards.",
        ),
    ],
};

/// How a key is proven.
pub static VERIFY: Reference = Reference {
    summary: "A login that proves the key.",
    keys: &[
        Key::required(
            "ssh",
            Shape::Ssh,
            "etl@bastion.example:2222",
            "The account and the host. A template that gives none switches the proof off.",
        ),
        Key::optional(
            "host_key",
            Shape::Fingerprint,
            "the host is in known_hosts",
            "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU",
            "The host key's fingerprint.",
        ),
        Key::optional(
            "required",
            Shape::Boolean,
            "false",
            "true",
            "Whether a host that cannot be reached blocks the step.",
        ),
        Key::optional(
            "retire",
            Shape::Boolean,
            "false",
            "true",
            "Whether to warn if the host still takes the replaced key.",
        ),
    ],
};
