"""The commands of `cifar-export`, one file for each family: parse, call one function, print."""
