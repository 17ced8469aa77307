"""The parts of presenter mode."""
