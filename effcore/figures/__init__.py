"""Charts: a snapshot becomes rows, rows become figures; each chart is defined once."""
