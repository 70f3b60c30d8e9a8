use std::fs as std_fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use super::*;
use crate::host::ssh::private_key_tests::keygen;
use crate::host::testing::{
    as_user, attributes, chmod, chown, context, converge, desired, folder, now, plan, refused, snapshot,
};
use crate::resource::{Action, Change as _};

fn key_file(path: &Path, more: &str) -> KeyFile {
    desired(&format!("{{ path: '{}', source: {{ file: /somewhere }}, {more} }}", path.display()))
}

/// Returns two different keys.
fn keys() -> (Vec<u8>, Vec<u8>) {
    let folder = folder();
    let read = |more: &[&str]| std_fs::read(keygen(folder.path(), more)).unwrap();
    (read(&["-t", "ed25519"]), read(&["-t", "ecdsa"]))
}

fn summaries(diff: &Diff<Change>) -> Vec<String> {
    diff.changes.iter().map(|change| change.describe().summary).collect()
}

#[test]
fn fixtures() {
    crate::resource::fixtures::check::<KeyFile>();
}

#[test]
fn missing_keys_are_installed_with_their_parents() {
    let (key, _) = keys();
    let folder = folder();
    chown(folder.path(), 1000, 1000);
    let path = folder.path().join("etl/ssh/server.pem");
    let step = key_file(&path, "owner: '50000', group: '50001'");
    let done = converge(&step, &context(Some(&key)), folder.path());
    assert_eq!(done.changes.len(), 1);
    assert_eq!(done.changes[0].describe().action, Action::Create);
    assert_eq!(std_fs::read(&path).unwrap(), key);
    assert_eq!(attributes(&path), (50000, 50001, 0o400));
    assert_eq!(attributes(path.parent().unwrap()), (1000, 1000, 0o755));
    let before = snapshot(folder.path());
    assert!(converge(&step, &context(Some(&key)), folder.path()).changes.is_empty());
    assert_eq!(snapshot(folder.path()), before);
}

#[test]
fn the_summary_of_a_replacement_is_a_sentence_whatever_the_file_is() {
    let (key, _) = keys();
    let folder = folder();
    let path = folder.path().join("key");
    for (content, was) in [
        ("hello\n", "a file that is not a private key (no BEGIN … PRIVATE KEY line)"),
        ("<html>", "a file that is a web page"),
    ] {
        std_fs::write(&path, content).unwrap();
        chmod(&path, 0o400);
        let planned = plan(&key_file(&path, ""), &context(Some(&key))).unwrap().unwrap();
        let start = format!("replace {was} by ssh-ed25519 SHA256:");
        assert!(summaries(&planned)[0].starts_with(&start), "{:?}", summaries(&planned));
    }
}

