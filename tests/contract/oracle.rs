//! The runbook as oracle. From many generated starting states, its own commands on one copy of a host and `provision
//! apply` on another have to leave the same files, repository and tables.
//!
//! The comparison allows for these intended differences:
//! - A rescue keeps what is moved out of the way under `refs/provision/rescue`. The runbook keeps nothing.
//! - An untracked file in the way of a commit is rescued. The runbook stops there (`git stash` leaves the file, and the
//!   second pull aborts like the first), so the file is removed first on its copy of the host, as a person would have
//!   to do. A file that is only in the way of the branch switch is put aside and back again by the runbook. We go to
//!   the head directly and leave the file alone.
//! - If any file is in the way, `git stash` and `stash drop` lose all local changes. Ours keep those that are not in
//!   the way. So does a file whose index entry already equals the head: git skips it.
//! - Runs are recorded under `~/.local/state/provision` to detect interrupted runs. The runbook keeps no record.
//! - Unpushed commits are refused (law 5), while `git pull` merges or aborts depending on the user's configuration.
//!   They are not generated.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::sandbox::{BARE, CHECKOUT, COMPOSE, KEY, KEY_SOURCE, LOGS, PLAN, Sandbox, Snapshot, random_word};

/// One starting state.
#[derive(Debug, Clone)]
struct State {
    checkout: Checkout,
    logs: Logs,
    key: Key,
    key_given: bool,
    compose: Compose,
    password_given: bool,
    /// One bit for each table that already exists.
    tables: u16,
}

#[derive(Debug, Clone)]
enum Checkout {
    Missing,
    Empty,
    Cloned { branch: Branch, behind: u8, edits: Vec<(File, Edit)> },
}

#[derive(Debug, Clone, Copy)]
enum Branch {
    CatalogQuery,
    Main,
    Detached,
}

/// Files by how the remote's newer commits affect them.
#[derive(Debug, Clone, Copy, PartialEq)]
enum File {
    /// Modified.
    Dag,
    /// Added.
    Late,
    /// Removed.
    Alerts,
    /// Not at all.
    Model,
    /// Not at all, because it was never tracked.
    Notes,
}

#[derive(Debug, Clone, Copy)]
enum Edit {
    Write,
    Stage,
    Delete,
    StageDelete,
}

#[derive(Debug, Clone, Copy)]
enum Logs {
    Missing,
    /// Owned by the user with this id, with some files of others.
    Owned(u32),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Key {
    Missing,
    Right,
    Stale,
    TooOpen,
}

#[derive(Debug, Clone, Copy)]
enum Compose {
    Placeholder,
    Old,
    Right,
}

impl File {
    fn path(self) -> &'static str {
        match self {
            File::Dag => "airflow_poc/dags/order_tracking.py",
            File::Late => "airflow_poc/dags/late.py",
            File::Alerts => "airflow_poc/dags/alerts.py",
            File::Model => "airflow_poc/dbt/models/mart/mart_ecs_order_info.sql",
            File::Notes => "airflow_poc/dags/notes.txt",
        }
    }
}

/// The number of commits that the remote's head is ahead of the oldest start.
const COMMITS: u8 = 4;

fn states() -> impl Strategy<Value = State> {
    let file = prop_oneof![Just(File::Dag), Just(File::Late), Just(File::Alerts), Just(File::Model), Just(File::Notes)];
    let edit = prop_oneof![3 => Just(Edit::Write), 2 => Just(Edit::Stage), 1 => Just(Edit::Delete), 1 => Just(Edit::StageDelete)];
    let branch = prop_oneof![3 => Just(Branch::CatalogQuery), 1 => Just(Branch::Main), 1 => Just(Branch::Detached)];
    let checkout = prop_oneof![
        1 => Just(Checkout::Missing),
        1 => Just(Checkout::Empty),
        10 => (branch, 0..=COMMITS, prop::collection::vec((file, edit), 0..4))
            .prop_map(|(branch, behind, edits)| Checkout::Cloned { branch, behind, edits }),
    ];
    let logs =
        prop_oneof![Just(Logs::Missing), Just(Logs::Owned(1000)), Just(Logs::Owned(50000)), Just(Logs::Owned(0))];
    let key = prop_oneof![Just(Key::Missing), Just(Key::Right), Just(Key::Stale), Just(Key::TooOpen)];
    let compose = prop_oneof![Just(Compose::Placeholder), Just(Compose::Old), Just(Compose::Right)];
    (checkout, logs, key, any::<bool>(), compose, any::<bool>(), 0u16..1024).prop_map(
        |(checkout, logs, key, key_given, compose, password_given, tables)| State {
            // A missing target needs its source, or the step would be blocked, which law 7 tests.
            key_given: key_given || key == Key::Missing,
            password_given: password_given || !matches!(checkout, Checkout::Cloned { .. }),
            checkout,
            logs,
            key,
            compose,
            tables,
        },
    )
}

