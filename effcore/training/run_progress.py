"""How far a run has come, what it has spent, and where it ends."""

from __future__ import annotations

from dataclasses import asdict

from effcore.config import ConfigError
from effcore.policies.selection.base import BudgetState
from effcore.records import RunConfig
from effcore.training.checkpoint import State
from effcore.training.ledger import FlopLedger
from effcore.training.sampler import Sampler
from effcore.training.train_step import TrainStep

_STATE_KEYS = ("progress", "considered", "observing", "prepared")


class RunProgress:
    """The way of one run: in examples considered, in FLOPs, and as a share of the whole.

    Args:
        config: From :func:`effcore.config.resolve`.
        sampler: Knows who was considered.
        train_step: Knows what a step costs.

    Attributes:
        ledger: What was spent.
        flops_end: What the run may spend, where a budget is set.
        progress: The share of the run that is behind us, by the end of the last step.
        considered: Examples considered by then.
        observing: FLOPs that it took to observe the last step's outputs.
        prepared: FLOPs spent before the first pass.
    """

    def __init__(self, config: RunConfig, sampler: Sampler, train_step: TrainStep) -> None:
        self._config, self._chooser, self._stepper = config, sampler, train_step
        self._n = sampler.n
        self.ledger = FlopLedger(train_step.full_step_cost.total)
        self.flops_end = self._budget_flops()
        self.progress = self.observing = self.prepared = 0.0
        self.considered = 0

    def state(self) -> State:
        """Return what was spent, and how far it has brought the run."""
        own = {name: getattr(self, name) for name in _STATE_KEYS}
        return own | {"ledger": asdict(self.ledger)}

    def restore(self, state: State) -> None:
        """Go on from a state of a run of the same configuration."""
        for name in _STATE_KEYS:
            setattr(self, name, state[name])
        for name, value in state["ledger"].items():
            setattr(self.ledger, name, value)

    @property
    def dense_run_flops(self) -> float:
        """Cost of the dense run of all epochs: what does not fill a batch is not trained on."""
        return self.dense_flops(self._config.epochs * self._n)

    def dense_flops(self, considered: int) -> float:
        """Cost of dense training over ``considered`` examples."""
        return considered // self._config.batch_size * self.ledger.step_flops

    def _budget_flops(self) -> float | None:
        """Return what the run may spend, where a budget is set."""
        budget, dense = self._config.budget, self.dense_run_flops
        if budget is None:
            return None
        least = self.ledger.step_flops + self.decision_flops()
        if self._chooser.scoring_batch_size > self._config.batch_size:
            least += self._stepper.scoring_flops(self._chooser.scoring_batch_size)
        if budget * dense < least:
            raise ConfigError(
                "budget",
                f"budget={budget:g} is not allowed here: it would not pay for one batch; with "
                f"this batch size and these epochs choose at least {least / dense:.2g}",
            )
        return budget * dense

    def progress_at(self, considered: float, spent: float) -> float:
        """Return the share of the run behind us at a count of examples or of FLOPs."""
        if self.flops_end is not None:
            whole = self.flops_end - self.prepared
            return min(1.0, max(0.0, (spent - self.prepared) / whole))
        return considered / (self._config.epochs * self._n)

    def progress_now(self) -> float:
        """Return the share of the run behind us, the present pass included."""
        return self.progress_at(self._chooser.epoch_sampler.considered, self.ledger.spent)

    def progress_mid_step(self) -> float:
        """Return the progress in the middle of the step about to be taken.

        Neither end of it, so that the first rate is not zero and the last one is not.
        """
        middle = (self.considered + self._chooser.epoch_sampler.considered) / 2
        return self.progress_at(middle, self.ledger.spent + self._stepper.step_cost.total / 2)

    def budget_state(self) -> BudgetState:
        """Return what was considered and spent, in examples, and where the run ends."""
        per_example = self.ledger.step_flops / self._config.batch_size
        total = self._config.epochs * self._n if self.flops_end is None else None
        budget = None if self.flops_end is None else self.flops_end / per_example
        considered = self._chooser.epoch_sampler.considered
        return BudgetState(considered, self.ledger.spent / per_example, total, budget)

    def record_step(self) -> None:
        """Bill the step that was taken, and note how far it has brought the run."""
        self.ledger.add_step(self._stepper.step_cost)
        self.considered = self._chooser.epoch_sampler.considered
        self.progress = self.progress_at(self.considered, self.ledger.spent)

    def decision_flops(self) -> float:
        """Return the analytic cost of a decision; for skipped batches their mean losses."""
        means = self._n if self._stepper.update_policy.skips_batches else 0
        return self._chooser.policy.decision_flops(self._n) + means

    def examples_left(self) -> float:
        """Return about how many examples the rest of the run will train on."""
        trained = self.ledger.steps * self._config.batch_size
        return trained * (1.0 - self.progress) / max(self.progress, 1e-9)

    def is_over(self) -> bool:
        """Whether the run has used up its budget, or its passes where it has none."""
        if self.flops_end is not None:
            return self.budget_exhausted(self.decision_flops())
        return self._chooser.epoch_sampler.epoch_index + 1 >= self._config.epochs

    def budget_exhausted(self, extra_flops: float = 0.0) -> bool:
        """Whether the budget, if there is one, has no room for one more step.

        Args:
            extra_flops: FLOPs to be spent before it.
        """
        if self.flops_end is None:
            return False
        room = self.flops_end * (1 + 1e-12) - self.ledger.spent
        return room < extra_flops + self._stepper.step_cost.total + self._next_scoring_flops()

    def _next_scoring_flops(self) -> float:
        """Return what the next step costs besides itself, FLOPs."""
        count, policy = self._chooser.scoring_batch_size, self._chooser.policy
        if count == self._config.batch_size:
            return self.observing
        scoring = self._stepper.scoring_flops(count)
        return scoring + policy.choosing_flops(count) + self.observing
