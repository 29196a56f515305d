"""Measure the int8 grids of the bundled networks: exporter/quantization/grids/<network>.json.

    python tools/bundle_grids.py [NETWORK]...

On the training pictures that come with cifar-export, so that nothing is looked at that a user does not have. The grids
of a network follow its weights: whoever bundles new ones runs this, and a test says where that was forgotten.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from cifar_export.exporting.precision import quantized  # noqa: E402  # of this checkout
from cifar_export.networks.zoo import named  # noqa: E402
from cifar_export.quantization.document import FOLDER, as_document  # noqa: E402
from cifar_export.weights.index import bundled_entries  # noqa: E402
from cifar_export.weights.sources import load_weights  # noqa: E402

TARGET = ROOT / "exporter" / "quantization" / FOLDER


def main(names: list[str]) -> None:
    """Write the grids of these networks, or of all that are bundled."""
    TARGET.mkdir(exist_ok=True)
    for name in names or list(bundled_entries()):
        weights = quantized(load_weights(named(name)))
        if weights.grids is None:
            sys.exit(f"{name}: no grids were found")
        document = {"network": name, "weights_sha256": weights.sha256, **as_document(weights.grids)}
        text = json.dumps(document, separators=(",", ":"))
        (TARGET / f"{name}.json").write_text(text + "\n", encoding="utf-8")
        sys.stdout.write(f"{name}: {weights.grids.calibration}, {len(text):,} bytes\n")


if __name__ == "__main__":
    main(sys.argv[1:])
