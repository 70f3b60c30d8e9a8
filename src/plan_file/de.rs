//! Deserializes a [`Node`]. A kind's `Deserialize` defines its format, and each error has its place.

use std::fmt::Display;
use std::ops::Range;

use serde::de::{self, DeserializeSeed, IntoDeserializer, Visitor};

use super::diagnostic::{Diagnostic, suggest};
use super::node::{Node, Scalar, Style, Value};
use crate::text::nearest;
use crate::yaml::is_null;

/// Reads a typed value from a node.
///
/// # Errors
/// The value is wrong. The error is the first problem, at its place.
pub fn from_node<T: de::DeserializeOwned>(node: &Node) -> Result<T, Error> {
    T::deserialize(Reader(node)).map_err(|error| error.placed(&node.span))
}

/// Reads a value whose type a seed chooses.
pub fn with_seed<'de, S: DeserializeSeed<'de>>(node: &'de Node, seed: S) -> Result<S::Value, Error> {
    seed.deserialize(Reader(node)).map_err(|error| error.placed(&node.span))
}

/// Why a node cannot be read.
#[derive(Debug)]
pub struct Error {
    /// The problem. Outside this module it always has a place.
    pub problem: Box<Diagnostic>,
    /// The entry of the mapping that is wrong. `None` if the mapping as a whole is wrong.
    pub entry: Option<usize>,
    /// The valid words, if the problem is a value that is none of them. The value's key is added to the message.
    words: Option<&'static [&'static str]>,
}

impl Error {
    fn placed(mut self, span: &Range<usize>) -> Self {
        self.problem.span.get_or_insert_with(|| span.clone());
        self
    }

    /// Returns the same error in an entry of the mapping that is read. The outermost mapping is the last to set it.
    fn in_entry(mut self, index: usize) -> Self {
        self.entry = Some(index);
        self
    }

    /// Returns the same error for a value under this key.
    fn under(mut self, key: &Node) -> Self {
        if let Some(words) = self.words.take() {
            let key = key.text().unwrap_or_default();
            self.problem.message.push_str(&format!(" for `{key}`; expected {}", one_of(words)));
        }
        self
    }
}

impl From<Diagnostic> for Error {
    fn from(problem: Diagnostic) -> Self {
        Self { problem: Box::new(problem), entry: None, words: None }
    }
}

/// Returns the words of a text as a YAML list, unless it is a URL with a login or is not plain.
fn as_list(text: &str) -> Option<String> {
    let words: Vec<&str> = text.split([' ', ',']).filter(|word| !word.is_empty()).collect();
    let plain =
        |word: &&str| word.chars().all(|c| c.is_alphanumeric() || "._/=+-".contains(c)) && !word.starts_with('-');
    let word = |word: &&str| if plain(word) { (*word).to_owned() } else { format!("{word:?}") };
    let is_short = !words.is_empty() && words.len() <= 8 && !text.contains("://") && text.len() <= 100;
    is_short.then(|| format!("[{}]", words.iter().map(word).collect::<Vec<_>>().join(", ")))
}

/// Returns the error without the value that a template evaluated to, which may be a secret.
fn without_value(mut error: Error) -> Error {
    if let Some(help) = error.problem.help.as_mut().filter(|help| help.starts_with(AS_LIST)) {
        *help = format!("{AS_LIST}[one, another]");
    }
    error
}

/// The help for a text in place of a list.
const AS_LIST: &str = "write it as a list: ";

impl std::error::Error for Error {}

impl Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.problem.message)
    }
}

impl de::Error for Error {
    fn custom<T: Display>(message: T) -> Self {
        // With `#`, a `Failure` displays its hint, and everything else its message again.
        let (message, hint) = (message.to_string(), format!("{message:#}"));
        let problem = Diagnostic::of_file(message.as_str());
        if hint == message { problem.into() } else { problem.help(hint).into() }
    }

    fn invalid_type(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let list = if let de::Unexpected::Str(text) = found { as_list(text) } else { None };
        // The type is shown instead of the value, which may be a secret in the wrong place. A key that takes a list never takes
        // a secret, so its value is shown.
        let found = match found {
            de::Unexpected::Bool(_) => "a boolean",
            de::Unexpected::Unsigned(_) | de::Unexpected::Signed(_) | de::Unexpected::Float(_) => "a number",
            de::Unexpected::Str(_) => "a string",
            de::Unexpected::Unit | de::Unexpected::Option => "nothing",
            de::Unexpected::Seq => "a list",
            de::Unexpected::Map => "a mapping",
            _ => "something else",
        };
        let expected = plain(expected);
        let problem = Diagnostic::of_file(format!("expected {expected}, found {found}"));
        let problem = match (expected.as_str(), found) {
            ("a string", "a boolean" | "a number") => problem.help("write it in quotes"),
            ("a boolean", _) => problem.help("write true or false"),
            ("a list", "a string") => problem.help(format!("{AS_LIST}{}", list.as_deref().unwrap_or("[one, another]"))),
            _ => problem,
        };
        problem.into()
    }

