//! The JSON Schema of plan files, for editors and linters.

use serde_json::{Map, Value, json};

use super::{CONNECTION, PLAN_FILE, STEP, TUNNEL};
use crate::resource::REFERENCES;
use crate::resource::reference::{Key, Presence, Reference, Rule, SECRET_SOURCE, Shape};

/// The pattern of a Jinja template.
const TEMPLATE: &str = r"\{[{%#]";
/// The pattern of ids and of names of plans and connections.
const WORD: &str = "^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$";
const VARIABLE: &str = "^(?!env_var$)[A-Za-z_][A-Za-z0-9_]*$";

const NAME: &str = "^[A-Za-z_][A-Za-z0-9_]*$";
const ENV_NAME: &str = r#"^[^\s=$(){}'"`\\;&|<>]+$"#;
/// The start of git's rules for branches (git-check-ref-format).
const BRANCH: &str = r"^[^-\s~^:?*\[\\][^\s~^:?*\[\\]*$";
/// The periods of all calendars, and the current one.
const PERIOD: &str = r"^([0-9]{4}(_(h[12]|q[1-4]|w[0-9]{2}|[0-9]{2}(_[0-9]{2})?))?|current(-[0-9]+)?)$";
/// A URL of PostgreSQL, or a text without a scheme.
const DATABASE_URL: &str = "^(postgres(ql)?://|(?![A-Za-z][A-Za-z0-9+.:-]*://))";

/// Returns the schema (draft-07) of plan files. `validate` refuses everything that the schema refuses. Mistakes that involve
/// several places (undeclared names, two steps that own the same thing) are found only by `validate`.
pub fn schema() -> Value {
    let mut definitions = Map::new();
    definitions.insert("template".to_owned(), json!({ "type": "string", "pattern": TEMPLATE }));
    definitions.insert("secret_source".to_owned(), mapping(&SECRET_SOURCE));
    definitions.insert("connection".to_owned(), mapping(&CONNECTION));
    definitions.insert("tunnel".to_owned(), mapping(&TUNNEL));
    for (kind, reference) in REFERENCES {
        definitions.insert((*kind).to_owned(), mapping(reference));
    }
    definitions.insert("step".to_owned(), step());
    let mut schema = mapping(&PLAN_FILE);
    schema["$schema"] = "http://json-schema.org/draft-07/schema#".into();
    schema["title"] = "provision plan file".into();
    schema["properties"]["steps"]["items"] = json!({ "$ref": "#/definitions/step" });
    schema["properties"]["steps"]["minItems"] = 1.into();
    schema["definitions"] = definitions.into();
    schema
}

/// Returns the schema of a step, which has its own keys and exactly one kind.
fn step() -> Value {
    let mut step = mapping(&STEP);
    for (kind, reference) in REFERENCES {
        let summary = reference.summary;
        step["properties"][*kind] =
            json!({ "allOf": [{ "$ref": format!("#/definitions/{kind}") }], "description": summary });
    }
    step["oneOf"] = REFERENCES.iter().map(|(kind, _)| json!({ "required": [kind] })).collect();
    step
}

fn mapping(reference: &Reference) -> Value {
    let properties: Map<String, Value> =
        reference.keys.iter().map(|key| (key.name.to_owned(), property(key))).collect();
    let required: Vec<&str> = reference.keys.iter().filter(|key| key.is_required()).map(|key| key.name).collect();
    let mut mapping = json!({
        "type": "object",
        "description": reference.summary,
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    });
    for rule in reference.rules {
        match rule {
            Rule::ExactlyOne(keys) => {
                mapping["oneOf"] = keys.iter().map(|key| json!({ "required": [key] })).collect();
            }
            Rule::Requires(key, other) => mapping["dependencies"][*key] = json!([other]),
        }
    }
    // The key is null in YAML, and Python's validators name it so. A pattern is not offered as a completion.
    if let Some(key) = reference.key("null") {
        mapping["patternProperties"] = json!({ "^None$": property(key) });
    }
    mapping
}

fn property(key: &Key) -> Value {
    let nullable = !key.is_required() || key.is_nullable();
    let mut property = value(&key.shape, nullable);
    let default = match key.presence {
        Presence::Required => String::new(),
        Presence::Default(default) | Presence::Usual(default) => format!(" Without it: {default}."),
    };
    property["description"] = format!("{}{default}", key.doc).into();
    property
}

