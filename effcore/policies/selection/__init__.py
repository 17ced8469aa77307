"""Selection policies, one file each: past losses and scores in, inclusion probabilities out."""
