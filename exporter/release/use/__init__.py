"""Using a release: fetch a network of it, load it into Python."""
