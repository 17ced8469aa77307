"""The five ideas of the explanation; each is drawn anew by itself when its slider moves."""

from __future__ import annotations

from typing import Final

import streamlit as st

from effcore.figures.explanation_charts import (
    budget_race_figure,
    importance_weights_figure,
    loss_cut_figure,
    masking_figure,
    subset_cost_figure,
)
from effcore.impact.ranges import si_text
from effcore.insight.budget_race import BudgetRace, run_budget_race
from effcore.insight.importance_weights import MeanLossEstimates, estimate_mean_loss
from effcore.insight.loss_cut import LossCut, cut_knobs, cut_losses
from effcore.insight.masking_cost import BATCH_SIZE as COUNTED
from effcore.insight.masking_cost import MaskingFlops, count_masking_flops
from effcore.insight.multi_seed_learner import BATCH_SIZE, EPOCHS, SEED_COUNT, TASK
from effcore.insight.subset_cost import (
    SubsetCost,
    max_saving_when_scored,
    subset_costs,
    trainable_frac,
)
from effcore.studies.statistics import PairedDifference
from effcore.tasks.base import TASKS
from pages.ui.how.section_parts import (
    begin_section,
    cite_paper,
    draw_chart_and_table,
    link_to_live,
    show_takeaway,
)

_LIVE_SETTINGS: Final = {"task": "digits"}


@st.fragment
def show_loss_cut_idea() -> None:
    """Cut the losses of real examples."""
    left, right = begin_section(
        "1. What is left to learn?",
        "An example's loss says how wrong the model was about it. Where the loss is small the "
        "gradient is small too, so training on it once more changes next to nothing.",
    )
    with left:
        name, value = _choose_cut_knob()
        found = cut_losses(name, value)
        easy = found.easy_examples / found.examples
        show_takeaway(
            "cut",
            f"**{found.easy_examples:,} of {found.examples:,} examples ({easy:.0%}) lie below the "
            f"cut; together they hold {found.gradient_mass:.0%} of the gradient.** This pass "
            "skips "
            f"{found.skipped_examples:,} of them. The others are due for another look, which each "
            "easy "
            f"example gets in one pass of {found.revisit_epochs}.",
        )
    with right:
        _draw_cut_chart(found)
    link_to_live(
        [
            (
                "Confident skip, cut here",
                _LIVE_SETTINGS | {"selection": "confident-skip", name: value},
            )
        ],
        f"{cite_paper('katharopoulos')}, equation 20: the gradient is bounded by the error at the "
        r"outputs, $\lVert\mathrm{softmax}(z)-y\rVert$; here the loss stands for it. "
        f"{cite_paper('kakurenbo')}, section 3, hides the easiest of each pass.",
    )


def _choose_cut_knob() -> tuple[str, float]:
    """Return the knob that cuts, and its value; losses are chosen by their order of magnitude."""
    specs = cut_knobs()
    name = st.radio(
        "Cut by", list(specs), format_func=lambda i: specs[i].label, key="how_cut_by",
        horizontal=True,
    )  # fmt: skip
    spec, key = specs[name], f"how_{name}"
    if not spec.log:
        return name, st.slider(
            spec.label, spec.lo, spec.hi, spec.start, spec.step, key=key, help=spec.help
        )
    steps = [f"{10 ** (n / 4):.2g}" for n in range(-12, 4)]
    value = st.select_slider(spec.label, steps, f"{spec.start:.2g}", key=key, help=spec.help)
    return name, float(value)


def _draw_cut_chart(loss_cut: LossCut) -> None:
    threshold = (
        f"{loss_cut.histogram.threshold:.3g}" if loss_cut.easy_examples else "below every loss"
    )
    draw_chart_and_table(
        "cut",
        loss_cut_figure(loss_cut.histogram, "Loss"),
        f"Losses of {loss_cut.examples} examples, {loss_cut.easy_examples} of them below the cut.",
        [
            {"What": "Cut, a loss of", "Amount": threshold},
            {
                "What": "Below the cut",
                "Amount": f"{loss_cut.easy_examples:,} of {loss_cut.examples:,}",
            },
            {"What": "Gradient that they hold", "Amount": f"{loss_cut.gradient_mass:.1%}"},
            {"What": "Skipped in this pass", "Amount": f"{loss_cut.skipped_examples:,}"},
        ],
    )


