"""Energy sources, one file each, and the meter that reads one of them during a run."""
