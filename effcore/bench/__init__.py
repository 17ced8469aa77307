"""Measurements of Effcore itself, each a command: ``python -m effcore bench …``."""
