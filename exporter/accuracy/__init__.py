"""Top-1 and top-5 on the test set, in any runtime, and the images on which runtimes disagree."""
