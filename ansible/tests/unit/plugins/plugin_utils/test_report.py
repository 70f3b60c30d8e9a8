# SPDX-License-Identifier: MIT OR Apache-2.0

from __future__ import annotations

import json

import pytest

from ansible_collections.provision.core.plugins.plugin_utils.report import Report, UnknownFormat

STARTED = {"event": "run_started", "format": 1, "command": "apply", "plan": "web", "run": "r", "user": "root", "as_of": "2026-03-01"}
CHANGE = {"action": "update", "target": "/data", "summary": "set mode", "before": {"mode": "0755"}, "after": {"mode": "0700"}, "risk": None}
FINISHED = {"event": "run_finished", "outcome": "ok", "counts": {"changed": 1, "unchanged": 2}, "reason": None, "hint": None}


def planned(**more):
    event = {
        "event": "step_planned", "step": "data", "kind": "directory", "title": "", "outcome": "changes", "certainty": "exact",
        "changes": [CHANGE], "facts": {}, "drift": [], "reason": None, "hint": None, "why": None, "notes": [], "warnings": [],
    }
    return dict(event, **more)


def change_finished(**more):
    event = {"event": "change_finished", "step": "data", "action": "update", "target": "/data", "summary": "set mode", "outcome": "changed"}
    return dict(event, **more)


def step_finished(**more):
    event = {
        "event": "step_finished", "step": "data", "kind": "directory", "outcome": "changed", "drift": [], "reason": None, "hint": None,
        "why": None, "notes": [], "warnings": [], "rescues": [], "restore_commands": [], "ways_back": [],
    }
    return dict(event, **more)


def report(*events):
    return Report("".join(json.dumps(event) + "\n" for event in events))


def test_a_plan_is_changed_if_a_step_has_changes():
    started = dict(STARTED, command="plan")
    assert report(started, planned(), FINISHED).changed
    assert not report(started, planned(changes=[], outcome="unchanged"), FINISHED).changed
    assert report(started, planned(outcome="blocked", reason="no"), FINISHED).changed


def test_an_apply_is_changed_if_a_change_was_made():
    assert report(STARTED, planned(), change_finished(), step_finished(), FINISHED).changed
    assert not report(STARTED, planned(), FINISHED).changed
    failed = change_finished(outcome="failed")
    assert not report(STARTED, planned(), failed, FINISHED).changed
    assert report(STARTED, planned(), dict(failed, partial=True), FINISHED).changed


def test_the_diff_shows_what_was_changed():
    [diff] = report(STARTED, planned(), change_finished(), FINISHED).diffs()
    assert (diff["before"], diff["after"]) == ("mode: 0755\n", "mode: 0700\n")
    assert "data" in diff["before_header"] and "set mode" in diff["after_header"]
    assert report(STARTED, planned(), change_finished(outcome="failed"), FINISHED).diffs() == []


def test_a_hidden_value_is_shown_by_its_summary():
    hidden = dict(CHANGE, before={"value": "(hidden)"}, after={"value": "(hidden)"})
    [diff] = report(dict(STARTED, command="plan"), planned(changes=[hidden]), FINISHED).diffs()
    assert diff == {"prepared": "/data (data): set mode\n"}


@pytest.mark.parametrize(
    "before, after, expected",
    [
        (None, {"mode": "0700", "parents": []}, ("", "mode: 0700\n")),
        ("a", "a\nb\n", ("a\n", "a\nb\n")),
        ({"columns": ["a"]}, {"columns": ["a", "b"]}, ('columns: ["a"]\n', 'columns: ["a", "b"]\n')),
        ([1], [1, None], ("- 1\n", "- 1\n- null\n")),
        (1, True, ("1\n", "true\n")),
    ],
)
def test_states_of_any_type_are_text(before, after, expected):
    change = dict(CHANGE, before=before, after=after)
    [diff] = report(dict(STARTED, command="plan"), planned(changes=[change]), FINISHED).diffs()
    assert (diff["before"], diff["after"]) == expected


