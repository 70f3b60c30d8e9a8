# SPDX-License-Identifier: MIT OR Apache-2.0

from __future__ import annotations


class ModuleDocFragment:
    """The options, attributes and notes that both actions have."""

    DOCUMENTATION = r"""
options:
  plan_file:
    description:
      - The plan file on the controller. A relative path is looked up as in M(ansible.builtin.copy), in C(files/) of the role first.
      - The file can be encrypted with ansible-vault. It is decrypted in memory.
      - Ansible does not evaluate templates in it. Pass values with O(vars).
    type: str
    required: true
  dest:
    description:
      - The absolute path that names the plan file on the host, for its lock, its history and its follow-ups. No file is written there.
      - The default is C(/etc/provision/) and the file name of O(plan_file).
    type: str
  files:
    description:
      - Files that the plan file names beside itself, such as templates, as patterns relative to its folder. They are sent with it, and
        no file of the host takes their place.
      - C(**) matches any number of folders. Files can be encrypted with ansible-vault.
    type: list
    elements: str
    default: ["*.j2", "templates/**"]
  vars:
    description:
      - Values for the variables that the plan file declares. Use O(secrets) for passwords and keys.
    type: dict
    default: {}
  only:
    description: Run only these steps.
    type: list
    elements: str
  skip:
    description: Run all steps except these.
    type: list
    elements: str
  as_of:
    description: The date that determines the current period, as C(YYYY-MM-DD). The default is today (UTC).
    type: str
  secrets:
    description:
      - "The names of Ansible variables. Their values answer C({ env: NAME }) and the function C(env_var) in the plan file."
      - The plugin reads the variables itself. Their values are sent to standard input of the program, and are in no argument, file,
        environment, result or log.
      - An empty value counts as not set. An undefined variable is an error.
    type: list
    elements: str
  binary:
    description:
      - A program on the controller to copy to the host. C({arch}) in it stands for the architecture of the host as C(uname -m)
        prints it, for example V(provision-{arch}).
      - It is copied once for each version and architecture, by its SHA-256, to C(/var/lib/provision/bin) for root and to
        C(~/.local/state/provision/bin) for other users. It is copied in check mode too, and this does not count as a change.
    type: str
  executable:
    description:
      - The program on the host, as a name or an absolute path. The default is V(provision), which the package installs.
      - Mutually exclusive with O(binary).
    type: str
attributes:
  action:
    description: Indicates this has a corresponding action plugin so some parts of the options can be executed on the controller.
    support: full
  async:
    description: Supports being used with the C(async) keyword.
    support: none
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in check_mode), when in diff mode.
  check_mode:
    description: Can run in check_mode and return changed status prediction without modifying target.
    support: full
  platform:
    description: Target OS/families that can be operated against.
    support: full
    platforms: linux
requirements:
  - A connection plugin that passes standard input, such as P(ansible.builtin.ssh#connection).
  - A POSIX shell on the host. Python is not needed there.
notes:
  - The plan file, its variables and its secrets are sent as one JSON object to standard input. This does not depend on pipelining.
  - C(sudo) with C(requiretty), and C(su) with a password, need a terminal and do not work.
  - Values in the C(environment) of a task are arguments of a shell, as in every task. Use O(secrets) for passwords.
"""
