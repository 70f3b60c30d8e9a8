//! Extracts a secret from a JSON text or from base64.
//!
//! Messages never show any part of the value. They give at most the line and column of an error.

use std::fmt;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use zeroize::Zeroizing;

use super::Secret;
use super::source::{Encoding, Pointer, SecretSource};
use crate::failure::Failure;

/// Padding is optional.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Decodes the value of a source.
///
/// With both a pointer and an encoding, either the value inside the JSON text is encoded or the JSON text as a whole.
/// The two cannot be confused: JSON with a value in it is never valid base64.
///
/// # Errors
/// The value is not encoded as the source specifies.
pub fn decode(source: &SecretSource, raw: &Secret) -> Result<Secret, Failure> {
    let bytes = raw.expose();
    let from = source.origin.to_string();
    match (&source.pointer, source.encoding) {
        (None, None) => Ok(raw.clone()),
        (None, Some(Encoding::Base64)) => base64(bytes, &from),
        (Some(pointer), None) => json(bytes, pointer, &from),
        (Some(pointer), Some(Encoding::Base64)) if looks_like_json(bytes) => {
            base64(json(bytes, pointer, &from)?.expose(), &source.place())
        }
        (Some(pointer), Some(Encoding::Base64)) => json(base64(bytes, &from)?.expose(), pointer, &from),
    }
}

fn looks_like_json(bytes: &[u8]) -> bool {
    let bytes = bytes.strip_prefix(super::BYTE_ORDER_MARK).unwrap_or(bytes);
    bytes.iter().find(|byte| !byte.is_ascii_whitespace()).is_some_and(|byte| b"{[\"".contains(byte))
}

fn base64(text: &[u8], from: &str) -> Result<Secret, Failure> {
    let text = text.strip_prefix(super::BYTE_ORDER_MARK).unwrap_or(text);
    // The buffers are as large as their text, so they never move and leave no copy behind.
    let mut letters = Zeroizing::new(Vec::with_capacity(text.len()));
    letters.extend(text.iter().filter(|byte| !byte.is_ascii_whitespace()));
    let mut decoded = Zeroizing::new(vec![0; letters.len()]);
    match BASE64.decode_slice(letters.as_slice(), decoded.as_mut_slice()) {
        Ok(length) => Ok(Secret::copy_of(&decoded[..length])),
        Err(_) => Err(Failure::new(format!("{from} is not base64"))
            .hint("remove `encoding` if the value is not encoded; base64 is the alphabet of RFC 4648 with + and /")),
    }
}

fn json(text: &[u8], pointer: &Pointer, from: &str) -> Result<Secret, Failure> {
    let text = text.strip_prefix(super::BYTE_ORDER_MARK).unwrap_or(text);
    let tokens = pointer.tokens();
    let mut reader = serde_json::Deserializer::from_slice(text);
    let found = Follow(&tokens).deserialize(&mut reader).and_then(|found| reader.end().map(|()| found));
    let value = if pointer.is_whole() { "the JSON text".to_owned() } else { format!("the value at {pointer}") };
    match found {
        Err(error) => {
            Err(Failure::new(format!("{from} is not JSON (line {}, column {})", error.line(), error.column()))
                .hint("remove `json` if the value is not JSON"))
        }
        Ok(Found::Text(text)) => Ok(Secret::copy_of(text.as_bytes())),
        Ok(Found::Other(kind)) => {
            let failure = Failure::new(format!("{from}: {value} is {kind}, not a string"));
            Err(failure.hint("correct `json` so that it points to a string"))
        }
        Ok(Found::Nothing) => Err(Failure::new(format!("{from} has no value at {pointer}"))
            .hint("correct `json`: it is a JSON pointer such as /data/password, with `~1` for a `/` in a key")),
    }
}

/// What a pointer refers to.
enum Found {
    Text(Zeroizing<String>),
    Other(&'static str),
    Nothing,
}

/// Follows the tokens of a pointer. Keeps only the value at its end.
#[derive(Clone, Copy)]
struct Follow<'a>(&'a [String]);

impl Follow<'_> {
    /// Handles a value without children.
    fn scalar<E>(self, kind: &'static str) -> Result<Found, E> {
        Ok(if self.0.is_empty() { Found::Other(kind) } else { Found::Nothing })
    }
}

