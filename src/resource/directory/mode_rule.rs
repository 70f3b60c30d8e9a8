//! Modes for the entries of a tree: octal, or symbolic as in chmod(1).

use std::fmt;

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::resource::value::Mode;

const SET_IDS: u32 = 0o6000;
const STICKY: u32 = 0o1000;
const EXECUTE: u32 = 0o111;
/// What the owner of a directory needs to list and to enter it.
pub const OWNER_ACCESS: u32 = 0o500;

/// The desired mode of an entry, given its actual mode.
///
/// An octal mode sets all bits. A symbolic mode leaves the bits alone that it does not mention. It consists of clauses
/// such as `u=rwX`, `g-w` or `o=`, separated by commas. Each has one or more of `u`, `g`, `o` and `a`. `X` is the
/// execute permission for directories, and for files that any user may execute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModeRule {
    text: String,
    form: Form,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Form {
    Octal(Mode),
    Symbolic(Vec<Clause>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Clause {
    /// The bits that the clause covers, including set-id and sticky bits.
    who: u32,
    operator: Operator,
    bits: u32,
    /// Whether the clause contains `X`.
    execute_if_any: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Set,
    Add,
    Remove,
}

impl ModeRule {
    /// Parses a mode.
    ///
    /// # Errors
    /// Why it is not valid.
    pub fn new(text: &str) -> Result<Self, String> {
        let octal = !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
        let form = if octal {
            let bits = u32::from_str_radix(text, 8).ok().filter(|_| matches!(text.len(), 3 | 4));
            Form::Octal(Mode::from_bits(bits.ok_or("an octal mode has three or four digits from 0 to 7")?))
        } else {
            Form::Symbolic(text.split(',').map(clause).collect::<Result<_, _>>()?)
        };
        let rule = Self { text: text.to_owned(), form };
        for mode in 0..=0o7777 {
            for is_dir in [false, true] {
                let once = rule.apply(mode, is_dir);
                if rule.apply(once, is_dir) != once {
                    return Err("applied twice it gives a different mode, because `X` depends on a bit that a later clause sets".into());
                }
            }
        }
        Ok(rule)
    }

    /// Returns the rule that also lets the owner list and enter directories. A directory that others may list, they may enter, too.
    pub fn with_access(&self) -> String {
        match &self.form {
            Form::Octal(mode) => mode_with_access(*mode).to_string(),
            Form::Symbolic(_) => format!("{},u+rx", self.text),
        }
    }

    /// Returns the new mode of an entry with the current mode `mode`.
    pub fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        match &self.form {
            Form::Octal(mode) => mode.bits(),
            Form::Symbolic(clauses) => clauses.iter().fold(mode, |mode, clause| clause.apply(mode, is_dir)),
        }
    }
}

/// Returns the mode with which the owner of a directory can list and enter it, and others can enter it if they can list it.
pub fn mode_with_access(mode: Mode) -> Mode {
    let bits = mode.bits() | OWNER_ACCESS;
    Mode::from_bits(bits | (bits & 0o444) >> 2)
}

impl Clause {
    fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        let mut bits = self.bits;
        if self.execute_if_any && (is_dir || mode & EXECUTE != 0) {
            bits |= EXECUTE & self.who;
        }
        match self.operator {
            Operator::Add => mode | bits,
            Operator::Remove => mode & !bits,
            Operator::Set => {
                // As in chmod(1), the set-id bits of a directory are only removed explicitly.
                let kept = if is_dir { SET_IDS } else { 0 };
                mode & !(self.who & !kept) | bits
            }
        }
    }
}

