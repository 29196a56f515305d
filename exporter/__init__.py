"""Train, export, prove and package ResNets for CIFAR-10 and CIFAR-100. Imports neither torch nor onnx."""
