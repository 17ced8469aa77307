"""The five ideas of the explanation; each is drawn anew by itself when its slider moves."""

from __future__ import annotations

from typing import Final

import streamlit as st

from effcore.explain.cost import Way, ceiling, share_for, ways
from effcore.explain.cut import Cut, cut, knobs
from effcore.explain.learner import BATCH, EPOCHS, SEEDS, TASK
from effcore.explain.masking import BATCH as COUNTED
from effcore.explain.masking import Counted, counted
from effcore.explain.race import Race, race
from effcore.explain.weights import Estimates, estimates
from effcore.figures.explained import (
    cost_figure,
    cut_figure,
    masking_figure,
    race_figure,
    weights_figure,
)
from effcore.impact.ranges import si_text
from effcore.studies.statistics import PairedDifference
from effcore.tasks.base import TASKS
from pages.ui.how.explaining import chart, cite, idea, leads_to, seen

_TRY: Final = {"task": "digits"}


@st.fragment
def what_is_left() -> None:
    """Cut the losses of real examples."""
    left, right = idea(
        "1. What is left to learn?",
        "An example's loss says how wrong the model was about it. Where the loss is small the "
        "gradient is small too, so training on it once more changes next to nothing.",
    )
    with left:
        name, value = _choose_cut()
        found = cut(name, value)
        easy = found.easy / found.examples
        seen("cut", f"**{found.easy:,} of {found.examples:,} examples ({easy:.0%}) lie below the "
             f"cut; together they hold {found.mass:.0%} of the gradient.** This pass skips "
             f"{found.skipped:,} of them. The others are due for another look, which each easy "
             f"example gets in one pass of {found.revisit}.")  # fmt: skip
    with right:
        _draw_cut(found)
    leads_to(
        [("Confident skip, cut here", _TRY | {"selection": "confident-skip", name: value})],
        f"{cite('katharopoulos')}, equation 20: the gradient is bounded by the error at the "
        r"outputs, $\lVert\mathrm{softmax}(z)-y\rVert$; here the loss stands for it. "
        f"{cite('kakurenbo')}, section 3, hides the easiest of each pass.",
    )


def _choose_cut() -> tuple[str, float]:
    """Return the knob that cuts, and its value; losses are chosen by their order of magnitude."""
    specs = knobs()
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


def _draw_cut(found: Cut) -> None:
    threshold = f"{found.histogram.threshold:.3g}" if found.easy else "below every loss"
    chart(
        "cut", cut_figure(found.histogram, "Loss"),
        f"Losses of {found.examples} examples, {found.easy} of them below the cut.",
        [
            {"What": "Cut, a loss of", "Amount": threshold},
            {"What": "Below the cut", "Amount": f"{found.easy:,} of {found.examples:,}"},
            {"What": "Gradient that they hold", "Amount": f"{found.mass:.1%}"},
            {"What": "Skipped in this pass", "Amount": f"{found.skipped:,}"},
        ],
    )  # fmt: skip


@st.fragment
def what_looking_costs() -> None:
    """Choose a share of the examples and see what three ways to train on it cost."""
    left, right = idea(
        "2. What does looking cost?",
        "Going backward costs about twice as much as going forward. An example that is never "
        "loaded saves all three parts; one that is looked at first saves two at most.",
    )
    with left:
        share = st.slider(
            "Share trained on", 0.12, 1.0, 0.5, 0.01, format="percent", key="how_share",
            help="Of the examples of a pass.",
        )  # fmt: skip
        never, after, first = found = ways(share)
        seen("cost", f"**Training on {share:.0%} saves {never.saved:.0%} where the others are "
             f"never loaded, and {first.saved:.0%} where all are scored first.** Scored first, "
             f"40% saved leaves {share_for(0.4):.0%} to train on, and no more than "
             f"{ceiling():.0%} can be saved at all.")  # fmt: skip
    with right:
        _draw_cost(share, found)
    links = {
        "Random": {"selection": never.policy, "skip_fraction": min(0.95, 1 - share)},
        "KAKURENBO": {"selection": after.policy, "hidden_share": min(0.9, 1 - share)},
        "Selective-Backprop": {"selection": first.policy, "beta": 1 / share - 1},
    }
    leads_to(
        [(label, _TRY | settings) for label, settings in links.items()],
        rf"{cite('sb')}, equation 1: an example is chosen with $\mathrm{{CDF}}(L)^\beta$, its "
        r"loss being known from a forward pass; so $1+3k$ of 3. The same for "
        rf"{cite('rho')}, equation 3, which chooses by $L-L_\mathrm{{irreducible}}$.",
    )


def _draw_cost(share: float, found: tuple[Way, ...]) -> None:
    told = ", ".join(f"{way.name.lower()} {1 - way.saved:.0%}" for way in found)
    chart(
        "cost", cost_figure(found),
        f"Cost of training on {share:.0%} of the examples, of dense training: {told}.",
        [
            {"The others": way.name, "Looking only": f"{way.scoring:.2f}",
             "Forward": f"{way.forward:.2f}", "Backward": f"{way.backward:.2f}",
             "Of dense": f"{1 - way.saved:.0%}"}
            for way in found
        ],
    )  # fmt: skip