    fn invalid_value(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let found = match found {
            de::Unexpected::Str(text) => format!("`{text}`"),
            de::Unexpected::Unsigned(number) => number.to_string(),
            de::Unexpected::Signed(number) => number.to_string(),
            de::Unexpected::Float(number) => number.to_string(),
            _ => "something else".to_owned(),
        };
        Diagnostic::of_file(format!("expected {}, found {found}", plain(expected))).into()
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Diagnostic::of_file(format!("unknown key `{field}`")).help(suggest(field, expected)).into()
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let problem = Diagnostic::of_file(format!("unknown value `{variant}`"));
        let meant = nearest(variant, expected.iter().copied()).map(|word| format!("did you mean `{word}`?"));
        Self { words: Some(expected), ..meant.into_iter().fold(problem, Diagnostic::help).into() }
    }

    fn missing_field(field: &'static str) -> Self {
        Diagnostic::of_file(format!("key `{field}` is missing")).into()
    }
}

/// Joins words as in `a, b or c`.
fn one_of(words: &[&str]) -> String {
    match words {
        [before @ .., last] if !before.is_empty() => format!("{} or {last}", before.join(", ")),
        words => words.join(""),
    }
}

/// Returns what serde expects in the words of a plan file.
fn plain(expected: &dyn de::Expected) -> String {
    let expected = expected.to_string();
    match expected.as_str() {
        "u8" => "a number from 0 to 255".to_owned(),
        "u16" => "a number from 0 to 65535".to_owned(),
        "u32" | "u64" => "a whole number from 0 up".to_owned(),
        "i8" | "i16" | "i32" | "i64" | "f64" => "a number".to_owned(),
        "a sequence" => "a list".to_owned(),
        "a map" => "a mapping of keys".to_owned(),
        "path string" => "a path".to_owned(),
        text if text.starts_with("struct ") => "a mapping of keys".to_owned(),
        text if text.starts_with("enum ") => "a word".to_owned(),
        _ => expected,
    }
}

#[derive(Clone, Copy)]
struct Reader<'de>(&'de Node);

impl<'de> Reader<'de> {
    fn unset(self, name: &str) -> Error {
        let mut problem = Diagnostic::at(self.0.span.clone(), format!("environment variable {name} is not set"))
            .help(format!("set {name}, or give a default: env_var('{name}', '…')"));
        problem.unset = Some(name.into());
        problem.into()
    }

    fn scalar<V: Visitor<'de>>(self, scalar: &'de Scalar, visitor: V) -> Result<V::Value, Error> {
        match scalar.style {
            Style::Quoted => return visitor.visit_str(&scalar.text),
            Style::Rendered => return visitor.visit_str(&scalar.text).map_err(without_value),
            Style::RenderedNone => {
                return visitor.visit_unit().map_err(|mut error: Error| {
                    let help = "the template gives none: give its variable a value (--var NAME=VALUE)";
                    error.problem.help.get_or_insert_with(|| help.to_owned());
                    error
                });
            }
            Style::Plain | Style::Native => {}
        }
        match scalar.text.as_str() {
            text if is_null(text) => visitor.visit_unit(),
            "true" | "True" | "TRUE" => visitor.visit_bool(true),
            "false" | "False" | "FALSE" => visitor.visit_bool(false),
            text => {
                // A number keeps its value but not its digits, so `0400` has to be quoted.
                let number = text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.'));
                if let (true, Ok(value)) = (number, text.parse::<u64>()) {
                    visitor.visit_u64(value)
                } else if let (true, Ok(value)) = (number, text.parse::<i64>()) {
                    visitor.visit_i64(value)
                } else if let (true, Ok(value)) = (number, text.parse::<f64>()) {
                    visitor.visit_f64(value)
                } else if scalar.style == Style::Native {
                    visitor.visit_str(text).map_err(without_value)
                } else {
                    visitor.visit_str(text)
                }
            }
        }
    }

    fn parsed<T: std::str::FromStr>(self) -> Option<T> {
        match &self.0.value {
            Value::Scalar(Scalar { text, style: Style::Rendered }) => text.trim().parse().ok(),
            _ => None,
        }
    }
}

/// Reads a number or a boolean from the text that a template gave. Any other scalar has a type of its own.
macro_rules! rendered {
    ($($method:ident => $visit:ident: $type:ty),* $(,)?) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            match self.parsed::<$type>() {
                Some(value) => visitor.$visit(value).map_err(|error: Error| error.placed(&self.0.span)),
                None => self.deserialize_any(visitor),
            }
        }
    )*};
}

