"""The sections below the map: galleries, classes, suspects, and one example."""

from __future__ import annotations

from typing import Final

import pandas as pd
import streamlit as st

from effcore.figures.example_charts import class_shares_figure, example_timeline_figure
from effcore.insight.class_shares import RARE_FRAC, STARVED_RATIO, ClassShare, compute_class_shares
from effcore.insight.example_catalog import ExampleCatalog
from effcore.insight.example_filters import first_separated, rank_by_training
from effcore.insight.example_history import ExampleHistory, ExampleStatistics
from effcore.insight.example_timeline import example_timeline
from effcore.insight.label_suspects import rank_label_suspects
from effcore.report import to_csv
from pages.ui.chart import draw_chart
from pages.ui.common import escape_markdown
from pages.ui.downloads import Download, draw_downloads
from pages.ui.examples.gallery import draw_gallery, draw_portrait, example_facts
from pages.ui.examples.map_region import EXAMPLE_COLUMNS, examples_table
from pages.ui.examples.pickers import choose_example_number, picked_example, select_example

#: Examples of each gallery, and rows or columns that two regions of a picture are apart.
_GALLERY_SIZE, _MIN_SEPARATION = 12, 40
#: Suspects that are listed, and the share of the examples that the file has.
_LISTED_SUSPECTS: Final = 100
_FILE_FRACTION: Final = 0.2


def show_most_and_least_trained(statistics: ExampleStatistics, catalog: ExampleCatalog) -> None:
    """Show the examples trained on most, and those skipped most."""
    columns = st.columns(2, gap="large")
    for column, most in zip(columns, (True, False), strict=True):
        order = rank_by_training(statistics, most_trained=most)
        numbers = first_separated(order, _GALLERY_SIZE, catalog.picture_position, _MIN_SEPARATION)
        often = statistics.trained_N[order[0]] if len(order) else 0
        alike = int((statistics.trained_N == often).sum())
        with column:
            st.subheader("Most trained on" if most else "Least trained on")
            st.caption(_tie_text(alike, int(often), statistics.complete_epochs, most_trained=most))
            draw_gallery(
                catalog, statistics, numbers, "Most trained on" if most else "Least trained on"
            )


def _tie_text(count: int, trained_epochs: int, epochs: int, *, most_trained: bool) -> str:
    ties = "the hardest of them first" if most_trained else "the easiest of them first"
    what = "1 example was" if count == 1 else f"{count:,} examples were"
    rest = ties if count > 1 else "then others"
    return f"{what} trained on in {trained_epochs} of {epochs} passes; {rest}."


def show_class_shares(statistics: ExampleStatistics, catalog: ExampleCatalog) -> None:
    """Show how much of each class was skipped, and warn of rare ones that starve."""
    if catalog.group_N is None:
        st.caption("The examples of this task are of no classes.")
        return
    shares = compute_class_shares(statistics, catalog.group_N, catalog.class_names)
    if starving := [share for share in shares if share.starves]:
        st.warning(_starving_classes_text(starving), icon=":material/warning:")
    told = "Skipped share: " + "; ".join(f"{s.name} {s.skipped_frac:.0%}" for s in shares)
    draw_chart(class_shares_figure(shares), "examples-classes", told)
    with st.expander("The chart as a table"):
        st.dataframe(
            pd.DataFrame(
                [{"Class": s.name, "Examples": s.examples, "Skipped": s.skipped_frac,
                  "Rare": s.rare} for s in shares]
            ),
            hide_index=True,
            column_config={"Skipped": st.column_config.NumberColumn(format="percent")},
        )  # fmt: skip
    st.caption(
        f"A class is rare with at most {RARE_FRAC:.0%} of its even share of the examples, and "
        "starves "
        f"where these are trained on at most {STARVED_RATIO:.0%} as often as the average."
    )


def _starving_classes_text(shares: list[ClassShare]) -> str:
    listed = ", ".join(
        f"{escape_markdown(s.name)} ({s.examples:,} examples, {s.skipped_frac:.0%} skipped)"
        for s in shares
    )
    what = "A rare class starves" if len(shares) == 1 else "Rare classes starve"
    return f"**{what}:** {listed}. What the model never sees of it, it cannot learn."


def show_label_suspects(
    run_id: str, statistics: ExampleStatistics, catalog: ExampleCatalog
) -> None:
    """Rank the examples whose labels are probably wrong."""
    if catalog.group_N is None:
        st.caption("Only what is of a class can be of a wrong one: this task has none.")
        return
    order = rank_label_suspects(statistics)
    st.caption(
        "Ranked by mean confidence in the label as given, the lowest first. Nothing here knows "
        "which are wrong, nor how many: a hard example with a right label looks the same."
    )
    listed = order[:_LISTED_SUSPECTS].tolist()
    if not catalog.is_tabular:  # whose rows are listed below
        draw_gallery(catalog, statistics, listed[:_GALLERY_SIZE], "The most suspect examples")
    picked = st.dataframe(
        examples_table(statistics, listed, catalog),
        hide_index=True,
        height=250,
        key="examples-suspects",
        on_select="rerun",
        selection_mode="single-row",
        column_config=EXAMPLE_COLUMNS,
    )
    select_example(picked_example(listed, picked.selection.rows), "suspects")
    some = order[: max(_LISTED_SUSPECTS, round(_FILE_FRACTION * len(order)))]
    with st.container(horizontal=True):
        draw_downloads(
            f"suspects-{run_id}",
            [
                Download(
                    "Suspects (CSV)",
                    ".csv",
                    lambda: to_csv(examples_table(statistics, some, catalog)),
                )
            ],
            key="examples-suspects",
        )


def show_example_history(
    history: ExampleHistory,
    statistics: ExampleStatistics,
    catalog: ExampleCatalog | None,
    loss_kind: str,
    loss_label: str,
) -> None:
    """Show what became of one example, pass by pass."""
    left, right = st.columns([3, 7], gap="large")
    with left:
        usual = int(rank_by_training(statistics, most_trained=True)[0])
        number = choose_example_number(history.n_examples, usual)
        if catalog is not None:
            given = catalog.portrait(number).target_text
            draw_portrait(catalog, statistics, number)
            if given:
                st.markdown(f"Given as **{escape_markdown(given)}**")
        st.caption("Trained on in " + ", ".join(example_facts(statistics, number)))
    story = example_timeline(history, number, loss_kind)
    with right:
        figure = example_timeline_figure(story, loss_label, statistics.epochs)
        told = f"Loss of example {number} by pass, and whether it was trained on."
        draw_chart(figure, "examples-history", told)
        with st.expander("The chart as a table"):
            st.dataframe(
                pd.DataFrame({"Pass": story.epoch_P, "Step": story.step_P,
                              "Trained on": story.trained_P, "Last loss": story.loss_P,
                              "Confidence": story.confidence_P}),
                hide_index=True, placeholder="–",
                column_config={"Confidence": EXAMPLE_COLUMNS["Confidence"],
                               "Last loss": EXAMPLE_COLUMNS["Last loss"]},
            )  # fmt: skip
