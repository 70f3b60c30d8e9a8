//! The keys of the kind as a plan file gives them.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, de};

use crate::failure::Failure;
use crate::host::secret::{Secret, SecretSource};
use crate::resource::document::{Document, TemplateFile};
use crate::resource::value::{AbsolutePath, Account, Mode};
use crate::resource::{KeyError, ObserveContext, Segment};

/// The mode of a new file, and of any with secrets in it, where the plan file gives none.
pub const NEW_MODE: Mode = Mode::from_bits(0o644);
const SECRET_MODE: Mode = Mode::from_bits(0o600);
/// Larger files (16 MiB) are not replaced: a step's content is much smaller, so that is another file than the one meant.
pub const MAX_FILE_BYTES: u64 = 16 << 20;
/// May everyone read it?
pub const READ_BY_ALL: u32 = 0o004;

/// The desired state of a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    pub path: AbsolutePath,
    #[serde(default)]
    pub content: Option<Document>,
    #[serde(default)]
    pub template: Option<TemplateFile>,
    #[serde(default, deserialize_with = "named_sources")]
    pub secrets: BTreeMap<String, SecretSource>,
    /// The file's user; a new file is the acting user's where none is given.
    #[serde(default)]
    pub owner: Option<Account>,
    #[serde(default)]
    pub group: Option<Account>,
    #[serde(default)]
    pub mode: Option<Mode>,
}

impl File {
    /// Checks the keys beside each other.
    pub fn check(self) -> Result<Self, KeyError> {
        match (&self.content, &self.template) {
            (Some(_), Some(_)) => Err(KeyError::new("a file has `content` or a `template`, not both")
                .hint("keep one of them")
                .of([Segment::Key("template")])
                .beside("content")),
            (None, None) => {
                Err(KeyError::new("a file needs its `content`, or a `template`").hint("add one of the two keys"))
            }
            _ => Ok(self),
        }
    }

    /// What the file is to hold.
    pub fn document(&self) -> &Document {
        static NONE: Document = Document::EMPTY;
        let of_template = self.template.as_ref().map(|template| &template.text);
        self.content.as_ref().or(of_template).unwrap_or(&NONE)
    }

    /// The mode that the file is to have; `None`: a file that is there keeps its own.
    pub fn wanted_mode(&self) -> Option<Mode> {
        self.mode.or((!self.document().secrets().is_empty()).then_some(SECRET_MODE))
    }

    /// The bytes that the file is to hold.
    ///
    /// # Errors
    /// The names of the secrets whose sources yield nothing.
    pub fn wanted(&self, cx: &ObserveContext) -> Result<Secret, Vec<String>> {
        self.document().fill(|name| cx.secret_of(name))
    }

    /// Whether what the file is to hold is not for everyone: it has secrets, or may have, or the mode keeps others from
    /// reading it.
    pub fn is_private(&self) -> bool {
        self.document().text().is_none() || self.mode.is_some_and(|mode| mode.bits() & READ_BY_ALL == 0)
    }
}

/// Sources by names that a template can spell.
fn named_sources<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, SecretSource>, D::Error> {
    let sources: BTreeMap<String, SecretSource> = Option::deserialize(from)?.unwrap_or_default();
    let fits = |name: &str| {
        let letters = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(letters) && name.len() <= 100
    };
    match sources.keys().find(|name| !fits(name)) {
        None => Ok(sources),
        Some(_) => Err(de::Error::custom(
            Failure::new("a secret cannot have this name")
                .hint("it starts with a letter or digit and has letters, digits, `-`, `_` and `.`"),
        )),
    }
}
