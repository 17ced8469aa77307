"""A race of efficient against dense training, told to whoever knows nothing of it."""
