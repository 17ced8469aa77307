"""What is found out about a run once it has ended, and stored with it."""

from __future__ import annotations

from effcore.records import Energy
from effcore.store.codec import encode
from effcore.store.store import Store


def amend(store: Store, run_id: str, energy: Energy) -> None:
    """Replace the energy of a run that has ended, as by one with more said beside it.

    A run that is gone by then stays so.

    Raises:
        StoreError: The store cannot be written.
    """
    store.change(
        "UPDATE events SET data = ? WHERE run_id = ? AND kind = 'energy'", encode(energy), run_id
    )
