"""The contracts that every policy and every task must keep.

A new selection policy, update policy or task is tested by handing its class to
:func:`check_selection_policy`, :func:`check_update_policy` or :func:`check_task`; each
raises ``AssertionError`` with a sentence that says which promise was broken. Nothing here
needs a test framework.
"""

from effcore.records.deprecation import resolve_old_names
from effcore.testing.contracts import (
    check_declaration,
    check_intensity_policy,
    check_knobs,
    check_resumes,
    check_selection_policy,
    check_task,
    check_update_policy,
    example_states,
    knob_extremes,
)

__all__ = [
    "check_declaration",
    "check_intensity_policy",
    "check_knobs",
    "check_resumes",
    "check_selection_policy",
    "check_task",
    "check_update_policy",
    "example_states",
    "knob_extremes",
]

resolve_old_names(__name__)
