"""The sections below the map: galleries, classes, suspects, and one example."""

from __future__ import annotations

from typing import Final

import pandas as pd
import streamlit as st

from effcore.figures.example_charts import class_shares_figure, example_timeline_figure
from effcore.insight.example_catalog import ExampleCatalog
from effcore.insight.example_filters import first_separated, rank_by_training, rank_label_suspects
from effcore.insight.example_history import (
    RARE_FRAC,
    STARVED_RATIO,
    ClassShare,
    ExampleHistory,
    ExampleStatistics,
    compute_class_shares,
    example_timeline,
)
from pages.ui.chart import draw_chart
from pages.ui.common import escape_markdown
from pages.ui.examples.data_map import EXAMPLE_COLUMNS, list_examples
from pages.ui.examples.gallery import draw_gallery, draw_portrait, example_facts
from pages.ui.examples.pickers import choose_example_number

#: Examples per gallery, and least distance of two regions of a picture, in rows or columns.
_GALLERY_SIZE, _MIN_SEPARATION = 12, 40
#: Suspects that are listed, and the share of the examples that the file contains.
_LISTED_SUSPECTS: Final = 100
_FILE_FRACTION: Final = 0.2


def show_most_and_least_trained(statistics: ExampleStatistics, catalog: ExampleCatalog) -> None:
    """Show the examples trained on most, and those skipped most."""
    columns = st.columns(2, gap="large")
    for column, most in zip(columns, (True, False), strict=True):
        order = rank_by_training(statistics, most_trained=most)
        numbers = first_separated(order, _GALLERY_SIZE, catalog.picture_position, _MIN_SEPARATION)
        trained_epochs = statistics.trained_N[order[0]] if len(order) else 0
        ties = int((statistics.trained_N == trained_epochs).sum())
        with column:
            st.subheader("Most trained on" if most else "Least trained on")
            st.caption(
                _tie_text(ties, int(trained_epochs), statistics.complete_epochs, most_trained=most)
            )
            draw_gallery(
                catalog, statistics, numbers, "Most trained on" if most else "Least trained on"
            )


def _tie_text(count: int, trained_epochs: int, epochs: int, *, most_trained: bool) -> str:
    order = "hardest first" if most_trained else "easiest first"
    examples = "1 example was" if count == 1 else f"{count:,} examples were"
    rest = order if count > 1 else "others follow"
    return f"{examples} trained on in {trained_epochs} of {epochs} epochs; {rest}."


def show_class_shares(statistics: ExampleStatistics, catalog: ExampleCatalog) -> None:
    """Show the skipped share of each class, and warn of rare classes that starve."""
    if catalog.group_N is None:
        st.caption("The examples of this task have no classes.")
        return
    shares = compute_class_shares(statistics, catalog.group_N, catalog.class_names)
    if starving := [share for share in shares if share.starves]:
        st.warning(_starving_classes_text(starving), icon=":material/warning:")
    alt = "Skipped share: " + "; ".join(f"{s.name} {s.skipped_frac:.0%}" for s in shares)
    draw_chart(class_shares_figure(shares), "examples-classes", alt)
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
        f"A class is rare if it has at most {RARE_FRAC:.0%} of an even share of the examples. It "
        f"starves if they are trained on at most {STARVED_RATIO:.0%} as often as the average."
    )


def _starving_classes_text(shares: list[ClassShare]) -> str:
    listed = ", ".join(
        f"{escape_markdown(s.name)} ({s.examples:,} examples, {s.skipped_frac:.0%} skipped)"
        for s in shares
    )
    title = "A rare class starves" if len(shares) == 1 else "Rare classes starve"
    return f"**{title}:** {listed}. The model cannot learn examples that it hardly sees."


def show_label_suspects(
    run_id: str, statistics: ExampleStatistics, catalog: ExampleCatalog
) -> None:
    """Rank the examples whose labels are probably wrong."""
    if catalog.group_N is None:
        st.caption("This task has no classes, so it has no wrong labels.")
        return
    order = rank_label_suspects(statistics)
    st.caption(
        "Ranked by mean confidence in the given label, lowest first. These are only suspects: a "
        "hard example with a correct label looks the same."
    )
    listed = order[:_LISTED_SUSPECTS].tolist()
    if not catalog.is_tabular:  # the table below shows the rows of tables
        draw_gallery(catalog, statistics, listed[:_GALLERY_SIZE], "The most suspect examples")
    exported = order[: max(_LISTED_SUSPECTS, round(_FILE_FRACTION * len(order)))]
    list_examples(
        "Suspects", statistics, catalog, listed, exported, file_name=f"suspects-{run_id}",
        height=250,
    )  # fmt: skip


def show_example_history(
    history: ExampleHistory,
    statistics: ExampleStatistics,
    catalog: ExampleCatalog | None,
    loss_kind: str,
    loss_label: str,
) -> None:
    """Show the history of one example over the epochs."""
    left, right = st.columns([3, 7], gap="large")
    with left:
        default = int(rank_by_training(statistics, most_trained=True)[0])
        number = choose_example_number(history.n_examples, default)
        if catalog is not None:
            given = catalog.portrait(number).target_text
            draw_portrait(catalog, statistics, number)
            if given:
                st.markdown(f"Label: **{escape_markdown(given)}**")
        st.caption("Trained on in " + ", ".join(example_facts(statistics, number)))
    timeline = example_timeline(history, number, loss_kind)
    with right:
        figure = example_timeline_figure(timeline, loss_label, statistics.epochs)
        alt = f"Loss of example {number} by epoch, and whether it was trained on."
        draw_chart(figure, "examples-history", alt)
        with st.expander("The chart as a table"):
            st.dataframe(
                pd.DataFrame({"Epoch": timeline.epoch_P, "Step": timeline.step_P,
                              "Trained on": timeline.trained_P, "Last loss": timeline.loss_P,
                              "Confidence": timeline.confidence_P}),
                hide_index=True, placeholder="–",
                column_config={"Confidence": EXAMPLE_COLUMNS["Confidence"],
                               "Last loss": EXAMPLE_COLUMNS["Last loss"]},
            )  # fmt: skip
