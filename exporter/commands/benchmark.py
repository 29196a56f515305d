"""`cifar-export benchmark`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import InvalidInput
from ..formats.onnx_choices import PRECISIONS
from ..networks.zoo import InputVariant
from .asked import asked, refuse_guessing
from .console import Command, Terminated, echo_json
from .options import SUBJECT, input_option, json_option, runtime_option, trust_option, weights_options, wide_option
from .precision import made_ready
from .strangers import is_stranger
from .streams import INTERRUPTED, say, verdict

if TYPE_CHECKING:
    from ..benchmarking.document import Benchmark
    from ..benchmarking.plan import Asked
    from ..data import Split
    from ..formats.onnx_choices import Precision
    from ..weights.core import Weights


class _Batches(click.ParamType[tuple[int, ...]]):
    """Numbers of images, apart by commas."""

    name = "batches"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """The numbers, each once."""
        if isinstance(value, tuple):
            return value
        parts = str(value).split(",")
        if not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
            self.fail(f"{value!r} is no list of batches, as 1,64 is.", param, ctx)
        return tuple(dict.fromkeys(map(int, parts)))


class _Finite(click.FloatRange):
    """A number; neither NaN, which is in every range, nor infinity is one."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is no number of use.", param, ctx)
        return number


@click.command(
    cls=Command,
    examples=[
        "cifar-export benchmark resnet20 --precision float32 --precision int8 --batch 1,64",
        "cifar-export benchmark model.onnx --compare benchmark.json --json",
    ],
)
@click.argument("subjects", metavar="NETWORK...", type=SUBJECT, nargs=-1, required=True)
@weights_options
@runtime_option("runtimes", multiple=True, help="Measure this runtime; may be given several times.")
@input_option
@click.option(
    "--precision",
    "precisions",
    type=click.Choice(PRECISIONS),
    multiple=True,
    help="Precision of the ONNX file; may be given several times.  [default: float32]",
)
@click.option(
    "--batch", "batches", metavar="N[,N]", type=_Batches(), default="1", show_default=True, help="Images in a run."
)
@trust_option
@click.option("--threads", type=click.IntRange(min=1), help="Threads of each runtime.  [default: one a core]")
@click.option(
    "--time-limit",
    metavar="SECONDS",
    type=_Finite(min=0),
    default=60.0,
    show_default=True,
    help="Stop when the turns have taken so long, and say what is not known well enough.",
)
@click.option(
    "--compare",
    "baseline",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The benchmark.json of an earlier benchmark on this machine, to be no slower than.",
)
@click.option(
    "--allow",
    "allowed",
    metavar="RATIO",
    type=_Finite(min=1),
    default=1.10,
    show_default=True,
    help="With --compare, how many times its earlier time a row may take.",
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Also measure the accuracy of each row on the test set in this folder.",
)
@click.option(
    "--output",
    "-o",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Also write benchmark.json, benchmark.csv and benchmark.html to this folder.",
)
@wide_option
@json_option
def benchmark(
    subjects: tuple[str, ...],
    runtimes: tuple[str, ...],
    variant: InputVariant | None,
    precisions: tuple[Precision, ...],
    batches: tuple[int, ...],
    trust_file: bool,
    threads: int | None,
    time_limit: float,
    baseline: Path | None,
    allowed: float,
    data_dir: Path | None,
    output: Path | None,
    wide: bool,
    as_json: bool,
    **network: Any,
) -> None:
    """Measure how fast networks run, once they are proved.

    Each NETWORK is resnet20 (with --dataset), cifar100_resnet20, the folder of a run or of a released network, or an
    exported file; a file of somebody else needs --weights PATH.

    Every row is a process of its own, and all of them take turns. What does not compute the network has no time (exit
    code 1), and with --compare a row that has become slower than --allow admits is exit code 1, too.

    Shows percentiles of the time of a batch, images a second, start-up, memory, the file's size and the largest error.
    """
    from ..benchmarking.measure import benchmark as measure
    from ..benchmarking.outputs import Outputs
    from ..benchmarking.plan import Plan
    from .benchmark_report import benchmark_table
    from .progress import steps

    plan = Plan(runtimes, precisions or ("float32",), batches, threads, variant, time_limit, trust_file)
    plan.check()
    outputs = Outputs(output) if output is not None else None
    with steps(quiet=as_json) as tell:
        found = [_asked(name, network, variant, precisions, tell, quiet=as_json) for name in dict.fromkeys(subjects)]
        if precisions and all(one.file is not None for one in found):
            raise InvalidInput("a file has the precision that it has. Leave --precision away.")
        result = measure(
            found,
            plan,
            baseline=baseline,
            allowed=allowed,
            split_of=_split_of(data_dir) if data_dir is not None else None,
            progress=tell,
        )
        if outputs is not None and result.interruption is None:
            outputs.write(result)
    with verdict(_exit_code(result)):
        for line in result.failures:
            say(f"error: {line}")
        if result.interruption is not None:
            say("interrupted: what was measured so far is shown, and no file was written.")
        elif output is not None:
            say(f"the benchmark was written to {output}")
        if as_json:
            echo_json(result.as_dict())
        else:
            benchmark_table(result, wide=wide)


def _exit_code(result: Benchmark) -> int:
    if isinstance(result.interruption, Terminated):
        return 128 + result.interruption.number
    if result.interruption is not None:
        return INTERRUPTED
    if not result.passed:
        return 1
    return 0 if result.measured else 3


def _asked(
    name: str,
    network: dict[str, Any],
    variant: InputVariant | None,
    precisions: tuple[Precision, ...],
    tell: Any,
    *,
    quiet: bool,
) -> Asked:
    """One of the subjects, with its weights."""
    from ..benchmarking.plan import Asked

    if is_stranger(name, network["weights"]):
        raise InvalidInput(
            f"{name} carries no metadata of ours, and what is not proved is not measured. Add --weights PATH, the "
            "weights that it was made of."
        )
    wanted = asked(model=name, **network)
    if variant != "unit":
        refuse_guessing(wanted, wanted.file)
    tell(f"loading {wanted.spec.name}")
    weights: Weights = wanted.load(quiet=quiet)
    if "int8" in precisions and wanted.file is None:
        weights = made_ready(weights, "int8", tell)
    return Asked(wanted.file.name if wanted.file else wanted.spec.name, weights, wanted.file)


def _split_of(folder: Path) -> Any:
    """What gives the test set of a network in that folder, read once for each data set."""
    from ..data import load_split

    read: dict[str, Split] = {}

    def split_of(weights: Weights) -> Split:
        dataset = weights.network.dataset
        if dataset.name not in read:
            read[dataset.name] = load_split(folder, dataset, "test")
        return read[dataset.name]

    return split_of
