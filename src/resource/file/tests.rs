use super::rescue::id_in;
use std::fs as std_fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use super::*;
use crate::host::secret::Digester;
use crate::host::state::StateFolder;
use crate::host::testing::{
    as_user, attributes, chmod, chown, converge, desired, folder, now, plan, refused, snapshot,
};
use crate::resource::{Action, Change as _, Rescue, Restoring};

fn file(path: &Path, more: &str) -> File {
    desired(&format!("{{ path: '{}', {more} }}", path.display()))
}

/// Creates a context for a step whose secrets have these values. The state folder is beside the step's own directory.
fn context(folder: &Path, secrets: &[(&str, &str)]) -> ObserveContext {
    let secrets = secrets.iter().map(|(name, value)| ((*name).to_owned(), Secret::copy_of(value.as_bytes())));
    ObserveContext::on_host(Digester::with_key([7; 32]), secrets.collect())
        .with_state_folder(StateFolder::at(folder.join("state")))
}

/// Creates a directory for a step, beside the one with its state.
fn places() -> (tempfile::TempDir, std::path::PathBuf) {
    let top = folder();
    let own = top.path().join("own");
    std_fs::create_dir(&own).unwrap();
    (top, own)
}

fn rescues(wanted: &File, cx: &ObserveContext) -> Vec<Rescue> {
    match wanted.rescue(&RescueRequest::List, &ExecuteContext::new(cx.clone(), "list")).unwrap() {
        RescueAnswer::List(rescues) => rescues,
        other => panic!("{other:?}"),
    }
}

#[test]
fn fixtures() {
    crate::resource::fixtures::check::<File>();
}

#[test]
fn a_missing_file_is_made_with_its_parents() {
    let (top, own) = places();
    chown(&own, 1000, 1000);
    let path = own.join("app/conf.d/app.conf");
    let wanted = file(&path, "content: \"a = 1\\n\", owner: '50000', group: '50001'");
    let cx = context(top.path(), &[]);
    let done = converge(&wanted, &cx, &own);
    assert_eq!(done.changes.len(), 1);
    let described = done.changes[0].describe();
    assert_eq!((described.action, described.risk), (Action::Create, None));
    assert_eq!(described.diff.as_deref(), Some("@@ -0,0 +1 @@\n+a = 1\n"));
    assert_eq!(std_fs::read_to_string(&path).unwrap(), "a = 1\n");
    assert_eq!((attributes(&path), attributes(path.parent().unwrap())), ((50000, 50001, 0o644), (1000, 1000, 0o755)));
    let before = snapshot(top.path());
    assert!(converge(&wanted, &cx, &own).changes.is_empty());
    assert_eq!(snapshot(top.path()), before);
    assert!(!top.path().join("state").exists());
}

#[test]
fn another_content_is_rescued_and_replaced() {
    let (top, own) = places();
    let path = own.join("app.conf");
    std_fs::write(&path, "a = 1\nmine = yes\n").unwrap();
    chmod(&path, 0o664);
    chown(&path, 50000, 50001);
    rustix::fs::setxattr(&path, "user.note", b"kept", rustix::fs::XattrFlags::empty()).unwrap();
    let inode = path.metadata().unwrap().ino();
    let wanted = file(&path, "content: \"a = 2\\n\"");
    let cx = context(top.path(), &[]);
    let done = converge(&wanted, &cx, &own);
    let described = done.changes[0].describe();
    assert_eq!(described.diff.as_deref(), Some("@@ -1,2 +1 @@\n-a = 1\n-mine = yes\n+a = 2\n"));
    assert_eq!(described.risk.as_deref(), Some("what is in the file now is rescued and replaced"));
    assert_eq!(
        (std_fs::read_to_string(&path).unwrap().as_str(), attributes(&path)),
        ("a = 2\n", (50000, 50001, 0o664))
    );
    let mut value = [0; 10];
    assert_eq!(rustix::fs::getxattr(&path, "user.note", &mut value[..]).unwrap(), 4);
    assert_ne!(path.metadata().unwrap().ino(), inode);
    assert_eq!(std_fs::read_dir(&own).unwrap().count(), 1);

    let rescues = rescues(&wanted, &cx);
    let id = |run: &str| id_in(run, path.to_str().unwrap());
    assert_eq!((rescues.len(), &rescues[0].id), (1, &id("test")));
    assert!(rescues[0].subject.contains("17 bytes, mode 0664"), "{}", rescues[0].subject);
    assert_eq!(attributes(Path::new(&rescues[0].place)), (0, 0, 0o600));
    let cx = ExecuteContext::new(cx, "later");
    let shown = wanted.rescue(&RescueRequest::Show(id("test")), &cx).unwrap();
    assert_eq!(shown, RescueAnswer::Show(b"a = 1\nmine = yes\n".to_vec()));
    let restore = RescueRequest::Restore(Restoring { id: id("test"), ..Restoring::default() });
    let RescueAnswer::Restore { paths, notes } = wanted.rescue(&restore, &cx).unwrap() else { panic!() };
    assert_eq!((paths.len(), notes.len()), (1, 2), "{notes:?}");
    assert_eq!(std_fs::read_to_string(&path).unwrap(), "a = 1\nmine = yes\n");
    assert_eq!(attributes(&path), (50000, 50001, 0o664));
    // The replaced content is rescued as well. A second restore has nothing to do.
    assert_eq!(super::rescue::content(&cx, &wanted.path, &id("later")).unwrap(), b"a = 2\n");
    let RescueAnswer::Restore { paths, .. } = wanted.rescue(&restore, &cx).unwrap() else { panic!() };
    assert!(paths.is_empty());
}

