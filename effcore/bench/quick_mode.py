"""What ``--quick`` makes shorter: only what was not asked for by itself."""

from __future__ import annotations

from typing import TypeVar

from effcore.config import resolve

T = TypeVar("T")


def given_or_default(given: T | None, quick: bool, quick_default: T, full_default: T) -> T:
    """Return what was asked for; where nothing was, what goes with a quick or whole run."""
    if given is not None:
        return given
    return quick_default if quick else full_default


def quick_epochs(task: str, model: str | None) -> int:
    """Return a quarter of a model's usual passes, for a measurement of minutes.

    Raises:
        ConfigError: There is no such task or model.
    """
    return max(4, resolve({"task": task, "model": model, "selection": "dense"}).epochs // 4)
