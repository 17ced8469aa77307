"""The loop of one training, in parts: who is trained on, how, at what cost, what is told."""
