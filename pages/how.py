"""How it works page: five interactive ideas of selective training, for newcomers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from effcore.figures.explanation_charts import (
    budget_race_figure,
    importance_weights_figure,
    loss_cut_figure,
    masking_figure,
    subset_cost_figure,
)
from effcore.figures.run_charts import PlotlySpec
from effcore.impact.ranges import si_text
from effcore.insight.explanations import (
    MASKED_BATCH_SIZE,
    BudgetRace,
    LossCut,
    MaskingFlops,
    MeanLossEstimates,
    SubsetCost,
    count_masking_flops,
    cut_knobs,
    cut_losses,
    estimate_mean_loss,
    max_saving_when_scored,
    run_budget_race,
    subset_costs,
    trainable_frac,
)
from effcore.insight.multi_seed_learner import BATCH_SIZE, EPOCHS, SEED_COUNT, TASK
from effcore.records.settings import Settings
from effcore.studies.statistics import PairedDifference
from effcore.tasks.base import TASKS
from pages.ui.tables import text_table

#: Papers by short name: citation and URL.
_PAPERS: Final = {
    "horvitz": ("Horvitz and Thompson 1952", "https://doi.org/10.1080/01621459.1952.10483446"),
    "infobatch": ("Qin et al. 2024, InfoBatch", "https://arxiv.org/abs/2303.04947"),
    "kaddour": ("Kaddour et al. 2023, No Train No Gain", "https://arxiv.org/abs/2307.06440"),
    "kakurenbo": ("Nguyen et al. 2023, KAKURENBO", "https://arxiv.org/abs/2310.10102"),
    "katharopoulos": ("Katharopoulos and Fleuret 2018", "https://arxiv.org/abs/1803.00942"),
    "random": ("Okanovic et al. 2024", "https://arxiv.org/abs/2305.18424"),
    "rho": ("Mindermann et al. 2022, RHO-LOSS", "https://arxiv.org/abs/2206.07137"),
    "sb": ("Jiang et al. 2019, Selective-Backprop", "https://arxiv.org/abs/1910.00762"),
}
#: Terms of the other pages, in the order in which they appear.
_GLOSSARY: Final = {
    "Loss": "How wrong the model was about an example; 0 means exactly right.",
    "Example, batch, step": "One item of the data; the examples trained on together; one update.",
    "Epoch": "Once through the data. Each example is considered: trained on or skipped.",
    "Gradient mass": "An example's share of all gradients, estimated from its loss.",
    "Policy, knob": "A rule that decides what is trained on; a setting of it that you move live.",
    "Inclusion probability π": "The chance that an epoch draws an example. A policy sets it.",
    "FLOP": "One multiplication or addition; the unit of computation.",
    "Skipped": "Share of computation left out of the considered examples; selection costs count.",
    "Saved": "Share of full training's computation that a run did not spend.",
    "Full training": "Training on every example in every epoch; 100% of the compute.",
    "Same-budget training": "Normal training that is shortened to the budget, with its "
    "learning rate falling to zero within it.",
    "Seed": "Fixes everything random in a run. Variants are compared on the same seeds.",
    "Interval": "Holds the true difference in 95 of 100 cases, judged by the spread over seeds.",
    "Not inferior": "Worse by no more than a margin that was fixed beforehand.",
    "Joules": "Energy. Every figure states whether it is measured, modelled or estimated.",
}


def _cite_paper(name: str) -> str:
    """Return a paper as a link in Markdown."""
    citation, url = _PAPERS[name]
    return f"[{citation}]({url})"


def _begin_section(title: str, text: str) -> tuple[DeltaGenerator, DeltaGenerator]:
    """Begin a section; return the columns for its controls and for its chart."""
    st.header(title)
    st.write(text)
    left, right = st.columns([5, 7], gap="large")
    return left, right


def _show_takeaway(name: str, text: str) -> None:
    """Show the conclusion of a section, which changes with its sliders."""
    with st.container(key=f"seen-{name}"):
        st.markdown(text)


def _draw_chart_and_table(
    name: str, figure: PlotlySpec, alt: str, rows: Sequence[Mapping[str, str]]
) -> None:
    """Draw a chart, and the same data as a table."""
    st.plotly_chart(figure, key=f"how-{name}", alt=alt, config={"displayModeBar": False})
    with st.expander("The chart as a table"):
        text_table(rows)


def _link_to_live(links: Sequence[tuple[str, Settings]], paper: str) -> None:
    """Link to the Live page with policies set, and cite the papers.

    Args:
        links: Labels and settings, as in the Live page's address.
        paper: Citation in Markdown.
    """
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        st.markdown("Try it on Live:", width="content")
        for label, settings in links:
            st.page_link(
                "live.py", label=label, icon=":material/monitoring:",
                query_params={name: _setting_text(value) for name, value in settings.items()},
            )  # fmt: skip
    st.markdown(f":small[{paper}]")


def _setting_text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _recolour_slider_values() -> None:
    """Show slider values in the colour of links, which has enough contrast in both themes."""
    light, dark = (st.get_option(f"theme.{scheme}.linkColor") for scheme in ("light", "dark"))
    st.html(
        f"""<style>
        [data-testid="stSliderThumbValue"] p {{ color: light-dark({light}, {dark}); }}
        </style>"""
    )


_LIVE_SETTINGS: Final = {"task": "digits"}


@st.fragment
def _show_loss_cut_idea() -> None:
    """Set a threshold on the losses of real examples."""
    left, right = _begin_section(
        "1. What is left to learn?",
        "An example's loss says how wrong the model was about it. If the loss is small, the "
        "gradient is small too, and training on the example again changes almost nothing.",
    )
    with left:
        name, value = _choose_cut_knob()
        cut = cut_losses(name, value)
        easy = cut.easy_examples / cut.examples
        _show_takeaway(
            "cut",
            f"**{cut.easy_examples:,} of {cut.examples:,} examples ({easy:.0%}) lie below the "
            f"threshold; together they hold {cut.gradient_mass:.0%} of the gradient.** This "
            f"epoch skips {cut.skipped_examples:,} of them. The others are revisited: each easy "
            f"example is trained on in one epoch out of {cut.revisit_epochs}.",
        )
    with right:
        _draw_cut_chart(cut)
    _link_to_live(
        [
            (
                "Confident skip, with this threshold",
                _LIVE_SETTINGS | {"selection": "confident-skip", name: value},
            )
        ],
        f"{_cite_paper('katharopoulos')}, equation 20: the gradient is bounded by the error at the "
        r"outputs, $\lVert\mathrm{softmax}(z)-y\rVert$; here the loss estimates it. "
        f"{_cite_paper('kakurenbo')}, section 3, hides the easiest examples of each epoch.",
    )


def _choose_cut_knob() -> tuple[str, float]:
    """Return the knob that sets the threshold, and its value; losses are on a log scale."""
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


def _draw_cut_chart(cut: LossCut) -> None:
    threshold = f"{cut.histogram.threshold:.3g}" if cut.easy_examples else "below every loss"
    _draw_chart_and_table(
        "cut",
        loss_cut_figure(cut.histogram, "Loss"),
        f"Losses of {cut.examples} examples, {cut.easy_examples} of them below the threshold.",
        [
            {"What": "Threshold, as a loss", "Amount": threshold},
            {"What": "Below the threshold", "Amount": f"{cut.easy_examples:,} of {cut.examples:,}"},
            {"What": "Their share of the gradient", "Amount": f"{cut.gradient_mass:.1%}"},
            {"What": "Skipped in this epoch", "Amount": f"{cut.skipped_examples:,}"},
        ],
    )


@st.fragment
def _show_scoring_cost_idea() -> None:
    """Compare the costs of three methods of training on a share of the examples."""
    left, right = _begin_section(
        "2. What does scoring cost?",
        "A backward pass costs about twice as much as a forward pass. An example that is never "
        "loaded saves all three parts; one that is scored first saves at most two.",
    )
    with left:
        share = st.slider(
            "Share trained on", 0.12, 1.0, 0.5, 0.01, format="percent", key="how_share",
            help="Share of the examples in an epoch.",
        )  # fmt: skip
        never, after, first = costs = subset_costs(share)
        _show_takeaway(
            "cost",
            f"**Training on {share:.0%} saves {never.saved_frac:.0%} if the others are "
            f"never loaded, and {first.saved_frac:.0%} if all are scored first.** With scoring, "
            f"saving 40% leaves {trainable_frac(0.4):.0%} to train on, and at most "
            f"{max_saving_when_scored():.0%} can be saved.",
        )
    with right:
        _draw_cost_chart(share, costs)
    links: dict[str, Settings] = {
        "Random": {"selection": never.policy, "skip_fraction": min(0.95, 1 - share)},
        "KAKURENBO": {"selection": after.policy, "hidden_share": min(0.9, 1 - share)},
        "Selective-Backprop": {"selection": first.policy, "beta": 1 / share - 1},
    }
    _link_to_live(
        [(label, {**_LIVE_SETTINGS, **settings}) for label, settings in links.items()],
        rf"{_cite_paper('sb')}, equation 1: an example is chosen with $\mathrm{{CDF}}(L)^\beta$, "
        rf"where a forward pass gives the loss; the cost is $1+3k$ of 3. The same holds for "
        rf"{_cite_paper('rho')}, equation 3, which chooses by $L-L_\mathrm{{irreducible}}$.",
    )


def _draw_cost_chart(share: float, costs: tuple[SubsetCost, ...]) -> None:
    shares = ", ".join(f"{method.name.lower()} {1 - method.saved_frac:.0%}" for method in costs)
    _draw_chart_and_table(
        "cost", subset_cost_figure(costs),
        f"Cost of training on {share:.0%} of the examples, as a share of full training: {shares}.",
        [
            {"The others": method.name, "Scoring only": f"{method.scoring:.2f}",
             "Forward": f"{method.forward:.2f}", "Backward": f"{method.backward:.2f}",
             "Of full training": f"{1 - method.saved_frac:.0%}"}
            for method in costs
        ],
    )  # fmt: skip


@st.fragment
def _show_masking_idea() -> None:
    """Compare the FLOPs of masked and of smaller steps."""
    left, right = _begin_section(
        "3. Why does masking save nothing?",
        "Multiplying a loss by zero removes the example from the gradient. By then the model has "
        "run forward on it, and the backward pass computes with its zeros like any other number.",
    )
    with left:
        wanted = st.slider(
            f"Examples to train on, of a batch of {MASKED_BATCH_SIZE}",
            2,
            MASKED_BATCH_SIZE - 2,
            8,
            2,
            key="how_wanted",
        )
        flops = count_masking_flops(wanted)
        masked, smaller = (1 - n / flops.everything for n in (flops.masked, flops.never_loaded))
        _show_takeaway(
            "masking",
            f"**With a mask, the step saves {masked:.0%}. If the other "
            f"{MASKED_BATCH_SIZE - wanted} are never loaded, it saves {smaller:.0%}.** "
            "Both give the same gradient, "
            f"{_gradient_match_text(flops.gradient_difference)}. The backward pass costs "
            f"{flops.everything / flops.forward - 1:.2f} times as much as the forward pass here, "
            "since the pixels need no gradient.",
        )
        st.code(
            "# masked\n(losses(model(x)) * wanted).mean()\n"
            "# never loaded\nlosses(model(x[wanted])).mean()",
            language=None,
        )  # fmt: skip
    with right:
        _draw_masking_chart(flops)
    _link_to_live(
        [
            (
                "Random, with the same share skipped",
                _LIVE_SETTINGS
                | {
                    "selection": "random",
                    "skip_fraction": min(0.95, 1 - wanted / MASKED_BATCH_SIZE),
                },
            )
        ],
        f"{_cite_paper('random')}: a new random part of the data in each epoch, and nothing else "
        f"is loaded. {_cite_paper('sb')} run the chosen examples forward once more, for the same "
        "reason. Every policy here packs the drawn examples into full batches.",
    )


def _gradient_match_text(difference: float) -> str:
    if not difference:
        return "to the last bit"
    return f"to one part in {float(f'{1 / difference:.1g}'):,.0f}"


def _draw_masking_chart(flops: MaskingFlops) -> None:
    names = ("Nothing left out", "Loss times zero", "Loss taken out", "Never loaded")
    spent = (flops.everything, flops.masked, flops.sliced, flops.never_loaded)
    steps = {name: si_text(count, "FLOP") for name, count in zip(names, spent, strict=True)}
    amounts = ", ".join(f"{name.lower()} {text}" for name, text in steps.items())
    _draw_chart_and_table(
        "masking",
        masking_figure(flops),
        f"Computation of one step, counted by PyTorch: {amounts}.",
        [{"Step": name, "Counted": text} for name, text in steps.items()],
    )


@st.fragment
def _show_importance_weights_idea() -> None:
    """Compare estimates of the mean loss for a correction exponent and a skipped share."""
    left, right = _begin_section(
        "4. Can the bias be corrected?",
        "Training on hard examples more often makes the data look harder than it is. Weighting "
        "each drawn example by one over its chance of being drawn corrects that, on average.",
    )
    with left:
        c = st.slider(
            "Correction c", 0.0, 1.0, 0.0, 0.05, key="how_correction",
            help="The weight of a drawn example is its chance to the power of minus c.",
        )  # fmt: skip
        skipped = st.slider(
            "Skip fraction", 0.1, 0.7, 0.4, 0.05, format="percent", key="how_skip",
            help="Share of the examples that an epoch skips.",
        )  # fmt: skip
        estimates = estimate_mean_loss(c, skipped)
        _show_takeaway(
            "weights",
            f"**The mean loss of the drawn examples is off by {estimates.bias('drawn'):+z.1%}, "
            f"give or take {estimates.spread('drawn'):.1%}.** With as many drawn at random, it is "
            f"off by {estimates.bias('random'):+z.1%}, give or take "
            f"{estimates.spread('random'):.1%}. The largest weight is {estimates.max_weight:.1f}.",
        )
    with right:
        _draw_weights_chart(estimates)
    _link_to_live(
        [("Stale PPS", _LIVE_SETTINGS | {"selection": "stale-pps", "skip_fraction": skipped,
                               "correction": c}),
         ("InfoBatch", _LIVE_SETTINGS | {"selection": "infobatch", "correction": c})],
        rf"{_cite_paper('horvitz')}: $\sum_\mathrm{{drawn}} y_i/\pi_i$ has the total of all $y_i$ "
        rf"as its mean; here the weights are $\pi_i^{{-c}}$, scaled. "
        rf"{_cite_paper('infobatch')}: the easy examples that are kept weigh $1/(1-r)$. "
        rf"{_cite_paper('katharopoulos')} draw by the gradient's size.",
    )  # fmt: skip


def _draw_weights_chart(estimates: MeanLossEstimates) -> None:
    _draw_chart_and_table(
        "weights", importance_weights_figure(estimates),
        f"Estimates from {len(estimates.drawn)} epochs: off by "
        f"{estimates.bias('drawn'):+z.1%} on "
        f"average by the policy, {estimates.bias('random'):+z.1%} at random.",
        [
            {"Drawn": label, "Off on average": f"{estimates.bias(name):+z.1%}",
             "Give or take": f"{estimates.spread(name):.1%}"}
            for label, name in (("By their losses", "drawn"), ("As many at random", "random"))
        ],
    )  # fmt: skip


@st.fragment
def _show_fair_baseline_idea() -> None:
    """Train a policy and its baselines on a budget."""
    left, right = _begin_section(
        "5. Better than what?",
        "Training gains its last points while the learning rate falls to zero. Full training that "
        "is cut off never gets there, so it is easily beaten. The fair baseline is same-budget "
        "training: it trains on everything, and its learning rate falls to zero within the budget.",
    )
    with left:
        budget = st.slider(
            "Budget", 0.2, 0.9, 0.4, 0.1, format="percent", key="how_budget",
            help="Share of full training's computation.",
        )  # fmt: skip
        race = run_budget_race(budget)
        cut_off, fair = (_gain_text(race.gain(name)) for name in ("cut", "matched"))
        _show_takeaway(
            "race",
            f"**Confident skip against full training cut off: {cut_off}. Against same-budget "
            f"training: {fair}.** {race.conclusion()}",
        )
        st.caption(
            f"Test accuracy, mean of {SEED_COUNT} seeds and its 95% interval. "
            f"{TASKS.get(TASK).title}, "
            f"{EPOCHS} epochs, batches of {BATCH_SIZE}; trained here, as you move the slider."
        )
    with right:
        _draw_budget_race_chart(race)
    settings: Settings = {"task": TASK, "selection": "confident-skip", "budget": budget}
    _link_to_live(
        [("Confident skip at this budget", settings)],
        rf"{_cite_paper('kaddour')}, section 3: every schedule decays over its own budget, "
        r"$\eta(t)\to 0$ as $t\to B$. Against that baseline, the methods they tried gain nothing.",
    )


def _gain_text(gain: PairedDifference) -> str:
    mean, lo, hi = (100 * value for value in (gain.mean, gain.lo, gain.hi))
    return f"{mean:+z.1f} points ({lo:+z.1f} to {hi:+z.1f})"


def _draw_budget_race_chart(race: BudgetRace) -> None:
    variants = {
        "Full training": race.full, "Full training, cut off": race.cut,
        "Same-budget training": race.matched, "Confident skip": race.policy,
    }  # fmt: skip
    results = ", ".join(
        f"{name.lower()} {variant.mean_test_accuracy:.1%}" for name, variant in variants.items()
    )
    _draw_chart_and_table(
        "race",
        budget_race_figure(race),
        f"Accuracy on the test split: {results}.",
        [
            {
                "Variant": name,
                "Spent": f"{variant.spent[-1]:.0%}",
                "Test accuracy": f"{variant.mean_test_accuracy:.1%}",
                "Last learning rate": f"{variant.rate[-1]:.0%} of its peak",
            }
            for name, variant in variants.items()
        ],
    )


st.title("How it works")
_recolour_slider_values()
st.write(
    "A model sees the same examples in every epoch. It learns many of them early, yet each still "
    "costs as much computation as before. Five ideas follow, each with a slider. Every number is "
    "computed here as you move it."
)
_show_loss_cut_idea()
_show_scoring_cost_idea()
_show_masking_idea()
_show_importance_weights_idea()
_show_fair_baseline_idea()
st.header("Words used on the other pages")
text_table([{"Word": word, "What it means": text} for word, text in _GLOSSARY.items()])
with st.container(horizontal=True, gap="medium"):
    st.page_link("live.py", label="Go to Live and try it", icon=":material/monitoring:")
    st.page_link("compare.py", label="Compare policies fairly", icon=":material/balance:")
