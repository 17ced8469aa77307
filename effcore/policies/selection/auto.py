"""Auto: the default that needs no tuning.

Confident skip with a gradient mass of its own choice. The rule and its numbers were found on
eight small tasks before this was written: skip much where losses say that much is learned,
little where the hardest examples stay as hard as they are, since then it is labels that are
wrong, and leaning on them teaches errors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch

from effcore.policies.selection.base import (
    SELECTIONS,
    Decision,
    ExampleState,
    PolicyMemory,
    SelectionPolicy,
    sorting_flops,
)

#: Share of the data of highest loss whose stubbornness is watched.
_HARDEST_SHARE = 0.1
#: The hardest are stubborn where they keep more than this share of their loss for a pass.
_STUBBORN_RATIO = 0.7
#: Below this share of its first value the mean loss says nothing of labels any more.
_LEARNED_RATIO = 0.05
#: Losses above guessing count as wrong labels, but of this share of the data at most, and
#: only after this share of the run.
_MAX_MISLABELLED_SHARE, _MISLABELLED_AFTER = 0.2, 0.2


class _SkipSettings(NamedTuple):
    """How much to skip, and how often to look again."""

    mass: float
    revisit: int


_CLASSIFICATION_SETTINGS, _REGRESSION_SETTINGS, _CAUTIOUS_MASS = (
    _SkipSettings(0.35, 4),
    _SkipSettings(0.5, 8),
    0.1,
)


@SELECTIONS.add
@dataclass(frozen=True)
class Auto(SelectionPolicy):
    """Skip the easiest by gradient mass, with caution where labels seem wrong.

    With classes: a mass of 0.35, looked at again every 4th pass; as long as nothing is known
    of how the hardest fare, or once they were found stubborn, a mass of 0.1, and losses above
    that of guessing are skipped, too. Without: a mass of 0.5, every 8th pass.

    Biased on purpose, as confident skip is.
    """

    id = "auto"
    title = "Auto"
    summary = "Skips by itself, as much as the losses allow; nothing to tune."
    rank = 1
    biased = True

    def inclusion_probabilities(self, examples: ExampleState) -> Decision:
        """Return 0 for the easy, and for what seems mislabelled, unless due; 1 for others."""
        guarded = examples.groups > 0
        course = _CLASSIFICATION_SETTINGS if guarded else _REGRESSION_SETTINGS
        loss_N, order_N = examples.sorted_losses()
        running_N = examples.gradient_size(loss_N).cumsum(0)
        mass = self._mass_by_label_noise(examples, course) if guarded else course.mass
        easy_N = (running_N <= mass * running_N[-1]) & loss_N.isfinite()
        threshold = torch.where(easy_N, loss_N, -torch.inf).max()
        skip_N = torch.empty_like(easy_N).index_copy_(0, order_N, easy_N)
        if guarded and examples.progress > _MISLABELLED_AFTER:
            skip_N = skip_N | self._suspected_mislabelled(examples, loss_N)
        index_N = torch.arange(len(skip_N), device=skip_N.device)
        due_N = (index_N + examples.epoch_index) % course.revisit == 0
        new_N = ~examples.last_loss_N.isfinite()
        return Decision((~skip_N | due_N | new_N).float(), threshold)

    def _mass_by_label_noise(self, examples: ExampleState, course: _SkipSettings) -> torch.Tensor:
        calm = examples.memory["known"] * (1.0 - examples.memory["noisy"])
        return torch.where(calm > 0, course.mass, _CAUTIOUS_MASS)

    def _suspected_mislabelled(self, examples: ExampleState, loss_N: torch.Tensor) -> torch.Tensor:
        """Return whose loss lies above guessing's, a fifth at most, where labels are noisy."""
        known = loss_N.isfinite().sum()
        place = (known - 1 - (_MAX_MISLABELLED_SHARE * known).long()).clamp_min(0)
        limit = loss_N.gather(0, place[None])[0].clamp_min(math.log(examples.groups))
        above_N = (examples.last_loss_N > limit) & examples.last_loss_N.isfinite()
        return above_N & (examples.memory["noisy"] > 0)

    def decision_flops(self, n: int) -> float:
        """Return a sort for the cut, one for the hardest, and a few comparisons."""
        return 2.0 * sorting_flops(n) + 10.0 * n

    def initial_memory(self, n: int, device: torch.device) -> PolicyMemory:
        """Return last pass's losses, the first mean, and what was found of the hardest."""
        names = ("first", "known", "noisy")
        scalars = {name: torch.zeros((), device=device) for name in names}
        return scalars | {"then_N": torch.full((n,), torch.inf, device=device)}

    def on_epoch_start(self, memory: PolicyMemory, examples: ExampleState) -> None:
        """See whether the hardest of the last pass are still as hard; once noisy, always."""
        now_N, then_N = examples.last_loss_N, memory["then_N"]
        known_N = now_N.isfinite() & then_N.isfinite()
        count = max(1, int(_HARDEST_SHARE * len(now_N)))
        hardest = torch.where(known_N, then_N, -1.0).argsort(descending=True, stable=True)[:count]
        held = known_N.index_select(0, hardest)
        before = torch.where(held, then_N.index_select(0, hardest), 0.0).sum()
        after = torch.where(held, now_N.index_select(0, hardest), 0.0).sum()
        ratio = after / before.clamp_min(1e-30)
        seen_N = now_N.isfinite()
        mean = torch.where(seen_N, now_N, 0.0).sum() / seen_N.sum().clamp_min(1)
        memory["first"].copy_(torch.where(memory["first"] > 0, memory["first"], mean))
        learning = mean >= _LEARNED_RATIO * memory["first"]
        enough = known_N.sum() * 2 > len(now_N)
        stubborn = (enough & learning & (ratio > _STUBBORN_RATIO)).float()
        memory["noisy"].copy_(memory["noisy"].maximum(stubborn))
        memory["known"].copy_(memory["known"].maximum(enough.float()))
        memory["then_N"].copy_(now_N)