@st.fragment
def show_scoring_cost_idea() -> None:
    """Choose a share of the examples and see what three ways to train on it cost."""
    left, right = begin_section(
        "2. What does looking cost?",
        "Going backward costs about twice as much as going forward. An example that is never "
        "loaded saves all three parts; one that is looked at first saves two at most.",
    )
    with left:
        share = st.slider(
            "Share trained on", 0.12, 1.0, 0.5, 0.01, format="percent", key="how_share",
            help="Of the examples of a pass.",
        )  # fmt: skip
        never, after, first = found = subset_costs(share)
        show_takeaway(
            "cost",
            f"**Training on {share:.0%} saves {never.saved_frac:.0%} where the others are "
            f"never loaded, and {first.saved_frac:.0%} where all are scored first.** Scored "
            "first, "
            f"40% saved leaves {trainable_frac(0.4):.0%} to train on, and no more than "
            f"{max_saving_when_scored():.0%} can be saved at all.",
        )
    with right:
        _draw_cost_chart(share, found)
    links = {
        "Random": {"selection": never.policy, "skip_fraction": min(0.95, 1 - share)},
        "KAKURENBO": {"selection": after.policy, "hidden_share": min(0.9, 1 - share)},
        "Selective-Backprop": {"selection": first.policy, "beta": 1 / share - 1},
    }
    link_to_live(
        [(label, _LIVE_SETTINGS | settings) for label, settings in links.items()],
        rf"{cite_paper('sb')}, equation 1: an example is chosen with $\mathrm{{CDF}}(L)^\beta$, "
        rf"its "
        r"loss being known from a forward pass; so $1+3k$ of 3. The same for "
        rf"{cite_paper('rho')}, equation 3, which chooses by $L-L_\mathrm{{irreducible}}$.",
    )


def _draw_cost_chart(share: float, costs: tuple[SubsetCost, ...]) -> None:
    told = ", ".join(f"{way.name.lower()} {1 - way.saved_frac:.0%}" for way in costs)
    draw_chart_and_table(
        "cost", subset_cost_figure(costs),
        f"Cost of training on {share:.0%} of the examples, of dense training: {told}.",
        [
            {"The others": way.name, "Looking only": f"{way.scoring:.2f}",
             "Forward": f"{way.forward:.2f}", "Backward": f"{way.backward:.2f}",
             "Of dense": f"{1 - way.saved_frac:.0%}"}
            for way in costs
        ],
    )  # fmt: skip


@st.fragment
def show_masking_idea() -> None:
    """Choose how much of a batch is wanted, and count the steps that keep the rest out."""
    left, right = begin_section(
        "3. Why does masking save nothing?",
        "Multiplying an unwanted loss by zero takes it out of the gradient. By then the model has "
        "run forward on it, and going backward computes its zeros like any other number.",
    )
    with left:
        wanted = st.slider(
            f"Examples wanted, of a batch of {COUNTED}", 2, COUNTED - 2, 8, 2, key="how_wanted"
        )
        found = count_masking_flops(wanted)
        masked, alone = (1 - n / found.everything for n in (found.masked, found.never_loaded))
        show_takeaway(
            "masking",
            f"**Masked, the step saves {masked:.0%}. Without loading the other "
            f"{COUNTED - wanted}, it saves {alone:.0%}.** Both give the same gradient, "
            f"{_gradient_match_text(found.gradient_difference)}. Going backward costs "
            f"{found.everything / found.forward - 1:.2f} times as much as forward here, since "
            "the pixels need no gradient.",
        )
        st.code(
            "# masked\n(losses(model(x)) * wanted).mean()\n"
            "# never loaded\nlosses(model(x[wanted])).mean()",
            language=None,
        )  # fmt: skip
    with right:
        _draw_masking_chart(found)
    link_to_live(
        [
            (
                "Random, as many left out",
                _LIVE_SETTINGS
                | {"selection": "random", "skip_fraction": min(0.95, 1 - wanted / COUNTED)},
            )
        ],
        f"{cite_paper('random')}: a fresh random part of the data in each pass, and nothing else "
        "is "
        f"loaded. {cite_paper('sb')} run those they chose forward once more, for the same reason. "
        "Every policy here packs what it draws into full batches first.",
    )


def _gradient_match_text(difference: float) -> str:
    if not difference:
        return "to the last bit"
    return f"to one part in {float(f'{1 / difference:.1g}'):,.0f}"


def _draw_masking_chart(masking_flops: MaskingFlops) -> None:
    names = ("Nothing left out", "Loss times zero", "Loss taken out", "Never loaded")
    spent = (
        masking_flops.everything,
        masking_flops.masked,
        masking_flops.sliced,
        masking_flops.never_loaded,
    )
    steps = {name: si_text(flops, "FLOP") for name, flops in zip(names, spent, strict=True)}
    told = ", ".join(f"{name.lower()} {text}" for name, text in steps.items())
    draw_chart_and_table(
        "masking",
        masking_figure(masking_flops),
        f"Computation of one step, counted by PyTorch: {told}.",
        [{"Step": name, "Counted": text} for name, text in steps.items()],
    )


