"""Networks in whole numbers: the grids of their values, how they are found, and what exactly is computed on them."""
