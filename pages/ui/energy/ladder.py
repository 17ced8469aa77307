"""The scale ladder that this store keeps, or how to make one."""

from __future__ import annotations

import streamlit as st

from effcore.figures.ladder import ladder_figure, ladder_rows, leaves_chart
from effcore.impact.ranges import ImpactError, number_text
from effcore.impact.saving import SavingBasis, percent_text
from effcore.impact.scale_ladder import fit_ladder
from effcore.impact.scale_ladder_file import Ladder, ladder_path, load_ladder
from effcore.runs.manager import shared_runs
from pages.ui.amounts import text_table
from pages.ui.frame import plain

_COMMAND = "python -m effcore bench ladder"


def show_ladder() -> None:
    """Draw the ladder, or say which command makes one."""
    try:
        found = load_ladder(ladder_path(shared_runs().store.home))
    except (ImpactError, OSError) as error:
        st.error(f"The ladder cannot be read. {plain(error)}", icon=":material/error:")
        return
    if found is None:
        st.caption("No ladder has been run on this machine. This trains three sizes of a model:")
        st.code(_COMMAND, language=None)
        return
    _show(found)


def _show(found: Ladder) -> None:
    bases = {str(basis): basis for basis in found.bases()}
    if not bases:
        st.caption("The ladder kept here has no saving that all of its sizes share.")
        return
    st.markdown(
        f"**{plain(found.task)}, {plain(found.model)}: {plain(found.policy)} against full dense "
        "training**"
    )
    name = st.radio(
        "Saving of", list(bases), key="energy_ladder_basis", horizontal=True,
        format_func=lambda name: found.basis_text(bases[name]), help="What the band is fitted to.",
    )  # fmt: skip
    basis = bases[name]
    rungs = found.rungs(basis)
    rows = ladder_rows(rungs, fit_ladder(rungs))
    sizes = ", ".join(f"{step.size:,}" for step in found.steps)
    st.plotly_chart(
        ladder_figure(rows, _words(found, basis)),
        config={"displayModeBar": False},
        key="energy-ladder",
        alt=f"{_words(found, basis)} saved at {sizes} parameters; beyond the largest not measured.",
    )
    cut = " Intervals that leave the chart are in the table." if leaves_chart(rows) else ""
    st.caption(
        "The band holds one more size 95% of the time if the saving goes on in proportion to "
        "the logarithm of the size. Nothing measured says that it does beyond the largest." + cut
    )
    text_table(_table(found, basis))
    where = ", ".join(f"{plain(k)} {plain(v)}" for k, v in found.circumstances.items())
    st.caption(f"Run on: {where or 'not stated'}.")


def _words(found: Ladder, basis: SavingBasis) -> str:
    words = found.basis_text(basis)
    return words[0].upper() + words[1:]


def _table(found: Ladder, basis: SavingBasis) -> list[dict[str, str]]:
    return [
        {
            "Size": step.name,
            "Parameters": f"{step.size:,}",
            f"{_words(found, basis)} saved": percent_text(rung.interval),
            found.metric.capitalize(): number_text(sum(step.metrics) / len(step.metrics)),
            "Dense": number_text(sum(step.dense_metrics) / len(step.dense_metrics)),
        }
        for step, rung in zip(found.steps, found.rungs(basis), strict=True)
    ]
