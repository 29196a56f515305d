"""Weights of the networks: load them from the package, upstream or a file, check them, save them.

Everything that loads ends in a `Weights` whose state fits the network exactly, or in an `InvalidInput` or
`Unavailable` that says what is wrong with the file. Nothing here runs code from a checkpoint.
"""

from exporter.weights.core import Weights, build_network
from exporter.weights.native import save_weights
from exporter.weights.seeded import random_weights
from exporter.weights.sources import load_weights
from exporter.weights_index import BundledEntry, add_to_index, bundled_entries

__all__ = [
    "BundledEntry",
    "Weights",
    "add_to_index",
    "build_network",
    "bundled_entries",
    "load_weights",
    "random_weights",
    "save_weights",
]
