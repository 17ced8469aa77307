from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from effcore.tasks.base import TASKS
from effcore.tasks.code import VOCABULARY, WINDOW
from effcore.tasks.digits import SIDE
from effcore.tasks.photo import Fourier, build_fourier_mlp
from effcore.tasks.snippets import PACKAGES, SEEN_TOKENS
from effcore.training.ledger import (
    FlopCost,
    FlopLedger,
    UncountedOperationError,
    count_flops,
    count_forward_flops,
    count_step_flops,
    optimizer_flops,
)
from effcore.training.optimizer import parameters_sha256

CPU = torch.device("cpu")
B = 6


def linear(n_in: int, n_out: int) -> int:
    """One multiply-add per weight and example."""
    return 2 * n_in * n_out


def conv(c_in: int, c_out: int, kernel: int, side: int) -> int:
    """One multiply-add per weight, place and example; padded, so that the side is kept."""
    return 2 * c_in * c_out * kernel**2 * side**2


def training(layers: list[int]) -> int:
    """Forward, and backward to weights and inputs; nobody needs the first layer's inputs'."""
    return 3 * sum(layers) - layers[0]


def counted(task_id: str, model_id: str, size: str = "medium") -> float:
    task = TASKS.get(task_id)(0, CPU)
    model = task.build_model(model_id, 0, CPU, size)
    inputs, targets = task.batch(torch.arange(B), torch.Generator().manual_seed(0))
    return count_step_flops(model, lambda m: task.losses(m(inputs), targets))


def test_the_mlp_costs_what_the_formula_says() -> None:
    layers = [linear(SIDE**2, 256), linear(256, 256), linear(256, 10)]
    assert counted("digits", "mlp") == B * training(layers)


