"""What every exported file says of itself, whatever its format: one JSON-able document.

| key | value |
|---|---|
| `schema` | 1 |
| `model`, `dataset` | `resnet20`, `cifar10` |
| `input` | the variant, `float32`, `uint8` or `unit` |
| `labels` | class names in index order |
| `mean`, `std` | three floats each, of pixels scaled to 0..1: what the weights were trained with |
| `weights_sha256` | of the file that the weights came from |
| `weights_changes` | what was taken of a foreign checkpoint and rewritten, in words; absent where nothing was |
| `choices` | how an ONNX file is written (docs/files.md), and one of another format where there is a choice |
| `quantization` | of an int8 file: what `Grids.described` says, and the `sha256` of the grids; else absent |
| `parity` | `passed`, or `not checked` where `--no-check` was given |
| `tool`, `tool_version` | `cifar-export` and its version |
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import InvalidInput, first_line
from ..networks.zoo import INPUT_VARIANTS, InputVariant
from ..system.outside import MAX_MODEL_BYTES, read_regular
from ..system.version import __version__
from ..weights.core import Weights
from .choices import Choices

SCHEMA = 1
EXTRA_FILE = "metadata.json"
MAX_METADATA_BYTES = 1 << 20
"""Of the document in an archive; that of a hundred classes has some three thousand."""
PARITY_PASSED = "passed"
PARITY_NOT_CHECKED = "not checked"
# Keys whose values must be those of the weights, or the file is not an export of them.
IDENTITY_KEYS = ("model", "dataset", "labels", "mean", "std", "weights_sha256")


def describe(
    weights: Weights, variant: InputVariant, *, checked: bool, choices: Choices | None = None
) -> dict[str, Any]:
    """The metadata document of an export of `weights` with that input variant.

    `choices` are those of an ONNX or LiteRT file.
    """
    return {
        "schema": SCHEMA,
        "model": weights.network.model.name,
        "dataset": weights.network.dataset.name,
        "input": variant,
        "labels": list(weights.network.dataset.labels),
        **weights.normalization.as_dict(),
        "weights_sha256": weights.sha256,
        **({"weights_changes": list(weights.changes)} if weights.changes else {}),
        **({"choices": choices.as_dict()} if choices else {}),
        **_quantization(weights, choices),
        "parity": PARITY_PASSED if checked else PARITY_NOT_CHECKED,
        "tool": "cifar-export",
        "tool_version": __version__,
    }


def _quantization(weights: Weights, choices: Choices | None) -> dict[str, Any]:
    if choices is None or choices.precision != "int8" or weights.grids is None:
        return {}
    return {"quantization": {**weights.grids.described(), "sha256": weights.grids.digest()}}


def contradictions(found: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    """Which of the identity keys in `found` differ from `expected`, one readable line each."""
    problems = []
    for key in IDENTITY_KEYS:
        if found.get(key) != expected[key]:
            # found: text out of a stranger's file, of any length
            values = f"{found.get(key)!r:.200}, not {expected[key]!r}"
            problems.append(f"metadata says {key}: {'other labels or another order' if key == 'labels' else values}")
    return problems


def dumps(document: Mapping[str, Any]) -> str:
    """The document as JSON whose bytes depend on its content only."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def variant_of(metadata: Mapping[str, Any] | None) -> InputVariant | None:
    """The input variant that a metadata document names; None where it names none."""
    named = metadata.get("input") if metadata else None
    return next((variant for variant in INPUT_VARIANTS if variant == named), None)


def read_archive_metadata(path: Path) -> dict[str, Any] | None:
    """Our document out of a TorchScript or .pt2 archive, without loading (thus running) the archive; None if absent.

    Raises `InvalidInput` for a file that is no zip archive, or a damaged one.
    """
    data = read_regular(path, MAX_MODEL_BYTES)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = [name for name in archive.namelist() if name.split("/", 1)[-1] == f"extra/{EXTRA_FILE}"]
            if not names:
                return None
            with archive.open(names[0]) as member:  # not all of it at once: a small archive may hold gigabytes
                text = member.read(MAX_METADATA_BYTES + 1)
            if len(text) > MAX_METADATA_BYTES:
                raise ValueError(f"its metadata has more than {MAX_METADATA_BYTES:,} bytes")
            document = json.loads(text)
    # The bytes are anyone's: what the unpackers of zip's many methods raise on them is nowhere promised.
    except Exception as error:
        raise InvalidInput(f"{path}: not a readable archive ({first_line(error)}). Export it again.") from error
    return document if isinstance(document, dict) else None
