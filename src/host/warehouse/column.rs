//! A column of a table, as in the catalog and in a plan file.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

/// A column: its name, its type as spelled in the catalog, and whether it allows NULL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Column {
    pub name: String,
    #[serde(rename = "type")]
    pub type_name: String,
    /// Defaults to true.
    pub null: bool,
}

/// A key of a column. YAML parses an unquoted `null` as the null value, but here it is the name of a key.
enum ColumnKey {
    Name,
    Type,
    Null,
}

impl<'de> Deserialize<'de> for ColumnKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = ColumnKey;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`name`, `type` or `null`")
            }

            fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<ColumnKey, E> {
                match key {
                    "name" => Ok(ColumnKey::Name),
                    "type" => Ok(ColumnKey::Type),
                    "null" => Ok(ColumnKey::Null),
                    other => Err(E::unknown_field(other, &["name", "type", "null"])),
                }
            }

            fn visit_unit<E>(self) -> Result<ColumnKey, E> {
                Ok(ColumnKey::Null)
            }

            fn visit_none<E>(self) -> Result<ColumnKey, E> {
                Ok(ColumnKey::Null)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl<'de> Deserialize<'de> for Column {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Column;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a column: { name: NAME, type: TYPE, null: true or false }")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Column, A::Error> {
                let (mut name, mut type_name, mut null) = (None, None, true);
                while let Some(key) = map.next_key()? {
                    match key {
                        ColumnKey::Name => name = Some(map.next_value()?),
                        ColumnKey::Type => type_name = Some(map.next_value()?),
                        ColumnKey::Null => null = map.next_value()?,
                    }
                }
                let missing = <A::Error as serde::de::Error>::missing_field;
                Ok(Column {
                    name: name.ok_or_else(|| missing("name"))?,
                    type_name: type_name.ok_or_else(|| missing("type"))?,
                    null,
                })
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

impl Column {
    /// Returns the name quoted for a statement.
    pub fn sql_name(&self) -> String {
        postgres_protocol::escape::escape_identifier(&self.name)
    }
}