@st.fragment
def what_masking_saves() -> None:
    """Choose how much of a batch is wanted, and count the steps that keep the rest out."""
    left, right = idea(
        "3. Why does masking save nothing?",
        "Multiplying an unwanted loss by zero takes it out of the gradient. By then the model has "
        "run forward on it, and going backward computes its zeros like any other number.",
    )
    with left:
        wanted = st.slider(
            f"Examples wanted, of a batch of {COUNTED}", 2, COUNTED - 2, 8, 2, key="how_wanted"
        )
        found = counted(wanted)
        masked, alone = (1 - n / found.everything for n in (found.masked, found.never_loaded))
        seen("masking", f"**Masked, the step saves {masked:.0%}. Without loading the other "
             f"{COUNTED - wanted}, it saves {alone:.0%}.** Both give the same gradient, "
             f"{_alike(found.difference)}. Going backward costs "
             f"{found.everything / found.forward - 1:.2f} times as much as forward here, since "
             "the pixels need no gradient.")  # fmt: skip
        st.code(
            "# masked\n(losses(model(x)) * wanted).mean()\n"
            "# never loaded\nlosses(model(x[wanted])).mean()",
            language=None,
        )  # fmt: skip
    with right:
        _draw_masking(found)
    leads_to(
        [("Random, as many left out",
          _TRY | {"selection": "random", "skip_fraction": min(0.95, 1 - wanted / COUNTED)})],
        f"{cite('random')}: a fresh random part of the data in each pass, and nothing else is "
        f"loaded. {cite('sb')} run those they chose forward once more, for the same reason. "
        "Every policy here packs what it draws into full batches first.",
    )  # fmt: skip


def _alike(difference: float) -> str:
    if not difference:
        return "to the last bit"
    return f"to one part in {float(f'{1 / difference:.1g}'):,.0f}"


def _draw_masking(found: Counted) -> None:
    names = ("Nothing left out", "Loss times zero", "Loss taken out", "Never loaded")
    spent = (found.everything, found.masked, found.sliced, found.never_loaded)
    steps = {name: si_text(flops, "FLOP") for name, flops in zip(names, spent, strict=True)}
    told = ", ".join(f"{name.lower()} {text}" for name, text in steps.items())
    chart(
        "masking", masking_figure(found), f"Computation of one step, counted by PyTorch: {told}.",
        [{"Step": name, "Counted": text} for name, text in steps.items()],
    )  # fmt: skip


@st.fragment
def what_weights_undo() -> None:
    """Choose an exponent and a skipped share, and see what passes make of the mean loss."""
    left, right = idea(
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
        found = estimates(c, skipped)
        seen("weights", f"**The mean loss of what is drawn is off by {found.bias('drawn'):+z.1%}, "
             f"give or take {found.spread('drawn'):.1%}.** As many examples drawn at random: "
             f"{found.bias('random'):+z.1%}, give or take {found.spread('random'):.1%}. The "
             f"heaviest example counts {found.heaviest:.1f} times.")  # fmt: skip
    with right:
        _draw_weights(found)
    leads_to(
        [("Stale PPS", _TRY | {"selection": "stale-pps", "skip_fraction": skipped,
                               "correction": c}),
         ("InfoBatch", _TRY | {"selection": "infobatch", "correction": c})],
        rf"{cite('horvitz')}: $\sum_\mathrm{{drawn}} y_i/\pi_i$ has the total of all $y_i$ as "
        rf"its mean; here the weights are $\pi_i^{{-c}}$, scaled. {cite('infobatch')}: what is "
        rf"kept of the easy weighs $1/(1-r)$. {cite('katharopoulos')} draw by the gradient's "
        "size.",
    )  # fmt: skip


def _draw_weights(found: Estimates) -> None:
    chart(
        "weights", weights_figure(found),
        f"Estimates of {len(found.drawn)} passes: off by {found.bias('drawn'):+z.1%} on "
        f"average by the policy, {found.bias('random'):+z.1%} at random.",
        [
            {"Drawn": words, "Off on average": f"{found.bias(name):+z.1%}",
             "Give or take": f"{found.spread(name):.1%}"}
            for words, name in (("By their losses", "drawn"), ("As many at random", "random"))
        ],
    )  # fmt: skip


@st.fragment
def better_than_what() -> None:
    """Choose a budget and train a policy and its opponents on it."""
    left, right = idea(
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
        found = race(budget)
        cut_off, fair = (_points(found.gain(name)) for name in ("cut", "matched"))
        seen("race", f"**Confident skip against dense cut off: {cut_off}. Against dense decayed "
             f"over the budget: {fair}.** {found.conclusion()}")  # fmt: skip
        st.caption(
            f"Test accuracy, mean of {SEEDS} seeds and its 95% interval. {TASKS.get(TASK).title}, "
            f"{EPOCHS} passes, batches of {BATCH}; trained here, as you move."
        )
    with right:
        _draw_race(found)
    settings = {"task": TASK, "selection": "confident-skip", "budget": budget}
    leads_to(
        [("Confident skip at this budget", settings)],
        rf"{cite('kaddour')}, section 3: every schedule decays over its own budget, "
        r"$\eta(t)\to 0$ as $t\to B$. Against that the gains of what they tried vanish.",
    )


def _points(gain: PairedDifference) -> str:
    mean, lo, hi = (100 * value for value in (gain.mean, gain.lo, gain.hi))
    return f"{mean:+z.1f} points ({lo:+z.1f} to {hi:+z.1f})"


def _draw_race(found: Race) -> None:
    arms = {
        "Dense, all of it": found.full, "Dense, cut off": found.cut,
        "Dense, decayed over the budget": found.matched, "Confident skip": found.policy,
    }  # fmt: skip
    told = ", ".join(f"{name.lower()} {arm.mean:.1%}" for name, arm in arms.items())
    chart(
        "race", race_figure(found), f"Accuracy on the test split: {told}.",
        [
            {"Arm": name, "Spent": f"{arm.spent[-1]:.0%}", "Test accuracy": f"{arm.mean:.1%}",
             "Last learning rate": f"{arm.rate[-1]:.0%} of its peak"}
            for name, arm in arms.items()
        ],
    )  # fmt: skip
