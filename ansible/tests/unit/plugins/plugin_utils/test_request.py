# SPDX-License-Identifier: MIT OR Apache-2.0

from __future__ import annotations

import json

import pytest

from ansible.errors import AnsibleActionFail
from ansible_collections.provision.core.plugins.plugin_utils.request import build_arguments, build_request


def test_a_request_holds_texts():
    variables = {"a": "x", "b": 2, "c": True, "d": 0.5}
    request = json.loads(build_request("name: x", "/etc/x.yaml", variables, {"PW": "s\"é"}, {"a.j2": "x"}))
    assert request == {
        "plan_file": "name: x",
        "as": "/etc/x.yaml",
        "vars": {"a": "x", "b": "2", "c": "true", "d": "0.5"},
        "env": {"PW": "s\"é"},
        "files": {"a.j2": "x"},
    }


@pytest.mark.parametrize("value", [None, ["hunter2"], {"a": "hunter2"}])
def test_a_variable_of_another_type_is_refused_without_its_value(value):
    with pytest.raises(AnsibleActionFail) as error:
        build_request("", "/x", {"name": value}, {}, {})
    assert "vars.name" in str(error.value) and "hunter2" not in str(error.value)


def test_arguments_hold_only_options():
    params = {"only": ["a", "b"], "skip": None, "as_of": "2027-01-31", "wait": 5, "secrets": ["PW"], "vars": {"x": "y"}}
    assert build_arguments("plan", params) == ["plan", "--request", "--json", "--only=a,b", "--as-of=2027-01-31"]
    assert build_arguments("apply", params) == [
        "apply", "--request", "--json", "--yes", "--wait=5", "--only=a,b", "--as-of=2027-01-31",
    ]
