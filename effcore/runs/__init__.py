"""Single runs: training in a thread, queueing, resuming, reproduction and exchange."""
