"""The page and the management API; it knows HTTP and the registry, never the terminal."""
