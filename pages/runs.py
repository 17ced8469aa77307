"""Runs page: search, compare, label, export and delete stored runs and studies."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from effcore.figures.run_charts import (
    MAX_LINES,
    OVERLAY_AXES,
    OverlayLine,
    overlay_figure,
    overlay_line,
)
from effcore.registry import UnknownNameError
from effcore.runs.manager import shared_run_manager
from effcore.store import RunSummary, StoreError
from effcore.store.study_table import StoredStudy, StudyTable
from effcore.store.trash import Trash
from effcore.tasks.base import TASKS
from pages.ui.common import (
    escape_markdown,
    link_to_run,
    show_error,
    show_nothing_trained,
    warn_unknown_run,
)
from pages.ui.display_names import run_description, run_status_text, run_title, study_picker_label
from pages.ui.presenting import link_to_present
from pages.ui.runs.actions import (
    draw_import_form,
    draw_label_form,
    draw_run_downloads,
    move_to_trash,
    show_deletion_notice,
    show_trash,
)
from pages.ui.runs.run_table import pick_runs, run_setup_text, runs_in_address, search_runs
from pages.ui.runs.study_table import link_to_study, show_study_table


def _show_overlay(runs: Sequence[RunSummary]) -> None:
    """Draw the curves of the runs, one chart for each metric and each kind of loss."""
    over = st.radio(
        "Horizontal axis",
        list(OVERLAY_AXES),
        format_func=OVERLAY_AXES.__getitem__,
        key="overlay-over",
        horizontal=True,
    )
    drawn, names = list(runs[:MAX_LINES]), _distinct_run_names(runs[:MAX_LINES])
    curves = {run.run_id: shared_run_manager().store.read_eval_curve(run.run_id) for run in drawn}
    charts: dict[tuple[str, str, bool], list[OverlayLine]] = {}
    for place, run in enumerate(drawn):
        curve = curves[run.run_id]
        for kind in ("metric", "loss"):
            title, percent = _column_title(run, kind)
            if curve is None:
                continue
            line = overlay_line(names[place], place, curve, kind, over)
            if line is not None:
                charts.setdefault((kind, title, percent), []).append(line)
    if not charts:
        st.caption("These runs have no evaluations yet.")
    columns = [column for _ in range(0, len(charts), 2) for column in st.columns(2)]
    for column, ((kind, title, percent), lines) in zip(columns, charts.items(), strict=False):
        figure = overlay_figure(
            lines, f"{title}, validation", over, percent=percent, log=kind == "loss"
        )
        column.plotly_chart(figure, key=f"overlay-{kind}-{title}", alt=_alt_text(title, lines))
    if len(runs) > MAX_LINES:
        st.caption(f"Only the first {MAX_LINES} of {len(runs)} runs are drawn.")


def _column_title(run: RunSummary, column: str) -> tuple[str, bool]:
    """Return the title of a column, and whether its values are shares."""
    try:
        task = TASKS.get(run.config.task)
    except UnknownNameError:
        return column.capitalize(), False
    if column == "loss":
        return task.loss_label, False
    metric = task.metric
    percent = metric.unit == "%"
    return (
        metric.label if percent or not metric.unit else f"{metric.label} ({metric.unit})"
    ), percent


def _distinct_run_names(runs: Sequence[RunSummary]) -> list[str]:
    """Return the names of the runs, with the end of the id where names are equal."""
    names = [run.labels.name or run_title(run) for run in runs]
    return [
        f"{name} · {run.run_id[-4:]}" if names.count(name) > 1 else name
        for name, run in zip(names, runs, strict=True)
    ]


def _alt_text(title: str, lines: Sequence[OverlayLine]) -> str:
    ends = "; ".join(f"{line.name} ends at {line.y[-1]:.4g}" for line in lines)
    return f"{title} on the validation split: {ends}."


#: Maximum rows of the table; older runs are found by searching.
_MAX_ROWS = 500
_ALL_RUNS = 1_000_000
_CURVE_CHOICES = {"metric": "Metric curve", "loss": "Loss curve"}


def _show_run_list(runs: Sequence[RunSummary], studies: Sequence[StoredStudy]) -> None:
    """Draw the runs that match the search, and the actions for the selected ones."""
    study_ids_by_run = StudyTable(shared_run_manager().store).study_ids_by_run()
    names = {
        study.study_id: study_picker_label(study, labels.get(study.study_id)) for study in studies
    }
    matching = search_runs(runs, study_ids_by_run, names)
    listed = matching[:_MAX_ROWS]
    with st.container(horizontal=True, horizontal_alignment="distribute"):
        st.caption(_count_text(len(matching), len(runs)))
        curve = st.radio(
            "Small curves",
            list(_CURVE_CHOICES),
            format_func=_CURVE_CHOICES.__getitem__,
            horizontal=True,
            key="runs-curve",
            label_visibility="collapsed",
            width="content",
        )
    if not listed:
        st.info("No run matches: search for fewer words, or remove filters.")
        return
    selected = pick_runs(listed, curve, study_ids_by_run, names)
    if not selected:
        st.caption(
            "Select a row to open, name or export its run, or several to compare their curves."
        )
        return
    if len(selected) == 1:
        _show_run(
            selected[0],
            [s for s in studies if s.study_id in study_ids_by_run.get(selected[0].run_id, ())],
        )
    _show_overlay(selected)
    if len(selected) == 1:
        draw_label_form(selected[0].run_id, selected[0].labels)
        draw_run_downloads(selected[0])
    st.button(
        f"Delete {len(selected)} runs" if len(selected) > 1 else "Delete the run",
        icon=":material/delete:", key="delete-runs", on_click=move_to_trash,
        args=([run.run_id for run in selected],),
    )  # fmt: skip


def _count_text(matching: int, total: int) -> str:
    noun = "run" if total == 1 else "runs"
    text = f"{total} {noun}" if matching == total else f"{matching} of {total} {noun}"
    if matching > _MAX_ROWS:
        text += f", the newest {_MAX_ROWS} are shown"
    return f"{text}. A run is interrupted if its process ended early; it is stored up to then."


def _warn_about_unknown_runs(known_run_ids: set[str]) -> None:
    """Warn about a run in the address that is not in the store."""
    for run_id in runs_in_address() or ():
        if run_id not in known_run_ids:
            warn_unknown_run(run_id)
            break


def _show_run(run: RunSummary, studies: Sequence[StoredStudy]) -> None:
    """Show a run's name and settings, with links to its pages and studies."""
    st.header(escape_markdown(run.labels.name or run_title(run)))
    description = [run_description(run)] if run.labels.name else []
    st.caption(
        escape_markdown(
            " · ".join([*description, run_setup_text(run), run_status_text(run), run.run_id])
        )
    )
    if run.labels.note:
        st.text(run.labels.note)
    with st.container(horizontal=True):
        link_to_run(run.run_id, "Open in Live", ":material/open_in_new:")
        st.page_link(
            "examples.py",
            label="Open its examples",
            icon=":material/scatter_plot:",
            query_params={"run": run.run_id},
        )
        link_to_present("live.py", run=run.run_id)
        for study in studies:
            kind = study_picker_label(study, labels.get(study.study_id))
            link_to_study(study, escape_markdown(kind))


