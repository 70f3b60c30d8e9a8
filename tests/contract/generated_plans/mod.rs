//! The laws on generated plan files: two to five steps of all kinds on nested paths, shared files, links and tables, as one or two
//! users, over one or two connections to one database, on hosts in random states.
//!
//! For every plan file that `validate` accepts: if apply exits with 0, plan is empty afterwards and a second apply
//! writes nothing (laws 3 and 10). What plan showed as exact was made, and nothing else (law 2). Nothing outside the
//! claims of the steps has changed. What the steps own is adopted, and plans empty.

mod generator;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::PathBuf;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use crate::sandbox::{Outcome, Sandbox, Snapshot};
use generator::{Case, REMOTE_SCRIPT, Resource, State, cases, plan_file, prepare, tables};

const FILE: &str = "/root/generated.yaml";

/// The result of one case.
enum CaseResult {
    Refused,
    Failed,
    Converged,
    /// It converged, and what the steps own was adopted.
    Adopted,
}

fn check(sandbox: &Sandbox, case: &Case) -> Result<CaseResult, TestCaseError> {
    sandbox.write(FILE, "root", plan_file(&case.steps));
    sandbox.bash("root", &prepare(case));
    sandbox.sql(&tables(case));
    let run = |arguments: &[&'static str]| {
        let run = sandbox.provision("root", arguments.iter().copied());
        run.env("ONE", "first value").env("TWO", "second value").run()
    };
    let failure = |what: &str, outcome: &Outcome| {
        TestCaseError::fail(format!("{what}\n{}\n{}\n{outcome}", plan_file(&case.steps), prepare(case)))
    };
    if run(&["validate", FILE]).code != 0 {
        return Ok(CaseResult::Refused);
    }
    let elsewhere = elsewhere_on(sandbox);
    let (before, tables_before) = (Snapshot::take(sandbox, "/srv", &[]), relations(sandbox));
    let planned = run(&["plan", FILE, "--json"]);
    let after_plan = Snapshot::take(sandbox, "/srv", &[]);
    prop_assert_eq!(before.difference(&after_plan), "", "plan left a trace");
    prop_assert_eq!(&tables_before, &relations(sandbox), "plan left a trace");
    let applied = run(&["apply", FILE, "--yes", "--json"]);
    let (after, tables_after) = (Snapshot::take(sandbox, "/srv", &[]), relations(sandbox));
    let claimed: Vec<&str> = case.steps.iter().filter_map(|step| step.resource.tables()).collect();
    for line in tables_before.symmetric_difference(&tables_after) {
        if !claimed.iter().any(|name| line.starts_with(name)) {
            return Err(failure(&format!("{line} belongs to no step"), &applied));
        }
    }
    if applied.events_of("run_started").is_empty() {
        return Err(failure("apply did not start, but validate accepted the plan file", &applied));
    }
    let difference = elsewhere.difference(&elsewhere_on(sandbox));
    if !difference.is_empty() {
        return Err(failure(&format!("apply left this outside of the steps:\n{difference}"), &applied));
    }
    within_claims(case, &before, &after).map_err(|path| failure(&format!("{path} belongs to no step"), &applied))?;
    if applied.code != 0 {
        return Ok(CaseResult::Failed);
    }
    exact_is_exact(&planned, &applied)
        .map_err(|step| failure(&format!("{step} did not do what plan showed\n{planned}"), &applied))?;
    let again = run(&["plan", FILE, "--json", "--detailed-exitcode"]);
    if again.code != 0 {
        return Err(failure("plan is not empty after a successful apply", &again));
    }
    let second = run(&["apply", FILE, "--yes", "--json"]);
    let last = Snapshot::take(sandbox, "/srv", &[]);
    if relations(sandbox) != tables_after {
        return Err(failure("a second apply wrote a table", &second));
    }
    if second.code != 0 || after != last {
        return Err(failure(&format!("a second apply wrote\n{}", after.difference(&last)), &second));
    }
    Ok(if adopts(sandbox, case)? { CaseResult::Adopted } else { CaseResult::Converged })
}

/// Adopts what the steps own, unless that cannot be. What is printed plans empty, and is the same the next time.
fn adopts(sandbox: &Sandbox, case: &Case) -> Result<bool, TestCaseError> {
    const ADOPTED: &str = "/root/adopted.yaml";
    let mut arguments: Vec<String> = vec!["adopt".to_owned()];
    let (mut paths, mut variables) = (Vec::new(), Vec::new());
    for step in &case.steps {
        match &step.resource {
            Resource::Directory { path, .. } | Resource::Repository { path } => paths.push((*path).to_owned()),
            Resource::Key { path, .. } => paths.push(format!("{path}/key.pem")),
            Resource::Compose { path, file, variable, .. } => {
                variables.extend(["--variable".to_owned(), format!("{path}/dc{file}.yml:{variable}")]);
            }
            // Adopt writes no steps of the kind `file`. It has tests of its own for tables.
            Resource::File { .. } | Resource::Table { .. } | Resource::Series { .. } => {}
        }
    }
    if paths.is_empty() && variables.is_empty() {
        return Ok(false);
    }
    arguments.extend(paths.into_iter().chain(variables));
    let run = |arguments: &[String]| sandbox.provision("root", arguments.iter().map(String::as_str)).run();
    let before = Snapshot::take(sandbox, "/srv", &[]);
    let adopted = run(&arguments);
    prop_assert_eq!(before.difference(&Snapshot::take(sandbox, "/srv", &[])), "", "adopt left a trace");
    let failure = |what: &str, outcome: &Outcome| {
        let (file, host) = (plan_file(&case.steps), prepare(case));
        Err(TestCaseError::fail(format!("{what}\n{file}\n{host}\n{}\n{outcome}", adopted.stdout)))
    };
    if adopted.code != 0 {
        // A checkout that nobody keeps at its remote's head may be one of the directories, and what a step says of one
        // service adopt says of all.
        let excused = case.host.iter().any(|state| matches!(state, State::Checkout { .. }))
            || case.steps.iter().any(|step| matches!(step.resource, Resource::Compose { service: Some(_), .. }));
        return if excused { Ok(false) } else { failure("what converged is not adopted", &adopted) };
    }
    sandbox.write(ADOPTED, "root", &adopted.stdout);
    let planned = run(&["plan", ADOPTED, "--json", "--detailed-exitcode"].map(str::to_owned));
    if planned.code != 0 {
        return failure("what was adopted does not plan empty", &planned);
    }
    let again = run(&arguments);
    if again.stdout != adopted.stdout {
        return failure("adopting again gives another text", &again);
    }
    Ok(true)
}

