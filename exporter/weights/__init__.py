"""Weights of the networks: load them from the package, upstream or a file, check them, save them.

Everything that loads ends in a `Weights` whose state fits the network exactly, or in an `InvalidInput` or
`Unavailable` that says what is wrong with the file. Nothing here runs code from a checkpoint.

`index` and the lists in it need no torch; so nothing is imported here.
"""
