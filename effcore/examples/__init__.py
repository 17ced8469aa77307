"""Where the computation of a run went: what became of each training example."""