#[test]
fn a_rescue_is_told_by_its_file_and_its_id() {
    let (top, own) = places();
    let (one, other) = (own.join("one"), own.join("other"));
    let cx = context(top.path(), &[]);
    for path in [&one, &other] {
        std_fs::write(path, format!("of {}", path.display())).unwrap();
        converge(&file(path, "content: new"), &cx, &own);
    }
    let expected = [&one, &other].map(|path| vec![id_in("test", path.to_str().unwrap())]);
    let of_other = expected[1][0].clone();
    let (one, other) = (file(&one, "content: new"), file(&other, "content: new"));
    let ids = |wanted: &File| rescues(wanted, &cx).into_iter().map(|rescue| rescue.id).collect::<Vec<_>>();
    assert_eq!([ids(&one), ids(&other)], expected);
    let cx = ExecuteContext::new(cx.clone(), "later");
    for id in [of_other.as_str(), "../rescues/test", "", "none", "."] {
        let failure = one.rescue(&RescueRequest::Show(id.to_owned()), &cx).unwrap_err();
        assert!(failure.message.contains("has no rescue"), "{id}: {failure}");
    }
}

#[test]
fn a_run_that_was_cut_off_after_its_rescue_keeps_no_second_one() {
    let (top, own) = places();
    let path = own.join("app.conf");
    std_fs::write(&path, "mine\n").unwrap();
    let wanted = file(&path, "content: new");
    let cx = context(top.path(), &[]);
    let seen = Place::find(&path).unwrap().parent().unwrap().read("app.conf".as_ref(), 100).unwrap().unwrap();
    let first = ExecuteContext::new(cx.clone(), "first");
    super::rescue::keep(&first, &wanted.path, &seen).unwrap();
    std_fs::write(top.path().join("state/rescues/.provision-0123456789ab-0123456789abcdef"), "half").unwrap();
    converge(&wanted, &cx, &own);
    let ids: Vec<String> = rescues(&wanted, &cx).into_iter().map(|rescue| rescue.id).collect();
    assert_eq!(ids, [id_in("first", path.to_str().unwrap())]);
    assert_eq!(std_fs::read_dir(top.path().join("state/rescues")).unwrap().count(), 1);
}

