//! A step for a directory that is there. What is below it is nobody's business unless a person says so.

use serde_json::{Map, json};

use super::{Actual, Directory, Found};
use crate::resource::Failure;
use crate::resource::adopt::{Adopted, MaybeProbe, PathKind, Subject, base_name, probe_of, put_ownership};

pub(super) fn probe(subject: &Subject) -> MaybeProbe<Directory> {
    match subject {
        Subject::Path(subject) if subject.found == PathKind::Directory => {
            Some(probe_of(json!({ "path": subject.path })))
        }
        _ => None,
    }
}

pub(super) fn step(directory: &Directory, actual: &Actual) -> Result<Adopted, Failure> {
    let path = directory.path.to_string_lossy().into_owned();
    let Found::Directory(seen) = &actual.found else {
        return Err(Failure::new("it is no longer a directory").hint("check what else is changing it, then run again"));
    };
    let mut keys = Map::new();
    keys.insert("path".to_owned(), path.clone().into());
    put_ownership(&mut keys, seen.uid, seen.gid);
    keys.insert("mode".to_owned(), seen.mode.to_string().into());
    let title = format!("Directory {path}");
    Ok(Adopted { subject: path.clone(), name: base_name(&path), title, keys, ..Adopted::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::adopt::PathSubject;
    use crate::resource::directory::Seen;
    use crate::resource::value::Mode;

    fn subject(found: PathKind) -> Subject {
        Subject::Path(PathSubject { path: "/srv/app/logs".to_owned(), found, uid: 0 })
    }

    #[test]
    fn a_directory_is_adopted_with_owner_group_and_mode() {
        let probe = probe(&subject(PathKind::Directory)).unwrap().unwrap();
        assert_eq!(probe.run_as, None);
        let actual: Actual = serde_json::from_value(json!({
            "owner": null, "group": null, "acting_uid": 0, "may_set_group": true,
            "found": { "is": "directory", "uid": 0, "gid": 3_123_456_789_u32, "mode": "2750", "tree": null },
        }))
        .unwrap();
        let adopted = step(&probe.resource, &actual).unwrap();
        assert_eq!(
            serde_json::to_string(&adopted.keys).unwrap(),
            r#"{"path":"/srv/app/logs","owner":"root","group":"3123456789","mode":"2750"}"#
        );
        assert_eq!((adopted.name.as_str(), adopted.title.as_str()), ("logs", "Directory /srv/app/logs"));
        // What was written converges on what was observed.
        let written: Directory = serde_json::from_value(adopted.keys.into()).unwrap();
        assert!(written.diff_of(&actual).changes.is_empty());
    }

    impl Directory {
        fn diff_of(&self, actual: &Actual) -> crate::resource::Diff<super::super::Change> {
            let mut actual = actual.clone();
            let Found::Directory(seen) = &actual.found else { unreachable!() };
            let Seen { uid, gid, .. } = **seen;
            actual.ownership.owner = Some(crate::resource::value::Identity { id: uid, name: None });
            actual.ownership.group = Some(crate::resource::value::Identity { id: gid, name: None });
            super::super::diff::diff(self, &actual).unwrap()
        }
    }

    #[test]
    fn only_a_plain_directory_is_taken() {
        assert!(probe(&subject(PathKind::Checkout)).is_none());
        assert!(probe(&subject(PathKind::File)).is_none());
        let gone = Actual {
            found: Found::Missing {
                missing_parents: Vec::new(),
                denied: None,
                default_mode: Mode::from_bits(0o755),
                foreign_group: None,
            },
            ..serde_json::from_value(json!({
                "owner": null, "group": null, "acting_uid": 0, "may_set_group": true,
                "found": { "is": "other", "kind": "file" },
            }))
            .unwrap()
        };
        let directory = probe(&subject(PathKind::Directory)).unwrap().unwrap().resource;
        assert!(step(&directory, &gone).unwrap_err().message.contains("no longer a directory"));
    }
}
