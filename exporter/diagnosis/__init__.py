"""Where a file goes wrong: parity of every runtime, the first wrong node, a page to look at."""