/// What is outside of all steps: everything but their paths and the acting user's state folder.
fn elsewhere_on(sandbox: &Sandbox) -> Snapshot {
    Snapshot::whole(sandbox).without("/srv").without("/var/lib/provision")
}

/// Returns the first changed path that no step claims.
fn within_claims(case: &Case, before: &Snapshot, after: &Snapshot) -> Result<(), String> {
    let claimed: Vec<(PathBuf, bool)> = case.steps.iter().flat_map(|step| step.resource.claimed()).collect();
    let (before, after) = (before.clone().without_traces(), after.clone().without_traces());
    let paths: BTreeSet<&PathBuf> = before.0.keys().chain(after.0.keys()).collect();
    let changed = paths.into_iter().filter(|path| before.0.get(*path) != after.0.get(*path));
    let foreign = |path: &&PathBuf| {
        let own = claimed.iter().any(|(own, whole)| *path == own || *whole && path.starts_with(own));
        // Parents are created with the entries in them.
        let parent = !before.0.contains_key(*path) && claimed.iter().any(|(own, _)| own.starts_with(path));
        !own && !parent
    };
    match changed.into_iter().find(foreign) {
        Some(path) => Err(path.display().to_string()),
        None => Ok(()),
    }
}

/// Checks that every change shown as exact was made, and that steps without shown changes made none.
fn exact_is_exact(planned: &Outcome, applied: &Outcome) -> Result<(), String> {
    for step in planned.events_of("step_planned") {
        if step["certainty"] != "exact" {
            continue;
        }
        let id = step["step"].as_str().unwrap_or_default();
        // If two steps set a variable in the same `.env`, the first one to run creates the file.
        let label = |change: &serde_json::Value| match change["target"].as_str() {
            Some(target) if target.ends_with("/.env") => target.to_owned(),
            target => format!("{}: {}", target.unwrap_or_default(), change["summary"]),
        };
        let shown: Vec<String> = step["changes"].as_array().into_iter().flatten().map(label).collect();
        let finished = applied.events_of("change_finished");
        let made: Vec<String> = finished.iter().filter(|change| change["step"] == id).map(label).collect();
        if shown != made {
            return Err(format!("{id}: shown {shown:?}, made {made:?}"));
        }
    }
    Ok(())
}

#[test]
fn accepted_plan_files_converge_in_one_apply() {
    let sandbox = Sandbox::new().warehouse();
    sandbox.bash("root", REMOTE_SCRIPT);
    sandbox.sql("CREATE ROLE reader");
    sandbox.write("/root/app.j2", "root", "port = {{ 80 + 2 }}\n");
    let count = RefCell::new([0; 4]);
    // proptest's default number of cases is meant for tests without hosts.
    let asked = Config::default().cases;
    let cases_wanted = if asked == 256 { 40 } else { asked };
    let config = Config { cases: cases_wanted, max_shrink_iters: 60, failure_persistence: None, ..Config::default() };
    let result = TestRunner::new(config).run(&cases(), |case| {
        let result = check(&sandbox, &case)?;
        count.borrow_mut()[result as usize] += 1;
        Ok(())
    });
    let [refused, failed, not_adopted, adopted] = *count.borrow();
    let converged = not_adopted + adopted;
    eprintln!("{refused} refused, {failed} failed, {converged} converged, {adopted} adopted");
    if let Err(error) = result {
        panic!("{error}");
    }
    assert!(converged * 5 >= cases_wanted, "too few cases converge to say anything: {converged} of {cases_wanted}");
    assert!(adopted * 2 >= converged, "too few cases are adopted to say anything: {adopted} of {converged}");
}

/// Returns a line for each table of the case: its name, columns, rights and the transaction that wrote it last.
fn relations(sandbox: &Sandbox) -> BTreeSet<String> {
    let lines = sandbox.sql(
        "SELECT c.relname, c.xmin, c.relacl, (SELECT string_agg(a.attname || ' ' || a.atttypid::regtype, ', ' ORDER BY a.attnum) \
         FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) \
         FROM pg_class c WHERE c.relnamespace = 'gen'::regnamespace AND c.relkind = 'r'",
    );
    lines.lines().map(str::to_owned).collect()
}
