# SPDX-License-Identifier: MIT OR Apache-2.0
"""What is sent to the program: one JSON object on its standard input, and its arguments.

The values of secrets are in the JSON object only.
"""

from __future__ import annotations

import json

from ansible.errors import AnsibleActionFail


def build_request(plan_file, dest, variables, secrets, files):
    """Returns the request as bytes.

    :arg plan_file: the text of the plan file
    :arg dest: the path that names the plan file on the host
    :arg variables: values for the variables of the plan file
    :arg secrets: values for ``{ env: NAME }`` and ``env_var(NAME)``
    :arg files: the texts of the files that the plan file can name beside itself
    :raises AnsibleActionFail: if a value is not text, a number or a boolean. The message contains no value.
    """
    request = {
        "plan_file": str(plan_file),
        "as": str(dest),
        "vars": {str(name): _text(name, value) for name, value in variables.items()},
        "env": {str(name): str(value) for name, value in secrets.items()},
        "files": {str(name): str(text) for name, text in files.items()},
    }
    return json.dumps(request).encode("utf-8")


def build_arguments(command, params):
    """Returns the arguments of the program for ``plan`` or ``apply``, without the program itself."""
    arguments = [command, "--request", "--json"]
    if command == "apply":
        arguments.append("--yes")
        if params.get("wait") is not None:
            arguments.append("--wait=%d" % params["wait"])
    for option in ("only", "skip"):
        if params.get(option):
            arguments.append("--%s=%s" % (option, ",".join(str(step) for step in params[option])))
    if params.get("as_of"):
        arguments.append("--as-of=%s" % params["as_of"])
    return arguments


def _text(name, value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float, str)):
        return str(value)
    if value is None:
        raise AnsibleActionFail("vars.%s is null; leave it out to use the plan file's value" % name)
    raise AnsibleActionFail("vars.%s has to be a string, a number or a boolean" % name)
