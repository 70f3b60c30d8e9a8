# SPDX-License-Identifier: MIT OR Apache-2.0
"""What the two actions have in common: they run the program on a host, through standard input alone."""

from __future__ import annotations

import glob
import os
import re

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.module_utils.common.text.converters import to_text
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.provision.core.plugins.plugin_utils.program import (
    MISSING, Copies, copy_command, note, run_command,
)
from ansible_collections.provision.core.plugins.plugin_utils.report import Report, UnknownFormat
from ansible_collections.provision.core.plugins.plugin_utils.request import build_arguments, build_request

display = Display()

ARGUMENTS = {
    "plan_file": {"type": "str", "required": True},
    "dest": {"type": "str"},
    "files": {"type": "list", "elements": "str", "default": ["*.j2", "templates/**"]},
    "vars": {"type": "dict", "default": {}},
    "only": {"type": "list", "elements": "str"},
    "skip": {"type": "list", "elements": "str"},
    "as_of": {"type": "str"},
    "secrets": {"type": "list", "elements": "str", "no_log": False},
    "binary": {"type": "str"},
    "executable": {"type": "str"},
}


class ProvisionAction(ActionBase):
    """Runs ``provision plan`` or ``provision apply`` on a host. Nothing of a request is an argument or a file there."""

    TRANSFERS_FILES = False
    ARGUMENTS = ARGUMENTS

    def run_program(self, command, task_vars):
        """Runs a command of the program and returns the path of the program, its report, and its result so far.

        :raises AnsibleActionFail: if the program cannot be run, or ends without a report
        """
        dummy, params = self.validate_argument_spec(
            argument_spec=self.ARGUMENTS, mutually_exclusive=[("binary", "executable")],
        )
        self._check_connection()
        plan_file = params["plan_file"]
        dest = params["dest"] or "/etc/provision/%s" % os.path.basename(plan_file)
        path = self._find(plan_file)
        request = build_request(
            self._read("the plan file", path),
            dest,
            params["vars"],
            self._secrets(params["secrets"] or [], task_vars),
            self._read_files(os.path.dirname(path), params["files"]),
        )
        arguments = build_arguments(command, params)
        copies = Copies(params["binary"], self._find) if params["binary"] else None
        shell = run_command(arguments, params["executable"] or "provision", copies)
        answer = self._execute(shell, request)
        if answer["rc"] == MISSING and note(answer["stdout"], "missing") is not None:
            self._provide(note(answer["stdout"], "missing"), copies, params)
            answer = self._execute(shell, request)
        return self._report(command, answer, dest)

    def _execute(self, shell, data):
        return self._low_level_execute_command(self._with_environment(shell), in_data=data)

    def _with_environment(self, shell):
        """Puts the task's `environment` before the command."""
        environment = self._compute_environment_string()
        return "export %s; %s" % (environment.strip(), shell) if environment.strip() else shell

    def _check_connection(self):
        if not getattr(self._connection, "has_pipelining", False):
            raise AnsibleActionFail(
                "the connection plugin %s cannot pass standard input to a command; use ansible.builtin.ssh" % self._connection.transport
            )

    def _find(self, path):
        try:
            return self._find_needle("files", path)
        except AnsibleError as error:
            raise AnsibleActionFail(to_text(error)) from None

    def _read_files(self, folder, patterns):
        """Returns the texts of the files in a folder that match one of the patterns, by their names there."""
        names = set()
        for pattern in patterns:
            names.update(glob.glob(pattern, root_dir=folder, recursive=True))
        paths = {name: os.path.join(folder, name) for name in sorted(names)}
        return {name: self._read("the file", path) for name, path in paths.items() if os.path.isfile(path)}

    def _read(self, what, path):
        try:
            # Decrypts a file of ansible-vault in memory.
            content = self._loader._get_file_contents(path)[0]
            return to_text(content, errors="surrogate_or_strict", nonstring="strict")
        except UnicodeError:
            raise AnsibleActionFail("cannot read %s %s: it is not UTF-8 text" % (what, path)) from None
        except AnsibleError as error:
            raise AnsibleActionFail("cannot read %s %s: %s" % (what, path, to_text(error))) from None

    def _secrets(self, names, task_vars):
        return {name: self._secret(name, task_vars) for name in names}

    def _secret(self, name, task_vars):
        """Returns the value of a variable.

        :raises AnsibleActionFail: if it is undefined, cannot be evaluated, or is not text. The message contains no
            value and no cause, because the text of a template can be a secret.
        """
        if name not in task_vars:
            raise AnsibleActionFail("the secret %s is not defined; set the variable %s, or remove it from `secrets`" % (name, name))
        problem = None
        try:
            value = self._templar.template(task_vars[name])
        except Exception as error:  # pylint: disable=broad-except
            problem = type(error).__name__
        # Not raised where the error is handled: AnsibleActionFail keeps the text of the error that is being handled.
        if problem is not None:
            raise AnsibleActionFail("cannot evaluate the secret %s (%s)" % (name, problem))
        # A value of ansible-vault is text of its own type.
        if isinstance(value, (bool, int, float, dict, list)) or value is None:
            raise AnsibleActionFail("the secret %s has to be a string; put it in quotes" % name)
        return to_text(value)

    def _provide(self, architecture, copies, params):
        """Copies the program to the host, once for each version and architecture.

        :raises AnsibleActionFail: if there is no program for the host
        """
        if copies is None:
            executable = params["executable"] or "provision"
            raise AnsibleActionFail(
                "%s is not installed on the host; install its package, or name a program to copy with `binary`" % executable
            )
        found = copies.content(architecture)
        if found is None:
            raise AnsibleActionFail("there is no program for the host's architecture %s, only %s" % (architecture, copies.names()))
        content, digest = found
        display.vv("copying provision %s for %s" % (digest[:12], architecture))
        answer = self._low_level_execute_command(copy_command(digest), in_data=content)
        if answer["rc"] != 0:
            reason = _messages(answer) or "exit code %d" % answer["rc"]
            raise AnsibleActionFail("cannot copy the program to the host: %s" % reason)

    def _report(self, command, answer, dest):
        try:
            report = Report(answer["stdout"])
        except UnknownFormat as error:
            raise AnsibleActionFail("cannot read the report of the program: %s" % error) from None
        if report.started is None:
            # The request can be wrong, or the program something else. Its messages contain no value of a request.
            reason = _messages(answer) or "it ended with exit code %d and printed no report" % answer["rc"]
            raise AnsibleActionFail("cannot %s %s: %s" % (command, dest, reason))
        result = {
            "changed": report.changed,
            "failed": False,
            "msg": report.message(),
            "file": dest,
            "plan": report.started["plan"],
            "run": report.started["run"],
            "user": report.started["user"],
            "as_of": report.started["as_of"],
            "program": note(answer["stdout"], "program"),
            "outcome": report.finished["outcome"] if report.complete else "interrupted",
            "counts": report.counts,
            "steps": report.steps,
            "follow_ups": report.follow_ups,
            "open_follow_ups": report.open_follow_ups,
        }
        if not report.complete:
            result["failed"] = True
            result["msg"] += ": exit code %d%s" % (answer["rc"], ", " + _messages(answer) if _messages(answer) else "")
        warnings = report.all_warnings()
        if warnings:
            result["warnings"] = warnings
        if self._task.diff:
            result["diff"] = report.diffs()
        return report, result


def _messages(answer):
    """What a command printed on standard error, without what ssh prints there with ``-vvv``."""
    lines = answer["stderr"].splitlines()
    return "\n".join(line for line in lines if not re.match(r"debug[123]: |OpenSSH_", line)).strip()
