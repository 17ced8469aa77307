"""The explanation's numbers: they are the product's own, and say what the page says of them."""

from __future__ import annotations

import math

import numpy as np
import plotly.graph_objects as go
import pytest
import torch

from effcore.figures.explanation_charts import (
    budget_race_figure,
    importance_weights_figure,
    loss_cut_figure,
    masking_figure,
    subset_cost_figure,
)
from effcore.insight.explanations import (
    DENSE_COST,
    BudgetRace,
    BudgetRaceCurve,
    count_masking_flops,
    cut_knobs,
    cut_losses,
    estimate_mean_loss,
    max_saving_when_scored,
    run_budget_race,
    subset_costs,
    train_early_losses,
    trainable_frac,
)
from effcore.insight.explanations import MASKED_BATCH_SIZE as COUNTED
from effcore.insight.multi_seed_learner import BATCH_SIZE, losses_and_gradient, steps_for_frac
from effcore.policies.selection.base import SELECTIONS
from effcore.records import FloatArray
from effcore.training.optimizer import learning_rate_factor


def test_the_small_networks_gradient_is_pytorchs() -> None:
    rng = np.random.default_rng(0)
    shapes = ((2, 5, 4), (2, 1, 4), (2, 4, 3), (2, 1, 3))
    parameters = [rng.standard_normal(shape) for shape in shapes]
    rows, label = rng.standard_normal((2, 7, 5)), rng.integers(0, 3, (2, 7))
    found, gradient = losses_and_gradient(parameters, rows, np.eye(3)[label])
    first, bias, last, offset = own = [
        torch.from_numpy(part).requires_grad_() for part in parameters
    ]
    logits = (torch.from_numpy(rows) @ first + bias).relu() @ last + offset
    expected = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), torch.from_numpy(label).flatten(), reduction="none"
    )
    np.testing.assert_allclose(found.flatten(), expected.detach().numpy(), rtol=1e-12)
    wanted = torch.autograd.grad(expected.view(2, 7).mean(1).sum(), own)
    for mine, theirs in zip(gradient, wanted, strict=True):
        np.testing.assert_allclose(mine, theirs.numpy(), rtol=1e-9, atol=1e-12)


# The cut ------------------------------------------------------------------------------------


def test_the_cut_by_mass_holds_what_was_asked_and_no_more() -> None:
    found = [cut_losses("mass", mass) for mass in (0.0, 0.1, 0.35, 0.7)]
    for mass, each in zip((0.0, 0.1, 0.35, 0.7), found, strict=True):
        assert mass - 0.01 < each.gradient_mass <= mass + 1e-9
        assert each.skipped_examples <= each.easy_examples
        assert int(each.histogram.counts.sum()) == each.examples == len(train_early_losses().now)
    assert [each.easy_examples for each in found] == sorted(each.easy_examples for each in found)


@pytest.mark.parametrize("threshold", [1e-6, 0.1, 10.0])
def test_the_cut_by_a_threshold_is_what_lies_below_it(threshold: float) -> None:
    found = cut_losses("loss_threshold", threshold)
    assert found.easy_examples == int((train_early_losses().now < threshold).sum())
    assert (
        abs(found.skipped_examples - found.easy_examples * (1 - 1 / found.revisit_epochs))
        <= 1 + found.easy_examples / 10
    )
    assert found.histogram.threshold == pytest.approx(threshold)


def test_both_knobs_of_the_cut_are_offered() -> None:
    assert list(cut_knobs()) == ["mass", "loss_threshold"]


# The cost -----------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.25, 0.6, 1.0])
def test_what_ways_cost(share: float) -> None:
    never, after, first = subset_costs(share)
    costs = [3 * share, 1 + 2 * share, 1 + 3 * share]
    np.testing.assert_allclose([w.scoring + w.forward + w.backward for w in (never, after, first)],
                               costs)  # fmt: skip
    np.testing.assert_allclose([w.saved_frac for w in (never, after, first)],
                               [1 - cost / DENSE_COST for cost in costs], atol=1e-12)  # fmt: skip


@pytest.mark.parametrize("saved", [0.0, 0.1, 0.4, 2 / 3])
def test_the_share_for_a_saving_saves_that(saved: float) -> None:
    assert subset_costs(trainable_frac(saved))[-1].saved_frac == pytest.approx(saved, abs=1e-12)


def test_the_costs_that_the_literature_is_read_by() -> None:
    assert round(trainable_frac(0.4), 2) == 0.27
    assert round(max_saving_when_scored(), 2) == 0.67


