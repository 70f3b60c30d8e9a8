# SPDX-License-Identifier: MIT OR Apache-2.0
"""Turns the JSON lines of a run into the result of a task. Pure: no host, no files."""

from __future__ import annotations

import json
import shlex

FORMAT = 1

# The outcomes of steps that need a person.
TROUBLE = ("failed", "blocked", "drifted")

# What the two events about a step have in common. The later event counts.
_STEP_KEYS = ("outcome", "drift", "reason", "hint", "why", "notes", "warnings")


class UnknownFormat(Exception):
    """The program writes another version of the JSON lines."""


class Report:
    """The events of one run, in order."""

    def __init__(self, stdout):
        """Reads the events from standard output. Lines that are not events are left out.

        :raises UnknownFormat: if the program writes another version of the JSON lines
        """
        self.started = None
        self.finished = None
        self.steps = {}
        self.follow_ups = []
        self.open_follow_ups = []
        self.warnings = []
        self.applying = False
        # The changes that were made: pairs of a step's id and the change.
        self._made = []
        self._partial = False
        for line in stdout.splitlines():
            event = _event(line)
            handler = getattr(self, "_on_%s" % event.get("event"), None) if event else None
            if handler:
                handler(event)

    @property
    def changed(self):
        """Whether the run changed something. For a plan: whether an apply would."""
        if self.applying:
            return self._partial or bool(self._made)
        return any(step["changes"] for step in self.steps.values())

    @property
    def complete(self):
        """Whether the run came to its end."""
        return self.finished is not None

    @property
    def failed(self):
        """Whether the run did not end well."""
        return not self.complete or self.finished["outcome"] == "failed" or bool(self.trouble)

    @property
    def trouble(self):
        """The ids of the steps that need a person."""
        return [name for name, step in self.steps.items() if step["outcome"] in TROUBLE]

    @property
    def counts(self):
        return self.finished["counts"] if self.complete else {}

    def message(self):
        """One line about the run: its counts, and why each step that needs a person needs one."""
        parts = [_counts_text(self.counts) if self.complete else "the run ended before its last step"]
        if self.complete and self.finished.get("reason"):
            parts.append(_with_hint(self.finished))
        for name in self.trouble:
            step = self.steps[name]
            parts.append("%s: %s" % (name, _with_hint(step) if step["reason"] else step["outcome"]))
        return "; ".join(parts)

    def diffs(self):
        """The changes as Ansible shows them in diff mode."""
        changes = self._made if self.applying else [
            (name, change) for name, step in self.steps.items() for change in step["changes"]
        ]
        return [_diff(name, change) for name, change in changes]

    def _on_run_started(self, event):
        if event.get("format") != FORMAT:
            raise UnknownFormat("its JSON lines have format %s, and this collection reads format %d" % (event.get("format"), FORMAT))
        self.started = event
        self.applying = event["command"] == "apply"

    def _on_step_planned(self, event):
        # A provisional step is planned again after the steps that it waits for.
        self.steps[event["step"]] = dict(
            {key: event.get(key) for key in _STEP_KEYS},
            kind=event["kind"],
            title=event["title"],
            changes=event["changes"],
            facts=event.get("facts", {}),
            certainty=event["certainty"],
        )

    def _on_change_finished(self, event):
        if event["outcome"] != "changed":
            self._partial = self._partial or bool(event.get("partial"))
            return
        planned = self.steps.get(event["step"], {}).get("changes", [])
        same = [change for change in planned if _names(change) == _names(event)]
        change = same[0] if same else dict(event, before=None, after=None)
        self._made.append((event["step"], change))

    def _on_step_finished(self, event):
        step = self.steps.setdefault(event["step"], {"kind": event["kind"], "title": "", "changes": [], "facts": {}, "certainty": "exact"})
        step.update({key: event.get(key) for key in _STEP_KEYS})
        for key in ("rescues", "restore_commands", "ways_back"):
            step[key] = event.get(key, [])

    def _on_follow_up(self, event):
        follow_up = dict(_without_event(event), steps=[event["step"]], reasons=[event["reason"]])
        for known in self.follow_ups:
            if known["command"] == follow_up["command"] or known.get("id") is not None and known.get("id") == follow_up.get("id"):
                _merge(known, follow_up)
                return
        self.follow_ups.append(follow_up)

    def _on_follow_up_open(self, event):
        self.open_follow_ups.append(_without_event(event))

    def _on_warning(self, event):
        self.warnings.append(event["message"])

    def _on_run_cut_off(self, event):
        changes = ["%s: %s (%s)" % (change["step"], change["summary"], change["target"]) for change in event["changes"]]
        during = " during: %s" % "; ".join(changes) if changes else " between two changes"
        self.warnings.append("run %s of %s at %s was interrupted%s" % (event["run"], event["user"], event["started"], during))

    def _on_run_finished(self, event):
        self.finished = event

    def all_warnings(self):
        """The warnings of the run, then those of its steps."""
        of_steps = ["%s: %s" % (name, text) for name, step in self.steps.items() for text in step.get("warnings") or []]
        return self.warnings + of_steps