/// A host whose remote has newer commits of every type, with nothing else done.
fn host() -> Sandbox {
    let sandbox = Sandbox::order_tracking();
    sandbox.commit(File::Dag.path(), "LAG_LIMIT_MINUTES = 60\n");
    sandbox.commit(File::Late.path(), "LATE = True\n");
    sandbox.commit_removal(File::Alerts.path());
    let compose = std::fs::read_to_string(
        sandbox.path("/opt/provision/order_tracking/repository/airflow_poc/docker-compose.yml"),
    );
    sandbox.commit("airflow_poc/docker-compose.yml", &compose.unwrap().replace("8080:8080", "8081:8080"));
    sandbox.bash("ubuntu", "ssh-keygen -q -t ed25519 -N '' -f old.pem");
    sandbox.save();
    sandbox
}

/// Creates the state on a restored host.
fn make(sandbox: &Sandbox, state: &State, password: &str) {
    match &state.checkout {
        Checkout::Missing => {}
        Checkout::Empty => drop(sandbox.bash("ubuntu", &format!("mkdir -p {CHECKOUT}"))),
        Checkout::Cloned { branch, behind, edits } => {
            sandbox.checkout();
            sandbox.git(&format!("reset -q --hard HEAD~{behind}"));
            sandbox.git("update-ref refs/remotes/origin/jasleen_qa HEAD");
            match branch {
                Branch::CatalogQuery => {}
                Branch::Main => drop(sandbox.git("checkout -q -b main origin/main")),
                Branch::Detached => drop(sandbox.git("checkout -q --detach")),
            }
            let value = match state.compose {
                Compose::Placeholder => "change-me",
                Compose::Old => "an-old-password",
                Compose::Right => password,
            };
            sandbox.bash("ubuntu", &format!("sed -i 's/\"change-me\"/\"{value}\"/' {COMPOSE}"));
            for (file, edit) in edits {
                let file = file.path();
                let line = match edit {
                    Edit::Write => format!("echo local >> {file}"),
                    Edit::Stage => format!("echo local >> {file}; git add {file}"),
                    Edit::Delete => format!("rm -f {file}"),
                    Edit::StageDelete => format!("git rm -q --force --ignore-unmatch {file}"),
                };
                sandbox.bash(
                    "ubuntu",
                    &format!("cd {CHECKOUT}; mkdir -p airflow_poc/dags airflow_poc/dbt/models/mart; {line}"),
                );
            }
            if let Logs::Owned(owner) = state.logs {
                sandbox.bash(
                    "root",
                    &format!(
                        "mkdir -p {LOGS}/dag; touch {LOGS}/dag/log {LOGS}/other; ln -s nowhere {LOGS}/dag/latest
                        chown -Rh {owner}:{owner} {LOGS}; chown 50000:50000 {LOGS}/other"
                    ),
                );
            }
        }
    }
    if state.key != Key::Missing {
        let source = if state.key == Key::Stale { "/home/ubuntu/old.pem" } else { KEY_SOURCE };
        let mode = if state.key == Key::TooOpen { "644" } else { "400" };
        sandbox.bash("ubuntu", &format!("mkdir -p $(dirname {KEY}); cp {source} {KEY}; chmod {mode} {KEY}"));
    }
    let mut names = Vec::new();
    for table in ["uni_tracking_info", "ecs_order_info", "uni_tracking_spath"] {
        for period in ["2025_h2", "2026_h1", "2026_h2"] {
            names
                .push(format!("CREATE TABLE settlement_ods.hist_{table}_{period} (LIKE settlement_ods.mart_{table});"));
        }
    }
    names.push(
        "CREATE TABLE settlement_ods.order_tracking_exceptions (order_id varchar(64), exception_type varchar(64) NOT NULL,
         detected_at timestamp NOT NULL, resolved_at timestamp, notes varchar(1024));"
            .into(),
    );
    let there: Vec<_> =
        names.into_iter().enumerate().filter(|(bit, _)| state.tables & (1 << bit) != 0).map(|(_, sql)| sql).collect();
    sandbox.sql(&format!("SET ROLE etl; {}", there.join("\n")));
}