impl<'de> de::Deserializer<'de> for Reader<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let result = match &self.0.value {
            Value::Scalar(scalar) => self.scalar(scalar, visitor),
            Value::Sequence(items) => visitor.visit_seq(Items(items.iter())),
            Value::Mapping(pairs) => visitor.visit_map(Pairs { rest: pairs.iter().enumerate(), entry: None }),
            Value::Unset(name) => Err(self.unset(name)),
        };
        result.map_err(|error| error.placed(&self.0.span))
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.0.value {
            Value::Scalar(Scalar { text, style: Style::Native }) => {
                visitor.visit_str(text).map_err(|error: Error| error.placed(&self.0.span))
            }
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    /// Refuses a list, because serde would take its items for the fields in order.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match &self.0.value {
            Value::Sequence(_) => {
                let error: Error = de::Error::invalid_type(de::Unexpected::Seq, &visitor);
                Err(error.placed(&self.0.span))
            }
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self).map_err(|error| error.placed(&self.0.span))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let result = match &self.0.value {
            Value::Scalar(scalar) => {
                let result = visitor.visit_enum(scalar.text.as_str().into_deserializer());
                result.map_err(|error: Error| match (error.words, scalar.style) {
                    // A value that comes from a template may be a secret.
                    (Some(_), Style::Rendered) => {
                        Error { words: error.words, ..Diagnostic::of_file("unknown value").into() }
                    }
                    _ => error,
                })
            }
            Value::Mapping(pairs) => match pairs.as_slice() {
                [(key, value)] => visitor.visit_enum(Tagged { key, value }),
                _ => Err(Diagnostic::of_file(format!("expected {}, found a mapping", one_of(variants))).into()),
            },
            Value::Sequence(_) => {
                Err(Diagnostic::of_file(format!("expected {}, found a list", one_of(variants))).into())
            }
            Value::Unset(name) => Err(self.unset(name)),
        };
        result.map_err(|error| error.placed(&self.0.span))
    }

    rendered! {
        deserialize_bool => visit_bool: bool,
        deserialize_u8 => visit_u64: u64, deserialize_u16 => visit_u64: u64,
        deserialize_u32 => visit_u64: u64, deserialize_u64 => visit_u64: u64,
        deserialize_i8 => visit_i64: i64, deserialize_i16 => visit_i64: i64,
        deserialize_i32 => visit_i64: i64, deserialize_i64 => visit_i64: i64,
        deserialize_f32 => visit_f64: f64, deserialize_f64 => visit_f64: f64,
    }

    serde::forward_to_deserialize_any! {
        i128 u128 char bytes byte_buf unit unit_struct seq tuple tuple_struct map identifier
        ignored_any
    }
}

struct Items<'de>(std::slice::Iter<'de, Node>);

impl<'de> de::SeqAccess<'de> for Items<'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        self.0.next().map(|node| seed.deserialize(Reader(node)).map_err(|error| error.placed(&node.span))).transpose()
    }
}

struct Pairs<'de> {
    rest: std::iter::Enumerate<std::slice::Iter<'de, (Node, Node)>>,
    /// The entry whose key was read last, with its index.
    entry: Option<(usize, &'de (Node, Node))>,
}

impl<'de> de::MapAccess<'de> for Pairs<'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some((index, entry)) = self.rest.next() else { return Ok(None) };
        self.entry = Some((index, entry));
        let (key, _) = entry;
        let text = key.text().unwrap_or_default();
        let key_reader: de::value::StrDeserializer<'_, Error> = text.into_deserializer();
        seed.deserialize(key_reader).map(Some).map_err(|error| error.placed(&key.span).in_entry(index))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let Some((index, (key, value))) = self.entry.take() else {
            return Err(de::Error::custom("a value without a key"));
        };
        let within = |error: Error| error.placed(&value.span).under(key).in_entry(index);
        seed.deserialize(Reader(value)).map_err(within)
    }
}

/// A variant of an enum with its value, such as `{ env: NAME }`.
struct Tagged<'de> {
    key: &'de Node,
    value: &'de Node,
}

impl<'de> de::EnumAccess<'de> for Tagged<'de> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Error> {
        let key: de::value::StrDeserializer<'_, Error> = self.key.text().unwrap_or_default().into_deserializer();
        let variant = seed.deserialize(key).map_err(|error| error.placed(&self.key.span))?;
        Ok((variant, self))
    }
}

impl<'de> de::VariantAccess<'de> for Tagged<'de> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        Err(Diagnostic::at(self.value.span.clone(), "no value is expected").into())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(Reader(self.value)).map_err(|error| error.placed(&self.value.span))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        de::Deserializer::deserialize_any(Reader(self.value), visitor)
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], visitor: V) -> Result<V::Value, Error> {
        de::Deserializer::deserialize_any(Reader(self.value), visitor)
    }
}
