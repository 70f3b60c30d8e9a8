# SPDX-License-Identifier: MIT OR Apache-2.0

from __future__ import annotations

from ansible_collections.provision.core.plugins.plugin_utils.action import ProvisionAction


class ActionModule(ProvisionAction):
    """Plans a plan file, and returns what was observed as facts."""

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        del tmp
        task_vars = task_vars or {}
        dummy, outcome = self.run_program("plan", task_vars)
        result.update(outcome, changed=False)
        # A difference is a fact, and not a change of this task.
        result.pop("diff", None)
        plans = dict((task_vars.get("ansible_facts") or {}).get("provision") or {})
        keys = ("file", "run", "as_of", "outcome", "counts", "steps", "open_follow_ups")
        plans[outcome["plan"]] = {key: outcome[key] for key in keys}
        result["ansible_facts"] = {"provision": plans}
        return result