#[test]
fn secrets_are_in_the_file_and_nowhere_else() {
    let (top, own) = places();
    let path = own.join("app.conf");
    let more = "content: [{ text: 'password = ' }, { secret: db }, { text: \"\\n\" }], secrets: { db: { env: DB } }";
    let wanted = file(&path, more);
    let cx = context(top.path(), &[("db", "hunter2\n")]);
    let observed = serde_json::to_string(&now(wanted.observe(&cx)).unwrap()).unwrap();
    let done = converge(&wanted, &cx, &own);
    assert_eq!(std_fs::read_to_string(&path).unwrap(), "password = hunter2\n");
    assert_eq!(attributes(&path).2, 0o600);
    let rotated = context(top.path(), &[("db", "hunter3")]);
    // Meanwhile, everyone may read the file.
    chmod(&path, 0o644);
    let again = converge(&wanted, &rotated, &own);
    assert_eq!((std_fs::read_to_string(&path).unwrap().as_str(), attributes(&path).2), ("password = hunter3\n", 0o600));
    let told = serde_json::to_string(&(observed, &done.changes, &again.changes, done.changes[0].describe())).unwrap();
    assert!(
        !told.contains("hunter") && !format!("{wanted:?}{}", wanted.manual().join("\n")).contains("hunter"),
        "{told}"
    );
    assert!(again.changes[0].describe().summary.contains("not shown: it holds secrets"));
    assert_eq!(attributes(&top.path().join("state/rescues").join(id_in("test", path.to_str().unwrap()))).2, 0o600);
}

#[test]
fn invisible_ends_of_secrets_are_reported() {
    let (top, own) = places();
    let wanted = file(&own.join("app.conf"), "content: [{ secret: db }], secrets: { db: { env: DB } }");
    let planned = plan(&wanted, &context(top.path(), &[("db", "hunter2\t\n")])).unwrap().unwrap();
    let told = "the secret from environment variable DB ends with a tab, and is used with that";
    assert!(planned.warnings.len() == 1 && planned.warnings[0].starts_with(told), "{:?}", planned.warnings);
    assert!(plan(&wanted, &context(top.path(), &[("db", "hunter2\n")])).unwrap().unwrap().warnings.is_empty());
}

#[test]
fn a_secret_that_is_not_given_leaves_the_file_and_blocks_a_missing_one() {
    let (top, own) = places();
    let path = own.join("app.conf");
    let wanted = file(&path, "content: [{ secret: db }], secrets: { db: { env: DB } }, mode: '0640'");
    let cx = context(top.path(), &[]);
    let failure = refused(&wanted, &cx);
    assert!(failure.message.contains("environment variable DB is unset or empty"), "{failure}");
    assert_eq!(failure.hint.as_deref(), Some("set the environment variable DB"));
    std_fs::write(&path, "mine").unwrap();
    let done = converge(&wanted, &cx, &own);
    assert!(done.unchecked);
    assert_eq!((std_fs::read_to_string(&path).unwrap().as_str(), attributes(&path).2), ("mine", 0o640));
}

#[test]
fn the_content_of_a_file_that_not_everyone_may_read_is_not_shown() {
    let (top, own) = places();
    let path = own.join("app.conf");
    std_fs::write(&path, "password = hunter2\n").unwrap();
    chmod(&path, 0o600);
    let wanted = file(&path, "content: new");
    let cx = context(top.path(), &[]);
    assert!(!serde_json::to_string(&now(wanted.observe(&cx)).unwrap()).unwrap().contains("hunter2"));
    let described = plan(&wanted, &cx).unwrap().unwrap().changes[0].describe();
    assert_eq!(described.diff, None);
    assert!(described.summary.contains("not everyone may read the file that is there"), "{}", described.summary);
}

#[test]
fn what_is_no_file_of_its_own_is_left_alone() {
    let (top, own) = places();
    let cx = context(top.path(), &[]);
    let path = own.join("app.conf");
    let wanted = file(&path, "content: new, mode: '0600'");
    symlink("elsewhere", &path).unwrap();
    assert!(refused(&wanted, &cx).message.ends_with("is a symlink, not a file"));
    std_fs::remove_file(&path).unwrap();
    std_fs::create_dir(&path).unwrap();
    assert!(refused(&wanted, &cx).message.ends_with("is a directory, not a file"));
    std_fs::remove_dir(&path).unwrap();
    // With a second name, new content replaces the file under this name only, and changes of owner and mode are refused.
    std_fs::write(&path, "old").unwrap();
    std_fs::hard_link(&path, own.join("other")).unwrap();
    let done = converge(&wanted, &cx, &own);
    assert!(done.notes.iter().any(|note| note.contains("other names (2 hard links)")), "{:?}", done.notes);
    assert_eq!(std_fs::read_to_string(own.join("other")).unwrap(), "old");
    std_fs::hard_link(&path, own.join("third")).unwrap();
    chmod(&path, 0o644);
    assert!(refused(&wanted, &cx).message.contains("has 2 hard links"));
}

