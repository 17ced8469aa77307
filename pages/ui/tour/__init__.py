"""The parts of the Tour page."""
