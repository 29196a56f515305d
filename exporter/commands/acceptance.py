"""What `onnx` asks of a file's accuracy before it stands under its name: the options, and what was measured."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from ..errors import InvalidInput, Unavailable
from ..formats.onnx_choices import Precision
from ..networks.zoo import InputVariant, NetworkSpec
from .options import data_dir_option, together

if TYPE_CHECKING:
    from ..accuracy.evaluation import Evaluation
    from ..accuracy.reduction import Reduction
    from ..data import Split
    from ..weights.core import Weights

accuracy_options = together(
    click.option(
        "--check-accuracy",
        metavar="TOP1",
        type=click.FloatRange(0, 100),
        help="Write the file only if it reaches this top-1, in percent, on the test set in --data-dir.",
    ),
    click.option(
        "--accuracy-budget",
        metavar="POINTS",
        type=click.FloatRange(0, 100),
        help="Write a file in reduced precision only if it loses at most so many points of top-1 on the test set.  "
        "[default: 0.10, where --data-dir is given]",
    ),
    data_dir_option,
)


class Acceptance:
    """Measures the accuracy of a new ONNX file, and refuses one that falls below what was asked for.

    `percent` is what --check-accuracy said, `budget` what --accuracy-budget said. A file in reduced precision is held
    against float32: on the test set where --data-dir, --accuracy-budget or the environment says so, else on bundled
    pictures, where the file is `checked` at all. `accuracy` and `reduction` are what was found.
    """

    def __init__(
        self,
        network: NetworkSpec,
        precision: Precision,
        percent: float | None,
        budget: float | None,
        data_dir: Path | None,
        *,
        checked: bool,
    ) -> None:
        self.accuracy: Evaluation | None = None
        self.reduction: Reduction | None = None
        self._precision, self._percent, self._budget, self._checked = precision, percent, budget, checked
        self._split: Split | None = None
        self._why_not = "give --data-dir to have it checked"
        if precision == "float32" and budget is not None:
            raise InvalidInput("--accuracy-budget is for a reduced --precision. Leave it away.")
        source = _source_of_data() if data_dir is not None else None
        demanded = percent is not None or (
            precision != "float32" and (budget is not None or source == ParameterSource.COMMANDLINE)
        )
        offered = precision != "float32" and checked and source == ParameterSource.ENVIRONMENT
        if data_dir is not None and (demanded or offered):
            self._load(data_dir, network, demanded=demanded)  # before anything is computed

    def _load(self, data_dir: Path, network: NetworkSpec, *, demanded: bool) -> None:
        from ..data import load_split

        try:
            self._split = load_split(data_dir, network.dataset, "test")
        except (InvalidInput, Unavailable) as error:
            if demanded:
                raise
            self._why_not = str(error).splitlines()[0]

    def of(self, weights: Weights, variant: InputVariant, progress: Callable[[str], None]) -> Callable[[Path], None]:
        """What `export` asks of a file of `weights`."""

        def accept(file: Path) -> None:
            if self._percent is not None and self._split is not None:
                from ..accuracy.score import require_top1

                progress("accuracy")
                self.accuracy = require_top1(weights, self._split, file, self._percent)
            if self._precision != "float32" and (self._checked or self._split is not None):
                self.reduction = self._against_float32(weights, variant, file, progress)

        return accept

    def _against_float32(
        self, weights: Weights, variant: InputVariant, file: Path, progress: Callable[[str], None]
    ) -> Reduction:
        from ..accuracy.reduction import BUDGET, against_float32

        return against_float32(
            weights,
            file,
            variant,
            self._precision,
            split=self._split,
            budget=BUDGET if self._budget is None else self._budget,
            why_not=self._why_not,
            progress=progress,
        )

    def as_dict(self) -> dict[str, Any]:
        """For JSON; what was not measured is None."""
        return {
            "accuracy": self.accuracy.as_dict() if self.accuracy else None,
            "reduction": self.reduction.as_dict() if self.reduction else None,
        }


def _source_of_data() -> ParameterSource | None:
    return click.get_current_context().get_parameter_source("data_dir")
