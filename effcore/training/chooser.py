"""Who is trained on next: the selection policy, what it knows, and the passes it decides."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import astuple, replace

import numpy as np
import torch
from numpy.typing import NDArray

from effcore.checkpoint import State
from effcore.events import KnobValue, RunConfig
from effcore.knobs import values_of, with_knob, with_knobs, with_own_knobs
from effcore.selection.base import SELECTIONS, Account, Decision, Pool, Seen, SelectionPolicy
from effcore.tasks.base import Task
from effcore.training.passes import SEED_STRIDE, Passes
from effcore.training.state import fill, optional_tensor, set_generator
from effcore.update.base import UpdatePolicy

#: Passes without a single step after which a training is given up.
IDLE_PASSES = 1000


def refuse_to_idle(policy: SelectionPolicy, passes: int) -> None:
    """Give up on a policy that draws nothing, pass after pass.

    Args:
        policy: The policy.
        passes: Passes in a row without a single step.

    Raises:
        RuntimeError: They are ``IDLE_PASSES``.
    """
    if passes >= IDLE_PASSES:
        raise RuntimeError(
            f"policy {policy.id!r} drew less than one batch in {IDLE_PASSES} passes: let it skip "
            "less, or revisit sooner"
        )


def chooser_of(config: RunConfig, task: Task, device: torch.device) -> Chooser:
    """Return the chooser of a run as it begins."""
    policy = with_own_knobs(SELECTIONS.get(config.selection)(), config.knobs)
    return Chooser(
        policy,
        task.n_train,
        config.batch_size,
        config.seed,
        loss_kind=task.loss_kind,
        group_N=task.group_N,
        device=device,
    )


class Chooser:
    """The selecting half of a run.

    Args:
        policy: Says with which probability each example is drawn.
        n: Number of training examples.
        batch_size: Examples per step.
        seed: Of orders and draws.
        loss_kind: ``cross_entropy`` or ``squared_error``.
        group_N: int64, the class of each example; ``None`` where there are none.
        device: Where everything lives.
    """

    def __init__(
        self,
        policy: SelectionPolicy,
        n: int,
        batch_size: int,
        seed: int,
        *,
        loss_kind: str,
        group_N: torch.Tensor | None,
        device: torch.device,
    ) -> None:
        self.n, self.batch_size, self.policy = n, batch_size, policy
        self.memory = policy.memory(n, device)
        self.passes = Passes(n, batch_size, seed, device)
        unseen_N = torch.full((n,), torch.inf, device=device)
        groups = 0 if group_N is None else int(group_N.max()) + 1
        self.pool = Pool(unseen_N, 0, loss_kind, memory=self.memory, group_N=group_N, groups=groups)
        self.decision = Decision(torch.ones_like(unseen_N))
        self.trained_N = torch.zeros_like(unseen_N)
        self.batch_B = torch.arange(batch_size, device=device)  # of the last step
        self.ask_again_at = math.inf  # the progress at which to decide within a pass
        self.rate_factor = 1.0
        #: Whether the policy keeps more of a step than its losses.
        self.observes = type(self.policy).observe is not SelectionPolicy.observe
        self._random = torch.Generator(device=device)
        self._random.manual_seed(seed * SEED_STRIDE - 1)

    def state(self) -> State:
        """Return who was drawn, what is known of everyone, and what the policy has kept."""
        pool = self.pool
        return {
            "knobs": values_of(self.policy),
            "memory": self.memory,
            "passes": self.passes.state(),
            "pool": [pool.pass_index, pool.progress, astuple(pool.account)],
            "examples": self._examples(),
            "threshold": self.decision.threshold,
            "ask_again_at": self.ask_again_at,
            "rate_factor": self.rate_factor,
            "open_N": pool.open_N,
            "random": self._random.get_state(),
        }

    def restore(self, state: State) -> None:
        """Go on from a state of a run of the same configuration."""
        device = self.batch_B.device
        self.policy = with_own_knobs(self.policy, state["knobs"])
        if self.policy.needs_irreducible:  # found before the first pass
            self.memory.setdefault("irreducible_N", torch.empty_like(self.trained_N))
        fill(self.memory, state["memory"])
        self.passes.restore(state["passes"])
        pass_index, progress, account = state["pool"]
        self.pool = replace(
            self.pool,
            pass_index=pass_index,
            progress=progress,
            account=Account(*account),
            open_N=optional_tensor(state["open_N"], device),
        )
        fill(self._examples(), state["examples"])
        threshold = optional_tensor(state["threshold"], device)
        self.decision = replace(self.decision, threshold=threshold)
        self.ask_again_at, self.rate_factor = state["ask_again_at"], state["rate_factor"]
        set_generator(self._random, state["random"])

    def _examples(self) -> dict[str, torch.Tensor]:
        return {
            "last_loss_N": self.pool.last_loss_N,
            "trained_N": self.trained_N,
            "batch_B": self.batch_B,
        }

    def set_knob(self, name: str, value: KnobValue) -> None:
        """Replace the policy by one with another value."""
        self.policy = with_knob(self.policy, name, value)

    @property
    def candidates(self) -> int:
        """Examples looked at for a step; more than a batch where they are scored."""
        return min(self.policy.candidates(self.batch_size), self.n)

    def begin_pass(self, progress: float, account: Account) -> None:
        """Fix a new order; :meth:`decide` must follow."""
        self.trained_N += self.passes.drawn_N
        self.passes.begin()
        self.policy.turn(self.memory, self.known(progress, account))

    def known(self, progress: float, account: Account) -> Pool:
        """Return what is known of the examples now."""
        index = max(self.passes.index, 0)
        return replace(self.pool, pass_index=index, progress=progress, account=account)

    def decide(
        self,
        progress: float,
        account: Account,
        updater: UpdatePolicy,
        coarse_N: torch.Tensor | None,
    ) -> tuple[NDArray[np.uint8], int]:
        """Ask the policy, and draw what of the pass is not yet visited.

        Args:
            progress: Share of the run behind us.
            account: What was spent and may be.
            updater: May leave out whole batches of what is drawn.
            coarse_N: bool, the examples that stand for others at the present resolution;
                ``None`` where each stands for itself.

        Returns:
            Who is drawn, packed into bits, and how many they are.
        """
        self.pool = replace(self.known(progress, account), open_N=coarse_N)
        self.decision = _masked(self.policy.inclusion(self.pool), coarse_N)
        later = (moment for moment in self.policy.moments() if moment > progress)
        self.ask_again_at = min(later, default=math.inf)
        self.passes.decide(self.decision)
        drawn = self.passes.drawn_N.cpu().numpy()
        there = self.n if coarse_N is None else int(coarse_N.sum())
        # Within a pass that changed its resolution, more may be drawn than there now are.
        self.rate_factor = self.policy.rate_factor(min(1.0, drawn.sum() / there))
        if updater.skips_batches:
            self.passes.leave_out(updater.skipped_batches, self.pool.last_loss_N)
            drawn = self.passes.drawn_N.cpu().numpy()
        return np.packbits(drawn), int(drawn.sum())

    def threshold_asked(
        self, asked: Mapping[str, KnobValue], progress: float, account: Account
    ) -> torch.Tensor | None:
        """Return where the policy would cut with other knobs; changes nothing."""
        return with_knobs(self.policy, asked).inclusion(self.known(progress, account)).threshold

    def next_batch(self) -> torch.Tensor | None:
        """Return the next examples to look at, a batch or its candidates."""
        return self.passes.next_batch(self.candidates)

    def choose(self, scored: Seen) -> torch.Tensor:
        """Return the places of the candidates that are trained on."""
        uniform = torch.rand(
            (), generator=self._random, device=scored.idx_B.device, dtype=torch.float64
        )
        places = self.policy.choose(self.pool, scored, self.batch_size, uniform)
        self.policy.observe_scored(self.memory, scored)
        self.passes.narrow(scored.idx_B, scored.idx_B.index_select(0, places))
        return places

    def observe(self, seen: Seen) -> None:
        """Keep what a forward pass showed."""
        self.remember(seen.idx_B, seen.losses_B)
        self.policy.observe(self.memory, seen)

    def remember(self, idx_B: torch.Tensor, losses_B: torch.Tensor) -> None:
        """Keep the losses of a step."""
        self.pool.last_loss_N.index_copy_(0, idx_B, losses_B)

    def hidden(self) -> torch.Tensor:
        """Return who the pass at its end has skipped, int64; reads the device."""
        hidden_N = ~self.passes.drawn_N
        if self.pool.open_N is not None:
            hidden_N = hidden_N & self.pool.open_N
        return hidden_N.nonzero()[:, 0]


def _masked(decision: Decision, coarse_N: torch.Tensor | None) -> Decision:
    if coarse_N is None:
        return decision
    return replace(decision, pi_N=decision.pi_N * coarse_N)
