"""The training loop and its parts: sampler, training step, FLOP ledger, reporter, checkpoint."""
