//! Compares the tables of keys with the types that read them, checks the schema with a validator, and checks every plan file of
//! the project against the schema.

use std::collections::BTreeSet;
use std::path::Path;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde_json::Value;

use super::*;
use crate::host::warehouse::{ConnectionSpec, TunnelSpec};
use crate::plan_file::project::{INVALID, VALID, plan_files, unseen_by_the_schema};
use crate::plan_file::{Inputs, PlanFile};
use crate::resource::reference::GRANT;
use crate::resource::{KIND_NAMES, KindVisitor, Resource, key_file, relation, visit_kinds};
use crate::text::layout::{self, Layout};

/// A deserializer that records the names of the fields that a type asks for, and provides none.
struct Fields<'a>(&'a mut Vec<&'static str>);

impl<'de> Deserializer<'de> for Fields<'_> {
    type Error = de::value::Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Self::Error> {
        self.0.extend(fields);
        Err(de::Error::custom("noted"))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        Err(de::Error::custom("not a struct"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

fn fields<T: for<'de> Deserialize<'de>>() -> Vec<&'static str> {
    let mut fields = Vec::new();
    assert!(T::deserialize(Fields(&mut fields)).is_err());
    fields.sort_unstable();
    fields
}

fn described(reference: &Reference) -> Vec<&'static str> {
    let mut names: Vec<&str> = reference.keys.iter().map(|key| key.name).collect();
    names.sort_unstable();
    names
}

#[test]
fn every_key_that_is_read_is_described_and_the_reverse() {
    struct Compare;
    impl KindVisitor for Compare {
        fn visit<T: Resource>(&mut self) {
            assert_eq!(fields::<T>(), described(T::REFERENCE), "{}", T::INFO.name);
        }
    }
    visit_kinds(&mut Compare);
    let verify = key_file::KeyFile::REFERENCE.key("verify").unwrap().shape.nested().unwrap();
    assert_eq!(fields::<key_file::Verify>(), described(verify));
    assert_eq!(fields::<relation::Grant>(), described(&GRANT));
    assert_eq!(fields::<ConnectionSpec>(), described(&CONNECTION));
    assert_eq!(fields::<TunnelSpec>(), described(&TUNNEL));
    let mut step = crate::plan_file::read::STEP.to_vec();
    step.sort_unstable();
    assert_eq!(step, described(&STEP));
    let mut top = crate::plan_file::read::TOP.to_vec();
    top.sort_unstable();
    assert_eq!(top, described(&PLAN_FILE));
}

fn validate(text: &str) -> Result<(), String> {
    let checked = PlanFile::parse("x.yaml", text).and_then(|plan| plan.validate(&Inputs::default()));
    checked.map_err(|problems| problems.to_string())
}

#[test]
fn what_init_writes_is_valid_as_it_is_and_for_the_schema() {
    let validator = validator();
    let all: Vec<String> = KIND_NAMES.iter().map(|kind| (*kind).to_owned()).collect();
    for kinds in all.iter().map(std::slice::from_ref).chain([&all[..], &[]]) {
        let text = example(kinds).unwrap();
        assert_eq!(validate(&text), Ok(()), "{text}");
        assert!(validator.is_valid(&json(&text).unwrap()), "{text}");
        // Each key that is commented out is valid too.
        let lines: Vec<&str> = text.lines().collect();
        for (index, line) in lines.iter().enumerate() {
            let Some(key) = line.trim_start().strip_prefix("# ") else { continue };
            let is_key = topics()
                .iter()
                .flat_map(|(_, topic)| topic.keys)
                .any(|known| key.strip_prefix(known.name).is_some_and(|rest| rest.starts_with(": ")));
            if !is_key {
                continue;
            }
            let mut lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
            lines[index] = line.replacen("# ", "", 1).replace("[code]", "[]");
            if ["dir_mode", "file_mode", "exclude"].iter().any(|name| key.starts_with(name)) {
                let recursive = lines.iter().position(|line| line.trim() == "# recursive: owner").unwrap();
                lines[recursive] = lines[recursive].replacen("# ", "", 1);
            }
            if key.starts_with("secrets: ") {
                // A declared secret has to be used.
                let content = lines.iter_mut().find(|line| line.trim_start().starts_with("content: ")).unwrap();
                *content = format!(
                    "{}content: \"{{{{ secret('db') }}}}\"",
                    " ".repeat(content.len() - content.trim_start().len())
                );
            }
            if key.starts_with("template: ") {
                lines.retain(|line| !line.trim_start().starts_with("content: "));
            }
            let text = lines.join("\n");
            assert_eq!(validate(&text), Ok(()), "{text}");
            assert!(validator.is_valid(&json(&text).unwrap()), "{text}");
        }
    }
    let failure = example(&["directry".to_owned()]).unwrap_err();
    assert_eq!(failure.hint.as_deref(), Some("did you mean `directory`?"));
}

#[test]
fn a_kind_and_a_key_are_explained() {
    let layout = Layout { columns: Some(80) };
    let explain = |word: &str| explain(word, layout);
    let text = |word: &str| explain(word).unwrap().unwrap();
    assert!(text("directory").contains("hard_links"));
    assert!(text("directory.mode").contains("octal"));
    assert!(text("key_file.verify").contains("host_key") && text("key_file.verify.ssh").contains("etl@"));
    assert!(text("key_file.source").contains("command"));
    assert!(text("step").contains("max_changes") && text("plan_file.connections.tunnel.key").contains("private key"));
    assert!(explain("repo").is_none());
    let failure = explain("directory.ownr").unwrap().unwrap_err();
    assert_eq!(failure.hint.as_deref(), Some("did you mean `owner`?"));
    assert!(explain("directory.mode.x").unwrap().is_err() && explain("directory.").unwrap().is_err());
}

fn validator() -> jsonschema::Validator {
    jsonschema::draft7::new(&schema()).unwrap()
}

#[test]
fn explanations_fit_the_terminal() {
    for (name, _) in topics() {
        for columns in [60, 80, 120] {
            let text = explain(name, Layout { columns: Some(columns) }).unwrap().unwrap();
            for line in text.lines() {
                // Examples can be copied into a plan file.
                let is_example = line.contains(": ");
                assert!(layout::width(line) <= columns || is_example, "{name}: {line}");
            }
        }
    }
}

/// Returns a plan file as JSON. A key that YAML reads as null is a word in plan files.
fn json(text: &str) -> Option<Value> {
    fn convert(value: serde_yaml::Value) -> Option<Value> {
        Some(match value {
            serde_yaml::Value::Sequence(items) => Value::Array(items.into_iter().map(convert).collect::<Option<_>>()?),
            serde_yaml::Value::Mapping(pairs) => Value::Object(
                pairs
                    .into_iter()
                    .map(|(key, value)| {
                        let key = if key.is_null() { "null".to_owned() } else { key.as_str()?.to_owned() };
                        Some((key, convert(value)?))
                    })
                    .collect::<Option<_>>()?,
            ),
            serde_yaml::Value::Tagged(_) => return None,
            scalar => serde_json::to_value(scalar).ok()?,
        })
    }
    convert(serde_yaml::from_str(text).ok()?)
}

#[test]
fn every_valid_plan_file_passes_the_schema() {
    let validator = validator();
    for path in VALID.map(plan_files).concat() {
        let value = json(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let errors: Vec<String> =
            validator.iter_errors(&value).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert!(errors.is_empty(), "{}: {errors:?}", path.display());
    }
}

#[test]
fn every_invalid_plan_file_that_a_schema_can_see_fails_it() {
    let validator = validator();
    let mut passed = BTreeSet::new();
    for path in plan_files(INVALID) {
        let Some(value) = json(&std::fs::read_to_string(&path).unwrap()) else { continue };
        if validator.is_valid(&value) {
            passed.insert(path.file_stem().unwrap().to_str().unwrap().to_owned());
        }
    }
    // tests/contract/schema.rs checks the list with the validators that people use.
    assert_eq!(passed, unseen_by_the_schema("serde_yaml"));
}

#[test]
fn the_reference_document_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference.md");
    let document = document();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &document).unwrap();
    }
    assert!(std::fs::read_to_string(&path).unwrap_or_default() == document, "run `make docs`");
}
