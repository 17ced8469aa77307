"""Everything that is registered keeps its contract."""

from __future__ import annotations

import pytest

from effcore.policies.intensity.base import INTENSITIES, IntensityPolicy
from effcore.policies.selection.base import SELECTIONS, SelectionPolicy
from effcore.policies.update.base import UPDATES, UpdatePolicy
from effcore.tasks.base import TASKS, Task
from effcore.testing import (
    check_intensity_policy,
    check_selection_policy,
    check_task,
    check_update_policy,
)


def test_the_policies_and_tasks_of_this_version_are_there() -> None:
    first, baselines = ["confident-skip", "auto"], ["dense", "random"]
    published = ["infobatch", "stale-pps", "el2n-pps", "selective-backprop", "rho-loss"]
    known = [*first, *baselines, *published, "kakurenbo", "mastered"]
    assert SELECTIONS.ids()[: len(known)] == known, "further ones come after"
    assert UPDATES.ids()[:4] == ["every-step", "prefix-freeze", "drop-backward", "skip-step"]
    assert INTENSITIES.ids()[:4] == ["full", "resolution", "sequence-growth", "depth-growth"]
    assert TASKS.ids()[:5] == ["photo", "digits", "code", "snippets", "tabular"]
    assert all(len(TASKS.get(name).models) >= 2 for name in TASKS.ids()[:5])


@pytest.mark.parametrize("cls", list(SELECTIONS), ids=lambda cls: cls.id)
def test_selection_policy(cls: type[SelectionPolicy]) -> None:
    check_selection_policy(cls)


@pytest.mark.parametrize("cls", list(UPDATES), ids=lambda cls: cls.id)
def test_update_policy(cls: type[UpdatePolicy]) -> None:
    check_update_policy(cls)


@pytest.mark.parametrize("cls", list(INTENSITIES), ids=lambda cls: cls.id)
def test_intensity_policy(cls: type[IntensityPolicy]) -> None:
    check_intensity_policy(cls)


@pytest.mark.parametrize("cls", list(TASKS), ids=lambda cls: cls.id)
def test_task(cls: type[Task]) -> None:
    check_task(cls)
