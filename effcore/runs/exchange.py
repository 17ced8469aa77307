"""Exchange of runs between machines: export to and import from bundles."""

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
from effcore.store.bundle_import import (
    MAX_BUNDLE_BYTES,
    Bundle,
    BundleError,
    RunIdTakenError,
    import_run,
    read_bundle,
)
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
    """Return the default file name of a run's bundle."""
    return f"effcore-{run_id}.zip"


def bundle_bytes(store: Store, run_id: str) -> bytes:
    """Return an ended run as a bundle.

    Raises:
        StoreError: There is no such run, it has not ended, or it cannot be read.
    """
    file = io.BytesIO()
    write_bundle(store, run_id, file)
    return file.getvalue()


def export_run(store: Store, run_id: str, path: Path) -> None:
    """Write an ended run as a bundle to a new file; an existing file is never overwritten.

    Raises:
        StoreError: There is no such run, it has not ended, or it cannot be read.
        OSError: The file exists already, or cannot be written.
    """
    with _open_new_file(path) as file:
        write_bundle(store, run_id, file)


@contextmanager
def _open_new_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a new file for writing, and delete it if the block fails."""
    with path.open("xb") as file:
        try:
            yield file
        except BaseException:
            file.close()
            os.unlink(path)
            raise


def import_bundle(store: Store, raw: bytes, *, fresh_id: bool = False) -> str:
    """Store the run of a bundle and return its id.

    Args:
        store: The store to write to.
        raw: The bundle.
        fresh_id: Give the run a new id.

    Raises:
        BundleError: The bytes are no bundle, are damaged, or hold invalid values; or the run's
            task, model or policy is not installed. Nothing was written.
        RunIdTakenError: The id is taken, and ``fresh_id`` is false.
        StoreError: The store cannot be written; no part of the run is then stored.
    """
    bundle = read_bundle(raw)
    _check_registered_names(bundle)
    return import_run(store, bundle, fresh_id=fresh_id)


def read_bundle_file(path: Path) -> bytes:
    """Return the bytes of a file, up to one more than a bundle may have.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        return file.read(MAX_BUNDLE_BYTES + 1)


def _check_registered_names(bundle: Bundle) -> None:
    """Refuse a run whose task, model, policies or knobs are not installed."""
    try:
        describe_config(bundle.config)
        TASKS.get(bundle.config.task).model_choice(bundle.config.model)
        knobs_of_policies(policies_of(bundle.config))
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(
            f"its run needs something that is not installed: {error}; install it, then import the "
            "run again"
        ) from error
