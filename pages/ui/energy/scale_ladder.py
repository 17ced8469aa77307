"""Display of the scale ladder in the store."""

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
    """Draw the ladder, or show the command that makes one."""
    try:
        ladder = load_ladder(ladder_path(shared_run_manager().store.home))
    except (ImpactError, OSError) as error:
        st.error(f"The ladder cannot be read. {escape_markdown(error)}", icon=":material/error:")
        return
    if ladder is None:
        st.caption(
            "No scale ladder has been run on this machine. This command trains three sizes of a "
            "model:"
        )
        st.code(_LADDER_COMMAND, language=None)
        return
    _show_ladder_chart(ladder)


def _show_ladder_chart(ladder: Ladder) -> None:
    bases = {str(basis): basis for basis in ladder.bases()}
    if not bases:
        st.caption("The stored ladder has no saving that is known for all of its sizes.")
        return
    st.markdown(
        f"**{escape_markdown(ladder.task)}, {escape_markdown(ladder.model)}: "
        f"{escape_markdown(ladder.policy)} against full training**"
    )
    name = st.radio(
        "Saving of", list(bases), key="energy_ladder_basis", horizontal=True,
        format_func=lambda name: ladder.basis_text(bases[name]),
        help="The quantity that the band is fitted to.",
    )  # fmt: skip
    basis = bases[name]
    rungs = ladder.rungs(basis)
    rows = ladder_chart_data(rungs, fit_ladder(rungs))
    sizes = ", ".join(f"{step.size:,}" for step in ladder.steps)
    st.plotly_chart(
        ladder_figure(rows, _basis_heading(ladder, basis)),
        config={"displayModeBar": False},
        key="energy-ladder",
        alt=f"{_basis_heading(ladder, basis)} saved at {sizes} parameters; larger sizes were not "
        "measured.",
    )
    clipped_note = (
        " Intervals that leave the chart are in the table." if has_clipped_interval(rows) else ""
    )
    st.caption(
        "The band is a 95% prediction interval for one more size, if the saving is linear in the "
        "logarithm of the size. Beyond the largest size this was not measured." + clipped_note
    )
    text_table(_ladder_table_rows(ladder, basis))
    where = ", ".join(
        f"{escape_markdown(k)} {escape_markdown(v)}" for k, v in ladder.circumstances.items()
    )
    st.caption(f"Run on: {where or 'not stated'}.")


def _basis_heading(ladder: Ladder, basis: SavingBasis) -> str:
    text = ladder.basis_text(basis)
    return text[0].upper() + text[1:]


def _ladder_table_rows(ladder: Ladder, basis: SavingBasis) -> list[dict[str, str]]:
    return [
        {
            "Size": step.name,
            "Parameters": f"{step.size:,}",
            f"{_basis_heading(ladder, basis)} saved": percent_text(rung.interval),
            ladder.metric.capitalize(): number_text(sum(step.metrics) / len(step.metrics)),
            "Full training": number_text(sum(step.dense_metrics) / len(step.dense_metrics)),
        }
        for step, rung in zip(ladder.steps, ladder.rungs(basis), strict=True)
    ]