def test_the_plan_that_was_made_after_others_counts():
    other = dict(CHANGE, summary="create")
    [diff] = report(
        STARTED, planned(changes=[dict(CHANGE, before=None, after=None)], certainty="provisional"), planned(changes=[other]),
        change_finished(summary="create"), FINISHED,
    ).diffs()
    assert diff["after"] == "mode: 0700\n"


def test_the_message_names_what_needs_a_person():
    end = dict(FINISHED, outcome="failed", counts={"failed": 1, "unchanged": 2})
    result = report(STARTED, planned(), step_finished(outcome="failed", reason="it is a file", hint="move it"), end)
    assert result.failed
    assert result.message() == "1 failed, 2 unchanged; data: it is a file (move it)"
    refused = report(STARTED, dict(end, counts={}, reason="another apply is running", hint=None))
    assert refused.failed and "another apply is running" in refused.message()


def test_a_drifted_step_is_a_failure():
    assert report(dict(STARTED, command="plan"), planned(outcome="drifted", reason="x"), FINISHED).failed


def test_a_run_without_an_end_is_incomplete():
    result = report(STARTED, planned(), change_finished())
    assert result.failed and result.changed and not result.complete


def test_warnings_of_the_run_and_its_steps_are_collected():
    cut_off = {"event": "run_cut_off", "run": "r0", "started": "2026-03-01T00:00:00Z", "user": "root", "changes": [CHANGE | {"step": "data"}]}
    result = report(STARTED, {"event": "warning", "message": "w"}, cut_off, planned(warnings=["old key"]), FINISHED)
    first, second, third = result.all_warnings()
    assert first == "w" and "run r0 of root" in second and "set mode" in second and third == "data: old key"


def test_lines_that_are_not_events_are_left_out():
    lines = "Welcome\n{not json\n[]\n{\"event\": 7}\n{\"event\": \"of_a_later_version\"}\n{\"event\": \"init__\"}\n"
    assert Report(lines).started is None
    assert not Report("").complete


def test_another_format_is_refused():
    with pytest.raises(UnknownFormat):
        report(dict(STARTED, format=2))


def test_follow_ups_of_this_run_and_of_earlier_ones_are_kept_apart():
    result = report(STARTED, _follow_up("a", ["web"]), {"event": "follow_up_open", "id": 3}, FINISHED)
    assert ([known["step"] for known in result.follow_ups], result.open_follow_ups) == (["a"], [{"id": 3}])


def _follow_up(step, services, **more):
    argv = ["docker", "compose", "up", "-d"] + services
    reason = "%s has changed" % step
    return dict({"event": "follow_up", "step": step, "reason": reason, "services": services, "argv": argv, "command": " ".join(argv)}, **more)


def test_a_command_that_several_steps_need_is_run_once():
    result = report(STARTED, _follow_up("a", ["web"], id=1), _follow_up("b", ["web"], id=1), _follow_up("c", ["db"], id=1), FINISHED)
    (only,) = result.follow_ups
    assert (only["id"], only["steps"], only["services"]) == (1, ["a", "b", "c"], ["web", "db"])
    assert only["command"] == "docker compose up -d web db"
    assert only["reasons"] == ["a has changed", "b has changed", "c has changed"]
    assert len(report(STARTED, _follow_up("a", ["web"]), _follow_up("b", ["web"]), FINISHED).follow_ups) == 1
    assert len(report(STARTED, _follow_up("a", ["web"]), _follow_up("b", ["db"]), FINISHED).follow_ups) == 2


def test_the_diff_of_a_content_is_shown_as_it_is():
    change = {"action": "update", "target": "/a", "summary": "replace the content", "before": {"mode": "0644"}, "after": {"mode": "0644"}, "diff": "-x\n+y\n"}
    planned = {"event": "step_planned", "step": "a", "kind": "file", "title": "", "outcome": "changes", "certainty": "exact", "changes": [change]}
    assert report(dict(STARTED, command="plan"), planned, FINISHED).diffs() == [{"prepared": "/a (a): replace the content\n-x\n+y\n"}]
