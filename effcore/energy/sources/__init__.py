"""Energy sources: one file per instrument."""
