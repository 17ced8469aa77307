"""Runs in sets: comparisons planned, carried out and judged; knobs searched."""
