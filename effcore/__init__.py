"""Effcore: an honest laboratory for efficient training.

Launch a small training run, move the thresholds that decide which computation is
skipped, watch loss, skipped computation and power, and judge whether accuracy survived.
"""

__version__ = "0.1.0"
