"""Parts of the page that explains how it works."""
