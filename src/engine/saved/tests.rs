use proptest::prelude::*;

use super::*;

fn origin(digester: &Digester) -> Origin {
    Origin {
        version: "0.1.0".into(),
        host: "throwaway".into(),
        machine: digester.digest(b"machine"),
        user: "ubuntu".into(),
        uid: 1000,
        file: "/plan.yaml".into(),
        content: digester.digest(b"name: small"),
    }
}

fn saved() -> Saved {
    let digester = Digester::with_key([7; 32]);
    let vars = [
        ("plain", "/home/ubuntu/key.pem"),
        ("url", "https://user:hunter2@example.com/x.git"),
        ("dsn", "host=h password=hunter2"),
        ("api_token", "hunter2"),
    ];
    let vars = vars.into_iter().map(|(name, value)| (name.to_owned(), Var::of(name, value, &digester))).collect();
    let flags = Flags { only: Vec::new(), skip: Vec::new(), as_of: jiff::civil::date(2026, 3, 1), vars };
    let made = "2026-03-01T12:00:00Z".to_owned();
    Saved::new("run", made, (origin(&digester), None), flags, &digester, Fingerprints::default(), &[])
}

#[test]
fn the_command_for_a_new_plan_keeps_the_flags_of_the_old_one() {
    let mut saved = saved();
    saved.path = "/home/ubuntu/x.plan".into();
    let vars = "--var 'api_token=…' --var 'dsn=…' --var plain=/home/ubuntu/key.pem --var 'url=…'";
    let rest = "--out /home/ubuntu/x.plan";
    let hint = saved.replan_hint();
    assert_eq!(hint, format!("make a new plan: `rm /home/ubuntu/x.plan && provision plan /plan.yaml {vars} {rest}`"));
    // The default is the day on which the plan was made. This is another day.
    saved.body.flags.as_of = jiff::civil::date(2026, 7, 1);
    let hint = saved.replan_hint();
    assert!(hint.contains(&format!("provision plan /plan.yaml --as-of 2026-07-01 {vars} {rest}")), "{hint}");
}

/// A command that reads standard input would wait on the terminal where it is pasted.
#[test]
fn a_plan_from_standard_input_has_no_command_for_a_new_plan() {
    let mut saved = saved();
    saved.path = "/home/ubuntu/x.plan".into();
    saved.body.plan_file = Some("name: small".to_owned());
    saved.body.flags.vars.retain(|name, _| name == "plain");
    assert_eq!(
        saved.replan_hint(),
        "remove /home/ubuntu/x.plan, then send the plan file to provision again, with these arguments: \
         plan - --as /plan.yaml --var plain=/home/ubuntu/key.pem --out /home/ubuntu/x.plan"
    );
}

#[test]
fn what_is_written_is_read() {
    let bytes = saved().bytes().unwrap();
    let read = Saved::parse(&bytes, Path::new("x.plan")).unwrap();
    assert_eq!(read.bytes().unwrap(), bytes);
    assert_eq!(read.flags(), saved().flags());
}

fn change(mode: &str) -> AnyChange {
    let json = serde_json::json!({ "directory": {
        "change": "create", "path": "/data", "parents": [], "owner": null, "group": null, "mode": mode } });
    serde_json::from_value(json).unwrap()
}

fn decided(changes: Vec<AnyChange>) -> Verdict {
    Verdict::Decided(crate::resource::Diff { changes, ..Default::default() })
}

/// Returns whether a verdict is admitted by a plan of a step with `outcome` and a change to mode 0750.
fn passes(outcome: Planned, provisional: bool, verdict: Verdict) -> bool {
    let mut saved = saved();
    let changes = if outcome == Planned::Changes { vec![change("0750")] } else { Vec::new() };
    saved.body.steps = vec![SavedStep { id: "data".into(), outcome, provisional, changes, failure: None }];
    !matches!(saved.admit("data", verdict, &Fingerprints::default()), Verdict::Blocked(_))
}

#[test]
fn nothing_passes_that_was_not_planned() {
    use Planned::{Blocked, Changes, Failed, Unchanged};
    assert!(passes(Changes, false, decided(vec![change("0750")])));
    assert!(passes(Changes, false, decided(vec![])));
    assert!(!passes(Changes, false, decided(vec![change("0700")])));
    assert!(!passes(Changes, false, decided(vec![change("0750"), change("0700")])));
    assert!(passes(Unchanged, false, decided(vec![])));
    assert!(!passes(Unchanged, false, decided(vec![change("0750")])));
    for outcome in [Blocked, Failed] {
        assert!(!passes(outcome, false, decided(vec![])));
        assert!(!passes(outcome, false, decided(vec![change("0750")])));
    }
    // A step that waits for other steps is planned again after them, and the plan says so.
    assert!(passes(Changes, true, decided(vec![change("0700")])));
    assert!(passes(Changes, true, Verdict::Deferred));
}

