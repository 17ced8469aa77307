"""Amendment of the stored energy of ended runs."""

from __future__ import annotations

from effcore.records import Energy
from effcore.store.serialization import encode_record
from effcore.store.store import Store


def replace_energy(store: Store, run_id: str, energy: Energy) -> None:
    """Replace the stored energy of a run that has ended; do nothing if the run was deleted.

    Raises:
        StoreError: The store cannot be written.
    """
    store.execute_write(
        "UPDATE events SET data = ? WHERE run_id = ? AND kind = 'energy'",
        encode_record(energy),
        run_id,
    )
