//! A step for a private key that is there. The key itself is not written anywhere.

use serde_json::{Map, json};

use super::{Actual, Content, FileContent, KeyFile, KeyRead, Target};
use crate::host::users::as_root;
use crate::resource::Failure;
use crate::resource::adopt::{Adopted, MaybeProbe, PathKind, Subject, base_name, probe_of, put_ownership};
use crate::text::shell_word;

pub(super) fn probe(subject: &Subject) -> MaybeProbe<KeyFile> {
    match subject {
        Subject::Path(subject) if subject.found == PathKind::File => Some(probe_of(json!({ "path": subject.path }))),
        _ => None,
    }
}

pub(super) fn step(key_file: &KeyFile, actual: &Actual) -> Result<Adopted, Failure> {
    let path = key_file.path.to_string_lossy().into_owned();
    let Target::File(seen) = &actual.target else {
        return Err(Failure::new("it is no longer a file").hint("check what else is changing it, then run again"));
    };
    let facts = match &seen.content {
        FileContent::Read(Content { key: KeyRead::PrivateKey(facts), .. }) => facts,
        FileContent::Read(Content { key: KeyRead::Other(other), .. }) => {
            let file = shell_word(&key_file.path);
            let is_yaml = path.ends_with(".yml") || path.ends_with(".yaml");
            return Err(Failure::new(format!("it {}; of files, adopt supports only private keys", other.reason)).hint(
                if is_yaml {
                    format!("a value in a compose file is named by itself: --variable {file}:NAME")
                } else if other.is_something_else {
                    "write a step of the kind `file` for it: `provision init file` shows one".to_owned()
                } else {
                    other.remedy.replace("KEY", &file)
                },
            ));
        }
        FileContent::Denied => {
            return Err(Failure::new(format!("{} may not read it", actual.ownership.user())).hint(format!(
                "run it as root: `{}`",
                as_root(&format!("provision adopt {}", shell_word(&key_file.path)))
            )));
        }
        FileContent::TooLarge { size } => {
            return Err(Failure::new(format!("it has {size} bytes, and no key is that large")));
        }
    };
    let name = base_name(&path);
    let mut keys = Map::new();
    keys.insert("path".to_owned(), path.clone().into());
    keys.insert("source".to_owned(), json!(null));
    keys.insert("mode".to_owned(), seen.file.mode.to_string().into());
    put_ownership(&mut keys, seen.file.uid, seen.file.gid);
    let stem = name.trim_start_matches('.').split('.').next().unwrap_or_default().to_owned();
    Ok(Adopted {
        subject: path.clone(),
        title: format!("Private key {path}"),
        name,
        keys,
        secret: Some(("source", if stem.is_empty() { "key".to_owned() } else { stem })),
        comments: vec![
            format!("The key is {} {}.", facts.algorithm, facts.fingerprint),
            "`verify` can name the host that has to accept it; provision cannot tell which host that is.".to_owned(),
        ],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::adopt::PathSubject;

    fn key_file(path: &str) -> KeyFile {
        let subject = Subject::Path(PathSubject { path: path.to_owned(), found: PathKind::File, uid: 0 });
        probe(&subject).unwrap().unwrap().resource
    }

    fn actual(content: serde_json::Value) -> Actual {
        let mut target = json!({ "is": "file", "uid": 0, "gid": 0, "mode": "0400", "links": 1 });
        target["content"] = content;
        serde_json::from_value(json!({
            "owner": null, "group": null, "acting_uid": 1000, "may_set_group": true, "acting_name": "ubuntu",
            "source": null, "target": target,
        }))
        .unwrap()
    }

    #[test]
    fn a_key_is_adopted_without_itself() {
        let key = json!({ "is": "private_key", "algorithm": "ssh-ed25519", "fingerprint": "SHA256:abc" });
        let actual = actual(json!({ "content": "read", "digest": "0123", "key": key }));
        for (path, stem) in
            [("/srv/.ssh/id_ed25519", "id_ed25519"), ("/srv/bastion.pem", "bastion"), ("/srv/.key.pem", "key")]
        {
            let probe = probe_of::<KeyFile>(json!({ "path": path })).unwrap();
            let adopted = step(&probe.resource, &actual).unwrap();
            assert_eq!(adopted.secret, Some(("source", stem.to_owned())), "{path}");
            let keys: Vec<&String> = adopted.keys.keys().collect();
            assert_eq!(keys, ["path", "source", "mode", "owner", "group"]);
            assert!(adopted.comments[0].contains("SHA256:abc"), "{adopted:?}");
            assert!(!format!("{adopted:?}").contains("0123"), "{adopted:?}");
        }
    }

    #[test]
    fn other_files_are_refused_with_what_they_are() {
        let other = json!({ "is": "other", "reason": "is a public key", "remedy": "give the private key" });
        for (content, said) in [
            (json!({ "content": "read", "digest": "0123", "key": other }), "it is a public key"),
            (json!({ "content": "denied" }), "ubuntu may not read it"),
            (json!({ "content": "too_large", "size": 2_000_000 }), "2000000 bytes"),
        ] {
            let failure = step(&key_file("/srv/x.pub"), &actual(content)).unwrap_err();
            assert!(failure.message.contains(said), "{failure:?}");
        }
    }
}
