"""Parts of the Examples page."""
