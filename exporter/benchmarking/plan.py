"""What is to be measured: which subjects, in which runtimes, precisions and batches, on how many threads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import InvalidInput
from ..exporting.subject import contradicting, facts_of, require_reader
from ..formats import FORMATS
from ..formats.onnx_choices import Precision
from ..networks.zoo import InputVariant
from ..runtimes import RUNTIMES, require_precision, spec_of
from ..runtimes.feeding import LARGEST_BATCH
from ..system.processor import cores
from ..weights.core import Weights
from .key import Key

TIME_LIMIT_S = 60.0
FIRST = "onnxruntime-cpu"
"""The runtime of the first row where none is named: others are measured by it."""


@dataclass(frozen=True)
class Asked:
    """A network by its weights, or an exported `file` of them. `name`: what its rows are called."""

    name: str
    weights: Weights
    file: Path | None = None


@dataclass(frozen=True)
class Plan:
    """What is to be measured of each subject.

    `runtimes`: none for those that run by default. `precisions`: of networks; a file has its own. `threads`: None for
    one a core. `time_limit_s`: for all turns together.
    """

    runtimes: Sequence[str] = ()
    precisions: Sequence[Precision] = ("float32",)
    batches: Sequence[int] = (1,)
    threads: int | None = None
    variant: InputVariant | None = None
    time_limit_s: float = TIME_LIMIT_S
    trust_files: bool = False

    def check(self) -> None:
        """Raise `InvalidInput` for what no machine, or not this one, can do."""
        for batch in self.batches:
            if not 1 <= batch <= LARGEST_BATCH:
                raise InvalidInput(f"a batch of {batch:,} images. Batches have 1 to {LARGEST_BATCH:,}.")
        if self.threads is not None and not 1 <= self.threads <= cores():
            raise InvalidInput(
                f"--threads {self.threads}, and this machine has {cores()} cores: threads would wait for each other. "
                f"Choose 1 to {cores()}."
            )


@dataclass(frozen=True)
class Wanted:
    """A subject with all that is to be measured of it. `problems`: what is wrong with the file, before it runs."""

    asked: Asked
    plan: Plan
    variant: InputVariant
    precisions: tuple[Precision, ...]
    runtimes: tuple[str, ...]
    problems: tuple[str, ...] = ()

    def able(self, precision: Precision) -> list[str]:
        """The runtimes that run files in that precision. Raises `InvalidInput` where none does."""
        found = [name for name in self.runtimes if precision in spec_of(name).precisions]
        if not found:
            require_precision(self.runtimes[0], precision)
        return found

    def key(self, runtime: str, precision: Precision, batch: int) -> Key:
        """That of one row."""
        threads = spec_of(runtime).threads or self.plan.threads or cores()
        return Key(self.asked.name, runtime, precision, self.variant, batch, threads)

    def all_keys(self) -> list[Key]:
        """Those of all rows."""
        return [
            self.key(name, precision, batch)
            for precision in self.precisions
            for batch in self.plan.batches
            for name in self.able(precision)
        ]


def planned(subjects: Sequence[Asked], plan: Plan) -> list[Wanted]:
    """What is to be measured of each subject.

    Raises `InvalidInput` for what cannot be, and for names that cannot be told apart.
    """
    plan.check()
    if len({asked.name for asked in subjects}) < len(subjects):
        raise InvalidInput("two of these have the same name, and their rows could not be told apart. Rename one.")
    return [_of_file(asked, asked.file, plan) if asked.file else _of_network(asked, plan) for asked in subjects]


def _of_network(asked: Asked, plan: Plan) -> Wanted:
    runtimes = tuple(dict.fromkeys(plan.runtimes or (FIRST, *_usual())))
    return Wanted(asked, plan, plan.variant or "float32", tuple(dict.fromkeys(plan.precisions)), runtimes)


def _of_file(asked: Asked, file: Path, plan: Plan) -> Wanted:
    facts = facts_of(file, plan.variant, trust=plan.trust_files)
    readers = [name for name in plan.runtimes if spec_of(name).reads in (facts.format, "network")]
    if plan.runtimes and not readers:
        require_reader(plan.runtimes[0], file, facts.format)
    usual = [name for name in (FIRST, *_usual()) if spec_of(name).reads == facts.format]
    usual = usual or [FORMATS[facts.format].gate]
    problems = tuple(contradicting(facts, asked.weights))
    runtimes = tuple(dict.fromkeys(readers or usual))
    return Wanted(asked, plan, facts.variant or "float32", (facts.precision,), runtimes, problems)


def _usual() -> list[str]:
    """What is measured by default: what parity gates by default, but for what is made to be read, not to be quick.

    And PyTorch, from which all others come.
    """
    usual = (name for name, spec in RUNTIMES.items() if spec.by_default and spec.images is None)
    return [name for name in usual if spec_of(name).gated or name == "pytorch"]
