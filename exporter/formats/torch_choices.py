"""What a TorchScript or torch.export file can be asked for beside its weights and its input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import InvalidInput
from .onnx_choices import Layout, PortType, Precision

TORCH_PRECISIONS: tuple[Precision, ...] = ("float32", "float16", "bfloat16")


@dataclass(frozen=True)
class TorchChoices:
    """How the file is written: `precision` is that of weights and arithmetic, not of input and logits."""

    precision: Precision

    @property
    def batch(self) -> None:
        """It takes any."""

    @property
    def layout(self) -> Layout:
        """Of a float input."""
        return "nchw"

    @property
    def io(self) -> PortType:
        """The type of float images and of logits."""
        return "float32"

    def as_dict(self) -> dict[str, Any]:
        """For JSON and for the file's metadata."""
        return {"precision": self.precision}


def chosen_torch(precision: Precision) -> TorchChoices | None:
    """The choices of a file in that precision; None in float32, where there is nothing to choose.

    Raises `InvalidInput` for one that there is not.
    """
    if precision not in TORCH_PRECISIONS:
        raise InvalidInput(f"no files of PyTorch in {precision}. Known: {', '.join(TORCH_PRECISIONS)}.")
    return None if precision == "float32" else TorchChoices(precision)


def read_torch_choices(metadata: Mapping[str, Any] | None) -> TorchChoices | None:
    """What the `metadata` of a file say; None where they name no reduced precision, as of every float32 file."""
    said = metadata.get("choices") if metadata else None
    named = said.get("precision") if isinstance(said, dict) else None
    found = next((one for one in TORCH_PRECISIONS if one == named), TORCH_PRECISIONS[0])
    return chosen_torch(found)
