"""The ways by which browsers reach topics."""
