"""The scale ladder that this store keeps, or how to make one."""

from __future__ import annotations

import streamlit as st

from effcore.figures.ladder_chart import has_clipped_interval, ladder_chart_data, ladder_figure
from effcore.impact.ranges import ImpactError, number_text
from effcore.impact.saving import SavingBasis, percent_text
from effcore.impact.scale_ladder import fit_ladder
from effcore.impact.scale_ladder_file import Ladder, ladder_path, load_ladder
from effcore.runs.manager import shared_run_manager
from pages.ui.common import escape_markdown
from pages.ui.tables import text_table

_LADDER_COMMAND = "python -m effcore bench ladder"


def show_scale_ladder() -> None:
    """Draw the ladder, or say which command makes one."""
    try:
        found = load_ladder(ladder_path(shared_run_manager().store.home))
    except (ImpactError, OSError) as error:
        st.error(f"The ladder cannot be read. {escape_markdown(error)}", icon=":material/error:")
        return
    if found is None:
        st.caption("No ladder has been run on this machine. This trains three sizes of a model:")
        st.code(_LADDER_COMMAND, language=None)
        return
    _show_ladder_chart(found)


def _show_ladder_chart(ladder: Ladder) -> None:
    bases = {str(basis): basis for basis in ladder.bases()}
    if not bases:
        st.caption("The ladder kept here has no saving that all of its sizes share.")
        return
    st.markdown(
        f"**{escape_markdown(ladder.task)}, {escape_markdown(ladder.model)}: "
        f"{escape_markdown(ladder.policy)} against full dense "
        "training**"
    )
    name = st.radio(
        "Saving of", list(bases), key="energy_ladder_basis", horizontal=True,
        format_func=lambda name: ladder.basis_text(bases[name]), help="What the band is fitted to.",
    )  # fmt: skip
    basis = bases[name]
    rungs = ladder.rungs(basis)
    rows = ladder_chart_data(rungs, fit_ladder(rungs))
    sizes = ", ".join(f"{step.size:,}" for step in ladder.steps)
    st.plotly_chart(
        ladder_figure(rows, _basis_heading(ladder, basis)),
        config={"displayModeBar": False},
        key="energy-ladder",
        alt=f"{_basis_heading(ladder, basis)} saved at {sizes} parameters; beyond the largest not "
        "measured.",
    )
    cut = " Intervals that leave the chart are in the table." if has_clipped_interval(rows) else ""
    st.caption(
        "The band holds one more size 95% of the time if the saving goes on in proportion to "
        "the logarithm of the size. Nothing measured says that it does beyond the largest." + cut
    )
    text_table(_ladder_table_rows(ladder, basis))
    where = ", ".join(
        f"{escape_markdown(k)} {escape_markdown(v)}" for k, v in ladder.circumstances.items()
    )
    st.caption(f"Run on: {where or 'not stated'}.")


def _basis_heading(ladder: Ladder, basis: SavingBasis) -> str:
    words = ladder.basis_text(basis)
    return words[0].upper() + words[1:]


def _ladder_table_rows(ladder: Ladder, basis: SavingBasis) -> list[dict[str, str]]:
    return [
        {
            "Size": step.name,
            "Parameters": f"{step.size:,}",
            f"{_basis_heading(ladder, basis)} saved": percent_text(rung.interval),
            ladder.metric.capitalize(): number_text(sum(step.metrics) / len(step.metrics)),
            "Dense": number_text(sum(step.dense_metrics) / len(step.dense_metrics)),
        }
        for step, rung in zip(ladder.steps, ladder.rungs(basis), strict=True)
    ]
