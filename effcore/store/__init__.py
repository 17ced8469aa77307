"""Storage of runs and studies on disk; see :mod:`effcore.store.store`."""

from effcore.store.db import DamagedRunError, StoreError, UnknownRunError
from effcore.store.run_records import RunSummary
from effcore.store.store import Store, new_run_id
from effcore.store.writer import RunWriter

__all__ = [
    "DamagedRunError",
    "RunSummary",
    "RunWriter",
    "Store",
    "StoreError",
    "UnknownRunError",
    "new_run_id",
]
