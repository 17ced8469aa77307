"""Intensity policies, one file each: how much of the model or of an example a step uses."""
