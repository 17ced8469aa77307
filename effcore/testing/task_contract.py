"""What every task promises, on the CPU."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn

from effcore.policies.selection.base import LOSS_KINDS
from effcore.records.views import Scatter, ViewItem, view_arrays, view_from_parts, view_header
from effcore.tasks.base import SIZES, Evaluation, Task, ViewInputs
from effcore.testing.declaration_contract import check_declaration, check_knobs
from effcore.training.ledger import count_step_flops
from effcore.training.optimizer import parameters_sha256

_CPU = torch.device("cpu")
_AUGMENTATION_TRIES = 64


def check_task(cls: type[Task]) -> None:
    """Check what every task promises, on the CPU.

    Raises:
        AssertionError: It breaks one of the promises.
        UncountedOperationError: A model runs an operation nobody accounts for.
    """
    check_declaration(cls)
    task = cls(0, _CPU)
    assert cls.loss_kind in LOSS_KINDS, f"loss_kind {cls.loss_kind!r}: expected {LOSS_KINDS}"
    assert len(cls.models) >= 1, f"task {cls.id!r} needs a model"
    n = cls.count_examples(cls.settings())
    assert task.n_train == n, f"task {cls.id!r} has {task.n_train} examples and counts {n}"
    check_knobs(cls.settings)
    for choice in cls.models:
        assert 1 <= choice.defaults.batch_size <= n, "the default batch must fit the data"
        for size in SIZES:
            _check_model(task, choice.id, size)
    _check_model_sizes(task)
    _check_batches(cls, task)
    _check_evaluation(task)
    _check_view(task)
    _check_example_displays(task)


def _seeded_generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _check_model_sizes(task: Task) -> None:
    for choice in task.models:
        models = [task.build_model(choice.id, 0, _CPU, size) for size in SIZES]
        counts = [sum(p.numel() for p in model.parameters()) for model in models]
        assert counts == sorted(set(counts)), f"sizes of {choice.id!r} do not grow: {counts}"


def _check_model(task: Task, name: str, size: str) -> None:
    state = torch.get_rng_state()
    model, again, other = (task.build_model(name, seed, _CPU, size) for seed in (1, 1, 2))
    assert isinstance(model, nn.Sequential), f"model {name!r} is no sequence of stages"
    assert len(model) >= 2, f"model {name!r} needs two stages, so that one can be frozen"
    full = [any(True for _ in stage.parameters()) for stage in model]
    assert all(full), f"model {name!r} has a stage without parameters: freezing it saves nothing"
    assert torch.equal(state, torch.get_rng_state()), f"model {name!r} left a global generator"
    assert parameters_sha256(model) == parameters_sha256(again), f"{name!r} ignores its seed"
    assert parameters_sha256(model) != parameters_sha256(other), f"{name!r} ignores its seed"
    idx_B = torch.arange(4)
    inputs, targets = task.batch(idx_B, _seeded_generator())
    outputs = model(inputs)
    losses_B = task.losses(outputs, targets)
    assert losses_B.shape == (4,), f"losses have shape {tuple(losses_B.shape)}, not (B,)"
    assert losses_B.dtype == torch.float32, f"losses are {losses_B.dtype}, not float32"
    assert bool(losses_B.isfinite().all()), f"fresh {name!r} has a loss that is not finite"
    task.record_outputs(idx_B, outputs)
    if task.model_choice(name).reducible:
        less, goal = task.reduce_batch(idx_B, inputs, targets, 0.5)
        smaller_B = task.losses(model(less), goal)
        assert smaller_B.shape == (4,), f"model {name!r} does not take examples of half the size"
    flops = count_step_flops(model, lambda m: task.losses(m(inputs), targets))
    assert flops > 0, f"a step of {name!r} has no FLOPs"


def _check_batches(cls: type[Task], task: Task) -> None:
    idx_N = torch.arange(task.n_train)
    first, again = (
        task.batch(idx_N, _seeded_generator()),
        cls(0, _CPU).batch(idx_N, _seeded_generator()),
    )
    for mine, twin in zip(first, again, strict=True):
        assert len(mine) == len(idx_N), f"a batch has {len(mine)} rows for {len(idx_N)} indices"
        assert torch.equal(mine, twin), f"{cls.id!r} is not determined by seed and generator"
    if not cls.is_fit and not cls.fixed_split:
        other = cls(1, _CPU).batch(idx_N, _seeded_generator())
        assert not torch.equal(first[0], other[0]), f"the split of {cls.id!r} ignores its seed"
    if not cls.is_fit:
        _check_disjoint(task)


def _check_disjoint(task: Task) -> None:
    """Compare what models are shown; augmentations must include leaving an example alone."""
    validation, test = (
        _row_bytes(_evaluated_inputs(task, split)) for split in ("validation", "test")
    )
    assert not validation & test, f"{task.id!r}: validation and test share examples"
    generator, idx_N, before = _seeded_generator(), torch.arange(task.n_train), set[bytes]()
    for _ in range(_AUGMENTATION_TRIES):
        train = _row_bytes([task.batch(idx_N, generator)[0]])
        assert not train & (validation | test), f"{task.id!r}: training sees held-out examples"
        if train == before:
            return  # nothing is augmented
        before = train


def _evaluated_inputs(task: Task, split: str) -> list[torch.Tensor]:
    """Return the inputs that evaluating on a split feeds to the model."""
    model = task.build_model(task.models[0].id, 0, _CPU)
    inputs: list[torch.Tensor] = []
    model.register_forward_pre_hook(lambda module, args: inputs.append(args[0].clone()))
    with torch.no_grad():
        task.evaluate(model, split)
    return inputs


def _row_bytes(inputs: list[torch.Tensor]) -> set[bytes]:
    found = set[bytes]()
    for batch in inputs:
        flat = batch.reshape(len(batch), -1).contiguous().numpy()
        found.update(flat.view(f"V{flat[0].nbytes}")[:, 0].tolist())
    return found


def _check_evaluation(task: Task) -> None:
    model = task.build_model(task.models[0].id, 0, _CPU).eval()
    for split in ("validation", "test"):
        with torch.inference_mode():
            first, again = task.evaluate(model, split), task.evaluate(model, split)
        for name, value, twin in zip(Evaluation._fields, first, again, strict=True):
            assert value.dim() == 0, f"{split} {name} must be 0-d, not {tuple(value.shape)}"
            assert bool(value.isfinite()), f"{split} {name} of a fresh model is not finite"
            assert torch.equal(value, twin), f"{split} {name} differs between two looks"


def _check_view(task: Task) -> None:
    n, model = task.n_train, task.build_model(task.models[0].id, 0, _CPU).eval()
    before = parameters_sha256(model)
    for drawn_N in (torch.ones(n, dtype=torch.bool), torch.zeros(n, dtype=torch.bool)):
        losses_N = torch.full((n,), torch.inf)
        with torch.inference_mode():
            items = task.view(
                ViewInputs(torch.arange(4), drawn_N, drawn_N.float(), losses_N, model)
            )
        assert set(items) == set(task.captions), f"of {set(items)} some lack captions"
        for name, item in items.items():
            _check_view_item(name, item)
    assert parameters_sha256(model) == before, f"the view of {task.id!r} changes the model"
    for parameter in model.parameters():  # a run that broke is shown all the same
        parameter.data.fill_(math.nan)
    with torch.inference_mode():
        task.view(ViewInputs(torch.arange(4), drawn_N, drawn_N.float(), losses_N, model))


def _check_view_item(name: str, item: ViewItem) -> None:
    view_from_parts(view_header(item), view_arrays(item))  # lengths fit
    for part, array in view_arrays(item).items():
        wanted = np.float32 if part == "xy" else np.uint8
        assert array.dtype == wanted, f"{part} of {name!r} is {array.dtype}, not {wanted.__name__}"
    if isinstance(item, np.ndarray):
        flat = item.ndim == 2 or (item.ndim == 3 and item.shape[2] == 3)
        assert flat, f"picture {name!r} has shape {item.shape}: expected (H, W) or (H, W, 3)"
    if isinstance(item, Scatter):
        inside = bool(((item.xy_N2 >= 0) & (item.xy_N2 <= 1)).all())
        assert inside, f"points of {name!r} lie outside the unit square"


def _check_example_displays(task: Task) -> None:
    group_N = task.group_N
    for index in (0, task.n_train - 1):
        item, given, spot = task.display_example(index)
        if isinstance(item, str):
            assert item.strip(), f"example {index} is an empty text"
        elif isinstance(item, np.ndarray):
            _check_view_item(f"example {index}", item)
        else:
            assert item, f"example {index} is a row without columns"
            assert all(map(math.isfinite, item.values())), f"example {index} has no number"
        assert isinstance(given, str), f"what is learned of example {index} is no text"
        assert spot is None or min(spot) >= 0, f"example {index} lies outside its picture"
        if group_N is not None:
            named = task.groups[int(group_N[index])]
            assert given == named, f"example {index} is of {named!r} and said to be {given!r}"
