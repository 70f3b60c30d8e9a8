#!/usr/bin/python
# SPDX-License-Identifier: MIT OR Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: facts
short_description: Return what a plan file finds on a host
version_added: 0.1.0
description:
  - Plans a plan file of C(provision) and returns what was observed as facts. Changes nothing and leaves no trace on the host.
  - A step that differs, has drifted, is blocked or cannot be observed is a fact. The task fails only if there is no plan.
author:
  - The provision authors (@provision)
extends_documentation_fragment:
  - provision.core.run
attributes:
  diff_mode:
    support: none
  facts:
    description: Action returns an C(ansible_facts) dictionary that will update existing host facts.
    support: full
seealso:
  - module: provision.core.apply
"""

EXAMPLES = r"""
- name: Read the state of the history tables
  provision.core.facts:
    plan_file: order_tracking.yaml
    only: [history-tables]
    secrets: [REDSHIFT_PASSWORD]

- name: Warn about a period that has no table
  ansible.builtin.debug:
    msg: "{{ item.name }} has no table for {{ item.next_missing }}, which starts on {{ item.starts }}"
  loop: "{{ ansible_facts.provision['order-tracking'].steps['history-tables'].facts.series }}"
"""

RETURN = r"""
ansible_facts:
  description: Facts to add to ansible_facts.
  returned: when the run has started
  type: dict
  contains:
    provision:
      description:
        - The plans of this host, by the name of the plan file. Each has C(file), C(run), C(as_of), C(outcome), C(counts), C(steps) and
          C(open_follow_ups), as M(provision.core.apply) returns them.
      returned: when the run has started
      type: dict
      sample: {"order-tracking": {"outcome": "ok", "steps": {"history-tables": {"outcome": "unchanged", "facts": {"series": []}}}}}
msg:
  description: The counts of the steps, and the reason and the hint of each step that needs attention.
  returned: always
  type: str
  sample: 6 unchanged
plan:
  description: The name of the plan file.
  returned: when the run has started
  type: str
  sample: order-tracking
outcome:
  description: How the plan ended, V(ok), V(changes) or V(failed).
  returned: when the run has started
  type: str
  sample: ok
steps:
  description: The result of each step, by its id, as M(provision.core.apply) returns it.
  returned: when the run has started
  type: dict
"""
