//! The journal: what it records of each run, that interrupted runs are reported, and that damaged journals are
//! readable.

use serde_json::Value;

use crate::sandbox::{KEY, Outcome, PLAN, Sandbox, Snapshot, Tracing};

const TWO: &str = "
name: small
steps:
  - id: one
    directory: { path: /home/ubuntu/one, mode: \"0750\" }
  - id: two
    after: [one]
    directory: { path: /home/ubuntu/two, mode: \"0750\" }
";
const RUNS: &str = "/home/ubuntu/.local/state/provision/runs";

fn small() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("/home/ubuntu/provision.yaml", "ubuntu", TWO);
    sandbox
}

fn history(sandbox: &Sandbox, user: &str, args: &[&str]) -> Outcome {
    let mut words = vec!["history"];
    words.extend(args);
    sandbox.provision(user, words).run()
}

fn lines(outcome: &Outcome) -> Vec<Value> {
    outcome.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn runs_that_change_something_are_listed_and_shown() {
    let sandbox = small();
    assert_eq!(history(&sandbox, "ubuntu", &[]).exits(0).stdout, "no runs\n");
    sandbox.provision("ubuntu", ["plan"]).run().exits(0);
    assert!(!sandbox.path("/home/ubuntu/.local").exists(), "a plan leaves no trace");
    let applied = sandbox.provision("ubuntu", ["apply", "--yes", "--json"]).run().exits(0);
    let run = applied.events()[0]["run"].as_str().unwrap().to_owned();
    let listed = history(&sandbox, "ubuntu", &["--json"]).exits(0);
    let [past] = lines(&listed).try_into().unwrap();
    assert_eq!((&past["run"], &past["outcome"]), (&run.as_str().into(), &"ok".into()), "{past}");
    assert_eq!((&past["plan"], &past["file"]), (&"small".into(), &"/home/ubuntu/provision.yaml".into()));
    assert_eq!((&past["user"], &past["host"]), (&"ubuntu".into(), &"throwaway".into()));
    assert_eq!(past["counts"]["changed"], 2);
    assert!(past["started"].as_str().unwrap() <= past["finished"].as_str().unwrap(), "{past}");
    for text in [history(&sandbox, "ubuntu", &[]), history(&sandbox, "ubuntu", &["provision.yaml"])] {
        assert!(text.stdout.contains(&run) && text.stdout.contains("2 changed"), "{text}");
    }
    // A run can be shown by its id, by the start of its id, or with the plan file before it.
    for words in [vec![run.as_str()], vec![&run[..12]], vec!["provision.yaml", run.as_str()]] {
        let shown = history(&sandbox, "ubuntu", &words).exits(0).stdout;
        for expected in ["started", "done", "one: ", "/home/ubuntu/two", "ubuntu on throwaway"] {
            assert!(shown.contains(expected), "{expected:?}\n{shown}");
        }
    }
    let records: Vec<_> =
        lines(&history(&sandbox, "ubuntu", &[&run, "--json"])).iter().map(|line| line["record"].to_string()).collect();
    assert_eq!(records.iter().filter(|record| *record == "\"change_started\"").count(), 2, "{records:?}");
    assert_eq!((records[0].as_str(), records.last().unwrap().as_str()), ("\"run_started\"", "\"run_finished\""));
    // Each user has a separate history, which others cannot read.
    assert_eq!(history(&sandbox, "root", &[]).stdout, "no runs\n");
    history(&sandbox, "ubuntu", &["20000101"]).exits(1);
    let modes = sandbox.bash("root", &format!("stat -c '%a %U' {RUNS} {RUNS}/*"));
    assert_eq!(modes, "700 ubuntu\n600 ubuntu\n");
    // A run without changes is not recorded.
    let before = Snapshot::whole(&sandbox);
    sandbox.provision("ubuntu", ["apply", "--yes"]).run().exits(0);
    history(&sandbox, "ubuntu", &["--json"]).exits(0);
    before.is_same_as(&Snapshot::whole(&sandbox), "an apply without changes, and a look at the history");
}

#[test]
fn the_list_shows_the_commits_keys_and_tables_of_each_run() {
    let sandbox = Sandbox::order_tracking();
    sandbox.apply("ubuntu").exits(0);
    let old = sandbox.git("rev-parse --short=8 HEAD");
    sandbox.commit("README.md", "more\n");
    sandbox.new_key();
    sandbox.apply("ubuntu").exits(0);
    let new = sandbox.git("rev-parse --short=8 HEAD");
    let fingerprint = sandbox.bash("root", &format!("ssh-keygen -lf {KEY} | cut -d' ' -f2"));

    let text = history(&sandbox, "ubuntu", &[]).exits(0).stdout;
    let heads: Vec<usize> = text.match_indices("\n20").map(|(at, _)| at).collect();
    let (second, first) = text.split_at(*heads.first().unwrap_or_else(|| panic!("two runs\n{text}")));
    for part in [&format!("({} to {})", old.trim(), new.trim()), &format!(" by ssh-ed25519 {}", fingerprint.trim())] {
        assert!(second.contains(part), "{part:?}\n{text}");
    }
    assert!(
        first.contains("history-tables: create table settlement_ods.hist_uni_tracking_info_2025_h2 like "),
        "{text}"
    );
    // A long run is cut, and names the command that shows the rest.
    let id = first.split_whitespace().next().unwrap();
    assert!(first.contains(&format!("more changes: `provision history {id}`")), "{text}");
    let whole = history(&sandbox, "ubuntu", &[id]).exits(0).stdout;
    assert!(
        whole.contains("hist_uni_tracking_spath_2026_h2") && whole.contains("order_tracking_exceptions"),
        "{whole}"
    );

    let listed = lines(&history(&sandbox, "ubuntu", &["--json"]).exits(0));
    let changes = listed[0]["changes"].as_array().unwrap();
    let key = changes.iter().find(|change| change["step"] == "bastion-key").unwrap();
    assert_eq!((&key["target"], &key["action"], &key["outcome"]), (&KEY.into(), &"update".into(), &"changed".into()));
    assert!(key["summary"].as_str().unwrap().contains(fingerprint.trim()), "{key}");
    let tables = listed[1]["changes"].as_array().unwrap();
    assert_eq!(tables.iter().filter(|change| change["step"] == "history-tables").count(), 9, "{tables:?}");
}

#[test]
fn failures_are_recorded_with_their_reason() {
    let sandbox = small();
    sandbox.bash("ubuntu", "touch two");
    sandbox.provision("ubuntu", ["apply", "--yes"]).run().exits(1);
    let [past] = lines(&history(&sandbox, "ubuntu", &["--json"])).try_into().unwrap();
    assert_eq!((&past["outcome"], &past["counts"]["changed"]), (&"failed".into(), &1.into()), "{past}");
    for words in [&[past["run"].as_str().unwrap()][..], &[]] {
        let shown = history(&sandbox, "ubuntu", words).stdout;
        assert!(shown.contains("two: ") && shown.contains("not a directory"), "{shown}");
    }
}

#[test]
fn an_interrupted_run_is_reported_with_its_change() {
    let sandbox = Sandbox::new().warehouse();
    let midway = sandbox.apply_midway("ubuntu", PLAN);
    let run = midway.started["run"].as_str().unwrap().to_owned();
    let [running] = lines(&history(&sandbox, "ubuntu", &["--json"])).try_into().unwrap();
    assert_eq!(running["outcome"], "running", "{running}");
    // A run that is still active is not called interrupted.
    let plan = sandbox.provision("ubuntu", ["plan", PLAN, "--json", "--only", "history-tables"]).run();
    assert!(plan.events_of("run_cut_off").is_empty(), "{plan}");
    midway.kill();

    let before = Snapshot::whole(&sandbox);
    let named = |outcome: &Outcome| {
        let [event] = outcome.events_of("run_cut_off").try_into().unwrap_or_else(|_| panic!("one run\n{outcome}"));
        assert_eq!((&event["run"], &event["user"]), (&run.as_str().into(), &"ubuntu".into()), "{event}");
        assert_eq!(event["changes"][0]["step"], "history-tables", "{event}");
        let target = event["changes"][0]["target"].as_str().unwrap();
        assert!(target.contains("hist_uni_tracking_info_2025_h2"), "{event}");
    };
    for _ in 0..2 {
        // It is reported until it is recovered.
        named(&sandbox.provision("ubuntu", ["plan", PLAN, "--json", "--only", "exceptions-table"]).run());
    }
    let text = sandbox.provision("ubuntu", ["plan", PLAN, "--only", "history-tables"]).run().exits(0);
    for expected in ["warning", run.as_str(), "interrupted", "hist_uni_tracking_info_2025_h2"] {
        assert!(text.stderr.contains(expected), "{expected:?}\n{text}");
    }
    before.is_same_as(&Snapshot::whole(&sandbox), "a plan that names a run that was interrupted");
    let [past] = lines(&history(&sandbox, "ubuntu", &["--json"])).try_into().unwrap();
    assert_eq!(past["outcome"], "cut_off", "{past}");

    // An apply of another step reports the interrupted run but does not recover it. An apply of the same step does
    // both.
    let other = sandbox.provision("ubuntu", ["apply", PLAN, "--yes", "--json", "--only", "exceptions-table"]).run();
    named(&other.exits(0));
    named(&sandbox.apply_held("ubuntu", PLAN).run().exits(0));
    let plan = sandbox.plan("ubuntu");
    assert!(plan.events_of("run_cut_off").is_empty(), "{plan}");
    let shown = history(&sandbox, "ubuntu", &[&run]).exits(0).stdout;
    assert!(shown.contains("interrupted") && shown.contains("recovered"), "{shown}");
    // After that a further apply reports nothing.
    let before = Snapshot::whole(&sandbox);
    sandbox.apply_held("ubuntu", PLAN).run().exits(0);
    before.is_same_as(&Snapshot::whole(&sandbox), "an apply without changes");
}

#[test]
fn changes_are_recorded_before_they_are_made() {
    // The journal's second sync belongs to the first change. strace makes it fail, so the change must not be made.
    let sandbox = small();
    let fault = Tracing::Error { call: "fdatasync".into(), number: 2, error: "ENOSPC".into() };
    let (outcome, trace) = sandbox.provision("ubuntu", ["apply", "--yes"]).traced(&fault);
    assert!(trace.bitten(), "{outcome}");
    assert_eq!(outcome.code, 1, "{outcome}");
    assert!(outcome.all().contains("cannot record") && outcome.all().contains(RUNS), "{outcome}");
    assert!(!sandbox.path("/home/ubuntu/one").exists() && !sandbox.path("/home/ubuntu/two").exists(), "{outcome}");
    sandbox.provision("ubuntu", ["apply", "--yes"]).run().exits(0);
    // It fails after the first change, so no other change is made.
    let sandbox = small();
    let fault = Tracing::Error { call: "fdatasync".into(), number: 3, error: "EIO".into() };
    let (outcome, _) = sandbox.provision("ubuntu", ["apply", "--yes"]).traced(&fault);
    assert_eq!(outcome.code, 1, "{outcome}");
    assert!(sandbox.path("/home/ubuntu/one").exists() && !sandbox.path("/home/ubuntu/two").exists(), "{outcome}");
}

#[test]
fn a_full_disk_is_reported_before_any_change() {
    let sandbox = small();
    sandbox.bash("root", "mount -t tmpfs -o size=16k,mode=700 tmpfs /var/lib/provision");
    sandbox.bash("root", "cat /dev/zero > /var/lib/provision/full || true");
    let outcome = sandbox.provision("root", ["apply", "/home/ubuntu/provision.yaml", "--yes"]).run().exits(1);
    assert!(outcome.stderr.contains("nothing was changed") && outcome.stderr.contains("no space"), "{outcome}");
    assert!(!sandbox.path("/home/ubuntu/one").exists());
    sandbox.bash("root", "umount /var/lib/provision; mount -t tmpfs -o ro,mode=700 tmpfs /var/lib/provision");
    let outcome = sandbox.provision("root", ["apply", "/home/ubuntu/provision.yaml", "--yes"]).run().exits(1);
    assert!(outcome.stderr.contains("nothing was changed") && outcome.stderr.contains("read-only"), "{outcome}");
    assert!(!sandbox.path("/home/ubuntu/one").exists());
}

#[test]
fn damaged_and_foreign_journals_are_reported_and_skipped() {
    let sandbox = small();
    let first = sandbox.provision("ubuntu", ["apply", "--yes", "--json"]).run().exits(0);
    let first = first.events()[0]["run"].as_str().unwrap().to_owned();
    sandbox.bash(
        "ubuntu",
        &format!(
            "cd {RUNS}
            printf '\\000\\377 litter\\n{{\"record\":\"run_danced\"}}\\n{{\"record\":\"change_st' >> {first}.jsonl
            echo hello > notes.txt
            head -c 300000 /dev/urandom > 20200101T000000Z-00000000.jsonl
            : > 20200102T000000Z-00000000.running
            cp {first}.jsonl 20200103T000000Z-00000000.running
            mkdir 20200104T000000Z-00000000.running
            mkfifo 20200105T000000Z-00000000.running
            ln -s /etc/passwd 20200106T000000Z-00000000.jsonl
            echo '\u{1b}[31m' > 20200107T000000Z-00000000.jsonl"
        ),
    );
    let listed = history(&sandbox, "ubuntu", &["--json"]).exits(0);
    let [past] = lines(&listed).try_into().unwrap();
    assert_eq!((&past["run"], &past["outcome"]), (&first.as_str().into(), &"ok".into()), "{past}");
    for expected in [
        "is not a record",
        "it is incomplete",
        "this version",
        "20200103",
        "20200104",
        "20200105",
        "20200106",
        "notes.txt",
    ] {
        assert!(listed.stderr.contains(expected), "{expected:?}\n{}", listed.stderr);
    }
    assert!(!listed.stderr.contains('\u{1b}') && !listed.stderr.contains("root:"), "{}", listed.stderr);
    // Problems that a plan finds in journals are also reported in JSON, and do not stop it.
    let plan = sandbox.provision("ubuntu", ["plan", "--json"]).run().exits(0);
    assert!(plan.events_of("warning").iter().any(|event| event.to_string().contains("20200103")), "{plan}");
    assert!(plan.events_of("run_cut_off").is_empty(), "{plan}");
    sandbox.bash("ubuntu", "rmdir one");
    sandbox.provision("ubuntu", ["apply", "--yes"]).run().exits(0);
}
