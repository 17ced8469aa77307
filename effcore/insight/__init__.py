"""What pages show besides charts: per-example dynamics, explanations, and the recorded race."""
