"""The live stream: snapshots become binary frames, fanned out to every viewer of a run."""
