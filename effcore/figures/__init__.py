"""Charts: functions that turn a snapshot into rows, and rows into figures."""
