//! Owner and mode of single files and directories, for the kinds that set them.

use std::fs as std_fs;
use std::path::Path;

use super::super::context::ObserveContext;
use super::super::directory::Directory;
use super::super::file::File;
use super::super::key_file::KeyFile;
use crate::host::secret::Digester;
use crate::host::ssh::private_key_tests::keygen;
use crate::host::state::StateFolder;
use crate::host::testing::{as_user, attributes, chmod, chown, context, converge, desired, folder, plan, refused};

fn summaries<C: super::super::Change>(changes: &[C]) -> Vec<(String, Option<String>)> {
    changes.iter().map(|change| change.describe()).map(|described| (described.summary, described.risk)).collect()
}

fn risk(lost: &str) -> Option<String> {
    Some(format!("{lost} with the new owner or group, as with chown"))
}

fn file(path: &Path, more: &str) -> File {
    desired(&format!("{{ path: '{}', content: x, {more} }}", path.display()))
}

/// Creates a file of root with the content of [`file`].
fn with_mode(path: &Path, mode: u32) {
    std_fs::write(path, "x").unwrap();
    chown(path, 0, 0);
    chmod(path, mode);
}

fn files_context(folder: &Path) -> ObserveContext {
    ObserveContext::on_host(Digester::with_key([7; 32]), Default::default())
        .with_state_folder(StateFolder::at(folder.join("state")))
}

#[test]
fn desired_set_id_bits_are_set_again_after_a_new_owner_clears_them() {
    let folder = folder();
    let path = folder.path().join("f");
    let cx = files_context(folder.path());
    for (more, mode, then) in [
        ("owner: '50000', mode: '4755'", 0o4755, (50000, 0, 0o4755)),
        ("group: '50000', mode: '2755'", 0o2755, (0, 50000, 0o2755)),
        ("owner: '50000', group: '50000', mode: '6711'", 0o6755, (50000, 50000, 0o6711)),
    ] {
        with_mode(&path, mode);
        let done = converge(&file(&path, more), &cx, folder.path());
        let described = summaries(&done.changes);
        assert!(described[0].0.ends_with(&format!(", which changes mode {mode:04o} to 0755")), "{described:?}");
        assert_eq!(described[1], (format!("set mode {:04o}, was 0755", then.2), None), "{more}");
        assert_eq!((attributes(&path), &described[0].1), (then, &None), "{more}");
    }
}

#[test]
fn set_id_bits_that_a_new_owner_clears_are_a_risk() {
    let folder = folder();
    let path = folder.path().join("f");
    let cx = files_context(folder.path());
    for (more, mode, then, lost) in [
        ("owner: '50000'", 0o4755, 0o755, risk("setuid is lost")),
        ("group: '50000'", 0o2755, 0o755, risk("setgid is lost")),
        ("owner: '50000'", 0o6755, 0o755, risk("setuid and setgid are lost")),
        ("owner: '50000', mode: '2755'", 0o6755, 0o2755, None),
        // Without the group's execute bit it means mandatory locks, and chown keeps it.
        ("group: '50000'", 0o2644, 0o2644, None),
        ("owner: '50000', mode: '0755'", 0o4755, 0o755, None),
        ("owner: '50000'", 0o755, 0o755, None),
    ] {
        with_mode(&path, mode);
        let done = converge(&file(&path, more), &cx, folder.path());
        let described = summaries(&done.changes);
        assert_eq!((attributes(&path).2, &described[0].1), (then, &lost), "{more} on {mode:04o}: {described:?}");
    }
    // A replacement with another owner does not get the bits of the old file either.
    with_mode(&path, 0o4755);
    std_fs::write(&path, "old").unwrap();
    chmod(&path, 0o4755);
    let done = converge(&file(&path, "owner: '50000'"), &cx, folder.path());
    assert!(summaries(&done.changes)[0].0.contains("with mode 0755, was 4755"), "{:?}", done.changes);
}

#[test]
fn file_capabilities_that_a_new_owner_clears_are_a_risk() {
    let folder = folder();
    let path = folder.path().join("f");
    with_mode(&path, 0o755);
    // VFS_CAP_REVISION_2, effective, with only CAP_CHOWN.
    let value: Vec<u8> = [0x0200_0001_u32, 1, 0, 0, 0].iter().flat_map(|word| word.to_le_bytes()).collect();
    rustix::fs::setxattr(&path, "security.capability", &value, rustix::fs::XattrFlags::empty()).unwrap();
    let done = converge(&file(&path, "owner: '50000'"), &files_context(folder.path()), folder.path());
    assert_eq!(summaries(&done.changes)[0].1, risk("file capabilities are lost"));
}

