//! The command of a secret source: what the program gets, and what is shown of it.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::path::Path;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::host::fs::check_absolute;
use crate::text::shell_words;

/// What is wrong with a source of which nothing is left.
pub(super) const EMPTY: &str = "the secret source is empty: remove it, or set a value";

/// A program and its arguments.
///
/// A template can put a value from outside the plan file into a word, such as a token. Such a word is shown as it is written in
/// the plan file.
#[derive(Clone)]
pub struct CommandLine {
    argv: Vec<String>,
    /// As long as `argv`.
    shown: Vec<String>,
}

/// A command of which some words are not shown.
#[derive(Serialize, Deserialize)]
struct Masked {
    argv: Vec<String>,
    shown: Vec<String>,
}

impl CommandLine {
    /// Returns the program and its arguments, as they are started.
    pub fn argv(&self) -> &[String] {
        &self.argv
    }

    /// Returns the words that can be shown, in the same order.
    pub fn shown(&self) -> &[String] {
        &self.shown
    }

    /// Rejects a command without a program, and a program at a relative path, which depends on the current directory. A name
    /// without a slash is looked up in PATH.
    fn checked(self) -> Result<Self, String> {
        match self.argv.first().map(String::as_str) {
            None | Some("") => Err(EMPTY.to_owned()),
            Some(program) if program.contains('/') && !program.starts_with('/') => {
                check_absolute(Path::new(self.program())).map(|()| self)
            }
            Some(_) => Ok(self),
        }
    }

    /// Returns the program's name as it can be shown.
    pub fn program(&self) -> &str {
        self.shown.first().map_or("", String::as_str)
    }

    /// Returns the shell command line that can be shown.
    pub fn line(&self) -> String {
        shell_words(&self.shown)
    }

    /// Returns what to do before the shown line can be pasted, for the end of a hint. Empty if nothing is hidden.
    pub fn fill_in(&self) -> &'static str {
        if self.argv == self.shown { "" } else { " (first replace each {{ … }} by its value)" }
    }
}

impl From<Vec<String>> for CommandLine {
    fn from(argv: Vec<String>) -> Self {
        Self { shown: argv.clone(), argv }
    }
}

/// Two commands are the same if they start the same program, however the plan file writes them.
impl PartialEq for CommandLine {
    fn eq(&self, other: &Self) -> bool {
        self.argv == other.argv
    }
}

impl Eq for CommandLine {}

impl Hash for CommandLine {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.argv.hash(state);
    }
}

impl fmt::Debug for CommandLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shown.fmt(f)
    }
}

impl Serialize for CommandLine {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.argv == self.shown {
            return self.argv.serialize(serializer);
        }
        Masked { argv: self.argv.clone(), shown: self.shown.clone() }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for CommandLine {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = CommandLine;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sequence")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<CommandLine, A::Error> {
        let argv = Vec::<String>::deserialize(SeqAccessDeserializer::new(items))?;
        CommandLine::from(argv).checked().map_err(A::Error::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<CommandLine, A::Error> {
        let Masked { argv, shown } = Masked::deserialize(MapAccessDeserializer::new(map))?;
        if argv.len() != shown.len() {
            return Err(A::Error::custom("a command and what is shown of it differ in length"));
        }
        CommandLine { argv, shown }.checked().map_err(A::Error::custom)
    }
}
