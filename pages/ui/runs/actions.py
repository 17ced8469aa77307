"""Actions for stored runs and studies: name, export, import, delete and restore."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from effcore.records import Snapshot
from effcore.report import run_report, run_table, to_csv, to_parquet
from effcore.runs.exchange import (
    BundleError,
    RunIdTakenError,
    bundle_bytes,
    bundle_file_name,
    import_bundle,
)
from effcore.runs.manager import shared_run_manager
from effcore.store import RunSummary, StoreError
from effcore.store.labels import (
    MAX_NAME_LENGTH,
    MAX_NOTE_LENGTH,
    LabelError,
    Labels,
    validated_labels,
)
from effcore.store.study_table import StoredStudy
from effcore.store.trash import RETENTION_S, RUN_KIND, Trash, TrashedItem
from pages.ui.common import Download, draw_downloads, escape_markdown, link_to_run, show_error
from pages.ui.display_names import study_description
from pages.ui.tables import show_swipe_hint


def draw_label_form(owner: str, labels: Labels) -> None:
    """Draw the form, and store the labels when it is submitted.

    Args:
        owner: Id of the run or study.
        labels: Current labels.
    """
    with st.form(f"labels-{owner}"):
        name, tags = st.columns(2)
        new_name = name.text_input(
            "Name", labels.name, max_chars=MAX_NAME_LENGTH, key=f"name-{owner}"
        )  # fmt: skip
        new_tags = tags.text_input(
            "Tags", ", ".join(labels.tags), key=f"tags-{owner}", help="Separate tags with commas."
        )
        new_note = st.text_area(
            "Note", labels.note, max_chars=MAX_NOTE_LENGTH, height=80, key=f"note-{owner}"
        )
        if st.form_submit_button("Save", icon=":material/save:", key=f"save-{owner}"):
            _save_labels(owner, new_name, new_tags, new_note)


def _save_labels(owner: str, name: str, tags: str, note: str) -> None:
    try:
        shared_run_manager().store.set_labels(owner, validated_labels(name, tags.split(","), note))
    except (LabelError, StoreError) as error:
        st.error(f"Not saved: {escape_markdown(error)}.", icon=":material/error:")
        return
    st.rerun()  # the table above shows the labels too


def draw_run_downloads(run: RunSummary) -> None:
    """Offer the run as an offline report, as tables and as a bundle, made on demand."""

    def load_snapshot() -> Snapshot:
        return shared_run_manager().store.load_snapshot(run.run_id)

    def report() -> str:
        snapshot = load_snapshot()
        return run_report(snapshot, shared_run_manager().reference_of(snapshot))

    downloads = [Download("Report (HTML)", ".html", report)]
    for name, label in (("steps", "Steps"), ("evals", "Evaluations"), ("power", "Power")):
        for ending, write in (("csv", to_csv), ("parquet", to_parquet)):
            make_content = partial(_table_file, load_snapshot, name, write)
            downloads.append(Download(f"{label} ({ending})", f"-{name}.{ending}", make_content))
    with st.container(horizontal=True):
        if run.status.is_final:
            st.download_button(
                "Export (bundle)", lambda: bundle_bytes(shared_run_manager().store, run.run_id),
                bundle_file_name(run.run_id), "application/zip", key="export", on_click="ignore",
                icon=":material/archive:",
                help="One file with the whole run, to import on another machine.",
            )  # fmt: skip
        draw_downloads(run.run_id, downloads)


def _table_file(
    load_snapshot: Callable[[], Snapshot], name: str, write: Callable[[pd.DataFrame], bytes]
) -> bytes:
    return write(run_table(load_snapshot(), name))


def draw_import_form() -> None:
    """Import an uploaded bundle, or show why not; offer a new id if its id is taken."""
    st.caption(
        "A bundle is checked before it is stored, and nothing in it is executed. An imported run "
        "and its energy are marked as trained on another machine."
    )
    uploaded = st.file_uploader("Bundle of a run", "zip", key="import-file")
    if uploaded is None:
        return
    imported = st.session_state.setdefault("imported-files", {})
    if uploaded.file_id in imported:
        _show_imported_run(imported[uploaded.file_id])
        return
    raw = uploaded.getvalue()
    try:
        imported[uploaded.file_id] = import_bundle(shared_run_manager().store, raw)
    except RunIdTakenError as error:
        st.warning(escape_markdown(f"{error}."), icon=":material/content_copy:")
        if st.button("Import under a fresh id", key="import-fresh", icon=":material/fiber_new:"):
            _import_under_new_id(uploaded.file_id, raw)
    except BundleError as error:
        st.error(
            f"This file cannot be imported: {escape_markdown(error)}.", icon=":material/error:"
        )
    except StoreError as error:
        show_error(error, "The run could not be stored.")
    else:
        st.rerun()  # the list above shows it


def _import_under_new_id(file_id: str, raw: bytes) -> None:
    try:
        run_id = import_bundle(shared_run_manager().store, raw, fresh_id=True)
    except (BundleError, StoreError) as error:
        show_error(error, "The run could not be stored.")
        return
    st.session_state["imported-files"][file_id] = run_id
    st.rerun()


def _show_imported_run(run_id: str) -> None:
    st.success(f"Imported as {escape_markdown(run_id)}.", icon=":material/check_circle:")
    link_to_run(run_id, "Open it", ":material/open_in_new:")


_JUST_DELETED_KEY, _REFUSED_KEY = "just-deleted", "not-deleted"
_RETENTION_TEXT = (
    f"Kept for {RETENTION_S / 3600:.0f} hours; the next start of the app after that removes it."
)


def move_to_trash(ids: Sequence[str], *, studies: bool = False) -> None:
    """Move runs or studies to the trash, and note the result for :func:`show_deletion_notice`."""
    try:
        refused = (
            Trash(shared_run_manager().store).add_studies(ids)
            if studies
            else shared_run_manager().trash_runs(ids)
        )
    except StoreError as error:
        st.session_state[_REFUSED_KEY] = {"": str(error)}
        return
    st.session_state[_JUST_DELETED_KEY] = [item_id for item_id in ids if item_id not in refused]
    st.session_state[_REFUSED_KEY] = refused


def show_deletion_notice(trashed: Sequence[TrashedItem]) -> None:
    """Show what was just deleted, with an undo button, and what was not deleted and why."""
    refused = st.session_state.pop(_REFUSED_KEY, {})
    if refused:
        reasons = "\n".join(f"- {escape_markdown(reason)}" for reason in refused.values())
        st.warning(f"Not deleted:\n{reasons}", icon=":material/block:")
    trashed_by_id = {item.id: item for item in trashed}
    deleted = [i for i in st.session_state.get(_JUST_DELETED_KEY, []) if i in trashed_by_id]
    if not deleted:
        return
    what = f"{len(deleted)} items"
    if len(deleted) == 1:
        item = trashed_by_id[deleted[0]]
        what = escape_markdown(_labelled_names().get(item.id) or _trashed_description(item))
    row = st.container(horizontal=True, vertical_alignment="center", key="undo-bar")
    row.success(f"Deleted {what}. {_RETENTION_TEXT}", icon=":material/delete:")
    row.button(
        "Undo",
        key="undo",
        icon=":material/undo:",
        type="primary",
        on_click=_restore_from_trash,
        args=(deleted,),
    )


def _restore_from_trash(ids: Sequence[str]) -> None:
    try:
        Trash(shared_run_manager().store).restore(ids)
    except StoreError as error:
        st.session_state[_REFUSED_KEY] = {"": f"the deleted items could not be restored: {error}"}


def _delete_permanently(ids: Sequence[str]) -> None:
    try:
        Trash(shared_run_manager().store).purge(ids)
    except StoreError as error:
        st.session_state[_REFUSED_KEY] = {"": f"the items could not be deleted for good: {error}"}


def show_trash(trashed: Sequence[TrashedItem]) -> None:
    """Draw the trash, with buttons to restore its items or to delete them for good."""
    if not trashed:
        st.info("The trash is empty.")
        return
    names = _labelled_names()
    event: Any = st.dataframe(
        pd.DataFrame([_trash_row(item, names.get(item.id, "")) for item in trashed]),
        hide_index=True,
        on_select="rerun",
        selection_mode="multi-row",
        key="trash-table",
        column_config={
            "Deleted": st.column_config.DatetimeColumn("Deleted (UTC)", format="YYYY-MM-DD HH:mm")
        },
    )
    show_swipe_hint("trash")
    st.caption(_RETENTION_TEXT)
    rows = [row for row in event["selection"]["rows"] if row < len(trashed)]
    ids = [trashed[row].id for row in rows] or [item.id for item in trashed]
    which = f"{len(ids)} selected" if rows else "all"
    with st.container(horizontal=True):
        st.button(
            f"Restore {which}",
            icon=":material/undo:",
            key="restore",
            on_click=_restore_from_trash,
            args=(ids,),
        )
        with st.popover(f"Delete {which} for good", icon=":material/delete_forever:"):
            st.write("Items deleted for good cannot be restored.")
            st.button(
                "Delete for good", key="delete-for-good", on_click=_delete_permanently, args=(ids,)
            )


def _labelled_names() -> dict[str, str]:
    """Return the names given to runs and studies, deleted ones included, by id."""
    return {
        item_id: labels.name for item_id, labels in shared_run_manager().store.all_labels().items()
    }


def _trashed_description(trashed: TrashedItem) -> str:
    row = trashed.row
    if trashed.kind != RUN_KIND:
        return study_description(
            StoredStudy(trashed.id, row["created_unix"], row["key"], row["plan"])
        )
    try:
        config = json.loads(row["config"])
        return f"{config['task']} · {config['selection']} · seed {config['seed']}"
    except (ValueError, KeyError, TypeError):
        return "cannot be read"


def _trash_row(trashed: TrashedItem, name: str) -> dict[str, object]:
    return {
        "Kind": trashed.kind,
        "Name": name,
        "What": _trashed_description(trashed),
        "Deleted": datetime.fromtimestamp(trashed.deleted_unix, UTC),
        "Id": trashed.id,
    }