#[test]
fn a_file_that_was_written_to_after_the_plan_is_not_replaced() {
    let (top, own) = places();
    let path = own.join("app.conf");
    std_fs::write(&path, "old").unwrap();
    let wanted = file(&path, "content: new");
    let cx = context(top.path(), &[]);
    let planned = plan(&wanted, &cx).unwrap().unwrap();
    std_fs::write(&path, "newer, by hand").unwrap();
    let failure = now(wanted.execute(&planned.changes[0], &ExecuteContext::new(cx, "test"))).unwrap_err();
    assert!(failure.message.contains("was changed meanwhile"), "{failure}");
    assert_eq!(std_fs::read_to_string(&path).unwrap(), "newer, by hand");
}

/// Somebody may have denied others access to it, for instance.
#[test]
fn a_file_whose_mode_or_owner_changed_after_the_plan_is_not_replaced() {
    for change in [|path: &Path| chmod(path, 0o600), |path: &Path| chown(path, 50000, 0)] {
        let (top, own) = places();
        let path = own.join("app.conf");
        std_fs::write(&path, "old").unwrap();
        chmod(&path, 0o644);
        let wanted = file(&path, "content: new");
        let cx = context(top.path(), &[]);
        let planned = plan(&wanted, &cx).unwrap().unwrap();
        change(&path);
        let now_has = attributes(&path);
        let failure = now(wanted.execute(&planned.changes[0], &ExecuteContext::new(cx, "test"))).unwrap_err();
        assert!(failure.message.contains("was changed meanwhile"), "{failure}");
        assert_eq!((std_fs::read_to_string(&path).unwrap().as_str(), attributes(&path)), ("old", now_has));
    }
}

#[test]
fn a_user_works_with_its_own_rights() {
    let name = concat!(module_path!(), "::a_user_works_with_its_own_rights");
    as_user(
        50000,
        name,
        |folder| {
            std_fs::write(folder.join("roots"), "old").unwrap();
            std_fs::create_dir(folder.join("own")).unwrap();
            chown(&folder.join("own"), 50000, 50000);
        },
        |folder| {
            let cx = context(folder, &[]);
            let failure = refused(&file(&folder.join("roots"), "content: new"), &cx);
            assert!(failure.message.contains("belongs to root"), "{failure}");
            let path = folder.join("own/app.conf");
            std_fs::write(&path, "old").unwrap();
            converge(&file(&path, "content: new"), &cx, &folder.join("own"));
            assert_eq!(std_fs::read_to_string(&path).unwrap(), "new");
            // If nothing can be rescued, nothing is replaced, and the plan says so.
            let nowhere = cx.with_state_folder(StateFolder::at("/proc/provision".into()));
            let failure = refused(&file(&path, "content: newer"), &nowhere);
            assert!(failure.message.contains("cannot be rescued: the state folder /proc/provision"), "{failure}");
            chmod(&path, 0);
            let failure = refused(&file(&path, "content: newer"), &context(folder, &[]));
            assert!(failure.message.contains("may not read"), "{failure}");
        },
    );
}

#[test]
fn lines_are_shown_escaped_and_cut() {
    let shown = |old: &str, new: &str| super::text_diff::compare(old, new).unwrap();
    let crlf = shown("a\r\nb\n", "a\nb\n");
    assert_eq!(crlf.lines, "@@ -1,2 +1,2 @@\n-a\\x0d\n+a\n b\n");
    assert_eq!(shown("a", "a\n").lines, "@@ -1 +1 @@\n-a\n\\ No newline at end of file\n+a\n");
    assert_eq!(shown("", "\u{1b}[31m\u{202e}x").lines.lines().nth(1), Some("+\\x1b[31m\\xe2\\x80\\xaex"));
    let many: String = (0..500).map(|number| format!("{number}\n")).collect();
    let cut = shown("", &many);
    assert_eq!((cut.added, cut.removed, cut.lines.lines().count()), (500, 0, 101));
    assert!(cut.lines.ends_with("… 401 more lines\n"), "{}", cut.lines);
    assert!(shown("", &"x".repeat(1000)).lines.contains("x…\n"));
    // A change in a long text is shown. Long texts that have no line in common are not compared.
    let long: String = (0..9000).map(|number| format!("{number}\n")).collect();
    assert_eq!(shown(&long, &long.replace("4500\n", "changed\n")).added, 1);
    assert!(super::text_diff::compare(&long, &long.replace('\n', "x\n")).is_none());
}