/// Returns the schema of a value: its shape, a template in place of a scalar, and null if that means that no value is given.
fn value(shape: &Shape, nullable: bool) -> Value {
    let mut any = Vec::new();
    let template = || json!({ "$ref": "#/definitions/template" });
    match shape {
        Shape::Text | Shape::Document => any.push(json!({ "type": "string" })),
        Shape::TemplateFile => {
            any.extend([json!({ "type": "string", "pattern": r"^(?![/~])(?!(.*/)?\.\.(/|$))." }), template()]);
        }
        Shape::Word => any.push(json!({ "type": ["string", "number"], "pattern": WORD })),
        Shape::Prose | Shape::Scalar => any.push(json!({ "type": ["string", "number", "boolean", "null"] })),
        Shape::Path => any.extend([json!({ "type": "string", "pattern": "^/+[^/]" }), template()]),
        Shape::Mode => any.extend([json!({ "type": "string", "pattern": "^[0-7]{3,4}$" }), template()]),
        Shape::Account => any.extend([
            json!({ "type": "string", "pattern": "^([0-9]+|[^-+0-9:][^:]*)$" }),
            json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX - 1 }),
            template(),
        ]),
        Shape::ModeRule => {
            let octal_or_symbolic = "^([0-7]{3,4}|[ugoa]+[-+=].*)$";
            any.extend([json!({ "type": "string", "pattern": octal_or_symbolic }), template()]);
        }
        Shape::BooleanOr(words) => any.extend([json!({ "type": "boolean" }), json!({ "enum": words }), template()]),
        Shape::Boolean => any.extend([json!({ "type": "boolean" }), template()]),
        Shape::Whole(max) => {
            let mut whole = json!({ "type": "integer", "minimum": 0 });
            if *max < u64::MAX {
                whole["maximum"] = (*max).into();
            }
            any.extend([whole, template()]);
        }
        Shape::OneOf(words) => any.extend([json!({ "enum": words }), template()]),
        Shape::Ssh => any.extend([json!({ "type": "string", "pattern": r"^[^@\s]+@[^@\s]+$" }), template()]),
        Shape::Fingerprint => any.extend([json!({ "type": "string", "pattern": "^SHA256:" }), template()]),
        Shape::PeriodName => any.extend([json!({ "type": "string", "pattern": r"\..*\{period\}" }), template()]),
        Shape::Table => any.extend([json!({ "type": "string", "pattern": r".\.." }), template()]),
        // YAML 1.1 reads the month 2025_07 and the day 2025_07_15 as numbers. A year is four digits and has to be in quotes.
        Shape::Period => any.extend([
            json!({ "type": "string", "pattern": PERIOD }),
            json!({ "type": "integer", "minimum": 100_000 }),
            template(),
        ]),
        Shape::NotEmpty => any.push(json!({ "type": "string", "minLength": 1 })),
        Shape::Branch => any.extend([json!({ "type": "string", "pattern": BRANCH }), template()]),
        Shape::Variable => any.extend([json!({ "type": "string", "pattern": NAME }), template()]),
        Shape::EnvName => any.push(json!({ "type": "string", "pattern": ENV_NAME })),
        Shape::DatabaseUrl => any.extend([json!({ "type": "string", "pattern": DATABASE_URL }), template()]),
        Shape::Positive(max) => {
            any.extend([json!({ "type": "integer", "minimum": 1, "maximum": max }), template()]);
        }
        Shape::Grantee => any.extend([json!({ "type": "string", "minLength": 1 }), grantee("group"), grantee("role")]),
        Shape::PathOrSource => any.extend([
            json!({ "type": "string", "pattern": "^/+[^/]" }),
            template(),
            json!({ "$ref": "#/definitions/secret_source" }),
        ]),
        Shape::Source => any.push(json!({ "$ref": "#/definitions/secret_source" })),
        Shape::List(item) => any.push(json!({ "type": "array", "items": value(item, false) })),
        Shape::Some(item) => any.push(json!({ "type": "array", "items": value(item, false), "minItems": 1 })),
        Shape::OneOrMany(item) => {
            any.extend([value(item, false), json!({ "type": "array", "items": value(item, false) })]);
        }
        Shape::OneOrSome(item) => {
            any.extend([value(item, false), json!({ "type": "array", "items": value(item, false), "minItems": 1 })]);
        }
        Shape::Keys(reference) => any.push(mapping(reference)),
        Shape::Named(item) => {
            let names = if matches!(item, Shape::Scalar) { VARIABLE } else { WORD };
            let names = json!({ "pattern": names });
            any.push(json!({ "type": "object", "propertyNames": names, "additionalProperties": value(item, false) }));
        }
    }
    if nullable {
        any.push(json!({ "type": "null" }));
    }
    match any.len() {
        1 => any.remove(0),
        _ => json!({ "anyOf": any }),
    }
}

fn grantee(word: &str) -> Value {
    json!({
        "type": "object",
        "properties": { word: { "type": "string" } },
        "required": [word],
        "additionalProperties": false,
    })
}
