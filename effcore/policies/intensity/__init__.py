"""Intensity policies, one file each: how much of a model or an example a step computes with."""
