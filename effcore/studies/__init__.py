"""Studies and sweeps: they plan, train and judge runs over paired seeds, and search knobs."""
