"""Deletion of runs and studies, undo, and the trash."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import streamlit as st

from effcore.runs.manager import shared_run_manager
from effcore.store import StoreError
from effcore.store.study_table import StoredStudy
from effcore.store.trash import RETENTION_S, RUN_KIND, Trash, TrashedItem
from pages.ui.common import escape_markdown
from pages.ui.display_names import study_description
from pages.ui.tables import show_swipe_hint

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