st.title("Runs")
try:
    store = shared_run_manager().store
    runs, trashed = store.runs(_ALL_RUNS), Trash(store).list_items()
    studies = sorted(
        StudyTable(store).list_studies() + StudyTable(store).list_studies(sweeps=True),
        key=lambda study: -study.created_unix,
    )
    labels = store.all_labels()
except StoreError as error:
    show_error(error, "The runs could not be listed.")
    st.stop()
show_deletion_notice(trashed)
counts = {"runs": len(runs), "studies": len(studies), "trash": len(trashed)}
titles = {"runs": "Runs", "studies": "Studies and sweeps", "trash": "Trash"}
listed_kind = "runs"
if any(counts.values()):
    st.session_state.setdefault("runs-what", "runs")  # a button may set another kind
    listed_kind = st.radio(
        "What is listed", list(titles), format_func=lambda n: f"{titles[n]} ({counts[n]})",
        horizontal=True, key="runs-what", label_visibility="collapsed",
    )  # fmt: skip
if listed_kind == "studies":
    show_study_table(studies, labels)
elif listed_kind == "trash":
    show_trash(trashed)
else:
    _warn_about_unknown_runs({run.run_id for run in runs})
    if runs:
        _show_run_list(runs, studies)
    else:
        show_nothing_trained("it appears")
with st.expander("Import a run", icon=":material/unarchive:"):
    draw_import_form()
