"""Runs taken along: as a page to read, as tables, and as a bundle to import elsewhere."""

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
    """Offer the run as a page to read offline, as tables and as a bundle; made when asked."""

    def look() -> Snapshot:
        return shared_run_manager().store.load_snapshot(run.run_id)

    def report() -> str:
        snapshot = look()
        return run_report(snapshot, shared_run_manager().reference_of(snapshot))

    offers = [Download("Report (HTML)", ".html", report)]
    for name, label in (("steps", "Steps"), ("evals", "Evaluations"), ("power", "Power")):
        for ending, write in (("csv", to_csv), ("parquet", to_parquet)):
            made = partial(_table_file, look, name, write)
            offers.append(Download(f"{label} ({ending})", f"-{name}.{ending}", made))
    with st.container(horizontal=True):
        if run.status.is_final:
            st.download_button(
                "Export (bundle)", lambda: bundle_bytes(shared_run_manager().store, run.run_id),
                bundle_file_name(run.run_id), "application/zip", key="export", on_click="ignore",
                icon=":material/archive:",
                help="One file with all of the run, to import on another machine.",
            )  # fmt: skip
        draw_downloads(run.run_id, offers)


def _table_file(
    load_snapshot: Callable[[], Snapshot], name: str, write: Callable[[pd.DataFrame], bytes]
) -> bytes:
    return write(run_table(load_snapshot(), name))


def draw_import_form() -> None:
    """Take in a bundle, or say why not; where its id is taken, offer a fresh one."""
    st.caption(
        "A bundle is read and checked before anything is stored; nothing in it is run. An "
        "imported run is marked as another machine's, and so are its joules."
    )
    given = st.file_uploader("Bundle of a run", "zip", key="import-file")
    if given is None:
        return
    known = st.session_state.setdefault("imported-files", {})
    if given.file_id in known:
        _show_imported_run(known[given.file_id])
        return
    raw = given.getvalue()
    try:
        known[given.file_id] = import_bundle(shared_run_manager().store, raw)
    except RunIdTakenError as error:
        st.warning(escape_markdown(f"{error}."), icon=":material/content_copy:")
        if st.button("Import under a fresh id", key="import-fresh", icon=":material/fiber_new:"):
            _import_under_new_id(given.file_id, raw)
    except BundleError as error:
        st.error(
            f"This file cannot be imported: {escape_markdown(error)}.", icon=":material/error:"
        )
    except StoreError as error:
        st.error(f"The run could not be stored. {escape_markdown(error)}", icon=":material/error:")
    else:
        st.rerun()  # it is in the list above


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
