# SPDX-License-Identifier: MIT OR Apache-2.0

from __future__ import annotations

import hashlib
import os
import subprocess

import pytest

from ansible.errors import AnsibleActionFail
from ansible_collections.provision.core.plugins.plugin_utils.program import MISSING, Copies, note, run_command

ARCH = os.uname().machine


def shell(command, data=b"", **more):
    return subprocess.run(["/bin/sh", "-c", command], input=data, capture_output=True, check=False, **more)


def find(path):
    if not os.path.exists(path):
        raise AnsibleActionFail("no such file")
    return path


def test_arguments_are_quoted_and_the_input_reaches_the_program(tmp_path):
    program = tmp_path / "it's a program"
    program.write_text("#!/bin/sh\nprintf '%s,' \"$@\"; cat\n", encoding="utf-8")
    program.chmod(0o755)
    answer = shell(run_command(["plan", "--only=a b;'$x"], executable=str(program)), b"request")
    assert answer.stdout.endswith(b"plan,--only=a b;'$x,request"), answer
    assert note(answer.stdout.decode(), "program") == str(program)


def test_a_missing_program_reads_its_input_and_says_so():
    answer = shell(run_command(["plan"], executable="no-such-program"), b"x" * (1 << 20))
    assert answer.returncode == MISSING
    assert note(answer.stdout.decode(), "missing") == ""


def test_copies_are_found_by_architecture_and_hash(tmp_path):
    (tmp_path / ("provision-%s" % ARCH)).write_bytes(b"own")
    (tmp_path / "provision-s390x").write_bytes(b"other")
    copies = Copies(str(tmp_path / "provision-{arch}"), find)
    assert copies.content(ARCH) == (b"own", hashlib.sha256(b"own").hexdigest())
    assert copies.content("sparc") is None
    answer = shell(run_command(["plan"], copies=copies), env={"HOME": str(tmp_path), "PATH": os.environ["PATH"]})
    assert answer.returncode == MISSING
    assert note(answer.stdout.decode(), "missing") == ARCH


def test_a_file_without_an_architecture_is_for_every_host(tmp_path):
    (tmp_path / "provision").write_bytes(b"any")
    assert Copies(str(tmp_path / "provision"), find).content("sparc")[0] == b"any"


def test_no_file_at_all_is_an_error(tmp_path):
    with pytest.raises(AnsibleActionFail):
        Copies(str(tmp_path / "provision-{arch}"), find)
    with pytest.raises(AnsibleActionFail):
        Copies(str(tmp_path / "provision"), find)
