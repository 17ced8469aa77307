"""One file per page, thin: read a snapshot, draw it, write controls."""
