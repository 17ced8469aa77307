"""Live runs in the browser: protocol, broadcaster, routes and tiles."""
