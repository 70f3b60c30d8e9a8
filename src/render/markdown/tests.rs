use super::*;

fn planned(step: &str, title: &str, outcome: Planned, changes: Vec<Description>) -> Event {
    Event::StepPlanned(StepPlanned { title: title.into(), changes, ..StepPlanned::of(step, "directory", outcome) })
}

fn change(target: &str) -> Description {
    Description {
        action: Action::Update,
        target: target.into(),
        summary: format!("set mode of {target} to 0700"),
        before: serde_json::json!({ "mode": "0755", "owner": "root" }),
        after: serde_json::json!({ "mode": "0700", "owner": "root" }),
        risk: None,
        diff: None,
    }
}

fn rendered(events: Vec<Event>, counts: Counts) -> String {
    let mut summary =
        Summary { plan: "x".into(), host: "h--><b>".into(), command: "plan".into(), ..Summary::default() };
    events.iter().for_each(|event| assert!(summary.add_event(event).is_none()));
    let outcome = RunOutcome::Changes;
    summary.add_event(&Event::RunFinished { outcome, counts, reason: None, hint: None }).unwrap()
}

#[test]
fn counts_come_first_and_the_table_omits_converged_steps() {
    let events = vec![
        planned("fine", "", Planned::Unchanged, Vec::new()),
        planned("data", "A | b <img> `c` @all", Planned::Changes, vec![change("/srv/```/x")]),
    ];
    let text = rendered(events, Counts { unchanged: 1, changes: 1, ..Counts::default() });
    assert_eq!(
        text,
        "<!-- provision:x:h-___b_ -->\n\
             ### provision plan: x on h--&#62;&#60;b&#62; as \n\n\
             **Plan: 1 to change, 1 in order**\n\n\
             | step | kind | state | what |\n|---|---|---|---|\n\
             | <code>data</code> | directory | to change | <code>A &#124; b &#60;img&#62; &#96;c&#96; @all</code> |\n\n\
             <details><summary><code>data</code> <code>A &#124; b &#60;img&#62; &#96;c&#96; @all</code></summary>\n\n\
             ````diff\n! set mode of /srv/```/x to 0700\n-   mode: 0755\n+   mode: 0700\n````\n\n</details>\n"
    );
}

#[test]
fn long_runs_are_truncated_between_steps_with_a_note() {
    for (count, changes) in [(2_000, 1), (300, 3), (3, 4_000)] {
        let step = |index: usize| {
            let changes = (0..changes).map(|at| change(&format!("/srv/ü/{index}/{at}"))).collect();
            planned(&format!("step-{index}"), &"ö".repeat(90), Planned::Changes, changes)
        };
        let text = rendered((0..count).map(step).collect(), Counts { changes: count, ..Counts::default() });
        assert!(length(&text) < MAX_CHARS, "{count}: {}", length(&text));
        assert_eq!(text.matches("<details>").count(), text.matches("</details>").count());
        assert_eq!(text.matches("```").count() % 2, 0);
        let shown = text.matches("<details>").count();
        let left = format!("{} more steps", count - shown);
        assert!(count == 3 || text.contains(&left), "{left}: {}", &text[text.len() - 300..]);
        assert!(count != 3 || text.contains("more changes"));
    }
}

#[test]
fn a_checkout_is_described_in_words_and_a_step_that_may_change_says_what_it_depends_on() {
    let mut update = change("/srv/app");
    update.before = serde_json::json!({ "commit": "a1", "behind": 1, "in_the_way": [], "local_commits": [] });
    update.after = serde_json::json!({ "commit": "b2", "behind": 0, "changed_paths": 1, "stashed": [] });
    let Event::StepPlanned(mut page) = planned("page", "", Planned::Unchanged, Vec::new()) else { unreachable!() };
    (page.certainty, page.waits_for) = (Certainty::Provisional, vec!["code".into()]);
    let events = vec![planned("code", "", Planned::Changes, vec![update]), Event::StepPlanned(page)];
    let text = rendered(events, Counts { unchanged: 1, may_change: 1, changes: 1, ..Counts::default() });
    assert!(text.contains("-   commit: a1\n+   commit: b2\n```"), "{text}");
    assert!(text.contains("| may change (provisional: after code) | depends on code |"), "{text}");
}
