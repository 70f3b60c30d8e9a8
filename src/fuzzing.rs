//! The targets of the fuzzers in `fuzz/`, which the tests also run on the committed corpora. Each function takes any
//! bytes and panics if a property does not hold. Compiled only for these two uses.
#![expect(clippy::panic, clippy::expect_used, reason = "a fuzzing failure is a panic")]

use std::sync::LazyLock;

use saphyr_parser::{Event, Parser};
use tokio::runtime::Runtime;

use crate::engine::journal;
use crate::host::warehouse::Dialect;
use crate::plan_file::{Inputs, PlanFile, Selection};
use crate::resource::AnyResource;
use crate::resource::compose_env::{dotenv, edit, interpolation};
use crate::resource::table::ddl::Ddl;
use crate::worker::frame::{self, Answer, Frame, Request};

/// A function that takes the bytes of one input.
pub type Target = fn(&[u8]);

/// The targets, with the names of their corpora.
pub const TARGETS: [(&str, Target); 6] = [
    ("plan_file", plan_file),
    ("compose", compose),
    ("dotenv", dot_env),
    ("ddl", ddl),
    ("protocol", protocol),
    ("journal", journal_lines),
];

/// Parses, checks, evaluates and explains a plan file, and renders its diagnostics.
pub fn plan_file(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut inputs = Inputs::default();
    inputs.env.insert("REDSHIFT_URL".into(), "postgresql://etl@127.0.0.1/warehouse".into());
    let plan_file = match PlanFile::parse("plan.yaml", text) {
        Ok(plan_file) => plan_file,
        Err(problems) => return drop(problems.to_string()),
    };
    drop(plan_file.validate(&inputs).map_err(|problems| problems.to_string()));
    drop(plan_file.describe(&[], &inputs).map_err(|problems| problems.to_string()));
    drop(plan_file.environment_names());
    match plan_file.evaluate(&inputs, &Selection::default()) {
        Ok(plan) => {
            for step in &plan.steps {
                assert_round_trip(&step.resource);
            }
        }
        Err(problems) => drop(problems.to_string()),
    }
}

/// A step's resource is the same after a trip through a frame.
fn assert_round_trip(resource: &AnyResource) {
    let sent = serde_json::to_string(resource).expect("a resource is serialisable");
    let received: AnyResource = serde_json::from_str(&sent).expect("a resource comes out of a frame");
    assert_eq!(sent, serde_json::to_string(&received).expect("a resource is serialisable"));
}

/// Edits a compose file. The first three lines of the input are the variable, the service (empty for all) and the
/// value.
///
/// # Panics
/// The edit changes anything but the variable's values, or a second edit changes something.
pub fn compose(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut parts = text.splitn(4, '\n');
    let (Some(variable), Some(service), Some(value), Some(source)) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return;
    };
    let service = Some(service).filter(|service| !service.is_empty());
    let edited = match edit::set(source, variable, service, value) {
        Ok(edited) => edited,
        Err(edit::EditError::Unproven { line }) => {
            panic!("the edit of line {line} was wrong, and only the check found it")
        }
        Err(_) => return,
    };
    let escaped = interpolation::escape(value);
    let item = format!("{variable}={escaped}");
    let (before, after) = (events(source), events(&edited));
    assert_eq!(before.len(), after.len(), "other events");
    for (old, new) in before.iter().zip(&after) {
        let set = matches!(new, Event::Scalar(text, ..) if *text == escaped || *text == item);
        let was = matches!(old, Event::Scalar(..) | Event::Alias(_));
        assert!(set && was || has_same_meaning(old, new), "{old:?} became {new:?}");
    }
    assert_eq!(edit::set(&edited, variable, service, value).as_ref(), Ok(&edited), "a second edit");
}

fn events(text: &str) -> Vec<Event<'_>> {
    Parser::new_from_str(text).map(|event| event.expect("text that was edited is YAML").0).collect()
}

/// Returns whether two events have the same meaning. The style of a scalar is ignored.
fn has_same_meaning(old: &Event<'_>, new: &Event<'_>) -> bool {
    match (old, new) {
        (Event::Scalar(old, _, anchor, tag), Event::Scalar(new, _, new_anchor, new_tag)) => {
            (old, anchor, tag) == (new, new_anchor, new_tag)
        }
        _ => old == new,
    }
}

