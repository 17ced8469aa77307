"""Update policies, one file each: which part of a step is computed and trained."""
