"""One artifact from start to end, and what can be done with one that exists."""
