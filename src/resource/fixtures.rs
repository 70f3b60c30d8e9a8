//! Runs the fixtures `fixtures/diff/<kind>/<case>/{desired,actual,changes}.yaml`: pure tests of `diff` for every kind.

use crate::failure::Failure;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Diff, Resource};

/// The expected result of a case: a diff or a failure.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Expected<C> {
    Refused { refused: Failure },
    Diff(Diff<C>),
}

/// Checks each case of the kind `R`. There have to be at least twelve.
pub fn check<R: Resource>() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/diff").join(R::INFO.name);
    let mut cases: Vec<_> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    cases.sort();
    assert!(cases.len() >= 12, "{}: {} cases, expected at least 12", folder.display(), cases.len());
    for case in cases {
        let read = |name: &str| {
            let path = case.join(name);
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        };
        let yaml = |error: serde_yaml::Error| -> String { format!("{}: {error}", case.display()) };
        let desired: R = serde_yaml::from_str(&read("desired.yaml")).map_err(yaml).unwrap();
        let actual: R::Actual = serde_yaml::from_str(&read("actual.yaml")).map_err(yaml).unwrap();
        let expected: Expected<R::Change> = serde_yaml::from_str(&read("changes.yaml")).map_err(yaml).unwrap();
        let found = match desired.diff(&actual) {
            Ok(diff) => Expected::Diff(diff),
            Err(refused) => Expected::Refused { refused },
        };
        let show = |value: &Expected<R::Change>| serde_yaml::to_string(value).unwrap();
        assert_eq!(show(&found), show(&expected), "{}", case.display());
        // A worker may be in between, so the state has to survive serialization.
        let sent: R::Actual = serde_json::from_str(&serde_json::to_string(&actual).unwrap()).unwrap();
        assert_eq!(serde_json::to_value(&sent).unwrap(), serde_json::to_value(&actual).unwrap(), "{}", case.display());
    }
}