#[test]
fn keys_that_do_not_fit_together_are_refused() {
    for (more, told) in [
        ("", "a file needs its `content`"),
        ("content: null", "a file needs its `content`"),
        ("content: a, template: { file: t, text: b }", "not both"),
        ("content: a, secrets: { 'a b': { env: X } }", "cannot have this name"),
        ("content: a, secrets: { a: hunter2 }", "must not contain secrets"),
        ("content: a, source: { env: X }", "unknown field"),
        ("content: 5", "a string"),
    ] {
        let yaml = format!("{{ path: /x, {more} }}");
        let read = File::read(serde_yaml::Deserializer::from_str(&yaml));
        let error = match read {
            Ok(read) => read.unwrap_err().to_string(),
            Err(error) => error.to_string(),
        };
        assert!(error.contains(told) && !error.contains("hunter2"), "{more}: {error}");
    }
    assert!(serde_yaml::from_str::<File>("{ path: /x, content: '', secrets: null }").is_ok());
}

#[test]
fn what_is_typed_by_hand_makes_the_same_file() {
    let (top, own) = places();
    let path = own.join("it's/app.conf");
    let cx = context(top.path(), &[("db", "it's \"quoted\"")]);
    for content in [
        "\"port = 1\\n\\n'quoted'\\n\"",
        "\"no line ending\"",
        "''",
        "[{ text: 'password = ' }, { secret: db }, { text: \"\\n\" }]",
        "[{ secret: db }]",
    ] {
        let yaml = format!("{{ path: \"{}\", content: {content}, secrets: {{ db: {{ env: DB }} }} }}", path.display());
        let wanted: File = desired(&yaml);
        let script = wanted.manual().join("\n");
        let mut bash = std::process::Command::new("bash");
        let status = bash.args(["-euo", "pipefail", "-c", &script]).env("DB", "it's \"quoted\"").status().unwrap();
        assert!(status.success(), "{script}");
        assert!(plan(&wanted, &cx).unwrap().unwrap().changes.is_empty(), "{script}");
    }
}

#[test]
#[expect(unsafe_code, reason = "there is no safe way to ignore a signal")]
fn a_replacement_that_fails_keeps_no_rescue() {
    let name = concat!(module_path!(), "::a_replacement_that_fails_keeps_no_rescue");
    as_user(
        50000,
        name,
        |_| {},
        |folder| {
            let path = folder.join("app.conf");
            std_fs::write(&path, "mine").unwrap();
            let cx = context(folder, &[]);
            // This is larger than the file size limit of this process.
            let wanted = file(&path, &format!("content: {}", "x".repeat(20_000)));
            let planned = plan(&wanted, &cx).unwrap().unwrap();
            // SAFETY: no handler is installed, the signal is only ignored.
            unsafe { nix::sys::signal::signal(nix::sys::signal::SIGXFSZ, nix::sys::signal::SigHandler::SigIgn) }
                .unwrap();
            nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_FSIZE, 10_000, 10_000).unwrap();
            let apply = |run: &str| {
                let failure =
                    now(wanted.execute(&planned.changes[0], &ExecuteContext::new(cx.clone(), run))).unwrap_err();
                assert!(failure.message.starts_with("cannot write"), "{failure}");
                assert_eq!(std_fs::read_to_string(&path).unwrap(), "mine");
                rescues(&wanted, &cx).into_iter().map(|rescue| rescue.id).collect::<Vec<_>>()
            };
            assert!(apply("a").is_empty());
            // The rescue of an interrupted run stays.
            let seen = Place::find(&path).unwrap().parent().unwrap().read("app.conf".as_ref(), 100).unwrap().unwrap();
            super::rescue::keep(&ExecuteContext::new(cx.clone(), "b"), &wanted.path, &seen).unwrap();
            assert_eq!(apply("c"), [id_in("b", path.to_str().unwrap())]);
        },
    );
}
