"""Measure the int8 grids of the bundled networks: exporter/quantization/grids/<network>.json.

    python tools/bundle_grids.py [--data-dir DIR] [--finetune EPOCHS] [NETWORK]...

Ranges are measured on the training pictures that come with cifar-export, and the rounded weights are finetuned on those
in --data-dir; what was interrupted is continued (build/finetuning). The grids of a network follow its weights: whoever
bundles new ones runs this, and a test says where that was forgotten. Then the
files in float16 and int8 are scored on the test images in --data-dir, in ONNX Runtime and OpenVINO on the CPU; cards of
releases show these figures, and `package` holds what it measures against them.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from cifar_export.accuracy.score import score  # noqa: E402  # of this checkout
from cifar_export.data import load_split  # noqa: E402
from cifar_export.exporting.artifact import export  # noqa: E402
from cifar_export.exporting.precision import prepared, quantized  # noqa: E402
from cifar_export.formats.onnx_choices import OnnxChoices  # noqa: E402
from cifar_export.networks.zoo import named  # noqa: E402
from cifar_export.quantization.document import FOLDER, as_document  # noqa: E402
from cifar_export.release.layout import ALL_MODELS, REDUCED  # noqa: E402
from cifar_export.training.finetuning import finetune  # noqa: E402
from cifar_export.training.options import FINETUNING  # noqa: E402
from cifar_export.weights.core import Weights  # noqa: E402
from cifar_export.weights.index import bundled_entries  # noqa: E402
from cifar_export.weights.sources import load_weights  # noqa: E402

TARGET = ROOT / "exporter" / "quantization" / FOLDER
RUNTIMES = ("onnxruntime-cpu", "openvino")


def main() -> None:
    """Write the grids and the accuracies of these networks, or of all that are bundled."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", metavar="NETWORK")
    parser.add_argument("--data-dir", type=Path, default=Path(os.environ.get("CIFAR_DATA") or "data"))
    parser.add_argument("--finetune", type=int, metavar="EPOCHS", default=0)
    options = parser.parse_args()
    TARGET.mkdir(exist_ok=True)
    for name in options.networks or list(bundled_entries()):
        weights = quantized(load_weights(named(name)))
        if options.finetune:
            weights = finetuned(weights, options.finetune, options.data_dir)
        if weights.grids is None:
            sys.exit(f"{name}: no grids were found")
        document = {
            "network": name,
            "weights_sha256": weights.sha256,
            **as_document(weights.grids),
            "accuracy": accuracies(weights, options.data_dir),
        }
        text = json.dumps(document, separators=(",", ":"))
        (TARGET / f"{name}.json").write_text(text + "\n", encoding="utf-8")
        sys.stdout.write(f"{name}: {weights.grids.calibration}, {len(text):,} bytes; {document['accuracy']}\n")
        sys.stdout.flush()


def finetuned(weights: Weights, epochs: int, data_dir: Path) -> Weights:
    """`weights` with their grids finetuned."""
    images = load_split(data_dir, weights.network.dataset, "train").images
    folder = ROOT / "build" / "finetuning" / weights.network.name
    folder.mkdir(parents=True, exist_ok=True)
    found = finetune(weights, images, epochs, folder, resume=True)
    (folder / FINETUNING).unlink(missing_ok=True)
    sys.stdout.write(f"{weights.network.name}: {found.before}, finetuned {found.after}\n")
    return found.weights


def accuracies(weights: Weights, data_dir: Path) -> dict[str, dict[str, dict[str, float]]]:
    """Top-1 and top-5 in percent of the files in reduced precision, by precision and runtime."""
    split = load_split(data_dir, weights.network.dataset, "test")
    found: dict[str, dict[str, dict[str, float]]] = {}
    for precision, name in REDUCED.items():
        ready, variant = prepared(weights, precision), ALL_MODELS[name].input
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            export(ready, "onnx", variant=variant, choices=OnnxChoices(precision=precision), output=path)
            found[precision] = {}
            for runtime in RUNTIMES:
                result = score(ready, split, runtime, file=path)
                found[precision][runtime] = {"top1": result.top1, "top5": result.top5}
    return found


if __name__ == "__main__":
    main()