impl<'de> DeserializeSeed<'de> for Follow<'_> {
    type Value = Found;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Found, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Follow<'_> {
    type Value = Found;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Found, E> {
        if self.0.is_empty() { Ok(Found::Text(Zeroizing::new(text.to_owned()))) } else { Ok(Found::Nothing) }
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Found, E> {
        self.scalar("null")
    }

    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<Found, E> {
        self.scalar("a boolean")
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<Found, E> {
        self.scalar("a number")
    }

    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<Found, E> {
        self.scalar("a number")
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<Found, E> {
        self.scalar("a number")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Found, A::Error> {
        let Some((token, rest)) = self.0.split_first() else {
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            return Ok(Found::Other("an object"));
        };
        let mut found = Found::Nothing;
        while let Some(key) = map.next_key::<String>()? {
            if key == *token {
                // If a key is duplicated, the last one counts, as in other parsers.
                found = map.next_value_seed(Follow(rest))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Found, A::Error> {
        let Some((token, rest)) = self.0.split_first() else {
            while items.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(Found::Other("an array"));
        };
        // RFC 6901, section 4: digits without a leading zero.
        let target = token.parse::<usize>().ok().filter(|index| index.to_string() == *token);
        let mut found = Found::Nothing;
        for index in 0_usize.. {
            let more = if Some(index) == target {
                items.next_element_seed(Follow(rest))?.map(|value| found = value)
            } else {
                items.next_element::<IgnoredAny>()?.map(drop)
            };
            if more.is_none() {
                return Ok(found);
            }
        }
        Err(A::Error::custom("an endless array"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(yaml: &str, raw: &str) -> Result<String, String> {
        let source: SecretSource = serde_yaml::from_str(&format!("{{ env: A, {yaml} }}")).unwrap();
        decode(&source, &Secret::copy_of(raw.as_bytes()))
            .map(|secret| String::from_utf8(secret.expose().to_vec()).unwrap())
            .map_err(|failure| {
                let text = format!("{failure} {}", failure.hint.clone().unwrap());
                assert!(!text.contains("hunter2"), "{text}");
                text
            })
    }

    #[test]
    fn values_are_extracted() {
        let json = r#"{"a/b": ["x", {"m~n": "hunter2"}], "p": "aHVudGVyMg==", "e": "q\"\u00e9", "p": "aHVudGVyMg"}"#;
        let all = base64::engine::general_purpose::STANDARD.encode(json);
        for (yaml, raw, value) in [
            ("encoding: base64", "aHVudGVyMg==", "hunter2"),
            ("encoding: base64", "aHVudGVyMg", "hunter2"),
            ("encoding: base64", " aHVu\r\ndGVy\nMg==\n", "hunter2"),
            ("encoding: base64", "\u{feff}aHVudGVyMg==", "hunter2"),
            ("json: /a~1b/1/m~0n", json, "hunter2"),
            ("json: /e", json, "q\"é"),
            ("json: /p, encoding: base64", json, "hunter2"),
            ("json: /a~1b/1/m~0n, encoding: base64", &all, "hunter2"),
            ("json: ''", "\"hunter2\"\n", "hunter2"),
            ("json: '/'", r#"{"": "hunter2"}"#, "hunter2"),
        ] {
            assert_eq!(decoded(yaml, raw).as_deref(), Ok(value), "{yaml}: {raw}");
        }
    }

    #[test]
    fn decoding_errors_do_not_show_the_value() {
        for (yaml, raw, expected) in [
            ("encoding: base64", "hunter2!", "environment variable A is not base64"),
            ("encoding: base64", "hunter2hunter2=x", "is not base64"),
            ("json: /a", "hunter2", "is not JSON (line 1, column 1)"),
            ("json: /a", r#"{"a": "hunter2""#, "is not JSON"),
            ("json: /a", r#"{"a": "hunter2"} x"#, "is not JSON"),
            ("json: /b", r#"{"a": "hunter2"}"#, "has no value at /b"),
            ("json: /a/b", r#"{"a": "hunter2"}"#, "has no value at /a/b"),
            ("json: /1", r#"["hunter2"]"#, "has no value at /1"),
            ("json: /00", r#"["hunter2"]"#, "has no value at /00"),
            ("json: /-", r#"["hunter2"]"#, "has no value at /-"),
            ("json: /a", r#"{"a": 12}"#, "is a number, not a string"),
            ("json: /a", r#"{"a": null}"#, "is null, not a string"),
            ("json: /a", r#"{"a": {"b": "hunter2"}}"#, "is an object, not a string"),
            ("json: ''", r#"{"a": "hunter2"}"#, "variable A: the JSON text is an object, not a string"),
            ("json: /a, encoding: base64", r#"{"a": "hunter2!"}"#, "/a in environment variable A is not base64"),
            ("json: '', encoding: base64", r#""hunter2!""#, "environment variable A is not base64"),
            ("json: /a, encoding: base64", "aHVudGVyMg==", "is not JSON"),
        ] {
            let error = decoded(yaml, raw).unwrap_err();
            assert!(error.contains(expected), "{yaml}: {error}");
        }
    }
}
