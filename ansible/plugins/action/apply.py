# SPDX-License-Identifier: MIT OR Apache-2.0

from __future__ import annotations

from ansible_collections.provision.core.plugins.plugin_utils.action import ARGUMENTS, ProvisionAction


class ActionModule(ProvisionAction):
    """Applies a plan file. In check mode, plans it."""

    ARGUMENTS = dict(ARGUMENTS, wait={"type": "int"})

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        del tmp
        command = "plan" if self._task.check_mode else "apply"
        report, outcome = self.run_program(command, task_vars or {})
        result.update(outcome)
        result["failed"] = report.failed
        return result