/// Sets a variable in an `.env` file. The first two lines of the input are the name and the value.
///
/// # Panics
/// The variable does not have the value afterwards, or another variable has changed.
pub fn dot_env(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut parts = text.splitn(3, '\n');
    let (Some(name), Some(value), Some(source)) = (parts.next(), parts.next(), parts.next()) else { return };
    let is_name = !name.starts_with(|first: char| first.is_ascii_digit());
    if name.is_empty() || !is_name || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return;
    }
    let Ok(Some(edited)) = dotenv::set(source, name, value) else { return };
    let (before, after) = (dotenv::read(source), dotenv::read(&edited));
    let (before, after) = (before.expect("it was edited"), after.expect("what was edited can be read"));
    let found = dotenv::last(&after, name).expect("what was set is there");
    assert_eq!(found.value, dotenv::Value::Text(value.to_owned()));
    let others = |entries: &[dotenv::Entry]| {
        let others = entries.iter().filter(|entry| entry.name != name);
        others.map(|entry| (entry.name.clone(), entry.value.clone())).collect::<Vec<_>>()
    };
    assert_eq!(others(&before), others(&after), "another variable");
}

/// Parses a CREATE TABLE statement.
///
/// # Panics
/// The statement for PostgreSQL, without the parts that only Redshift supports, has other columns.
pub fn ddl(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(read) = Ddl::parse(text, None) else { return };
    let plain = read.sql(text, Dialect::Postgresql);
    let again = Ddl::parse(&plain, None).unwrap_or_else(|error| panic!("{plain}: {error}"));
    assert_eq!(read.shape, again.shape, "{plain}");
}

/// Parses frames as either side, and sends what was parsed.
///
/// # Panics
/// A frame is not parsed as it was sent.
pub fn protocol(bytes: &[u8]) {
    static RUNTIME: LazyLock<Runtime> =
        LazyLock::new(|| tokio::runtime::Builder::new_current_thread().build().expect("a runtime"));
    RUNTIME.block_on(async {
        frames::<Request>(bytes).await;
        frames::<Answer>(bytes).await;
    });
}

async fn frames<T: serde::Serialize + serde::de::DeserializeOwned>(mut bytes: &[u8]) {
    while let Ok(Some(read)) = frame::receive::<T>(&mut bytes).await {
        let mut sent = Vec::new();
        match &read {
            Frame::Message(message) => frame::send(&mut sent, message).await,
            Frame::Secret(name, secret) => frame::send_secret(&mut sent, name, secret.expose()).await,
        }
        .expect("a received frame can be sent");
        let again = frame::receive::<T>(&mut &sent[..]).await.expect("a frame is read").expect("there is a frame");
        let same = match (&read, &again) {
            (Frame::Message(read), Frame::Message(again)) => json(read) == json(again),
            (Frame::Secret(name, secret), Frame::Secret(same, again)) => {
                name == same && secret.expose() == again.expose()
            }
            _ => false,
        };
        assert!(same, "a frame changed on its way");
    }
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("a value parsed from JSON can be written as JSON")
}

/// Parses a journal, and writes the records again.
///
/// # Panics
/// The records differ after they are parsed again.
pub fn journal_lines(bytes: &[u8]) {
    let (records, _) = journal::parse(bytes);
    let text: String = records.iter().map(|record| json(record) + "\n").collect();
    assert_eq!(journal::parse(text.as_bytes()), (records, Vec::new()));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs every input of the corpora, including those that once found a bug.
    #[test]
    fn corpora_pass_every_target() {
        for (name, target) in TARGETS {
            let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
            let files: Vec<_> =
                std::fs::read_dir(&corpus).expect("a corpus").map(|entry| entry.unwrap().path()).collect();
            assert!(!files.is_empty(), "{} is empty", corpus.display());
            for file in files {
                println!("{}", file.display());
                target(&std::fs::read(&file).unwrap());
            }
        }
    }
}
