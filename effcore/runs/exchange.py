"""Runs taken from one machine to another: out as a bundle, in again, and refused with a reason."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from effcore.policies.combination import knobs_of_policies, policies_of
from effcore.runs.descriptions import describe_config
from effcore.store import Store
from effcore.store.bundle import write_bundle
from effcore.store.bundle_import import Bundle, read_bundle
from effcore.store.bundle_unzip import MAX_BUNDLE_BYTES, BundleError
from effcore.store.run_import import RunIdTakenError, import_run
from effcore.tasks.base import TASKS

__all__ = [
    "BundleError",
    "RunIdTakenError",
    "bundle_bytes",
    "bundle_file_name",
    "export_run",
    "read_bundle_file",
    "import_bundle",
]


def bundle_file_name(run_id: str) -> str:
    """Return what a run's bundle is called where nobody says otherwise."""
    return f"effcore-{run_id}.zip"


def bundle_bytes(store: Store, run_id: str) -> bytes:
    """Return a run that is over as a bundle.

    Raises:
        StoreError: There is no such run, it is not over, or it cannot be read.
    """
    file = io.BytesIO()
    write_bundle(store, run_id, file)
    return file.getvalue()


def export_run(store: Store, run_id: str, path: Path) -> None:
    """Write a run that is over as a bundle; what is there already is never written over.

    Raises:
        StoreError: There is no such run, it is not over, or it cannot be read.
        OSError: The file is there already, or cannot be written.
    """
    with _open_new_file(path) as file:
        write_bundle(store, run_id, file)


@contextmanager
def _open_new_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a new file; nothing is left of it where the block fails."""
    with path.open("xb") as file:
        try:
            yield file
        except BaseException:
            file.close()
            os.unlink(path)
            raise


def import_bundle(store: Store, raw: bytes, *, fresh_id: bool = False) -> str:
    """Store the run in a bundle and return its id.

    Args:
        store: Where it goes.
        raw: The bundle.
        fresh_id: Give it an id of its own.

    Raises:
        BundleError: It is no bundle, is damaged, holds what no run does, or a run whose task,
            model or policy is not known here. Nothing was written.
        TakenError: There is a run of its id, and it was not to have a fresh one.
        StoreError: The store cannot be written; nothing of the run is then there.
    """
    bundle = read_bundle(raw)
    _check_registered_names(bundle)
    return import_run(store, bundle, fresh_id=fresh_id)


def read_bundle_file(path: Path) -> bytes:
    """Return the bytes of a bundle's file, no more than a bundle may have and one.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        return file.read(MAX_BUNDLE_BYTES + 1)


def _check_registered_names(bundle: Bundle) -> None:
    """Refuse a run that no page could name: its words and knobs are asked for here and now."""
    try:
        describe_config(bundle.config)
        TASKS.get(bundle.config.task).model_choice(bundle.config.model)
        knobs_of_policies(policies_of(bundle.config))
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(
            f"its run is of something that is not known here: {error}; install what it needs, "
            "then import it again"
        ) from error
