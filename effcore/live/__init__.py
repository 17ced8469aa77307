"""Live stream of runs to browsers: protocol, broadcaster, routes and tiles."""
