"""Single runs: in a thread, queued, resumed, read from the store, taken elsewhere."""
