//! Tests the whole kind on real files.

use crate::failure::Failure;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::host::secret::{Digester, Secret};
use crate::host::testing::{as_user, attributes, chown, context, converge, desired, now, plan};
use crate::resource::compose_env::{Actual, Change, ComposeEnv};
use crate::resource::{Change as _, Diff, ExecuteContext, ObserveContext, Resource};

struct Host {
    home: TempDir,
    secret: Option<Secret>,
    step: ComposeEnv,
}

impl Host {
    fn new(compose: &str, value: Option<&str>) -> Self {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("docker-compose.yml");
        std::fs::write(&file, compose).unwrap();
        let step = serde_json::json!({ "file": file, "variable": "PW", "value": { "env": "PW" } });
        let secret = value.map(|value| Secret::new(value.as_bytes().to_vec()));
        Self { home, secret, step: serde_json::from_value(step).unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    fn write(&self, name: &str, text: &str, mode: u32) {
        std::fs::write(self.path(name), text).unwrap();
        std::fs::set_permissions(self.path(name), std::fs::Permissions::from_mode(mode)).unwrap();
    }

    fn context(&self) -> ObserveContext {
        ObserveContext::on_host(
            Digester::with_key([7; 32]),
            self.secret.clone().map(|secret| ("value".to_owned(), secret)).into_iter().collect(),
        )
    }

    fn observe(&self) -> Actual {
        now(self.step.observe(&self.context())).unwrap()
    }

    fn plan(&self) -> Result<Diff<Change>, Failure> {
        self.step.diff(&self.observe())
    }

    fn make(&self, change: &Change) -> Result<(), Failure> {
        now(self.step.execute(change, &ExecuteContext::new(self.context(), "run-1")))
    }

    /// Plans, makes the changes, and plans again. The second plan has to be empty.
    fn apply(&self) -> Diff<Change> {
        let diff = self.plan().unwrap();
        for change in &diff.changes {
            self.make(change).unwrap();
            let described = serde_json::to_string(&change.describe()).unwrap();
            assert!(!described.contains("s3cret") && !described.contains("old"), "{described}");
        }
        assert_eq!(self.plan().unwrap().changes, [], "a second plan");
        diff
    }
}

const LITERAL: &str = "services:\n  web:\n    environment:\n      PW: old # é\n";
const REFERENCE: &str = "services:\n  web:\n    environment:\n      PW: ${PASS:-none}\n      OTHER: x\n";

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().mode() & 0o7777
}

#[test]
fn a_literal_is_edited_and_owner_and_mode_are_kept() {
    let host = Host::new(LITERAL, Some("s3cret$1"));
    let file = host.path("docker-compose.yml");
    std::os::unix::fs::chown(&file, Some(4321), Some(4322)).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    let diff = host.apply();
    assert_eq!(diff.changes[0].describe().summary, "set PW in service web, line 4");
    assert!(diff.notes.is_empty(), "{:?}", diff.notes);
    assert_eq!(host.text("docker-compose.yml"), LITERAL.replace("old", "s3cret$$1"));
    let seen = file.metadata().unwrap();
    assert_eq!((seen.uid(), seen.gid(), mode(&file)), (4321, 4322, 0o640));
    assert_eq!(std::fs::read_dir(host.home.path()).unwrap().count(), 1, "litter");
}

#[test]
fn a_reference_is_kept_in_a_new_private_file() {
    let host = Host::new(REFERENCE, Some("s3cret 'x'"));
    std::os::unix::fs::chown(host.path("docker-compose.yml"), Some(4321), Some(4322)).unwrap();
    host.apply();
    assert_eq!(host.text("docker-compose.yml"), REFERENCE);
    assert_eq!(host.text(".env"), "PASS=\"s3cret 'x'\"\n");
    let seen = host.path(".env").metadata().unwrap();
    assert_eq!((seen.uid(), seen.gid(), mode(&host.path(".env"))), (4321, 4322, 0o600), "as the compose file");
}

/// The steps of several plan files edit one compose file, or create one `.env`, at the same time.
#[test]
fn edits_of_one_file_at_the_same_time_are_all_made() {
    const EDITORS: usize = 4;
    let names: Vec<String> = (0..EDITORS).map(|number| format!("V{number}")).collect();
    let compose = |value: &dyn Fn(&str) -> String| {
        let lines: String = names.iter().map(|name| format!("      {name}: {}\n", value(name))).collect();
        format!("services:\n  web:\n    environment:\n{lines}")
    };
    for round in 0..12 {
        let by_reference = round % 3 > 0;
        let text = compose(&|name| if by_reference { format!("${{{name}}}") } else { "old".to_owned() });
        let host = Host::new(&text, Some("s3cret"));
        if round % 3 == 2 {
            host.write(".env", "X=1\n", 0o600);
        }
        let context = host.context();
        let planned: Vec<(ComposeEnv, Vec<Change>)> = names
            .iter()
            .map(|name| {
                let mut step = host.step.clone();
                step.variable.clone_from(name);
                let changes = step.diff(&now(step.observe(&context)).unwrap()).unwrap().changes;
                (step, changes)
            })
            .collect();
        let start = std::sync::Barrier::new(EDITORS);
        std::thread::scope(|scope| {
            for (step, changes) in &planned {
                let (start, context) = (&start, &context);
                scope.spawn(move || {
                    start.wait();
                    for change in changes {
                        now(step.execute(change, &ExecuteContext::new(context.clone(), "run-1"))).unwrap();
                    }
                });
            }
        });
        let file = if by_reference { ".env" } else { "docker-compose.yml" };
        assert_eq!(host.text(file).matches("s3cret").count(), EDITORS, "{}", host.text(file));
        assert_eq!(mode(&host.path(file)) & 0o7077, if by_reference { 0 } else { 0o044 });
        // If three editors meet in one exchange, a file can remain, which the next run removes.
        for (step, _) in &planned {
            for change in step.diff(&now(step.observe(&context)).unwrap()).unwrap().changes {
                assert!(matches!(change, Change::RemoveLeftovers { .. }), "{change:?}");
                now(step.execute(&change, &ExecuteContext::new(context.clone(), "run-2"))).unwrap();
            }
        }
        assert_eq!(std::fs::read_dir(host.home.path()).unwrap().count(), 1 + usize::from(by_reference), "litter");
    }
}

#[test]
fn a_value_that_goes_elsewhere_too_is_told_or_refused() {
    let compose = "services:\n  web:\n    image: pg:${PW}\n    environment:\n      PW: ${PW}\n  db:\n    environment:\n      PW: ${PW}\n";
    let mut host = Host::new(compose, Some("s3cret"));
    host.write(".env", "PW=old\nB=${PW}/x\n", 0o600);
    let diff = host.plan().unwrap();
    let risk = diff.changes[0].describe().risk;
    assert_eq!(risk.as_deref(), Some("the value goes to other places too (B in .env; service web, line 3)"));
    host.step.service = Some("web".to_owned());
    let refusal = host.plan().unwrap_err();
    assert!(refusal.message.ends_with("service web shares its value with db through ${PW}"), "{}", refusal.message);
    // A value that is right already does not matter to other services.
    host.write(".env", "PW=s3cret\n", 0o600);
    assert_eq!(host.apply().changes, []);
    let own = compose.replacen("PW: ${PW}", "PW: ${OWN}", 1);
    std::fs::write(host.path("docker-compose.yml"), own).unwrap();
    let diff = host.apply();
    assert_eq!((diff.changes.len(), diff.changes[0].describe().risk), (1, None));
    assert_eq!(host.text(".env"), "PW=s3cret\nOWN='s3cret'\n");
}

#[test]
fn an_env_file_is_edited_and_made_private() {
    let host = Host::new(REFERENCE, Some("s3cret"));
    host.write(".env", "# c\r\nPASS=old # d\r\nB=2", 0o664);
    std::os::unix::fs::chown(host.path(".env"), Some(4321), Some(4322)).unwrap();
    host.apply();
    assert_eq!(host.text(".env"), "# c\r\nPASS=s3cret # d\r\nB=2");
    let seen = host.path(".env").metadata().unwrap();
    assert_eq!((seen.uid(), seen.gid(), mode(&host.path(".env"))), (4321, 4322, 0o600));
    // Only the mode changes, so the inode stays.
    std::fs::set_permissions(host.path(".env"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let diff = host.apply();
    assert!(matches!(&diff.changes[..], [Change::EnvFileMode { .. }]), "{:?}", diff.changes);
    assert_eq!(diff.notes, Vec::<String>::new(), "no container is the worse for it");
    assert_eq!(host.path(".env").metadata().unwrap().ino(), seen.ino());
}

#[test]
fn without_a_value_what_is_there_is_left_alone() {
    let host = Host::new(LITERAL, None);
    let diff = host.plan().unwrap();
    assert_eq!(
        (diff.changes.len(), diff.notes),
        (0, vec!["content not checked: environment variable PW is unset or empty".to_owned()])
    );
    let host = Host::new(REFERENCE, None);
    let refusal = host.plan().unwrap_err();
    assert_eq!(refusal.hint.as_deref(), Some("set the environment variable PW"));
}

#[test]
fn one_line_ending_is_no_part_of_the_value_from_any_source() {
    let mut host = Host::new(LITERAL, Some("s3cret\n"));
    for source in [r#"{"env": "PW"}"#, r#"{"file": "/x"}"#, r#"{"command": ["x"]}"#] {
        let step = serde_json::json!({ "file": host.step.file, "variable": "PW",
            "value": serde_json::from_str::<serde_json::Value>(source).unwrap() });
        host.step = serde_json::from_value(step).unwrap();
        host.apply();
        assert_eq!(host.text("docker-compose.yml"), LITERAL.replace("old", "s3cret"));
    }
}

#[test]
fn values_that_no_variable_can_hold_are_refused() {
    for (bytes, told) in [(&b"a\0b"[..], "NUL"), (&b"a\xff"[..], "UTF-8")] {
        let mut host = Host::new(LITERAL, None);
        host.secret = Some(Secret::new(bytes.to_vec()));
        assert!(host.plan().unwrap_err().message.contains(told));
    }
}

#[test]
fn invisible_ends_of_the_value_are_reported() {
    for (value, count) in [(" s3cret", 1), ("s3cret\n\n", 1), ("s3cret\n", 0)] {
        let warnings = Host::new(REFERENCE, Some(value)).plan().unwrap().warnings;
        let told = warnings.iter().filter(|warning| warning.starts_with("the secret from environment variable PW"));
        assert_eq!(told.count(), count, "{value:?}: {warnings:?}");
        assert!(!format!("{warnings:?}").contains("s3cret"), "{warnings:?}");
    }
}

#[test]
fn a_file_with_old_line_endings_has_a_remedy_that_works() {
    let host = Host::new(&LITERAL.replace('\n', "\r"), Some("s3cret"));
    let failure = host.plan().unwrap_err();
    assert!(failure.message.contains("its lines end with a carriage return alone"), "{failure:?}");
    let command = failure.hint.unwrap().split('`').nth(1).unwrap().to_owned();
    assert!(std::process::Command::new("bash").args(["-c", &command]).status().unwrap().success(), "{command}");
    assert_eq!(host.text("docker-compose.yml"), LITERAL);
    assert_eq!(host.plan().unwrap().changes.len(), 1);
}

/// Compose refuses the whole project then, so a follow-up would fail.
#[test]
fn an_env_file_that_a_service_needs_and_that_is_missing_is_reported() {
    for (more, name, is_reported) in [
        ("env_file: other.env", "other.env", true),
        ("env_file: [ { path: other.env } ]", "other.env", true),
        ("env_file: [ { path: other.env, required: false } ]", "other.env", false),
        ("env_file: [ { path: other.env, required: False } ]", "other.env", false),
        ("env_file: other.env\n    profiles: [ later ]", "other.env", false),
        // The step makes it.
        ("env_file: .env", ".env", false),
    ] {
        let text = REFERENCE.replace("web:", &format!("web:\n    {more}"));
        let host = Host::new(&text, Some("s3cret"));
        let warning = |plan: Diff<Change>| plan.warnings.into_iter().find(|warning| warning.contains(name));
        let found = warning(host.plan().unwrap());
        assert_eq!(found.is_some(), is_reported, "{more}: {found:?}");
        if let Some(found) = found {
            assert!(found.starts_with("Compose cannot use ") && found.contains("service web needs "), "{found}");
            host.write(name, "A=b\n", 0o600);
            assert_eq!(warning(host.plan().unwrap()), None, "{more}");
        }
    }
}

#[test]
fn what_stands_in_the_place_of_a_file_is_refused() {
    let host = Host::new(REFERENCE, Some("s3cret"));
    symlink("/etc/passwd", host.path(".env")).unwrap();
    assert!(host.plan().unwrap_err().message.contains(".env is a symlink, not a file"));
    std::fs::rename(host.path("docker-compose.yml"), host.path("real.yml")).unwrap();
    symlink("real.yml", host.path("docker-compose.yml")).unwrap();
    assert!(host.plan().unwrap_err().hint.unwrap().contains("another project to Docker Compose"));
    std::fs::remove_file(host.path("docker-compose.yml")).unwrap();
    assert!(host.plan().unwrap_err().message.contains("does not exist"));
    std::fs::create_dir(host.path("docker-compose.yml")).unwrap();
    assert!(host.plan().unwrap_err().message.contains("is a directory"));
    std::fs::remove_dir(host.path("docker-compose.yml")).unwrap();
    nix::unistd::mkfifo(&host.path("docker-compose.yml"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(host.plan().unwrap_err().message.contains("is a FIFO"));
    host.home.close().unwrap();
}

#[test]
fn a_missing_directory_is_a_missing_file() {
    let mut host = Host::new(LITERAL, Some("s3cret"));
    let step = serde_json::json!({ "file": host.path("not/there.yml"), "variable": "PW", "value": null });
    host.step = serde_json::from_value(step).unwrap();
    assert!(host.plan().unwrap_err().message.contains("does not exist"));
}

#[test]
fn a_change_is_not_made_to_a_file_that_is_another_now() {
    let host = Host::new(LITERAL, Some("s3cret"));
    let diff = host.plan().unwrap();
    let other = LITERAL.replace("web:", "web:\n    image: x");
    std::fs::write(host.path("docker-compose.yml"), &other).unwrap();
    assert!(host.make(&diff.changes[0]).unwrap_err().message.contains("has changed since"));
    assert_eq!(host.text("docker-compose.yml"), other);
}

#[test]
fn what_an_interrupted_run_left_is_removed() {
    let host = Host::new(LITERAL, Some("s3cret"));
    for name in ["docker-compose.yml", ".env"] {
        let hash = blake3::hash(name.as_bytes()).to_hex();
        host.write(&format!(".provision-{}-{:016x}", &hash[..12], 5), "half", 0o600);
    }
    let diff = host.apply();
    assert!(
        matches!(&diff.changes[0], Change::RemoveLeftovers { names, .. } if names.len() == 2),
        "{:?}",
        diff.changes
    );
    assert_eq!(std::fs::read_dir(host.home.path()).unwrap().count(), 1);
}

#[test]
fn observing_leaves_no_trace() {
    let host = Host::new(REFERENCE, Some("s3cret"));
    host.write(".env", "PASS=formerly\n", 0o644);
    let seen = || {
        ["docker-compose.yml", ".env", "."].map(|name| {
            let seen = host.path(name).metadata().unwrap();
            let times = [seen.atime_nsec(), seen.mtime_nsec(), seen.ctime_nsec()];
            (seen.ino(), seen.mode(), seen.atime(), times)
        })
    };
    let before = seen();
    let actual = host.observe();
    assert_eq!(seen(), before);
    let sent = serde_json::to_string(&actual).unwrap();
    assert!(!sent.contains("s3cret") && !sent.contains("formerly"), "{sent}");
    assert_eq!(serde_json::from_str::<Actual>(&sent).unwrap(), actual);
}

#[test]
fn a_step_is_read_strictly() {
    let read = |text: &str| serde_yaml::from_str::<ComposeEnv>(text).map_err(|error| error.to_string());
    for nothing in ["", "\nvalue: null"] {
        assert_eq!(read(&format!("file: /a/b.yml\nvariable: PW{nothing}")).unwrap().value, None, "{nothing}");
    }
    for (wrong, told) in [
        ("file: a.yml\nvariable: PW", "not absolute"),
        ("file: /a.yml\nvariable: 'P W'", "not a valid variable name"),
        ("file: /a.yml\nvariable: 1P", "not a valid variable name"),
        ("file: /a.yml\nvariable: ''", "not a valid variable name"),
        ("file: /a.yml\nvariable: PW\nvalu: 1", "unknown field `valu`"),
        ("file: /a.yml\nvariable: PW\nvalue: { env: A, file: /b }", "exactly one of"),
        ("file: /a.yml\nvariable: PW\nvalue: {}", "exactly one of"),
        ("file: /a.yml\nvariable: PW\nvalue: { file: pw.txt }", "`pw.txt` is not absolute"),
        ("file: /a.yml\nvariable: PW\nvalue: { evn: A }", "unknown field `evn`"),
        ("file: /a.yml\nvariable: PW\nvalue: s3cret", "a plan file must not contain secrets"),
        ("file: /a.yml\nvariable: PW\nvalue: 53", "a plan file must not contain secrets"),
        ("variable: PW", "missing field `file`"),
    ] {
        let error = read(wrong).unwrap_err();
        assert!(error.contains(told), "{wrong}: {error}");
        assert!(!error.contains("s3cret") && !error.contains("53"), "{error}");
    }
}

#[test]
fn the_fixtures_hold() {
    crate::resource::fixtures::check::<ComposeEnv>();
}

#[test]
fn a_user_keeps_what_is_his_and_leaves_what_is_not() {
    const USER: u32 = 50000;
    let name = concat!(module_path!(), "::a_user_keeps_what_is_his_and_leaves_what_is_not");
    let prepare = |folder: &Path| {
        for (file, owner) in [("own.yml", USER), ("other.yml", 0)] {
            std::fs::write(folder.join(file), format!("{LITERAL}      REF: ${{PASS}}\n")).unwrap();
            chown(&folder.join(file), owner, USER);
        }
    };
    as_user(USER, name, prepare, |folder| {
        let step = |file: &str, variable: &str| -> ComposeEnv {
            let file = folder.join(file);
            desired(&format!("file: {}\nvariable: {variable}\nvalue: {{ env: PW }}", file.display()))
        };
        let cx = context(Some(b"s3cret"));
        converge(&step("own.yml", "PW"), &cx, folder);
        assert_eq!(attributes(&folder.join("own.yml")).0, USER);
        let refusal = plan(&step("other.yml", "PW"), &cx).unwrap().unwrap_err();
        assert!(refusal.message.contains("other.yml belongs to root"), "{}", refusal.message);
        // The file belongs to another user, but the .env file has to belong to the acting user.
        converge(&step("other.yml", "REF"), &cx, folder);
        assert_eq!(attributes(&folder.join(".env")), (USER, USER, 0o600));
    });
}
