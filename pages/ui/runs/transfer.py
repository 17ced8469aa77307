"""Downloads of a run (report, tables, bundle) and the import of bundles."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

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
from pages.ui.common import escape_markdown
from pages.ui.downloads import Download, draw_downloads


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
        st.error(f"The run could not be stored. {escape_markdown(error)}", icon=":material/error:")
    else:
        st.rerun()  # the list above shows it


def _import_under_new_id(file_id: str, raw: bytes) -> None:
    try:
        run_id = import_bundle(shared_run_manager().store, raw, fresh_id=True)
    except (BundleError, StoreError) as error:
        st.error(f"The run could not be stored. {escape_markdown(error)}", icon=":material/error:")
        return
    st.session_state["imported-files"][file_id] = run_id
    st.rerun()


def _show_imported_run(run_id: str) -> None:
    st.success(f"Imported as {escape_markdown(run_id)}.", icon=":material/check_circle:")
    st.page_link(
        "live.py", label="Open it", icon=":material/open_in_new:", query_params={"run": run_id}
    )