@st.fragment
def show_importance_weights_idea() -> None:
    """Choose an exponent and a skipped share, and see what passes make of the mean loss."""
    left, right = begin_section(
        "4. Can the choice be undone?",
        "Who looks at hard examples more often sees a harder world than there is. Weighting what "
        "is drawn by one over its chance of being drawn puts that right, on average.",
    )
    with left:
        c = st.slider(
            "Correction c", 0.0, 1.0, 0.0, 0.05, key="how_correction",
            help="Each drawn example weighs its chance to the power of minus c.",
        )  # fmt: skip
        skipped = st.slider(
            "Skip fraction", 0.1, 0.7, 0.4, 0.05, format="percent", key="how_skip",
            help="Share of the examples that a pass leaves out.",
        )  # fmt: skip
        found = estimate_mean_loss(c, skipped)
        show_takeaway(
            "weights",
            f"**The mean loss of what is drawn is off by {found.bias('drawn'):+z.1%}, "
            f"give or take {found.spread('drawn'):.1%}.** As many examples drawn at random: "
            f"{found.bias('random'):+z.1%}, give or take {found.spread('random'):.1%}. The "
            f"heaviest example counts {found.max_weight:.1f} times.",
        )
    with right:
        _draw_weights_chart(found)
    link_to_live(
        [("Stale PPS", _LIVE_SETTINGS | {"selection": "stale-pps", "skip_fraction": skipped,
                               "correction": c}),
         ("InfoBatch", _LIVE_SETTINGS | {"selection": "infobatch", "correction": c})],
        rf"{cite_paper('horvitz')}: $\sum_\mathrm{{drawn}} y_i/\pi_i$ has the total of all $y_i$ "
        rf"as "
        rf"its mean; here the weights are $\pi_i^{{-c}}$, scaled. {cite_paper('infobatch')}: what "
        rf"is "
        rf"kept of the easy weighs $1/(1-r)$. {cite_paper('katharopoulos')} draw by the gradient's "
        "size.",
    )  # fmt: skip


def _draw_weights_chart(mean_loss_estimates: MeanLossEstimates) -> None:
    draw_chart_and_table(
        "weights", importance_weights_figure(mean_loss_estimates),
        f"Estimates of {len(mean_loss_estimates.drawn)} passes: off by "
        f"{mean_loss_estimates.bias('drawn'):+z.1%} on "
        f"average by the policy, {mean_loss_estimates.bias('random'):+z.1%} at random.",
        [
            {"Drawn": words, "Off on average": f"{mean_loss_estimates.bias(name):+z.1%}",
             "Give or take": f"{mean_loss_estimates.spread(name):.1%}"}
            for words, name in (("By their losses", "drawn"), ("As many at random", "random"))
        ],
    )  # fmt: skip


@st.fragment
def show_fair_baseline_idea() -> None:
    """Choose a budget and train a policy and its opponents on it."""
    left, right = begin_section(
        "5. Better than what?",
        "A training gets its last points from a learning rate that falls to zero. A dense run that "
        "is cut off never gets there, so it is easily beaten. The fair opponent is dense training "
        "that knows the budget and lets its learning rate fall over that.",
    )
    with left:
        budget = st.slider(
            "Budget", 0.2, 0.9, 0.4, 0.1, format="percent", key="how_budget",
            help="Share of the whole computation.",
        )  # fmt: skip
        found = run_budget_race(budget)
        cut_off, fair = (_gain_text(found.gain(name)) for name in ("cut", "matched"))
        show_takeaway(
            "race",
            f"**Confident skip against dense cut off: {cut_off}. Against dense decayed "
            f"over the budget: {fair}.** {found.conclusion()}",
        )
        st.caption(
            f"Test accuracy, mean of {SEED_COUNT} seeds and its 95% interval. "
            f"{TASKS.get(TASK).title}, "
            f"{EPOCHS} passes, batches of {BATCH_SIZE}; trained here, as you move."
        )
    with right:
        _draw_budget_race_chart(found)
    settings = {"task": TASK, "selection": "confident-skip", "budget": budget}
    link_to_live(
        [("Confident skip at this budget", settings)],
        rf"{cite_paper('kaddour')}, section 3: every schedule decays over its own budget, "
        r"$\eta(t)\to 0$ as $t\to B$. Against that the gains of what they tried vanish.",
    )


def _gain_text(gain: PairedDifference) -> str:
    mean, lo, hi = (100 * value for value in (gain.mean, gain.lo, gain.hi))
    return f"{mean:+z.1f} points ({lo:+z.1f} to {hi:+z.1f})"


def _draw_budget_race_chart(budget_race: BudgetRace) -> None:
    arms = {
        "Dense, all of it": budget_race.full, "Dense, cut off": budget_race.cut,
        "Dense, decayed over the budget": budget_race.matched, "Confident skip": budget_race.policy,
    }  # fmt: skip
    told = ", ".join(f"{name.lower()} {arm.mean_test_accuracy:.1%}" for name, arm in arms.items())
    draw_chart_and_table(
        "race",
        budget_race_figure(budget_race),
        f"Accuracy on the test split: {told}.",
        [
            {
                "Arm": name,
                "Spent": f"{arm.spent[-1]:.0%}",
                "Test accuracy": f"{arm.mean_test_accuracy:.1%}",
                "Last learning rate": f"{arm.rate[-1]:.0%} of its peak",
            }
            for name, arm in arms.items()
        ],
    )
