"""The contracts that every policy and every task must keep.

A new selection policy, update policy or task is tested by handing its class to
:func:`check_selection_policy`, :func:`check_update_policy` or :func:`check_task`; each
raises ``AssertionError`` with a sentence that says which promise was broken. Nothing here
needs a test framework.
"""

from effcore.records.deprecation import resolve_old_names
from effcore.testing.declaration_contract import check_declaration, check_knobs, knob_extremes
from effcore.testing.resume_contract import check_resumes
from effcore.testing.selection_contract import check_selection_policy, example_states
from effcore.testing.task_contract import check_task
from effcore.testing.update_and_intensity_contract import (
    check_intensity_policy,
    check_update_policy,
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