def test_the_cnn_costs_what_the_formula_says() -> None:
    layers = [conv(1, 40, 3, SIDE), conv(40, 80, 3, SIDE), conv(80, 80, 3, SIDE // 2)]
    layers += [linear(80 * (SIDE // 4) ** 2, 128), linear(128, 10)]
    assert counted("digits", "cnn") == B * training(layers)


@pytest.mark.parametrize("features", [8, 32])
def test_the_coordinate_network_costs_what_the_formula_says(features: int) -> None:
    model = build_fourier_mlp(features, width=24, depth=2, scale=3.0)
    inputs = torch.rand(B, 2)
    layers = [linear(2 * features, 24), linear(24, 24), linear(24, 3)]
    # The frequencies are no parameters: they are multiplied with once, going forward.
    expected = B * (linear(2, features) + training(layers))
    assert count_step_flops(model, lambda m: m(inputs).square().mean(-1)) == expected


def test_every_photo_model_costs_what_its_layers_say() -> None:
    for choice in TASKS.get("photo").models:
        model = choice.build("medium")
        linears = [m for m in model.modules() if isinstance(m, nn.Linear)]
        layers = [linear(m.in_features, m.out_features) for m in linears]
        waves = [linear(*m.frequencies.shape) for m in model.modules() if isinstance(m, Fourier)]
        assert counted("photo", choice.id) == B * (sum(waves) + training(layers))


def attention(length: int, width: int) -> int:
    """Scores and mixing: every pair of tokens meets twice, over all heads."""
    return 2 * 2 * length**2 * width


def block(length: int, width: int) -> int:
    """A transformer's block: four projections and two layers four times as wide."""
    projections = length * (4 * linear(width, width) + 2 * linear(width, 4 * width))
    return projections + attention(length, width)


@pytest.mark.parametrize(("size", "width", "depth"), [("small", 32, 2), ("large", 96, 4)])
def test_the_language_model_costs_what_the_formula_says(size: str, width: int, depth: int) -> None:
    forward = depth * block(WINDOW, width) + WINDOW * linear(width, VOCABULARY)
    assert counted("code", "transformer", size) == B * 3 * forward


def test_the_convolutions_cost_what_the_formula_says() -> None:
    layer = linear(3 * 48, 2 * 48) + linear(48, 48)
    forward = WINDOW * (5 * layer + linear(48, VOCABULARY))
    assert counted("code", "convolution") == B * 3 * forward


def test_the_models_of_snippets_cost_what_the_formulas_say() -> None:
    forward = 2 * block(SEEN_TOKENS, 64) + linear(64, len(PACKAGES))
    assert counted("snippets", "transformer") == B * 3 * forward
    forward = linear(64, 128) + linear(128, len(PACKAGES))
    assert counted("snippets", "bag-of-n-grams") == B * 3 * forward  # looking up is no product


def test_counting_leaves_the_model_as_it_was() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    before = parameters_sha256(model)
    assert count_step_flops(model, lambda m: m(torch.rand(B, 4)).mean(-1)) > 0
    assert parameters_sha256(model) == before
    assert all(parameter.grad is None for parameter in model.parameters())


def test_cost_is_proportional_to_the_batch() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))

    def cost(batch: int) -> float:
        return count_step_flops(model, lambda m: m(torch.rand(batch, 4)).mean(-1))

    assert cost(10) == 10 * cost(1)


@torch.library.custom_op("effcore_tests::own_product", mutates_args=())
def own_product(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    return first @ second


REFUSED: dict[str, Callable[[], object]] = {
    "lstm": lambda: nn.LSTM(4, 4)(torch.rand(3, 2, 4)),
    "matrix times vector": lambda: torch.rand(4, 4).mv(torch.rand(4)),
    "matrix times vector, added": lambda: torch.addmv(
        torch.rand(4), torch.rand(4, 4), torch.rand(4)
    ),
    "summed products": lambda: torch.rand(3, 3).addbmm(torch.rand(2, 3, 4), torch.rand(2, 4, 3)),
    "dot": lambda: torch.rand(4).dot(torch.rand(4)),
    "distances": lambda: torch.cdist(torch.rand(3, 4), torch.rand(3, 4)),
    "bilinear": lambda: nn.Bilinear(4, 4, 2)(torch.rand(3, 4), torch.rand(3, 4)),
    "attention": lambda: nn.functional.scaled_dot_product_attention(
        torch.rand(1, 2, 8, 8), torch.rand(1, 2, 8, 8), torch.rand(1, 2, 8, 8)
    ),
    "encoder layer": lambda: torch.inference_mode()(
        nn.TransformerEncoderLayer(8, 2, 8, batch_first=True).eval()
    )(torch.rand(1, 4, 8)),
    "attention, with gradients off": lambda: torch.inference_mode()(
        nn.functional.scaled_dot_product_attention
    )(torch.rand(1, 2, 8, 8), torch.rand(1, 2, 8, 8), torch.rand(1, 2, 8, 8)),
    "an operation of somebody's own": lambda: own_product(torch.rand(4, 4), torch.rand(4, 4)),
    "sparse product": lambda: torch.sparse.mm(torch.eye(4).to_sparse(), torch.rand(4, 4)),
    "convolution over time": lambda: torch.conv_tbc(
        torch.rand(5, 2, 4), torch.rand(3, 4, 6), torch.rand(6)
    ),
    "solving": lambda: torch.linalg.solve(torch.eye(4), torch.rand(4, 4)),
    "matrix exponential": lambda: torch.linalg.matrix_exp(torch.rand(4, 4)),
    "whole numbers": lambda: torch._int_mm(
        torch.ones(32, 32, dtype=torch.int8), torch.ones(32, 32, dtype=torch.int8)
    ),
    "distances of pairs": lambda: torch.pdist(torch.rand(4, 4)),
    "grouped convolution": lambda: nn.Conv2d(4, 4, 3, groups=2)(torch.rand(1, 4, 8, 8)),
}


@pytest.mark.parametrize("run", REFUSED.values(), ids=list(REFUSED))
def test_what_the_counter_takes_for_free_is_refused(run: Callable[[], object]) -> None:
    with pytest.raises(UncountedOperationError, match="has no FLOP count: use an equivalent"):
        count_flops(run)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_product_without_gradients_counts_alike(mode: Any) -> None:
    model, inputs = nn.Sequential(nn.Linear(4, 8), nn.Softmax(-1)), torch.rand(B, 4)
    with mode():
        assert count_flops(lambda: model(inputs)) == B * linear(4, 8)


def test_matrix_products_are_counted() -> None:
    assert count_flops(lambda: torch.rand(3, 4) @ torch.rand(4, 5)) == 2 * 3 * 4 * 5
    assert count_flops(lambda: torch.rand(2, 3, 4).bmm(torch.rand(2, 4, 5))) == 2 * 2 * 3 * 4 * 5
    assert count_flops(lambda: nn.GRU(4, 4)(torch.rand(3, 2, 4))) == 3 * 2 * 2 * linear(4, 3 * 4)
    assert count_flops(lambda: torch.rand(3, 4) + 1) == 0


def test_optimizers_cost_per_parameter() -> None:
    assert optimizer_flops("adamw", 100) == 1400
    assert optimizer_flops("sgd", 100) == 600


def test_the_ledger_sums_steps_and_selection() -> None:
    ledger = FlopLedger(10.0)
    for cost in (FlopCost(8, 2), FlopCost(8, 2), FlopCost(7)):
        ledger.add_step(cost)
    ledger.add_selection(FlopCost(analytic=4))
    assert (ledger.counted_flops, ledger.analytic_flops, ledger.selection_flops) == (23, 8, 4)
    assert (ledger.steps, ledger.spent) == (3, 31)


def test_selection_shows_all_that_it_costs() -> None:
    ledger = FlopLedger(100.0)
    ledger.add_selection(FlopCost(counted=3.0, analytic=4.0))
    assert (ledger.selection_flops, ledger.spent, ledger.steps) == (7.0, 7.0, 0)
    assert (ledger.counted_flops, ledger.analytic_flops) == (3.0, 4.0)


def test_counting_a_forward_pass_leaves_the_model_in_training_mode() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Dropout()).train()
    assert count_forward_flops(model, lambda m: m(torch.ones(5, 3))) == 2 * 5 * 3 * 2
    assert all(part.training for part in model.modules())


def test_an_operation_of_another_library_is_refused_though_it_is_named_like_a_free_one() -> None:
    with torch.library._scoped_library("effcore_tests", "FRAGMENT") as library:
        library.define("clone(Tensor x) -> Tensor")
        library.impl("clone", torch.clone, "CPU")
        with pytest.raises(UncountedOperationError, match="effcore_tests.clone"):
            count_flops(lambda: torch.ops.effcore_tests.clone(torch.ones(2)))
