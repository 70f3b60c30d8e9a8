#!/usr/bin/python
# SPDX-License-Identifier: MIT OR Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: apply
short_description: Apply a plan file to a host
version_added: 0.1.0
description:
  - Brings a host to the state that a plan file of C(provision) describes. Makes only the missing changes.
  - In check mode the plan file is planned, which leaves no trace on the host.
author:
  - The provision authors (@provision)
extends_documentation_fragment:
  - provision.core.run
options:
  wait:
    description:
      - If another apply of the plan file is running on the host, wait for it for at most this many seconds. Without this option the
        task fails.
    type: int
attributes:
  diff_mode:
    support: full
seealso:
  - module: provision.core.facts
"""

EXAMPLES = r"""
- name: Provision the hosts in batches, and stop at the first bad one
  hosts: etl
  gather_facts: false
  serial: [1, "25%"]
  max_fail_percentage: 0
  tasks:
    - name: Apply the plan file
      provision.core.apply:
        plan_file: order_tracking.yaml
        vars:
          repo_url: git@git.example:team/s3-redshift-backup-tool.git
        secrets: [REDSHIFT_PASSWORD, ALERT_SMTP_PASSWORD]
      become: true
      register: order_tracking
      notify: Recreate the containers
  handlers:
    - name: Recreate the containers
      ansible.builtin.raw: >-
        {{ item.command }} && {{ order_tracking.program | quote }} follow-ups {{ order_tracking.file | quote }} --done {{ item.id }}
      become: true
      loop: "{{ order_tracking.follow_ups }}"
      when: not ansible_check_mode

- name: Copy the program to hosts without the package
  provision.core.apply:
    plan_file: order_tracking.yaml
    binary: provision-{arch}

- name: A secret under another name, and one from the controller's environment
  provision.core.apply:
    plan_file: order_tracking.yaml
    secrets: [REDSHIFT_PASSWORD, ALERT_SMTP_PASSWORD]
  vars:
    REDSHIFT_PASSWORD: "{{ vault_redshift_password }}"
    ALERT_SMTP_PASSWORD: "{{ lookup('ansible.builtin.env', 'ALERT_SMTP_PASSWORD') }}"
"""

RETURN = r"""
msg:
  description: The counts of the steps, and the reason and the hint of each step that needs attention.
  returned: always
  type: str
  sample: "1 blocked, 2 changed, 3 unchanged; bastion-key: the secret is not set (set KEY)"
plan:
  description: The name of the plan file.
  returned: when the run has started
  type: str
  sample: order-tracking
file:
  description: The path that names the plan file on the host.
  returned: when the run has started
  type: str
  sample: /etc/provision/order_tracking.yaml
program:
  description: The path of the program on the host.
  returned: when the run has started
  type: str
  sample: /usr/bin/provision
run:
  description: The id of the run.
  returned: when the run has started
  type: str
  sample: 20261126T131915Z-34570075
user:
  description: The user who ran the program.
  returned: when the run has started
  type: str
  sample: root
as_of:
  description: The date that determined the current period.
  returned: when the run has started
  type: str
  sample: "2026-11-26"
outcome:
  description: How the run ended, V(ok), V(changes) (a plan), V(failed), or V(interrupted) if it did not come to its end.
  returned: when the run has started
  type: str
  sample: ok
counts:
  description: The number of steps with each outcome.
  returned: when the run has ended
  type: dict
  sample: {"unchanged": 3, "changed": 3, "failed": 0}
steps:
  description: The result of each step, by its id.
  returned: when the run has started
  type: dict
  contains:
    outcome:
      description: How the step ended.
      type: str
      sample: changed
    kind:
      description: The kind of the resource.
      type: str
      sample: key_file
    title:
      description: The title of the step.
      type: str
    changes:
      description: The planned changes, each with C(action), C(target), C(summary), C(before), C(after) and C(risk).
      type: list
      elements: dict
    reason:
      description: Why the step failed, is blocked or has drifted.
      type: str
    hint:
      description: What to do about it.
      type: str
    why:
      description: The plan file's reason for the step, if the step needs attention.
      type: str
    drift:
      description: Differences that the step does not repair.
      type: list
      elements: str
    notes:
      description: Notes about the step.
      type: list
      elements: str
    warnings:
      description: Warnings about the step. They are shown by Ansible too.
      type: list
      elements: str
    facts:
      description: The kind's own numbers and dates.
      type: dict
    certainty:
      description: V(exact), or V(provisional) if the step is planned again after others.
      type: str
    rescues:
      description: The ids of the rescues of the step. Only after an apply.
      type: list
      elements: str
    restore_commands:
      description: The commands that restore the rescues. Only after an apply.
      type: list
      elements: str
    ways_back:
      description: The commands that bring back what the rescues do not contain. Only after an apply.
      type: list
      elements: str
follow_ups:
  description: What is left to do after the changes of this run, each command once. Each has C(steps), C(reasons), C(services),
    C(command), C(argv), and after an apply the C(id) under which it stays open. In check mode there is no C(id). C(step) and C(reason) are the
    first of them.
  returned: when the run has started
  type: list
  elements: dict
  sample:
    - {"id": 1, "steps": ["bastion-key", "smtp-password"], "services": ["web"], "argv": ["docker", "compose", "-f", "/srv/compose.yaml", "up", "-d"]}
open_follow_ups:
  description: The follow-ups of earlier runs that are still open.
  returned: when the run has started
  type: list
  elements: dict
"""
