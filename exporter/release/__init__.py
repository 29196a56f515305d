"""Versioned releases: built, proved, described, signed, verified, fetched."""
