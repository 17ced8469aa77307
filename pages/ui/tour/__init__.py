"""Parts of the Tour page."""
