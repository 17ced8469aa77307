"""Energy sources, the meter that reads one of them during a run, and energy arithmetic."""
