//! Apply does what plan shows as exact, and notices changes of the host in between.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::sandbox::{CHECKOUT, Outcome, Sandbox};

/// Returns step, action, target and summary of each change that was shown or made.
fn changes(events: &[Value], step_of: impl Fn(&Value) -> Option<(String, Vec<Value>)>) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for (step, changes) in events.iter().filter_map(step_of) {
        for change in changes {
            all.insert(format!("{step}: {} {} {}", change["action"], change["target"], change["summary"]));
        }
    }
    all
}

fn planned(outcome: &Outcome, certainty: &str) -> BTreeSet<String> {
    changes(&outcome.events_of("step_planned"), |event| {
        (event["certainty"] == certainty)
            .then(|| (event["step"].as_str().unwrap().to_owned(), event["changes"].as_array().unwrap().clone()))
    })
}

fn done(outcome: &Outcome) -> BTreeSet<String> {
    changes(&outcome.events_of("change_finished"), |event| {
        Some((event["step"].as_str().unwrap().to_owned(), vec![event.clone()]))
    })
}

#[test]
fn apply_makes_exactly_the_planned_changes() {
    let sandbox = Sandbox::order_tracking();
    let states: [(&str, &dyn Fn()); 3] = [
        ("fresh", &|| {}),
        ("behind, key and table wrong", &|| {
            sandbox.commit("airflow_poc/dags/order_tracking.py", "LAG_LIMIT_MINUTES = 60\n");
            sandbox.new_key();
            sandbox.sql("DROP TABLE settlement_ods.hist_ecs_order_info_2026_h1");
        }),
        ("in the way, owners wrong", &|| {
            sandbox.commit("airflow_poc/dags/order_tracking.py", "LAG_LIMIT_MINUTES = 70\n");
            sandbox.bash("ubuntu", &format!("cd {CHECKOUT}/airflow_poc; echo x >> dags/order_tracking.py"));
            sandbox.bash("root", &format!("touch {CHECKOUT}/airflow_poc/logs/a"));
        }),
    ];
    for (state, make) in states {
        make();
        let plan = sandbox.plan("ubuntu").exits(0);
        let apply = sandbox.apply("ubuntu").exits(0);
        let (exact, provisional, done) = (planned(&plan, "exact"), planned(&plan, "provisional"), done(&apply));
        assert!(!exact.is_empty() && !done.is_empty(), "{state}\n{plan}\n{apply}");
        assert!(exact.is_subset(&done), "{state}: shown as exact, not done: {:?}", exact.difference(&done));
        let steps = |set: &BTreeSet<String>| -> BTreeSet<String> {
            set.iter().map(|change| change.split(':').next().unwrap().to_owned()).collect()
        };
        let promised: BTreeSet<String> = exact.union(&provisional).cloned().collect();
        let unannounced: Vec<_> = done
            .difference(&exact)
            .filter(|change| {
                // Provisional changes may differ, but not the changes of a step that was shown as exact.
                !steps(&provisional).contains(change.split(':').next().unwrap())
            })
            .collect();
        assert!(unannounced.is_empty(), "{state}: done and not shown: {unannounced:?}\nof {promised:?}");
        assert_eq!(sandbox.plan("ubuntu").exits(0).events().last().unwrap()["outcome"], "ok", "{state}");
    }
}

#[test]
fn changes_between_plan_and_confirmation_are_detected() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "/home/ubuntu/provision.yaml",
        "ubuntu",
        "name: small\nsteps:\n  - id: data\n    directory: { path: /home/ubuntu/data, mode: \"0750\" }\n",
    );
    // Before the question is answered, a file is created where the directory should be.
    let script = "mkfifo typed
        exec 3<>typed
        script --quiet --return --echo never --command '/opt/provision/bin/provision apply' /dev/null <typed >shown &
        until grep -q '\\[y/N\\]' shown; do sleep 0.01; done
        touch data
        echo y >&3
        wait $!";
    let outcome = sandbox.command("ubuntu", ["bash", "-c", script]).run();
    assert_eq!(outcome.code, 1, "{outcome}");
    assert!(sandbox.path("/home/ubuntu/data").is_file(), "{outcome}");
}

/// Parallel steps can need the same parents. The first one creates them, which does not count as a change of the host.
#[test]
fn shared_parents_are_created_by_one_step() {
    let sandbox = Sandbox::new();
    let step = |number| format!("  - id: step-{number}\n    directory: {{ path: /home/ubuntu/a/b/{number} }}\n");
    let plan = format!("name: many\nsteps:\n{}", (0..120).map(step).collect::<String>());
    sandbox.write("/home/ubuntu/provision.yaml", "ubuntu", plan);
    for _ in 0..5 {
        sandbox.provision("ubuntu", ["plan", "--out", "saved"]).run().exits(0);
        sandbox.provision("ubuntu", ["apply", "--yes"]).run().exits(0);
        sandbox.bash("ubuntu", "rm -r a");
        sandbox.provision("ubuntu", ["apply", "saved", "--yes"]).run().exits(0);
        sandbox.bash("ubuntu", "rm -r a saved");
    }
}

/// A change may affect steps several places later, and `after` makes them wait, whatever else is in between.
#[test]
fn steps_behind_a_change_are_provisional_at_any_depth() {
    let sandbox = Sandbox::new();
    let step = |id: &str, path: &str, more: &str| {
        format!("  - id: {id}\n    directory: {{ path: /home/ubuntu/{path}, mode: \"0750\" }}\n{more}")
    };
    let plan = [
        "name: chain\nsteps:\n".to_owned(),
        step("first", "a", ""),
        step("inside", "a/in", "    after: [first]\n"),
        step("second", "b", "    after: [first]\n"),
        step("third", "c", "    after: [second]\n"),
        step("fourth", "d", ""),
    ];
    sandbox.write("/home/ubuntu/provision.yaml", "ubuntu", plan.concat());
    sandbox.bash("ubuntu", "mkdir -p -m 750 a/in b c d; chmod 750 a/in; chmod 700 a");
    let plan = sandbox.provision("ubuntu", ["plan", "--json"]).run().exits(0);
    let waits = |step: &str| plan.step("step_planned", step)["waits_for"].to_string();
    assert_eq!(waits("first"), "[]", "{plan}");
    assert_eq!(waits("inside"), "[\"first\"]", "{plan}");
    assert_eq!(waits("second"), "[\"first\"]", "{plan}");
    assert_eq!(waits("third"), "[\"second\"]", "{plan}");
    assert_eq!(waits("fourth"), "[]", "{plan}");
    sandbox.provision("ubuntu", ["apply", "--yes"]).run().exits(0);
    let plan = sandbox.provision("ubuntu", ["plan", "--json"]).run().exits(0);
    assert!(plan.events_of("step_planned").iter().all(|event| event["certainty"] == "exact"), "{plan}");
}
