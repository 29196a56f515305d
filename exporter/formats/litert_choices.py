"""What a LiteRT file can be asked for beside its weights and its input."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ..errors import InvalidInput
from .onnx_choices import HIGHEST_BATCH, Layout, PortType, Precision

LITERT_PRECISIONS: tuple[Precision, ...] = ("float32", "int8")


@dataclass(frozen=True)
class LitertChoices:
    """How the file is written.

    `batch`: the only batch size that it takes. `layout`: of float images, always channels last, as LiteRT computes.
    `precision`: of weights and arithmetic, not of input and logits.
    """

    batch: int = 1
    layout: Layout = "nhwc"
    precision: Precision = "float32"

    @property
    def io(self) -> PortType:
        """The type of float images and of logits."""
        return "float32"

    def as_dict(self) -> dict[str, Any]:
        """For JSON and for the file's metadata."""
        return asdict(self)


def chosen_litert(**options: Any) -> LitertChoices:
    """The defaults, each replaced by an option called as the field. Raises `InvalidInput` for what there is not."""
    choices = LitertChoices(**options)
    require_litert_choices(choices)
    return choices


def require_litert_choices(choices: LitertChoices) -> None:
    """Raise `InvalidInput` for what cannot be delivered, naming what can."""
    if not isinstance(choices.batch, int) or not 1 <= choices.batch <= HIGHEST_BATCH:
        raise InvalidInput(f"a batch of {choices.batch} cannot be delivered. Choose 1 to {HIGHEST_BATCH}.")
    if choices.precision not in LITERT_PRECISIONS:
        known = ", ".join(LITERT_PRECISIONS)
        raise InvalidInput(f"no LiteRT files in {choices.precision}. Known: {known}.")
    if choices.layout != "nhwc":
        raise InvalidInput("LiteRT takes images channels last. Leave the layout away.")
