"""Building a release: networks, the gate they pass, and the folder that appears by one rename."""