#[test]
fn set_id_bits_of_keys_and_directories_follow_the_kernel() {
    let folder = folder();
    let key = std_fs::read(keygen(folder.path(), &["-t", "ed25519"])).unwrap();
    let path = folder.path().join("copy");
    std_fs::write(&path, &key).unwrap();
    for (mode, more) in [(0o4400, ""), (0o4400, ", mode: '4400'"), (0o2750, ", mode: '2750'")] {
        chown(&path, 0, 0);
        chmod(&path, mode);
        let step: KeyFile =
            desired(&format!("{{ path: '{}', source: {{ env: KEY }}, owner: '50000'{more} }}", path.display()));
        converge(&step, &context(Some(&key)), folder.path());
    }
    // A directory keeps them.
    let path = folder.path().join("d");
    std_fs::create_dir(&path).unwrap();
    chmod(&path, 0o6755);
    for more in ["owner: '50000'", "group: '50000', mode: '6755'"] {
        let step: Directory = desired(&format!("{{ path: '{}', {more} }}", path.display()));
        let done = converge(&step, &context(None), folder.path());
        let described = summaries(&done.changes);
        assert!(described.len() == 1 && described[0].1.is_none() && !described[0].0.contains("mode"), "{described:?}");
        assert_eq!(attributes(&path).2, 0o6755);
    }
}

#[test]
fn a_user_writes_its_own_file_with_set_id_bits() {
    let name = concat!(module_path!(), "::a_user_writes_its_own_file_with_set_id_bits");
    as_user(
        50000,
        name,
        |_| {},
        |folder| {
            let (path, cx) = (folder.join("own"), files_context(folder));
            std_fs::create_dir(&path).unwrap();
            let path = path.join("f");
            let own = path.parent().unwrap();
            converge(&file(&path, "mode: '4755'"), &cx, own);
            std_fs::write(&path, "old").unwrap();
            chmod(&path, 0o4755);
            converge(&file(&path, ""), &cx, own);
            assert_eq!(attributes(&path).2, 0o4755);
        },
    );
}

#[test]
fn the_command_that_finds_other_names_can_be_pasted() {
    // `find` reads the whole file system, and with it access times that other tests compare.
    let other_file_system = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tmp");
    std_fs::create_dir_all(&other_file_system).unwrap();
    let top = tempfile::tempdir_in(other_file_system).unwrap();
    let folder = top.path().join("it's here");
    std_fs::create_dir(&folder).unwrap();
    let (path, other) = (folder.join("f"), folder.join("other"));
    with_mode(&path, 0o644);
    std_fs::hard_link(&path, &other).unwrap();
    let finds = |hint: &str| {
        let is_it = |part: &&str| part.starts_with("find ") || part.starts_with("sudo find ");
        let command = hint.split('`').find(is_it).unwrap_or_else(|| panic!("{hint}"));
        let found = std::process::Command::new("bash").args(["-c", command]).output().unwrap();
        let found = String::from_utf8(found.stdout).unwrap();
        assert!(found.lines().any(|line| Path::new(line) == other), "{command}: {found}");
    };
    let yaml = |more: &str| format!("{{ path: \"{}\", {more} }}", path.display());
    let cx = files_context(top.path());
    finds(&refused::<File>(&desired(&yaml("content: x, mode: '0600'")), &cx).hint.unwrap());
    let note = plan::<File>(&desired(&yaml("content: new")), &cx).unwrap().unwrap().notes;
    finds(note.iter().find(|note| note.contains("other names")).unwrap());
    let step = format!("{{ path: \"{}\", owner: '50000', recursive: true }}", folder.display());
    finds(&refused::<Directory>(&desired(&step), &context(None)).hint.unwrap());
    let key = std_fs::read(keygen(top.path(), &["-t", "ed25519"])).unwrap();
    std_fs::write(&path, &key).unwrap();
    finds(&refused::<KeyFile>(&desired(&yaml("source: { env: KEY }")), &context(Some(&key))).hint.unwrap());
}