/// An obstacle to one part of a step does not prevent the step's other planned changes.
#[test]
fn a_step_that_was_blocked_in_part_passes_with_its_planned_changes() {
    let mut saved = saved();
    let outcome = Planned::Blocked;
    saved.body.steps = vec![SavedStep {
        id: "data".into(),
        outcome,
        provisional: false,
        changes: vec![change("0750")],
        failure: None,
    }];
    let passes = |verdict| matches!(saved.admit("data", verdict, &Fingerprints::default()), Verdict::Decided(_));
    assert!(passes(decided(vec![change("0750")])));
    assert!(!passes(decided(vec![change("0750"), change("0700")])));
}

#[test]
fn a_step_whose_secret_is_another_does_not_pass() {
    let mut saved = saved();
    let step = SavedStep {
        id: "data".into(),
        outcome: Planned::Changes,
        provisional: true,
        changes: Vec::new(),
        failure: None,
    };
    saved.body.steps = vec![step];
    let prints = |secret: &[u8]| Fingerprints {
        steps: BTreeMap::new(),
        secrets: BTreeMap::from([("data".to_owned(), saved.digester.digest(secret))]),
        companions: BTreeMap::new(),
    };
    let (then, other) = (prints(b"one"), prints(b"another"));
    saved.body.fingerprints = then.clone();
    assert!(matches!(saved.admit("data", decided(vec![]), &then), Verdict::Decided(_)));
    for now in [other, Fingerprints::default()] {
        assert!(matches!(saved.admit("data", decided(vec![]), &now), Verdict::Blocked(_)));
    }
    assert!(matches!(saved.admit("unknown", decided(vec![]), &then), Verdict::Blocked(_)));
}

#[test]
fn a_variable_with_a_password_in_it_is_not_kept() {
    let bytes = saved().bytes().unwrap();
    let text = String::from_utf8(bytes).unwrap();
    assert!(text.contains("/home/ubuntu/key.pem") && !text.contains("hunter2"), "{text}");
}

#[test]
fn all_that_differs_is_told() {
    let saved = saved();
    let here = origin(saved.digester());
    assert_eq!(saved.check_origin(&here), Ok(()));
    let elsewhere = Origin {
        version: "0.2.0".into(),
        host: "other".into(),
        uid: 0,
        user: "root".into(),
        content: saved.digester().digest(b"name: other"),
        ..here.clone()
    };
    let told = saved.check_origin(&elsewhere).unwrap_err().message;
    for word in ["throwaway", "other", "ubuntu", "root", "0.1.0", "0.2.0", "/plan.yaml"] {
        assert!(told.contains(word), "{word}: {told}");
    }
    let renamed = Origin { machine: saved.digester().digest(b"another"), ..here };
    assert!(saved.check_origin(&renamed).unwrap_err().message.contains("another machine"));
}

#[test]
fn another_format_is_named() {
    let text = String::from_utf8(saved().bytes().unwrap()).unwrap().replace("plan 1", "plan 2");
    assert!(Saved::is_one(text.as_bytes()));
    assert!(Saved::parse(text.as_bytes(), Path::new("x.plan")).err().unwrap().message.contains("format 2"));
}

proptest! {
    #[test]
    fn a_plan_that_was_cut_off_is_refused(cut in 1usize..2000) {
        let bytes = saved().bytes().unwrap();
        let cut = cut.min(bytes.len() - 1);
        prop_assert!(Saved::is_one(&bytes[..cut]));
        prop_assert!(Saved::parse(&bytes[..cut], Path::new("x.plan")).is_err());
    }

    #[test]
    fn a_plan_that_was_altered_is_refused(at in 0usize..2000, bit in 0u8..8) {
        let mut bytes = saved().bytes().unwrap();
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        prop_assert!(Saved::parse(&bytes, Path::new("x.plan")).is_err());
    }

    #[test]
    fn any_bytes_give_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..500)) {
        prop_assert!(Saved::parse(&bytes, Path::new("x.plan")).is_err());
        let headed = [MAGIC.as_bytes(), b"\n", &bytes].concat();
        prop_assert!(Saved::parse(&headed, Path::new("x.plan")).is_err());
    }
}
