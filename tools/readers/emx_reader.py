"""emx-onnx-cgen: the graph as one C file, compiled and run."""
