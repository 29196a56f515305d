"""The networks as data and as torch modules, and what their pixels are normalized with."""