#[test]
fn rotated_keys_keep_their_owner() {
    let (old, new) = keys();
    let folder = folder();
    let path = folder.path().join("key");
    std_fs::write(&path, &old).unwrap();
    chmod(&path, 0o644);
    chown(&path, 50000, 50001);
    let inode = path.metadata().unwrap().ino();
    let done = converge(&key_file(&path, ""), &context(Some(&new)), folder.path());
    let description = done.changes[0].describe();
    assert!(description.summary.starts_with("replace ssh-ed25519 SHA256:"), "{}", description.summary);
    assert!(description.summary.contains(" by ecdsa-sha2-nistp256 SHA256:"), "{}", description.summary);
    assert!(description.risk.unwrap().ends_with("is not backed up"));
    assert!(done.notes[0].contains("a container that mounts"));
    assert_eq!((std_fs::read(&path).unwrap(), attributes(&path)), (new, (50000, 50001, 0o400)));
    assert_ne!(path.metadata().unwrap().ino(), inode);
    assert_eq!(std_fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn keys_whose_mode_or_owner_changed_after_the_plan_are_not_replaced() {
    let (old, new) = keys();
    for change in [|path: &Path| chmod(path, 0o400), |path: &Path| chown(path, 50000, 0)] {
        let folder = folder();
        let path = folder.path().join("key");
        std_fs::write(&path, &old).unwrap();
        chmod(&path, 0o600);
        let (step, cx) = (key_file(&path, "mode: '0600'"), context(Some(&new)));
        let planned = plan(&step, &cx).unwrap().unwrap();
        change(&path);
        let now_has = attributes(&path);
        let failure = now(step.execute(&planned.changes[0], &ExecuteContext::new(cx, "test"))).unwrap_err();
        assert!(failure.message.contains("was changed meanwhile"), "{failure}");
        assert_eq!((std_fs::read(&path).unwrap(), attributes(&path)), (old.clone(), now_has));
    }
}

#[test]
fn line_endings_removed_by_a_shell_are_restored() {
    let folder = folder();
    for more in [&["-t", "ed25519"][..], &["-t", "ecdsa", "-m", "PEM"]] {
        let key = std_fs::read(keygen(folder.path(), more)).unwrap();
        let cut = key.strip_suffix(b"\n").unwrap();
        let path = folder.path().join("copy");
        let from_env: KeyFile = desired(&format!("{{ path: '{}', source: {{ env: KEY }} }}", path.display()));
        converge(&from_env, &context(Some(cut)), folder.path());
        assert_eq!(std_fs::read(&path).unwrap(), key);
        assert!(converge(&from_env, &context(Some(&key)), folder.path()).changes.is_empty());
    }
}

#[test]
fn other_names_of_the_old_key_are_reported() {
    let (old, new) = keys();
    let folder = folder();
    let path = folder.path().join("key");
    std_fs::write(&path, &old).unwrap();
    std_fs::hard_link(&path, folder.path().join("other")).unwrap();
    let done = converge(&key_file(&path, ""), &context(Some(&new)), folder.path());
    assert!(done.notes.iter().any(|note| note.contains("other names (2 hard links)")), "{:?}", done.notes);
    assert_eq!(std_fs::read(folder.path().join("other")).unwrap(), old);
}

#[test]
fn mode_and_owner_are_set_in_place() {
    let (key, _) = keys();
    let folder = folder();
    let path = folder.path().join("key");
    std_fs::write(&path, &key).unwrap();
    chmod(&path, 0o644);
    let inode = path.metadata().unwrap().ino();
    let step = key_file(&path, "owner: '50000', group: '50000', mode: '0440'");
    for source in [Some(&key[..]), None] {
        chown(&path, 0, 0);
        chmod(&path, 0o644);
        let done = converge(&step, &context(source), folder.path());
        assert_eq!(summaries(&done), ["set owner 50000 and group 50000, was root:root", "set mode 0440, was 0644"]);
        assert_eq!(done.notes.len(), usize::from(source.is_none()));
        assert_eq!(attributes(&path), (50000, 50000, 0o440));
    }
    assert_eq!(path.metadata().unwrap().ino(), inode);
}

#[test]
fn invalid_sources_replace_nothing() {
    let (key, _) = keys();
    let folder = folder();
    let path = folder.path().join("key");
    std_fs::write(&path, &key).unwrap();
    let before = snapshot(folder.path());
    for wrong in ["", "<html>", "ssh-ed25519 AAAA user@host", "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n"] {
        let refusal = refused(&key_file(&path, ""), &context(Some(wrong.as_bytes())));
        assert!(refusal.message.starts_with("the source /somewhere "), "{}", refusal.message);
        assert!(refusal.hint.is_some());
    }
    assert_eq!(snapshot(folder.path()), before);
}

#[test]
fn missing_keys_without_a_source_are_refused_with_a_hint() {
    let folder = folder();
    let path = folder.path().join("key").display().to_string();
    for (source, hint) in [
        ("null", "add `source` to the step"),
        ("{ file: null }", "--var key_source=PATH"),
        ("{ env: BASTION_KEY }", "environment variable BASTION_KEY"),
    ] {
        let step: KeyFile = desired(&format!("{{ path: '{path}', source: {source} }}"));
        let refusal = refused(&step, &context(None));
        assert!(refusal.hint.as_ref().unwrap().contains(hint), "{refusal:?}");
    }
}

#[test]
fn entries_that_are_not_files_are_left_alone() {
    let (key, _) = keys();
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    std_fs::create_dir(at("directory")).unwrap();
    std_fs::write(at("real"), &key).unwrap();
    symlink("real", at("link")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, at("fifo"), rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
    for (name, what) in [("directory", "is a directory"), ("link", "is a symlink"), ("fifo", "is a FIFO")] {
        let refusal = refused(&key_file(&at(name), "mode: '0600'"), &context(Some(&key)));
        assert!(refusal.message.contains(what), "{name}: {}", refusal.message);
    }
    assert_eq!(attributes(&at("real")).2, 0o644);
}

#[test]
fn hard_linked_keys_are_replaced_but_never_changed() {
    let (old, new) = keys();
    let folder = folder();
    let (path, other) = (folder.path().join("key"), folder.path().join("other"));
    std_fs::write(&path, &old).unwrap();
    std_fs::hard_link(&path, &other).unwrap();
    let refusal = refused(&key_file(&path, ""), &context(Some(&old)));
    assert!(refusal.message.contains("has 2 hard links"), "{}", refusal.message);
    converge(&key_file(&path, "owner: '50000'"), &context(Some(&new)), folder.path());
    assert_eq!((std_fs::read(&other).unwrap(), attributes(&other)), (old, (0, 0, 0o644)));
}

#[test]
fn huge_sparse_files_are_rejected() {
    let (key, _) = keys();
    let folder = folder();
    let path = folder.path().join("key");
    std_fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
    assert!(refused(&key_file(&path, ""), &context(Some(&key))).message.contains("is too large for a key"));
}

#[test]
fn leftovers_of_a_killed_run_are_removed() {
    let (key, _) = keys();
    let folder = folder();
    let path = folder.path().join("key");
    std_fs::write(&path, &key).unwrap();
    chmod(&path, 0o400);
    let left = format!(".provision-{}-0123456789abcdef", &blake3::hash(b"key").to_hex()[..12]);
    std_fs::write(folder.path().join(&left), &key[..10]).unwrap();
    let done = converge(&key_file(&path, ""), &context(Some(&key)), folder.path());
    assert_eq!(summaries(&done), ["remove leftovers of an interrupted run"]);
    assert!(!folder.path().join(left).exists());
}

#[test]
fn users_can_replace_their_own_unreadable_files() {
    let name = concat!(module_path!(), "::users_can_replace_their_own_unreadable_files");
    let prepare = |folder: &Path| {
        std_fs::create_dir(folder.join("closed")).unwrap();
        std_fs::write(folder.join("roots"), "").unwrap();
        chmod(&folder.join("roots"), 0o600);
        std_fs::write(folder.join("grouped"), "").unwrap();
        chown(&folder.join("grouped"), 50000, 4);
        // ssh-keygen does not create keys for a user without an account.
        std_fs::write(folder.join("source"), keys().0).unwrap();
    };
    as_user(50000, name, prepare, |folder| {
        let key = std_fs::read(folder.join("source")).unwrap();
        let cx = context(Some(&key));
        let shut = folder.join("shut");
        std_fs::write(&shut, &key).unwrap();
        chmod(&shut, 0);
        let done = converge(&key_file(&shut, ""), &cx, folder);
        assert!(summaries(&done)[0].starts_with("replace a file that cannot be read by"));
        chmod(&shut, 0);
        let without = crate::host::testing::context(None);
        let planned = plan(&key_file(&shut, ""), &without).unwrap().unwrap();
        assert_eq!(summaries(&planned), ["set mode 0400, was 0000"]);
        now(key_file(&shut, "").execute(&planned.changes[0], &ExecuteContext::new(without, "test"))).unwrap();
        assert_eq!(attributes(&shut).2, 0o400);
        for (name, more, expected) in [
            ("roots", "", "uid 50000 is not allowed to replace"),
            ("grouped", "", "uid 50000 is not allowed to give the file that replaces"),
            ("closed/key", "", "may not write to"),
            ("new", "owner: root", "not allowed to change the owner of"),
        ] {
            let refusal = refused(&key_file(&folder.join(name), more), &cx);
            assert!(refusal.message.contains(expected), "{name}: {}", refusal.message);
        }
        converge(&key_file(&folder.join("a/new"), ""), &cx, folder);
        assert_eq!(attributes(&folder.join("a/new")), (50000, 50000, 0o400));
    });
}

#[test]
fn output_never_contains_the_key() {
    let (key, _) = keys();
    let folder = folder();
    let step = key_file(&folder.path().join("key"), "");
    let cx = context(Some(&key));
    let actual = now(step.observe(&cx)).unwrap();
    let diff = step.diff(&actual).unwrap();
    let mut shown = serde_json::to_string(&actual).unwrap();
    shown.push_str(&serde_json::to_string(&diff).unwrap());
    shown.push_str(&serde_json::to_string(&diff.changes[0].describe()).unwrap());
    shown.push_str(&format!("{actual:?}{diff:?}{cx:?}", cx = cx.secret()));
    let text = String::from_utf8(key).unwrap();
    for line in text.lines().filter(|line| !line.starts_with('-')) {
        assert!(!shown.contains(&line[..line.len().min(16)]));
    }
    assert!(shown.contains("SHA256:"));
}

#[test]
fn a_null_host_disables_the_proof() {
    let (key, _) = keys();
    let folder = folder();
    let path = folder.path().join("key");
    for verify in ["verify: null", "verify: { ssh: null, host_key: null, required: null, retire: null }"] {
        let planned = plan(&key_file(&path, verify), &context(Some(&key))).unwrap().unwrap();
        assert_eq!((planned.notes.len(), planned.warnings.len()), (0, 0), "{verify}");
    }
}

#[test]
fn unreachable_hosts_warn_or_block() {
    let (old, new) = keys();
    let folder = folder();
    let path = folder.path().join("key");
    std_fs::write(&path, &old).unwrap();
    chmod(&path, 0o400);
    let before = snapshot(folder.path());
    // Nothing listens on port 1.
    let verify = |more: &str| key_file(&path, &format!("verify: {{ ssh: 'etl@127.0.0.1:1', {more} }}"));
    let refusal = refused(&verify("required: true"), &context(Some(&new)));
    assert!(refusal.message.contains("cannot reach 127.0.0.1:1"), "{}", refusal.message);
    let planned = plan(&verify(""), &context(Some(&old))).unwrap().unwrap();
    assert!(planned.changes.is_empty() && planned.warnings[0].contains("is not proven"), "{:?}", planned.warnings);
    assert_eq!(snapshot(folder.path()), before);
    let done = converge(&verify("retire: true"), &context(Some(&new)), folder.path());
    assert!(done.warnings[0].contains("is not proven"), "{:?}", done.warnings);
    assert!(done.notes[0].contains("still accepts the old key"), "{:?}", done.notes);
    assert_eq!((std_fs::read(&path).unwrap(), std_fs::read_dir(folder.path()).unwrap().count()), (new, 1));
}

#[test]
fn backups_of_an_interrupted_run_are_handled() {
    let (old, new) = keys();
    let folder = folder();
    let path = folder.path().join("key");
    let kept = folder.path().join(format!(".provision-{}-0123456789abcdef.kept", &blake3::hash(b"key").to_hex()[..12]));
    std_fs::write(&kept, &old).unwrap();
    std_fs::write(&path, &new).unwrap();
    chmod(&path, 0o400);
    let step = key_file(&path, "");
    assert_eq!(
        summaries(&converge(&step, &context(Some(&new)), folder.path())),
        ["remove the backup of the old key that an interrupted run left"]
    );
    // Killed before the new key took the name: one inode with two names.
    std_fs::hard_link(&path, &kept).unwrap();
    assert_eq!(converge(&step, &context(Some(&old)), folder.path()).changes.len(), 2);
    assert_eq!((std_fs::read(&path).unwrap(), std_fs::read_dir(folder.path()).unwrap().count()), (old.clone(), 1));
    // By now a third key is desired.
    std_fs::write(&kept, &new).unwrap();
    let (third, _) = keys();
    let done = converge(&step, &context(Some(&third)), folder.path());
    assert!(summaries(&done)[0].starts_with("restore ecdsa-sha2-nistp256 SHA256:"), "{:?}", summaries(&done));
    assert!(summaries(&done)[1].starts_with("replace ecdsa-sha2-nistp256 SHA256:"), "{:?}", summaries(&done));
    assert_eq!((std_fs::read(&path).unwrap(), std_fs::read_dir(folder.path()).unwrap().count()), (third, 1));
}

#[test]
fn manual_lines_are_shell_commands() {
    let step: KeyFile = desired("{ path: /srv/ssh/k.pem, source: { file: /tmp/k }, owner: etl, mode: null }");
    assert_eq!(step.manual(), ["mkdir -p /srv/ssh", "sudo install -o etl -m 0400 /tmp/k /srv/ssh/k.pem"]);
    let step: KeyFile = desired("{ path: /k, source: { env: KEY }, verify: { ssh: a@b } }");
    assert_eq!(step.manual()[1], r#"printf '%s\n' "$(printenv KEY)" | install -m 0400 /dev/stdin /k"#);
    let options = "-o IdentitiesOnly=yes -o BatchMode=yes";
    assert_eq!(step.manual()[2], format!("ssh -i /k {options} a@b true"));
    let both: KeyFile = desired("{ path: /k, source: { file: /tmp/k }, verify: { ssh: 'a@b:2222' } }");
    assert_eq!(both.manual()[1], format!("ssh -i /tmp/k {options} -p 2222 a@b true"));
    assert_eq!(both.manual()[3], format!("ssh -i /k {options} -p 2222 a@b true"));
    assert_eq!(step.site().secrets(), [("source", &SecretSource::plain(Origin::Env("KEY".into())))]);
}
