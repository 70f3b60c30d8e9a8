//! The keys of the kind in a plan file.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, de};

use crate::failure::Failure;
use crate::host::secret::{Secret, SecretSource};
use crate::resource::document::{Document, TemplateFile};
use crate::resource::value::{AbsolutePath, Account, Mode};
use crate::resource::{KeyError, ObserveContext, Segment};

/// The mode of a new file without secrets, if the plan file gives none.
pub const NEW_MODE: Mode = Mode::from_bits(0o644);
/// The mode of a file with secrets, if the plan file gives none.
const SECRET_MODE: Mode = Mode::from_bits(0o600);
/// Larger files (16 MiB) are not replaced. The content of a step is much smaller, so such a file is probably not the intended one.
pub const MAX_FILE_BYTES: u64 = 16 << 20;
/// The permission bit that lets everyone read a file.
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
    /// The owner of the file. Without it, a new file belongs to the acting user.
    #[serde(default)]
    pub owner: Option<Account>,
    #[serde(default)]
    pub group: Option<Account>,
    #[serde(default)]
    pub mode: Option<Mode>,
}

impl File {
    /// Checks the keys against each other.
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

    /// Returns the desired content.
    pub fn document(&self) -> &Document {
        static NONE: Document = Document::EMPTY;
        let of_template = self.template.as_ref().map(|template| &template.text);
        self.content.as_ref().or(of_template).unwrap_or(&NONE)
    }

    /// Returns the desired mode. `None` means that an existing file keeps its mode.
    pub fn wanted_mode(&self) -> Option<Mode> {
        self.mode.or((!self.document().secrets().is_empty()).then_some(SECRET_MODE))
    }

    /// Returns the desired bytes.
    ///
    /// # Errors
    /// The sources of some secrets have no value. The error contains the names of these secrets.
    pub fn wanted(&self, cx: &ObserveContext) -> Result<Secret, Vec<String>> {
        self.document().fill(|name| cx.secret_of(name))
    }

    /// Returns whether not everyone may see the content: it has or may have secrets, or the mode denies others to read it.
    pub fn is_private(&self) -> bool {
        self.document().text().is_none() || self.mode.is_some_and(|mode| mode.bits() & READ_BY_ALL == 0)
    }
}

/// Reads secret sources whose names can be written in a template.
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
