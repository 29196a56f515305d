"""Does an exported file compute the same function? Inputs, the gate, and the report."""