/// The local changes that matter to the comparison, according to git.
struct Local {
    /// Not tracked, and a newer commit has a file there.
    untracked_in_the_way: Vec<String>,
    /// Not tracked, and only the commit that the branch is switched to has a file there. The head no longer has it.
    untracked_on_the_way: Vec<String>,
    /// Local changes that the runbook's stash would lose although nothing needs their place.
    kept: BTreeSet<String>,
    /// Staged with the content of the head. git's pull skips them whatever the file is, and the runbook's stash loses
    /// it.
    settled: BTreeSet<String>,
}

fn local(sandbox: &Sandbox) -> Local {
    if !sandbox.path(format!("{CHECKOUT}/.git")).exists() {
        return Local {
            untracked_in_the_way: Vec::new(),
            untracked_on_the_way: Vec::new(),
            kept: BTreeSet::new(),
            settled: BTreeSet::new(),
        };
    }
    let lines = |text: String| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
    sandbox.git("fetch -q origin jasleen_qa:refs/probe/head");
    let upstream = &lines(sandbox.git("diff --no-renames --name-only HEAD refs/probe/head"))
        | &lines(sandbox.git("diff --no-renames --name-only HEAD jasleen_qa"));
    let at_head = lines(sandbox.git("ls-tree -r --name-only refs/probe/head"));
    let at_branch = lines(sandbox.git("ls-tree -r --name-only jasleen_qa"));
    let unlike_head = lines(sandbox.git("diff --no-renames --name-only --cached refs/probe/head"));
    sandbox.git("update-ref -d refs/probe/head");
    let untracked = lines(sandbox.git("ls-files --others --exclude-standard"));
    // The index matters too: a file that was added and deleted again differs only there.
    let changed = &lines(sandbox.git("diff --no-renames --name-only HEAD"))
        | &lines(sandbox.git("diff --no-renames --name-only --cached HEAD"));
    // A file that is only missing is not in the way: a pull restores it.
    let missing = lines(sandbox.git("diff --no-renames --name-only --diff-filter=D"));
    let stashed = changed.iter().any(|file| upstream.contains(file) && !missing.contains(file));
    Local {
        untracked_in_the_way: (&(&untracked & &upstream) & &at_head).into_iter().collect(),
        untracked_on_the_way: (&(&(&untracked & &upstream) & &at_branch) - &at_head).into_iter().collect(),
        kept: if stashed { changed.difference(&upstream).cloned().collect() } else { BTreeSet::new() },
        settled: if stashed { &(&changed & &upstream) - &unlike_head } else { BTreeSet::new() },
    }
}

/// Returns what is left behind, except the paths in `apart`.
fn left(sandbox: &Sandbox, apart: &BTreeSet<String>) -> (Snapshot, String, String) {
    let ours = "/home/ubuntu/.local";
    let mut files = Snapshot::take(sandbox, "/home/ubuntu", &[&format!("{CHECKOUT}/.git"), ours]).without_traces();
    let mut repository = sandbox.repository_state();
    for file in apart {
        files = files.without(&format!("{CHECKOUT}/{file}"));
        // Git removes a directory with its last file, so parents come and go with the kept files.
        for folder in Path::new(file).ancestors().skip(1).filter(|folder| *folder != Path::new("")) {
            files = files.without_entry(&format!("{CHECKOUT}/{}", folder.display()));
        }
        repository =
            repository.lines().filter(|line| !line.ends_with(file.as_str())).map(|line| format!("{line}\n")).collect();
    }
    (files, repository, sandbox.definitions())
}

/// Returns the content and the git status of the kept files.
fn standing(sandbox: &Sandbox, kept: &BTreeSet<String>) -> Vec<String> {
    kept.iter()
        .map(|file| {
            let status = sandbox.git(&format!("status --porcelain=v1 -- {file}"));
            format!("{file}: {status}{:?}", contents(sandbox, &BTreeSet::from([file.clone()])))
        })
        .collect()
}

fn contents(sandbox: &Sandbox, files: &BTreeSet<String>) -> Vec<Option<String>> {
    files.iter().map(|file| std::fs::read_to_string(sandbox.path(format!("{CHECKOUT}/{file}"))).ok()).collect()
}

