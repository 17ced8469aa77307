"""Progress of a run: examples considered, FLOPs spent, and where it ends."""

from __future__ import annotations

from dataclasses import asdict

from effcore.config import ConfigError
from effcore.policies.selection.base import BudgetState
from effcore.records import RunConfig
from effcore.training.checkpoint import State
from effcore.training.ledger import FlopLedger
from effcore.training.sampler import Sampler
from effcore.training.train_step import TrainStep

#: Key in a checkpoint -> attribute.
_STATE_VALUES = {
    "progress": "progress",
    "considered": "considered",
    "observing": "batch_end_flops",
    "prepared": "preparation_flops",
}


class RunProgress:
    """Progress of one run: in examples, in FLOPs, and as a share of the run.

    Args:
        config: From :func:`effcore.config.resolve`.
        sampler: Counts the examples considered.
        train_step: Gives the cost of a step.

    Attributes:
        ledger: FLOPs spent so far.
        flops_end: FLOPs the run may spend; ``None`` without a budget.
        progress: Share of the run completed at the end of the last step, 0 to 1.
        considered: Examples considered at the end of the last step.
        batch_end_flops: FLOPs of the selection policy's update after the last step.
        preparation_flops: FLOPs spent before the first epoch.
    """

    def __init__(self, config: RunConfig, sampler: Sampler, train_step: TrainStep) -> None:
        self._config, self._sampler, self._train_step = config, sampler, train_step
        self._n = sampler.n
        self.ledger = FlopLedger(train_step.full_step_cost.total)
        self.flops_end = self._budget_flops()
        self.progress = self.batch_end_flops = self.preparation_flops = 0.0
        self.considered = 0

    def state(self) -> State:
        """Return the FLOPs spent and the progress."""
        own = {key: getattr(self, name) for key, name in _STATE_VALUES.items()}
        return own | {"ledger": asdict(self.ledger)}

    def restore(self, state: State) -> None:
        """Resume from a state of a run of the same configuration."""
        for key, name in _STATE_VALUES.items():
            setattr(self, name, state[key])
        for name, value in state["ledger"].items():
            setattr(self.ledger, name, value)

    @property
    def dense_run_flops(self) -> float:
        """FLOPs of dense training for all epochs; a last batch that is not full is left out."""
        return self.dense_flops(self._config.epochs * self._n)

    def dense_flops(self, considered: int) -> float:
        """Return the FLOPs of dense training over ``considered`` examples."""
        return considered // self._config.batch_size * self.ledger.step_flops

    def _budget_flops(self) -> float | None:
        """Return the FLOPs the run may spend, or ``None`` without a budget."""
        budget, dense = self._config.budget, self.dense_run_flops
        if budget is None:
            return None
        least = self.ledger.step_flops + self.decision_flops()
        if self._sampler.scoring_batch_size > self._config.batch_size:
            least += self._train_step.scoring_flops(self._sampler.scoring_batch_size)
        if budget * dense < least:
            raise ConfigError(
                "budget",
                f"budget={budget:g} is not allowed here: one batch costs more than that; with "
                f"this batch size and these epochs choose at least {least / dense:.2g}",
            )
        return budget * dense

    def progress_at(self, considered: float, spent: float) -> float:
        """Return the share of the run completed at this count of examples and of FLOPs."""
        if self.flops_end is not None:
            budget = self.flops_end - self.preparation_flops
            return min(1.0, max(0.0, (spent - self.preparation_flops) / budget))
        return considered / (self._config.epochs * self._n)

    def progress_now(self) -> float:
        """Return the share of the run completed, the current epoch's visited part included."""
        return self.progress_at(self._sampler.epoch_sampler.considered, self.ledger.spent)

    def progress_at_next_step_middle(self) -> float:
        """Return the progress in the middle of the next step.

        The middle rather than an end, so that neither the first nor the last learning rate is 0.
        """
        middle = (self.considered + self._sampler.epoch_sampler.considered) / 2
        return self.progress_at(middle, self.ledger.spent + self._train_step.step_cost.total / 2)

    def budget_state(self) -> BudgetState:
        """Return examples considered, compute spent, and the end of the run, in examples."""
        per_example = self.ledger.step_flops / self._config.batch_size
        total = self._config.epochs * self._n if self.flops_end is None else None
        budget = None if self.flops_end is None else self.flops_end / per_example
        considered = self._sampler.epoch_sampler.considered
        return BudgetState(considered, self.ledger.spent / per_example, total, budget)

    def record_step(self) -> None:
        """Add the cost of the step to the ledger and update the progress."""
        self.ledger.add_step(self._train_step.step_cost)
        self.considered = self._sampler.epoch_sampler.considered
        self.progress = self.progress_at(self.considered, self.ledger.spent)

    def decision_flops(self) -> float:
        """Return the analytic cost of a decision, the mean losses of skipped batches included."""
        means = self._n if self._train_step.update_policy.skips_batches else 0
        return self._sampler.policy.decision_flops(self._n) + means

    def examples_left(self) -> float:
        """Return an estimate of the examples that the rest of the run trains on."""
        trained = self.ledger.steps * self._config.batch_size
        return trained * (1.0 - self.progress) / max(self.progress, 1e-9)

    def is_over(self) -> bool:
        """Return whether the run has used up its budget or, without one, its epochs."""
        if self.flops_end is not None:
            return self.budget_exhausted(self.decision_flops())
        return self._sampler.epoch_sampler.epoch_index + 1 >= self._config.epochs

    def budget_exhausted(self, extra_flops: float = 0.0) -> bool:
        """Return whether the budget does not allow another step; ``False`` without a budget.

        Args:
            extra_flops: FLOPs to spend before that step.
        """
        if self.flops_end is None:
            return False
        remaining = self.flops_end * (1 + 1e-12) - self.ledger.spent
        return (
            remaining < extra_flops + self._train_step.step_cost.total + self._next_scoring_flops()
        )

    def _next_scoring_flops(self) -> float:
        """Return the scoring and selection FLOPs of the next step."""
        count, policy = self._sampler.scoring_batch_size, self._sampler.policy
        if count == self._config.batch_size:
            return self.batch_end_flops
        scoring = self._train_step.scoring_flops(count)
        return scoring + policy.choosing_flops(count) + self.batch_end_flops
