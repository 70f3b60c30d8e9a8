//! What plan shows as exact is what apply does, and a change of mind on the host in between is seen.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::sandbox::{CHECKOUT, Outcome, Sandbox};

/// Step, action, target and summary of each change: what was shown, and what was done.
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
fn the_changes_of_plan_are_the_changes_of_apply() {
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
                // What was provisional may come otherwise; a step that was shown as exact may not.
                !steps(&provisional).contains(change.split(':').next().unwrap())
            })
            .collect();
        assert!(unannounced.is_empty(), "{state}: done and not shown: {unannounced:?}\nof {promised:?}");
        assert_eq!(sandbox.plan("ubuntu").exits(0).events().last().unwrap()["outcome"], "ok", "{state}");
    }
}

#[test]
fn a_host_that_moved_between_plan_and_yes_is_not_changed_blindly() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "/home/ubuntu/provision.yaml",
        "ubuntu",
        "name: small\nsteps:\n  - id: data\n    directory: { path: /home/ubuntu/data, mode: \"0750\" }\n",
    );
    // The question is answered by somebody who first puts a file where the directory was to be.
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

/// Steps that run at the same time lack the same parents: the first makes them for all, and nobody takes that for a host that
/// has changed.
#[test]
fn parents_that_several_steps_lack_are_made_by_one() {
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

/// What a step brings may matter to those that come after those that come after it, and `after` says that it does, whatever
/// else there is between two steps.
#[test]
fn what_waits_for_a_change_is_provisional_however_far_behind_it_comes() {
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
