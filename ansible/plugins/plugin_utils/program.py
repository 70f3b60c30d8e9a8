# SPDX-License-Identifier: MIT OR Apache-2.0
"""The shell commands that find, run and copy the program on a host. They need a POSIX shell and coreutils only."""

from __future__ import annotations

import hashlib
import os
import shlex

from ansible.errors import AnsibleActionFail

# The exit code of a command that did not find the program on the host.
MISSING = 97

# The architectures of ``{arch}`` in the name of the program, as ``uname -m`` prints them.
ARCHITECTURES = ("x86_64", "aarch64", "armv7l", "ppc64le", "riscv64", "s390x")

PLACEHOLDER = "{arch}"

# Where copies of the program are stored. Only the user who runs the program can write there.
_STORE = (
    'if [ "$(id -u)" = 0 ]; then d=/var/lib/provision; else d="${XDG_STATE_HOME:-$HOME/.local/state}/provision"; fi; '
)


class Copies:
    """The programs on the controller that can be copied to hosts, by architecture."""

    def __init__(self, path, find):
        """Finds the files and reads their hashes.

        :arg path: the path of the program on the controller. ``{arch}`` in it stands for the host's architecture.
        :arg find: returns the real path of a file, or raises an AnsibleError
        :raises AnsibleError: if there is no such file
        """
        self._files = {}
        if PLACEHOLDER not in path:
            self._add("*", find(path))
            return
        for architecture in ARCHITECTURES:
            try:
                self._add(architecture, find(path.replace(PLACEHOLDER, architecture)))
            except AnsibleActionFail:
                continue
        if not self._files:
            raise AnsibleActionFail("cannot find %s on the controller for any architecture (%s)" % (path, ", ".join(ARCHITECTURES)))

    def _add(self, architecture, path):
        digest = hashlib.sha256()
        with open(path, "rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                digest.update(block)
        self._files[architecture] = (path, digest.hexdigest())

    def locate(self):
        """Shell code that sets ``p`` to the path of the copy on the host, or to nothing for an unknown architecture."""
        cases = " ".join("%s) h=%s;;" % (name, digest) for name, (dummy, digest) in self._files.items())
        return _STORE + 'a=$(uname -m); h=; case "$a" in %s esac; p=${h:+$d/bin/$h/provision}; ' % cases

    def content(self, architecture):
        """Returns the content and the hash of the program for an architecture, or None."""
        path, digest = self._files.get(architecture) or self._files.get("*") or (None, None)
        if path is None:
            return None
        with open(path, "rb") as file:
            return file.read(), digest

    def names(self):
        return ", ".join(os.path.basename(path) for path, dummy in self._files.values())


def run_command(arguments, executable=None, copies=None):
    """Returns a shell command that runs the program, or exits with MISSING and prints the host's architecture.

    The rest of the input is read in any case: a connection that breaks while input is sent is reported as a host that
    cannot be reached.
    """
    if copies is None:
        find = "a=; p=$(command -v %s) || p=; " % shlex.quote(executable)
    else:
        find = copies.locate()
    words = " ".join(shlex.quote(word) for word in arguments)
    return (
        "%sif [ -n \"$p\" ] && [ -x \"$p\" ]; then echo \"provision.core program $p\"; \"$p\" %s; r=$?; "
        "else echo \"provision.core missing $a\"; r=%d; fi; cat >/dev/null; exit $r"
    ) % (find, words, MISSING)


def copy_command(digest):
    """Returns a shell command that stores its input as the program with this hash."""
    return _STORE + (
        'set -e; umask 077; d=$d/bin/%s; mkdir -p "$d"; t=$d/.new.$$; trap \'rm -f "$t"\' EXIT; cat >"$t"; '
        'echo "%s  $t" | sha256sum -c >/dev/null; chmod 700 "$t"; mv -f "$t" "$d/provision"'
    ) % (digest, digest)


def note(stdout, word):
    """Returns the text after ``provision.core WORD`` in the output of a command, or None."""
    prefix = "provision.core %s " % word
    for line in stdout.splitlines():
        if line.startswith(prefix) or line == prefix.rstrip():
            return line[len(prefix):]
    return None