fn compare(sandbox: &mut Sandbox, state: &State) {
    let password = random_word();
    sandbox.set_env("ALERT_SMTP_PASSWORD", if state.password_given { password.as_str() } else { "" });
    sandbox.set_var("key_source", KEY_SOURCE);
    if !state.key_given {
        sandbox.unset_var("key_source");
    }

    sandbox.restore();
    make(sandbox, state, &password);
    let Local { untracked_in_the_way, untracked_on_the_way, mut kept, settled } = local(sandbox);
    if state.password_given {
        // Both write the password after the pull, into the committed file or the remaining one.
        kept.remove("airflow_poc/docker-compose.yml");
    }
    let stood = standing(sandbox, &kept);
    let apart = &kept | &settled;
    let had = contents(sandbox, &settled);
    for file in &untracked_in_the_way {
        sandbox.bash("ubuntu", &format!("rm {CHECKOUT}/{file}"));
    }
    for file in &untracked_on_the_way {
        sandbox.bash("ubuntu", &format!("mv {CHECKOUT}/{file} aside"));
    }
    sandbox.runbook().exits(0);
    for file in &untracked_on_the_way {
        sandbox.bash("ubuntu", &format!("mkdir -p $(dirname {CHECKOUT}/{file}); mv aside {CHECKOUT}/{file}"));
    }
    let by_hand = left(sandbox, &apart);

    sandbox.restore();
    make(sandbox, state, &password);
    // A source without a value is an unset one, not an empty one.
    let args = ["apply", PLAN, "--yes", "--json", "--as-of", "2026-03-01"];
    let mut apply = sandbox.provision("ubuntu", args);
    if !state.password_given {
        apply = apply.without_env("ALERT_SMTP_PASSWORD");
    }
    let outcome = apply.run().exits(0);
    let ours = left(sandbox, &apart);
    by_hand.0.is_same_as(&ours.0, &format!("files by hand (-) and by provision (+) differ\n{outcome}"));
    assert_eq!(by_hand.1, ours.1, "the repository by hand (left) and by provision (right)\n{outcome}");
    assert_eq!(by_hand.2, ours.2, "the tables by hand (left) and by provision (right)\n{outcome}");
    assert_eq!(stood, standing(sandbox, &kept), "local changes that are not in the way stay\n{outcome}");
    assert_eq!(had, contents(sandbox, &settled), "and so do files that are staged as the head has them\n{outcome}");
    for file in &untracked_in_the_way {
        assert!(!sandbox.rescues().is_empty(), "{file} was rescued\n{outcome}");
    }
}

/// Runs this test's share of the cases. `PROPTEST_CASES` sets the total number.
fn draw() {
    let sandbox = RefCell::new(host());
    #[expect(clippy::disallowed_methods, reason = "the environment sets the length of a test")]
    let cases: u32 = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(24);
    let config =
        Config { cases: cases.div_ceil(SHARES), max_shrink_iters: 40, failure_persistence: None, ..Config::default() };
    let checked = TestRunner::new(config).run(&states(), |state| {
        compare(&mut sandbox.borrow_mut(), &state);
        Ok(())
    });
    if let Err(failure) = checked {
        panic!("{failure}");
    }
}

/// The shares run in parallel, each with its own host.
const SHARES: u32 = 4;

#[test]
fn generated_hosts_first_share() {
    draw();
}

#[test]
fn generated_hosts_second_share() {
    draw();
}

#[test]
fn generated_hosts_third_share() {
    draw();
}

#[test]
fn generated_hosts_fourth_share() {
    draw();
}

/// States that were once generated and in which the model was wrong.
#[test]
fn a_staged_file_equal_to_the_head_is_kept() {
    let edits = vec![(File::Alerts, Edit::StageDelete), (File::Alerts, Edit::Write)];
    let state = State {
        checkout: Checkout::Cloned { branch: Branch::Main, behind: 0, edits },
        logs: Logs::Missing,
        key: Key::Missing,
        key_given: true,
        compose: Compose::Placeholder,
        password_given: false,
        tables: 0,
    };
    compare(&mut host(), &state);
}

/// The two extremes, in addition to the generated states.
#[test]
fn fresh_and_completely_wrong_hosts_converge() {
    let mut sandbox = host();
    let fresh = State {
        checkout: Checkout::Missing,
        logs: Logs::Missing,
        key: Key::Missing,
        key_given: true,
        compose: Compose::Placeholder,
        password_given: true,
        tables: 0,
    };
    compare(&mut sandbox, &fresh);
    let edits = vec![
        (File::Dag, Edit::Write),
        (File::Late, Edit::Write),
        (File::Alerts, Edit::Stage),
        (File::Model, Edit::Write),
        (File::Notes, Edit::Write),
    ];
    let wrong = State {
        checkout: Checkout::Cloned { branch: Branch::CatalogQuery, behind: COMMITS, edits },
        logs: Logs::Owned(1000),
        key: Key::Stale,
        key_given: true,
        compose: Compose::Old,
        password_given: true,
        tables: 0b01_1010_0110,
    };
    compare(&mut sandbox, &wrong);
    assert!(sandbox.bash("ubuntu", &format!("git -C {CHECKOUT} remote -v")).contains(BARE));
}
