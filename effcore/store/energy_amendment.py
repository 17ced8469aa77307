"""What is found out about a run once it has ended, and stored with it."""

from __future__ import annotations

from effcore.records import Energy
from effcore.store.serialization import encode_record
from effcore.store.store import Store


def replace_energy(store: Store, run_id: str, energy: Energy) -> None:
    """Replace the energy of a run that has ended, as by one with more said beside it.

    A run that is gone by then stays so.

    Raises:
        StoreError: The store cannot be written.
    """
    store.execute_write(
        "UPDATE events SET data = ? WHERE run_id = ? AND kind = 'energy'",
        encode_record(energy),
        run_id,
    )
