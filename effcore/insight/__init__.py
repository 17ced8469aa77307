"""Page content other than charts: example dynamics, explanation numbers, and the recorded race."""
