"""Is a release what it says it is."""
