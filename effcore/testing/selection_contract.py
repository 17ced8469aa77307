"""What every selection policy promises."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence

import torch

from effcore.knobs import knobs_of
from effcore.policies.selection.base import (
    LOSS_KINDS,
    BatchOutputs,
    BudgetState,
    Decision,
    ExampleState,
    SelectionPolicy,
)
from effcore.testing.declaration_contract import check_declaration, check_knobs, knob_extremes

_CPU = torch.device("cpu")
_EXAMPLE_COUNT = 97  # examples in a made-up pool; a prime, so that no period divides it
_REMEMBERED_EPOCHS = 6  # passes; as many as any policy looks back, and one more


def example_states(policy: SelectionPolicy) -> Iterable[ExampleState]:
    """Return pools of losses as they occur: unseen, mixed, equal, zero and not numbers.

    What the policy keeps is what it would have kept after some passes over those seen, in
    which the losses of every other example changed from one to the next.
    """
    generator = torch.Generator().manual_seed(0)
    mixed = torch.rand(_EXAMPLE_COUNT, generator=generator).pow(4) * 5
    partly = torch.where(torch.arange(_EXAMPLE_COUNT) % 3 == 0, torch.inf, mixed)
    broken = torch.where(torch.arange(_EXAMPLE_COUNT) % 5 == 0, torch.nan, mixed)
    unseen = torch.full((_EXAMPLE_COUNT,), torch.inf)
    begun = [
        (partly, (7,)),
        (torch.ones(_EXAMPLE_COUNT), (7,)),
        (torch.zeros(_EXAMPLE_COUNT), (7,)),
        (broken, (7,)),
    ]
    for losses, passes in [(unseen, (0,)), (mixed, (0, 1, 7)), *begun]:
        for kind in LOSS_KINDS:
            for pass_index in passes:
                yield _example_state(policy, losses, pass_index, kind)


def _example_state(
    policy: SelectionPolicy,
    losses: torch.Tensor,
    epoch_index: int,
    kind: str,
    device: torch.device = _CPU,
    remembered_epochs: int = _REMEMBERED_EPOCHS,
) -> ExampleState:
    seen = (losses != torch.inf).nonzero()[:, 0].to(device)
    loss_N, index_N = losses.to(device, copy=True), torch.arange(_EXAMPLE_COUNT, device=device)
    memory = policy.initial_memory(_EXAMPLE_COUNT, device)
    if policy.needs_irreducible:
        memory["irreducible_N"] = torch.zeros(_EXAMPLE_COUNT, device=device)
    account = BudgetState(
        epoch_index * _EXAMPLE_COUNT, epoch_index * _EXAMPLE_COUNT / 2, 12 * _EXAMPLE_COUNT
    )
    classes = 3 if kind == "cross_entropy" else 0
    group_N = index_N % classes if classes else None
    pool = ExampleState(loss_N, epoch_index, kind, 0.3, memory, account, group_N, classes)
    passes = min(epoch_index, remembered_epochs)
    for index in range(passes):
        policy.on_epoch_start(memory, pool)
        change_N = 1.0 + 0.2 * ((passes - 1 - index) % 2) * (index_N % 2)
        policy.on_batch_end(memory, _batch_outputs(seen, loss_N * change_N, index, kind))
    policy.on_epoch_start(memory, pool)
    return pool


def _batch_outputs(
    idx_B: torch.Tensor, loss_N: torch.Tensor, epoch_index: int, kind: str
) -> BatchOutputs:
    generator = torch.Generator().manual_seed(epoch_index)
    outputs = torch.randn(len(idx_B), 3, generator=generator).to(idx_B.device)
    classes = kind == "cross_entropy"
    targets = idx_B % 3 if classes else outputs.flip(0)
    return BatchOutputs(idx_B, loss_N.index_select(0, idx_B), outputs, targets, epoch_index, kind)


def check_selection_policy(cls: type[SelectionPolicy]) -> None:
    """Check what every selection policy promises, at every extreme of its knobs.

    Raises:
        AssertionError: It breaks one of the promises.
    """
    check_declaration(cls)
    check_knobs(cls)
    names = {spec.name for spec in knobs_of(cls)}
    assert not (cls.biased and "correction" in names), (
        f"{cls.id!r} is biased, which no correction makes up for: drop the knob or the claim"
    )
    for place, policy in enumerate(knob_extremes(cls)):
        flops = policy.decision_flops(_EXAMPLE_COUNT)
        assert math.isfinite(flops), f"{policy}: a decision must have a cost"
        assert flops >= 0, f"{policy}: a decision must not earn FLOPs"
        for pool in example_states(policy):
            _check_decision(policy, pool)
            _check_choice(policy, pool)
        _check_no_host_reads(policy, (7,) if place else (0, 1, 7))
    assert not cls.biased or "biased" in (cls.__doc__ or "").lower(), (
        f"the docstring of {cls.id!r} must say that the policy is biased"
    )


def _check_no_host_reads(policy: SelectionPolicy, epoch_indices: Sequence[int]) -> None:
    """Decide over tensors without values: reading one to the host raises.

    They take a hundred times as long as others, so the first passes are tried once.
    """
    losses, meta = torch.ones(_EXAMPLE_COUNT), torch.device("meta")
    for kind, pass_index in itertools.product(LOSS_KINDS, epoch_indices):
        pool = _example_state(policy, losses, pass_index, kind, meta, remembered_epochs=1)
        policy.inclusion_probabilities(pool)
        _choose_batch(policy, pool)


def _check_decision(policy: SelectionPolicy, examples: ExampleState) -> None:
    before, state = examples.last_loss_N.clone(), torch.get_rng_state()
    decision, again = (
        policy.inclusion_probabilities(examples),
        policy.inclusion_probabilities(examples),
    )
    pi_N = decision.pi_N
    assert torch.equal(state, torch.get_rng_state()), f"{policy} drew from a global generator"
    assert torch.equal(examples.last_loss_N.nan_to_num(-1), before.nan_to_num(-1)), (
        f"{policy} changed the pool"
    )
    assert pi_N.shape == (_EXAMPLE_COUNT,), (
        f"{policy}: pi_N has shape {tuple(pi_N.shape)}, not ({_EXAMPLE_COUNT},)"
    )
    assert pi_N.dtype == torch.float32, f"{policy}: pi_N is {pi_N.dtype}, not float32"
    assert bool(((pi_N >= 0) & (pi_N <= 1)).all()), f"{policy}: pi_N leaves [0, 1] or is NaN"
    assert torch.equal(pi_N, again.pi_N), f"{policy} answers differently to the same pool"
    if policy.biased:
        unseen_N = examples.last_loss_N == torch.inf
        assert bool((pi_N[unseen_N] == 1).all()), f"{policy} skips examples it never saw"
    else:
        assert bool((pi_N > 0).all()), f"{policy} never draws some: declare it biased"
    threshold = decision.threshold
    assert threshold is None or threshold.dim() == 0, f"{policy}: the threshold must be 0-d"
    _check_weights(policy, decision)


def _choose_batch(policy: SelectionPolicy, examples: ExampleState) -> torch.Tensor | None:
    """Return which of the first examples a policy that scores would train on."""
    count, device = 8, examples.last_loss_N.device
    candidates = policy.scoring_batch_size(count)
    if candidates == count:
        return None
    idx_M = torch.arange(candidates, device=device) % _EXAMPLE_COUNT
    losses_N = torch.linspace(0, 3, _EXAMPLE_COUNT, device=device)
    scored = _batch_outputs(idx_M, losses_N, examples.epoch_index, examples.loss_kind)
    half = torch.full((), 0.5, dtype=torch.float64, device=device)
    return policy.choose_batch(examples, scored, count, half)


def _check_choice(policy: SelectionPolicy, examples: ExampleState) -> None:
    before = {name: kept.clone() for name, kept in examples.memory.items()}
    places, again = _choose_batch(policy, examples), _choose_batch(policy, examples)
    for name, kept in examples.memory.items():
        assert torch.equal(kept.nan_to_num(-1), before[name].nan_to_num(-1)), (
            f"{policy} changes its memory in choosing"
        )
    if places is None or again is None:
        return
    candidates = policy.scoring_batch_size(8)
    assert candidates > 8, f"{policy} scores fewer than it trains on"
    assert places.shape == (8,), f"{policy} chooses {tuple(places.shape)} of 8"
    assert torch.equal(places, again), f"{policy} chooses differently each time"
    assert len(set(places.tolist())) == 8, f"{policy} chooses a candidate twice"
    assert 0 <= int(places.min()) <= int(places.max()) < candidates, f"{policy} chooses nobody"


def _check_weights(policy: SelectionPolicy, decision: Decision) -> None:
    weight_N, correction = decision.weight_N, getattr(policy, "correction", None)
    if weight_N is not None:
        assert not policy.biased, f"{policy} is biased and must not weight"
        assert weight_N.shape == (_EXAMPLE_COUNT,), (
            f"{policy}: weight_N has shape {tuple(weight_N.shape)}"
        )
        assert weight_N.dtype == torch.float32, f"{policy}: weight_N is {weight_N.dtype}"
        good_N = weight_N.isfinite() & (weight_N > 0)
        assert bool(good_N.all()), f"{policy}: a weight is not a positive number"
    if correction == 1:
        full_N = torch.ones(_EXAMPLE_COUNT) if weight_N is None else weight_N * decision.pi_N
        flat_N = full_N.mean().expand(_EXAMPLE_COUNT)
        torch.testing.assert_close(full_N, flat_N, msg=f"{policy}: weights are not as 1/pi")
