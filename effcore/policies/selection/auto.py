"""Auto: a policy without knobs.

Confident skip with a gradient mass that the policy sets itself. The rule and its numbers were
tuned on eight small tasks: skip much where the losses show that much is learned; skip little
where the losses of the hardest examples do not fall. Their labels are then probably wrong, and
training more on them would teach errors.
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

#: Share of the examples, highest loss first, that is checked for label noise.
_HARDEST_SHARE = 0.1
#: Labels count as noisy if the hardest examples keep more than this share of their loss from
#: one epoch to the next.
_NOISY_LOSS_RATIO = 0.7
#: The check ends once the mean loss is below this share of its first value.
_LEARNED_RATIO = 0.05
#: Losses above that of guessing count as wrong labels, for at most this share of the examples,
#: and only after this share of the run.
_MAX_MISLABELLED_SHARE, _MISLABELLED_AFTER = 0.2, 0.2


class _SkippedMassAndRevisit(NamedTuple):
    """Gradient mass to skip, and epochs until a skipped example is trained on again."""

    mass: float
    revisit: int


_CLASSIFICATION_SETTINGS, _REGRESSION_SETTINGS, _CAUTIOUS_MASS = (
    _SkippedMassAndRevisit(0.35, 4),
    _SkippedMassAndRevisit(0.5, 8),
    0.1,
)


@SELECTIONS.add
@dataclass(frozen=True)
class Auto(SelectionPolicy):
    """Skip the easiest examples by gradient mass, and fewer of them where labels seem wrong.

    Tasks with classes: a mass of 0.35, revisited every 4th epoch. The mass is 0.1 until the
    check for label noise has a result, and from the first sign of noise on; with noise,
    examples with a loss above that of guessing are skipped, too. Tasks without classes: a mass
    of 0.5, revisited every 8th epoch.

    Biased on purpose, as confident skip is.
    """

    id = "auto"
    title = "Auto"
    summary = "Sets how much to skip by itself, from the losses; there is nothing to tune."
    rank = 1
    biased = True

    def inclusion_probabilities(self, examples: ExampleState) -> Decision:
        """Return 0 for easy or suspected mislabelled examples that are not due, 1 for others."""
        guarded = examples.groups > 0
        settings = _CLASSIFICATION_SETTINGS if guarded else _REGRESSION_SETTINGS
        loss_N, order_N = examples.sorted_losses()
        running_N = examples.gradient_size(loss_N).cumsum(0)
        mass = self._mass_by_label_noise(examples, settings) if guarded else settings.mass
        easy_N = (running_N <= mass * running_N[-1]) & loss_N.isfinite()
        threshold = torch.where(easy_N, loss_N, -torch.inf).max()
        skip_N = torch.empty_like(easy_N).index_copy_(0, order_N, easy_N)
        if guarded and examples.progress > _MISLABELLED_AFTER:
            skip_N = skip_N | self._suspected_mislabelled(examples, loss_N)
        index_N = torch.arange(len(skip_N), device=skip_N.device)
        due_N = (index_N + examples.epoch_index) % settings.revisit == 0
        new_N = ~examples.last_loss_N.isfinite()
        return Decision((~skip_N | due_N | new_N).float(), threshold)

    def _mass_by_label_noise(
        self, examples: ExampleState, settings: _SkippedMassAndRevisit
    ) -> torch.Tensor:
        clean = examples.memory["known"] * (1.0 - examples.memory["noisy"])
        return torch.where(clean > 0, settings.mass, _CAUTIOUS_MASS)

    def _suspected_mislabelled(self, examples: ExampleState, loss_N: torch.Tensor) -> torch.Tensor:
        """Return the examples with a loss above that of guessing, if labels are noisy.

        Bool of shape (N,); at most ``_MAX_MISLABELLED_SHARE`` of the examples.
        """
        known = loss_N.isfinite().sum()
        place = (known - 1 - (_MAX_MISLABELLED_SHARE * known).long()).clamp_min(0)
        limit = loss_N.gather(0, place[None])[0].clamp_min(math.log(examples.groups))
        above_N = (examples.last_loss_N > limit) & examples.last_loss_N.isfinite()
        return above_N & (examples.memory["noisy"] > 0)

    def decision_flops(self, n: int) -> float:
        """Return the cost of two sorts and a few comparisons per example."""
        return 2.0 * sorting_flops(n) + 10.0 * n

    def initial_memory(self, n: int, device: torch.device) -> PolicyMemory:
        """Return the last epoch's losses, the first mean loss, and the result of the noise check.

        ``first`` is the first mean loss, ``known`` is 1 once the check has run, and ``noisy``
        is 1 once labels seem noisy.
        """
        names = ("first", "known", "noisy")
        scalars = {name: torch.zeros((), device=device) for name in names}
        return scalars | {"then_N": torch.full((n,), torch.inf, device=device)}

    def on_epoch_start(self, memory: PolicyMemory, examples: ExampleState) -> None:
        """Check whether the hardest examples of the last epoch kept their loss.

        If they did, labels count as noisy for the rest of the run.
        """
        now_N, then_N = examples.last_loss_N, memory["then_N"]
        known_N = now_N.isfinite() & then_N.isfinite()
        count = max(1, int(_HARDEST_SHARE * len(now_N)))
        hardest = torch.where(known_N, then_N, -1.0).argsort(descending=True, stable=True)[:count]
        has_both_losses = known_N.index_select(0, hardest)
        before = torch.where(has_both_losses, then_N.index_select(0, hardest), 0.0).sum()
        after = torch.where(has_both_losses, now_N.index_select(0, hardest), 0.0).sum()
        ratio = after / before.clamp_min(1e-30)
        finite_N = now_N.isfinite()
        mean = torch.where(finite_N, now_N, 0.0).sum() / finite_N.sum().clamp_min(1)
        memory["first"].copy_(torch.where(memory["first"] > 0, memory["first"], mean))
        learning = mean >= _LEARNED_RATIO * memory["first"]
        enough = known_N.sum() * 2 > len(now_N)
        noisy = (enough & learning & (ratio > _NOISY_LOSS_RATIO)).float()
        memory["noisy"].copy_(memory["noisy"].maximum(noisy))
        memory["known"].copy_(memory["known"].maximum(enough.float()))
        memory["then_N"].copy_(now_N)