def test_the_policies_named_work_as_they_are_said_to() -> None:
    never, after, first = (SELECTIONS.get(way.policy) for way in subset_costs(0.25))
    assert (
        never().scoring_batch_size(BATCH_SIZE)
        == after().scoring_batch_size(BATCH_SIZE)
        == BATCH_SIZE
    )
    assert (never.refreshes_skipped_losses, after.refreshes_skipped_losses) == (False, True)
    scored = SELECTIONS.get(subset_costs(0.25)[2].policy)(**{"beta": 1 / 0.25 - 1})
    assert isinstance(scored, first)
    assert scored.scoring_batch_size(BATCH_SIZE) == BATCH_SIZE / 0.25


# Masking ------------------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", [8, 16])
def test_masking_saves_nothing_and_not_loading_saves_all_of_it(wanted: int) -> None:
    found = count_masking_flops(wanted)
    assert found.masked == found.sliced == found.everything
    assert found.never_loaded == found.everything * wanted / COUNTED
    assert found.gradient_difference < 1e-5, "but both are the same gradient"
    assert 1.9 < found.everything / found.forward - 1 < 2.0


# Weights ------------------------------------------------------------------------------------


@pytest.mark.parametrize("skipped", [0.2, 0.4, 0.6])
def test_full_correction_is_unbiased_and_none_is_not(skipped: float) -> None:
    plain, half, full = (estimate_mean_loss(c, skipped) for c in (0.0, 0.5, 1.0))
    error = full.spread("drawn") / math.sqrt(len(full.drawn))
    assert abs(full.bias("drawn")) < 4 * error
    assert abs(full.bias("random")) < 4 * full.spread("random") / math.sqrt(len(full.random))
    assert plain.bias("drawn") > half.bias("drawn") > 40 * error
    assert full.spread("drawn") < full.spread("random"), "past losses tell what matters"
    assert (plain.max_weight, full.max_weight > half.max_weight > 1) == (1.0, True)


# The race -----------------------------------------------------------------------------------


def test_arms_spend_the_same_and_decay_over_their_own_budget() -> None:
    found, share = run_budget_race(0.4), steps_for_frac(0.4) / steps_for_frac(1.0)
    assert [arm.spent[-1] for arm in found] == [1.0, share, share, share]
    assert [arm.rate[-1] for arm in (found.full, found.matched, found.policy)] == [0.0, 0.0, 0.0]
    assert found.cut.rate[-1] == pytest.approx(learning_rate_factor(share))
    shared = len(found.cut.spent) - 1
    np.testing.assert_array_equal(found.cut.validation[:shared], found.full.validation[:shared])
    assert found.matched.mean_test_accuracy > found.cut.mean_test_accuracy
    assert all(arm.mean_test_accuracy > 0.9 for arm in found)


def arm(test: FloatArray) -> BudgetRaceCurve:
    return BudgetRaceCurve(np.ones(1), np.zeros(1), np.ones(1), test)


@pytest.mark.parametrize(
    ("over_cut", "over_matched", "words"),
    [(-1, 0, "not clearly better"), (3, 2, "better than both"), (3, -2, "a loss"), (3, 0, "a tie")],
)
def test_the_conclusion_follows_from_both_intervals(
    over_cut: float, over_matched: float, words: str
) -> None:
    own = 0.9 + np.array([-0.002, 0.0, 0.001, -0.001, 0.002, 0.0])
    noise = np.array([0.001, -0.001, 0.0, 0.001, 0.0, -0.001])
    cut_off, matched = (arm(own + noise - points / 100) for points in (over_cut, over_matched))
    assert words in BudgetRace(arm(own), cut_off, matched, arm(own)).conclusion()


# The charts ---------------------------------------------------------------------------------


def test_plotly_knows_every_option_of_the_charts() -> None:
    """As plotly's own objects, which refuse an option that does not exist."""
    figures = {
        "cut": loss_cut_figure(cut_losses("mass", 0.35).histogram, "Loss"),
        "cost": subset_cost_figure(subset_costs(0.5)),
        "masking": masking_figure(count_masking_flops(8)),
        "weights": importance_weights_figure(estimate_mean_loss(0.0, 0.4)),
        "race": budget_race_figure(run_budget_race(0.4)),
    }
    built = {name: go.Figure(figure) for name, figure in figures.items()}
    assert all(figure.layout.height for figure in built.values())
    assert sum(built["cut"].data[1].y) < len(train_early_losses().now)
    assert sum(map(sum, (bar.y for bar in built["weights"].data))) == 2 * 400
    assert sum(bar.x[0] for bar in built["cost"].data) == DENSE_COST


def test_a_cut_below_every_loss_draws_no_line() -> None:
    figure = loss_cut_figure(cut_losses("mass", 0.0).histogram, "Loss")
    assert figure["data"][2]["x"] == []
