"""Form for the name, tags and note of a run or a study."""

from __future__ import annotations

import streamlit as st

from effcore.runs.manager import shared_run_manager
from effcore.store import StoreError
from effcore.store.labels import (
    MAX_NAME_LENGTH,
    MAX_NOTE_LENGTH,
    LabelError,
    Labels,
    validated_labels,
)
from pages.ui.common import escape_markdown


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
