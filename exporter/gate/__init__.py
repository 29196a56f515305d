"""Does an exported file compute the same function? Inputs, the gate that every file passes, the report."""
