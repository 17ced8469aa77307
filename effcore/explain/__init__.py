"""What selective training is, in numbers to be moved: the product's own policies on real data."""
