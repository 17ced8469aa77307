"""Update policies, one file each: how a batch's losses change the parameters."""
