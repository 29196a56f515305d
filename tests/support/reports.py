"""Reports as commands print them, made of fixed numbers: minutes of computing are not needed to look at a table."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cifar_export.accuracy.agreement import Agreement, Disagreement, RuntimeAccuracy
from cifar_export.accuracy.evaluation import Evaluation
from cifar_export.doctor.report import Check, Diagnosis
from cifar_export.gate.compare import Comparison
from cifar_export.gate.report import ParityReport, RuntimeResult
from cifar_export.networks.zoo import CIFAR10
from cifar_export.prediction.predict import Guess, Prediction, Predictions

NO_GPU = "there is no NVIDIA GPU here, or no driver for one. Run it on a machine where `nvidia-smi` works."
REDUCED = "computes in reduced precision on purpose: its largest error is 1,024 times the allowed one"
GPU_RUNTIMES = ("onnxruntime-cuda", "onnxruntime-cuda-iobinding", "onnxruntime-cuda-tf32", "onnxruntime-tensorrt")


def _comparison(error: float) -> Comparison:
    return Comparison("bundled", 256, error, error / 10, 4e-6, 256, 256, 0, None)


def _ran(runtime: str, provider: str, speed: float) -> RuntimeAccuracy:
    result = Evaluation(runtime, provider, "float32", 92.68, 99.63, 10_000, speed, np.zeros(0, np.int64))
    return RuntimeAccuracy(runtime, "ran", result)


PARITY = ParityReport(
    "cifar10_resnet20",
    "float32",
    "0" * 64,
    {"cpu": {"bundled": 1e-6}},
    {"bundled": 4.2e-6, "generated": 6.6e-5},
    (
        RuntimeResult("pytorch", "CPU", "yardstick", None, (_comparison(1e-6),)),
        RuntimeResult("torchscript", "CPU", "passed", None, (_comparison(1.2e-6),)),
        RuntimeResult("onnxruntime-cpu", "CPUExecutionProvider", "passed", None, (_comparison(1.4e-6),)),
        RuntimeResult("openvino", "CPU", "failed", "largest error 2.0e-01, allowed 4.2e-06", (_comparison(0.2),)),
        RuntimeResult("openvino-default", "CPU", "reported", REDUCED, (_comparison(4.3e-3),)),
        *(RuntimeResult(name, None, "not_run", NO_GPU) for name in GPU_RUNTIMES),
        RuntimeResult("opencv", None, "not_run", "OpenCV is not installed. `pip install 'cifar-export[opencv]'`."),
    ),
)
AGREEMENT = Agreement(
    "cifar10_resnet20",
    "float32",
    CIFAR10.labels,
    (
        _ran("pytorch", "CPU", 1234.4),
        _ran("onnxruntime-cpu", "CPUExecutionProvider", 2345.6),
        *(RuntimeAccuracy(name, "not_run", None, NO_GPU) for name in GPU_RUNTIMES),
        RuntimeAccuracy("onnx-reference", "not_run", None, "too slow for a test set"),
    ),
    (Disagreement(4711, 3, {"pytorch": 3, "onnxruntime-cpu": 5}, 3, 2e-7, "tie"),),
)
DIAGNOSIS = Diagnosis(
    (
        Check(
            "system",
            "ok",
            "Linux x86_64; a processor of a long name indeed, 2 cores; Python 3.12.1; glibc 2.36; little endian",
        ),
        Check(
            "onnxruntime",
            "problem",
            "onnxruntime 1.25, onnxruntime-gpu 1.25 are installed side by side, in one folder",
            "`pip uninstall onnxruntime onnxruntime-gpu`, then `pip install onnxruntime-gpu`.",
        ),
        Check("gpu", "note", "no NVIDIA GPU", "Only the -cuda runtimes need one."),
        Check("runtime pytorch", "ok", "PyTorch eager, CPU"),
        *(Check(f"runtime {name}", "note", *NO_GPU.split(". ", 1)) for name in GPU_RUNTIMES),
        Check("output-folder", "ok", "artifacts"),
    ),
    {},
)
PREDICTIONS = Predictions(
    (
        Prediction(Path("pictures/cat.png"), (Guess("cat", 3, 0.9712), Guess("dog", 5, 0.0201))),
        Prediction(
            Path(f"pictures/{'a-very-long-name-' * 5}[b].png"), (Guess("ship", 8, 0.5), Guess("automobile", 1, 0.25))
        ),
    ),
    (),
)
