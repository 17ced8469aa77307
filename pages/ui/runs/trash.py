"""Deleting runs and studies, undoing it, and what is in the trash."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import streamlit as st

from effcore.runs.manager import shared_run_manager
from effcore.store import StoreError
from effcore.store.label_table import LabelTable
from effcore.store.study_table import StoredStudy
from effcore.store.trash import RETENTION_S, RUN_KIND, Trash, TrashedItem
from pages.ui.common import escape_markdown
from pages.ui.display_names import study_description
from pages.ui.tables import show_swipe_hint

_JUST_DELETED_KEY, _REFUSED_KEY = "just-deleted", "not-deleted"
_RETENTION_TEXT = (
    f"Kept for {RETENTION_S / 3600:.0f} hours; the first start of the app after that ends it."
)


def move_to_trash(ids: Sequence[str], *, studies: bool = False) -> None:
    """Move runs or studies to the trash, and remember which, for :func:`show_deletion_notice`."""
    try:
        refused = (
            Trash(shared_run_manager().store).add_studies(ids)
            if studies
            else shared_run_manager().trash_runs(ids)
        )
    except StoreError as error:
        st.session_state[_REFUSED_KEY] = {"": str(error)}
        return
    st.session_state[_JUST_DELETED_KEY] = [one for one in ids if one not in refused]
    st.session_state[_REFUSED_KEY] = refused


def show_deletion_notice(trashed: Sequence[TrashedItem]) -> None:
    """Say what was just deleted, and offer to undo it; say what was not, and why."""
    refused = st.session_state.pop(_REFUSED_KEY, {})
    if refused:
        listed = "\n".join(f"- {escape_markdown(why)}" for why in refused.values())
        st.warning(f"Not deleted:\n{listed}", icon=":material/block:")
    there = {each.id for each in trashed}
    just = [one for one in st.session_state.get(_JUST_DELETED_KEY, []) if one in there]
    if not just:
        return
    what = f"{len(just)} of them"
    if len(just) == 1:
        (one,) = (each for each in trashed if each.id == just[0])
        what = escape_markdown(_labelled_names().get(one.id) or _trashed_description(one))
    row = st.container(horizontal=True, vertical_alignment="center", key="undo-bar")
    row.success(f"Deleted {what}. {_RETENTION_TEXT}", icon=":material/delete:")
    row.button(
        "Undo",
        key="undo",
        icon=":material/undo:",
        type="primary",
        on_click=_restore_from_trash,
        args=(just,),
    )


def _restore_from_trash(ids: Sequence[str]) -> None:
    try:
        Trash(shared_run_manager().store).restore(ids)
    except StoreError as error:
        st.session_state[_REFUSED_KEY] = {"": f"what was deleted could not be restored: {error}"}


def _delete_permanently(ids: Sequence[str]) -> None:
    try:
        Trash(shared_run_manager().store).purge(ids)
    except StoreError as error:
        st.session_state[_REFUSED_KEY] = {"": f"what was deleted is still there: {error}"}


def show_trash(trashed: Sequence[TrashedItem]) -> None:
    """Draw what is in the trash, to be restored or deleted for good."""
    if not trashed:
        st.info("The trash is empty.")
        return
    names = _labelled_names()
    event: Any = st.dataframe(
        pd.DataFrame([_trash_row(each, names.get(each.id, "")) for each in trashed]),
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
    ids = [trashed[row].id for row in rows] or [each.id for each in trashed]
    which = f"{len(ids)} picked" if rows else "all"
    with st.container(horizontal=True):
        st.button(
            f"Restore {which}",
            icon=":material/undo:",
            key="restore",
            on_click=_restore_from_trash,
            args=(ids,),
        )
        with st.popover(f"Delete {which} for good", icon=":material/delete_forever:"):
            st.write("They cannot be restored after that.")
            st.button(
                "Delete for good", key="delete-for-good", on_click=_delete_permanently, args=(ids,)
            )


def _labelled_names() -> dict[str, str]:
    """Return what runs and studies were called, deleted ones too."""
    return {
        one: labels.name
        for one, labels in LabelTable(shared_run_manager().store).all_labels().items()
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
