"""The sections below the map: galleries, classes, suspects, and one example."""

from __future__ import annotations

from typing import Final

import pandas as pd
import streamlit as st

from effcore.examples.album import Album
from effcore.examples.choosing import apart, by_training
from effcore.examples.classes import RARE, STARVED, ClassShare, class_shares
from effcore.examples.history import History, Look
from effcore.examples.story import story_of
from effcore.examples.suspects import suspects
from effcore.figures.examples import classes_figure, history_figure
from effcore.report import to_csv
from pages.ui.chart import chart
from pages.ui.examples.choosing import choose_number, open_example, picked_row
from pages.ui.examples.gallery import facts_of, gallery, portrait_of
from pages.ui.examples.selected import COLUMNS, table_of
from pages.ui.frame import plain
from pages.ui.taking import Offer, offer

#: Examples of each gallery, and rows or columns that two regions of a picture are apart.
_SHOWN, _APART = 12, 40
#: Suspects that are listed, and the share of the examples that the file has.
_LISTED: Final = 100
_IN_FILE: Final = 0.2


def show_galleries(look: Look, album: Album) -> None:
    """Show the examples trained on most, and those skipped most."""
    columns = st.columns(2, gap="large")
    for column, most in zip(columns, (True, False), strict=True):
        order = by_training(look, most=most)
        numbers = apart(order, _SHOWN, album.spot, _APART)
        often = look.trained_N[order[0]] if len(order) else 0
        alike = int((look.trained_N == often).sum())
        with column:
            st.subheader("Most trained on" if most else "Least trained on")
            st.caption(_alike(alike, int(often), look.whole, most=most))
            gallery(album, look, numbers, "Most trained on" if most else "Least trained on")


def _alike(count: int, often: int, whole: int, *, most: bool) -> str:
    ties = "the hardest of them first" if most else "the easiest of them first"
    what = "1 example was" if count == 1 else f"{count:,} examples were"
    return (
        f"{what} trained on in {often} of {whole} passes; {ties if count > 1 else 'then others'}."
    )


def show_classes(look: Look, album: Album) -> None:
    """Show how much of each class was skipped, and warn of rare ones that starve."""
    if album.group_N is None:
        st.caption("The examples of this task are of no classes.")
        return
    shares = class_shares(look, album.group_N, album.names)
    if starving := [share for share in shares if share.starves]:
        st.warning(_starving(starving), icon=":material/warning:")
    told = "Skipped share: " + "; ".join(f"{s.name} {s.skipped_frac:.0%}" for s in shares)
    chart(classes_figure(shares), "examples-classes", told)
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
        f"A class is rare with at most {RARE:.0%} of its even share of the examples, and starves "
        f"where these are trained on at most {STARVED:.0%} as often as the average."
    )


def _starving(shares: list[ClassShare]) -> str:
    listed = ", ".join(
        f"{plain(s.name)} ({s.examples:,} examples, {s.skipped_frac:.0%} skipped)" for s in shares
    )
    what = "A rare class starves" if len(shares) == 1 else "Rare classes starve"
    return f"**{what}:** {listed}. What the model never sees of it, it cannot learn."


def show_suspects(run_id: str, look: Look, album: Album) -> None:
    """Rank the examples whose labels are probably wrong."""
    if album.group_N is None:
        st.caption("Only what is of a class can be of a wrong one: this task has none.")
        return
    order = suspects(look)
    st.caption(
        "Ranked by mean confidence in the label as given, the lowest first. Nothing here knows "
        "which are wrong, nor how many: a hard example with a right label looks the same."
    )
    listed = order[:_LISTED].tolist()
    if not album.is_table:  # whose rows are listed below
        gallery(album, look, listed[:_SHOWN], "The most suspect examples")
    picked = st.dataframe(
        table_of(look, listed, album), hide_index=True, height=250, key="examples-suspects",
        on_select="rerun", selection_mode="single-row", column_config=COLUMNS,
    )  # fmt: skip
    open_example(picked_row(listed, picked.selection.rows), "suspects")
    some = order[: max(_LISTED, round(_IN_FILE * len(order)))]
    with st.container(horizontal=True):
        offer(
            f"suspects-{run_id}",
            [Offer("Suspects (CSV)", ".csv", lambda: to_csv(table_of(look, some, album)))],
            key="examples-suspects",
        )


def show_one(
    history: History, look: Look, album: Album | None, loss_kind: str, loss_label: str
) -> None:
    """Show what became of one example, pass by pass."""
    left, right = st.columns([3, 7], gap="large")
    with left:
        usual = int(by_training(look, most=True)[0])
        number = choose_number(history.n, usual)
        if album is not None:
            given = album.portrait(number).given
            portrait_of(album, look, number)
            if given:
                st.markdown(f"Given as **{plain(given)}**")
        st.caption("Trained on in " + ", ".join(facts_of(look, number)))
    story = story_of(history, number, loss_kind)
    with right:
        figure = history_figure(story, loss_label, look.upto)
        told = f"Loss of example {number} by pass, and whether it was trained on."
        chart(figure, "examples-history", told)
        with st.expander("The chart as a table"):
            st.dataframe(
                pd.DataFrame({"Pass": story.pass_P, "Step": story.step_P,
                              "Trained on": story.trained_P, "Last loss": story.loss_P,
                              "Confidence": story.confidence_P}),
                hide_index=True, placeholder="–",
                column_config={"Confidence": COLUMNS["Confidence"],
                               "Last loss": COLUMNS["Last loss"]},
            )  # fmt: skip