def _event(line):
    if not line.startswith("{"):
        return None
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and isinstance(event.get("event"), str) else None


def _without_event(event):
    return {key: value for key, value in event.items() if key != "event"}


def _merge(known, other):
    """Adds another follow-up of the same run that is open under the same number, or has the same command."""
    for key in ("steps", "reasons"):
        known[key] = known[key] + [text for text in other[key] if text not in known[key]]
    new = [name for name in other.get("services", []) if name not in known["services"]]
    if new:
        known["services"] = known["services"] + new
        known["argv"] = known["argv"] + new
        known["command"] = shlex.join(known["argv"])


def _names(change):
    return [change.get(key) for key in ("action", "target", "summary")]


def _with_hint(subject):
    return "%s (%s)" % (subject["reason"], subject["hint"]) if subject.get("hint") else subject["reason"]


def _counts_text(counts):
    words = (
        ("failed", "failed"),
        ("blocked", "blocked"),
        ("blocked_in_part", "blocked in part"),
        ("drifted", "drifted"),
        ("drifted_in_part", "drifted in part"),
        ("changed", "changed"),
        ("changes", "to change"),
        ("may_change", "may change"),
        ("unchecked", "unchecked"),
        ("unchanged", "unchanged"),
        ("skipped", "skipped"),
    )
    # Steps that may change after others are among the unchanged ones, and those that are blocked or drifted in part among the others.
    counts = dict(
        counts,
        unchanged=counts.get("unchanged", 0) - counts.get("may_change", 0),
        blocked=counts.get("blocked", 0) - counts.get("blocked_in_part", 0),
        drifted=counts.get("drifted", 0) - counts.get("drifted_in_part", 0),
    )
    return ", ".join("%d %s" % (counts[key], word) for key, word in words if counts.get(key)) or "no steps"


def _diff(name, change):
    header = "%s (%s)" % (change["target"], name)
    if change.get("diff"):
        return {"prepared": "%s: %s\n%s\n" % (header, change["summary"], change["diff"].rstrip("\n"))}
    before, after = _lines(change.get("before")), _lines(change.get("after"))
    if before == after:
        # The values of secrets are hidden, so only the summary tells what is changed.
        return {"prepared": "%s: %s\n" % (header, change["summary"])}
    return {
        "before_header": header,
        "after_header": "%s: %s" % (header, change["summary"]),
        "before": before,
        "after": after,
    }


def _lines(state):
    """A state as lines of text, one for each property."""
    if state is None:
        return ""
    if isinstance(state, str):
        return state if state.endswith("\n") or not state else state + "\n"
    if isinstance(state, dict):
        return "".join("%s: %s\n" % (key, _scalar(value)) for key, value in state.items() if value != [])
    if isinstance(state, list):
        return "".join("- %s\n" % _scalar(value) for value in state)
    return _scalar(state) + "\n"


def _scalar(value):
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
