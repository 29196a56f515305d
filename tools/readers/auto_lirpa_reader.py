"""auto_LiRPA: bounds of the logits under a perturbation of nothing, which must enclose them."""

import numpy as np
import onnx
import torch
from auto_LiRPA import BoundedModule, BoundedTensor
from auto_LiRPA.perturbations import PerturbationLpNorm
from harness import Run, main
from onnx2pytorch import ConvertModel


def open_model(path: str) -> Run:
    """A network that is bounded: the middle of the bounds, which lie next to each other."""
    module = BoundedModule(ConvertModel(onnx.load(path)).eval(), torch.zeros(1, 3, 32, 32))

    def run(images):
        nothing = PerturbationLpNorm(norm=np.inf, eps=0.0)
        with torch.no_grad():
            low, high = module.compute_bounds(x=(BoundedTensor(torch.from_numpy(images), nothing),), method="IBP")
        return ((low + high) / 2).numpy()

    return run


main(open_model)
