//! `max_changes`: a step that would change more than expected is not started.

use crate::sandbox::{Sandbox, Tracing};

const PLAN: &str = "
name: bounded
vars: { most: \"3\" }
steps:
  - id: data
    run_as: root
    max_changes: \"{{ most }}\"
    directory: { path: /srv/data, owner: ubuntu, recursive: true }
";

fn bounded() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("/root/bounded.yaml", "root", PLAN);
    sandbox.bash("root", "mkdir /srv/data; chown ubuntu /srv/data; touch /srv/data/{a,b,c}");
    sandbox
}

fn foreign(sandbox: &Sandbox) -> usize {
    sandbox.bash("root", "find /srv/data ! -user ubuntu").lines().count()
}

#[test]
fn changes_within_max_changes_are_made() {
    let sandbox = bounded();
    sandbox.provision("root", ["apply", "bounded.yaml", "--yes"]).run().exits(0);
    assert_eq!(foreign(&sandbox), 0);
}

#[test]
fn changes_above_max_changes_are_refused_with_count_and_examples() {
    let sandbox = bounded();
    sandbox.bash("root", "mkdir /srv/data/d; touch /srv/data/d/{e,f}");
    let outcome = sandbox.provision("root", ["apply", "bounded.yaml", "--yes", "--json"]).run().exits(1);
    let planned = outcome.step("step_planned", "data");
    assert_eq!(planned["outcome"], "blocked");
    let reason = planned["reason"].as_str().unwrap();
    for told in ["6 changes", "max_changes is 3", "/srv/data", "and 3 more"] {
        assert!(reason.contains(told), "{told:?} is missing in {reason}");
    }
    assert!(planned["hint"].as_str().unwrap().contains("raise max_changes of the step"), "{planned}");
    assert_eq!(foreign(&sandbox), 6, "nothing was begun");
    sandbox.provision("root", ["apply", "bounded.yaml", "--yes", "--var", "most=6"]).run().exits(0);
    assert_eq!(foreign(&sandbox), 0);
    sandbox.provision("root", ["plan", "bounded.yaml", "--detailed-exitcode", "--var", "most=0"]).run().exits(0);
}

#[test]
fn apply_does_not_follow_a_growing_tree() {
    let sandbox = bounded();
    sandbox.bash("root", "cd /srv/data; rm a b c; mkdir a b c; chown ubuntu a b c; touch a/file b/file c/file");
    // Each change of owner takes as long as creating some more files.
    let slow = Tracing::slow("fchownat", 400_000);
    sandbox.write(
        "/root/grow",
        "root",
        "until [ \"$(stat -c %u /srv/data/*/file | sort -u | wc -l)\" = 2 ]; do :; done
        touch /srv/data/{a,b,c}/later-{1..50}",
    );
    let grower = sandbox.command("root", ["bash", "/root/grow"]).start();
    let (outcome, _) = sandbox.provision("root", ["apply", "bounded.yaml", "--yes", "--json"]).traced(&slow);
    grower.wait();
    let outcome = outcome.exits(1);
    let reason = outcome.step("step_finished", "data")["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("has grown since it was planned: max_changes allows only 3"), "{outcome}");
    let change = &outcome.events_of("change_finished")[0];
    assert_eq!((&change["outcome"], &change["partial"]), (&"failed".into(), &true.into()), "{outcome}");
    let changed = sandbox.bash("root", "find /srv/data -type f -user ubuntu").lines().count();
    assert_eq!(changed, 3, "{outcome}");
    assert!(!outcome.all().contains("nothing was changed"), "{outcome}");
}

#[test]
fn an_invalid_max_changes_is_reported_with_its_position() {
    let sandbox = bounded();
    for wrong in ["many", "-1", "1.5", "true", "[3]", "\"{{ most }}0x\""] {
        sandbox.write("/root/wrong.yaml", "root", PLAN.replace("\"{{ most }}\"", wrong));
        let outcome = sandbox.provision("root", ["validate", "wrong.yaml"]).run().exits(1);
        for told in ["wrong.yaml:7:18", "`max_changes` has to be a whole number", "no limit"] {
            assert!(outcome.stderr.contains(told), "{wrong}: {told:?} is missing\n{outcome}");
        }
    }
    sandbox.write("/root/wrong.yaml", "root", PLAN.replace("max_changes:", "max_change:"));
    let outcome = sandbox.provision("root", ["validate", "wrong.yaml"]).run().exits(1);
    assert!(outcome.stderr.contains("did you mean `max_changes`?"), "{outcome}");
}
