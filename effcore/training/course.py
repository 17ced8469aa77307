"""How far a run has come, what it has spent, and where it ends."""

from __future__ import annotations

from dataclasses import asdict

from effcore.checkpoint import State
from effcore.config import ConfigError
from effcore.events import RunConfig
from effcore.flops import Ledger
from effcore.selection.base import Account
from effcore.training.chooser import Chooser
from effcore.training.stepper import Stepper

_STATE = ("progress", "considered", "observing", "prepared")


class Course:
    """The way of one run: in examples considered, in FLOPs, and as a share of the whole.

    Args:
        config: From :func:`effcore.config.resolve`.
        chooser: Knows who was considered.
        stepper: Knows what a step costs.

    Attributes:
        ledger: What was spent.
        flops_end: What the run may spend, where a budget is set.
        progress: The share of the run that is behind us, by the end of the last step.
        considered: Examples considered by then.
        observing: FLOPs that it took to observe the last step's outputs.
        prepared: FLOPs spent before the first pass.
    """

    def __init__(self, config: RunConfig, chooser: Chooser, stepper: Stepper) -> None:
        self._config, self._chooser, self._stepper = config, chooser, stepper
        self._n = chooser.n
        self.ledger = Ledger(stepper.full_cost.total)
        self.flops_end = self._flops_end()
        self.progress = self.observing = self.prepared = 0.0
        self.considered = 0

    def state(self) -> State:
        """Return what was spent, and how far it has brought the run."""
        own = {name: getattr(self, name) for name in _STATE}
        return own | {"ledger": asdict(self.ledger)}

    def restore(self, state: State) -> None:
        """Go on from a state of a run of the same configuration."""
        for name in _STATE:
            setattr(self, name, state[name])
        for name, value in state["ledger"].items():
            setattr(self.ledger, name, value)

    @property
    def flops_dense_end(self) -> float:
        """Cost of the dense run of all epochs: what does not fill a batch is not trained on."""
        return self.flops_dense(self._config.epochs * self._n)

    def flops_dense(self, considered: int) -> float:
        """Cost of dense training over ``considered`` examples."""
        return considered // self._config.batch_size * self.ledger.step_flops

    def _flops_end(self) -> float | None:
        """Return what the run may spend, where a budget is set."""
        budget, dense = self._config.budget, self.flops_dense_end
        if budget is None:
            return None
        least = self.ledger.step_flops + self.deciding_flops()
        if self._chooser.candidates > self._config.batch_size:
            least += self._stepper.scoring_cost(self._chooser.candidates)
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
        return self.progress_at(self._chooser.passes.considered, self.ledger.spent)

    def progress_mid_step(self) -> float:
        """Return the progress in the middle of the step about to be taken.

        Neither end of it, so that the first rate is not zero and the last one is not.
        """
        middle = (self.considered + self._chooser.passes.considered) / 2
        return self.progress_at(middle, self.ledger.spent + self._stepper.cost.total / 2)

    def account(self) -> Account:
        """Return what was considered and spent, in examples, and where the run ends."""
        per_example = self.ledger.step_flops / self._config.batch_size
        total = self._config.epochs * self._n if self.flops_end is None else None
        budget = None if self.flops_end is None else self.flops_end / per_example
        considered = self._chooser.passes.considered
        return Account(considered, self.ledger.spent / per_example, total, budget)

    def note_step(self) -> None:
        """Bill the step that was taken, and note how far it has brought the run."""
        self.ledger.charge(self._stepper.cost)
        self.considered = self._chooser.passes.considered
        self.progress = self.progress_at(self.considered, self.ledger.spent)

    def deciding_flops(self) -> float:
        """Return the analytic cost of a decision; for skipped batches their mean losses."""
        means = self._n if self._stepper.updater.skips_batches else 0
        return self._chooser.policy.decision_flops(self._n) + means

    def examples_left(self) -> float:
        """Return about how many examples the rest of the run will train on."""
        trained = self.ledger.steps * self._config.batch_size
        return trained * (1.0 - self.progress) / max(self.progress, 1e-9)

    def over(self) -> bool:
        """Whether the run has used up its budget, or its passes where it has none."""
        if self.flops_end is not None:
            return self.spent_up(self.deciding_flops())
        return self._chooser.passes.index + 1 >= self._config.epochs

    def spent_up(self, besides: float = 0.0) -> bool:
        """Whether the budget, if there is one, has no room for one more step.

        Args:
            besides: FLOPs to be spent before it.
        """
        if self.flops_end is None:
            return False
        room = self.flops_end * (1 + 1e-12) - self.ledger.spent
        return room < besides + self._stepper.cost.total + self._scoring_ahead()

    def _scoring_ahead(self) -> float:
        """Return what the next step costs besides itself, FLOPs."""
        count, policy = self._chooser.candidates, self._chooser.policy
        if count == self._config.batch_size:
            return self.observing
        scoring = self._stepper.scoring_cost(count)
        return scoring + policy.choosing_flops(count) + self.observing