fn clause(text: &str) -> Result<Clause, String> {
    let invalid =
        || format!("`{}` is not a valid clause; expected one like `u=rwX`, `g-w` or `o=`", text.escape_debug());
    let at = text.find(['=', '+', '-']).ok_or_else(invalid)?;
    let operator = match &text[at..=at] {
        "=" => Operator::Set,
        "+" => Operator::Add,
        _ => Operator::Remove,
    };
    let mut who = 0;
    for letter in text[..at].chars() {
        who |= match letter {
            'u' => 0o4700,
            'g' => 0o2070,
            'o' => STICKY | 0o007,
            'a' => 0o7777,
            _ => return Err(invalid()),
        };
    }
    if who == 0 {
        // Without a letter, chmod(1) uses the umask, which a plan file does not show.
        return Err(format!("{}: it has to name u, g, o or a", invalid()));
    }
    let (mut bits, mut execute_if_any) = (0, false);
    for letter in text[at + 1..].chars() {
        bits |= match letter {
            'r' => 0o444,
            'w' => 0o222,
            'x' => EXECUTE,
            's' => SET_IDS,
            't' => STICKY,
            'X' => {
                execute_if_any = true;
                0
            }
            _ => return Err(invalid()),
        };
    }
    Ok(Clause { who, operator, bits: bits & who, execute_if_any })
}

impl fmt::Display for ModeRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.form {
            Form::Octal(mode) => mode.fmt(f),
            Form::Symbolic(_) => f.write_str(&self.text),
        }
    }
}

impl Serialize for ModeRule {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ModeRule {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = ModeRule;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mode in quotes: octal such as \"0640\", or symbolic such as \"u=rwX,g=rX,o=\"")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<ModeRule, E> {
                ModeRule::new(text)
                    .map_err(|why| E::custom(format!("`{}` is not a valid mode: {why}", text.escape_debug())))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<ModeRule, E> {
                Err(E::custom(format_args!(
                    "the mode is the unquoted number {number}, which YAML reads as decimal (400 is not 0400): \
                     write the mode in quotes, such as \"{number:0>4}\""
                )))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<ModeRule, E> {
                Err(E::invalid_value(Unexpected::Signed(number), &self))
            }
        }
        from.deserialize_any(Reader)
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::host::testing::{attributes, chmod, folder};

    /// Compares with chmod(1).
    #[test]
    fn symbolic_modes_agree_with_chmod() {
        let folder = folder();
        let (file, dir) = (folder.path().join("file"), folder.path().join("dir"));
        std::fs::write(&file, "").unwrap();
        std::fs::create_dir(&dir).unwrap();
        for rule in ["u=rwX,g=rX,o=", "a+X", "u=rwX,g=rX,o=rX", "go-w", "ug+s", "a-t", "o=rt", "u=rw,g=r,o=r", "g=s"] {
            let read = ModeRule::new(rule).unwrap();
            for mode in [0, 0o400, 0o644, 0o711, 0o4755, 0o2750, 0o2640, 0o1777, 0o7777, 0o7000, 0o010, 0o001] {
                for (path, is_dir) in [(&file, false), (&dir, true)] {
                    chmod(path, mode);
                    assert!(Command::new("chmod").arg(rule).arg(path).status().unwrap().success());
                    assert_eq!(read.apply(mode, is_dir), attributes(path).2, "{rule} on {mode:04o}, {is_dir}");
                }
            }
        }
    }

    #[test]
    fn a_rule_with_access_lets_the_owner_in() {
        for (rule, expected) in
            [("0644", "0755"), ("0600", "0700"), ("0000", "0500"), ("2640", "2750"), ("u=rw,g=r", "u=rw,g=r,u+rx")]
        {
            let with_access = ModeRule::new(rule).unwrap().with_access();
            assert_eq!(with_access, expected);
            assert_eq!(ModeRule::new(&with_access).unwrap().apply(0, true) & OWNER_ACCESS, OWNER_ACCESS);
        }
    }

    #[test]
    fn modes_are_octal_or_symbolic() {
        let read = |text: &str| ModeRule::new(text);
        assert_eq!(read("0640").unwrap().apply(0o7777, false), 0o640);
        assert_eq!(read("640").unwrap().to_string(), "0640");
        assert_eq!(read("2775").unwrap().apply(0o700, true), 0o2775);
        for (wrong, expected) in [
            ("", "not a valid clause"),
            ("0855", "three or four digits"),
            ("75", "three or four digits"),
            ("rwx", "not a valid clause"),
            ("+x", "has to name"),
            ("=r", "has to name"),
            ("u=rz", "not a valid clause"),
            ("u=rw,", "not a valid clause"),
            ("g=u", "not a valid clause"),
            ("u=rX,g+x", "applied twice"),
        ] {
            let error = read(wrong).unwrap_err();
            assert!(error.contains(expected), "{wrong}: {error}");
        }
    }
}
