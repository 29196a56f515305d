"""A benchmark as a table: what it was measured on, a row for each thing, and what to make of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .summaries import scientific
from .tables import Column, by_reason, on_terminal, remark, table

if TYPE_CHECKING:
    from ..benchmarking.document import Benchmark, Row
    from ..benchmarking.machine import Machine

_MIB = 1 << 20


def benchmark_table(result: Benchmark, *, wide: bool = False) -> None:
    """Print a benchmark: the machine, a row for each measurement, then how sure the figures are."""
    from ..benchmarking.document import WORDS

    shown = [row for row in result.rows if row.state != "not_run" or not on_terminal()]
    several = {name: len({getattr(row.key, name) for row in shown}) > 1 for name in ("subject", "precision", "batch")}
    columns = [
        Column("network", cut=True, wide=not several["subject"]),
        Column("runtime"),
        Column("precision", wide=not several["precision"]),
        Column("batch", right=True, wide=not several["batch"]),
        Column("p50 ms", right=True),
        Column("p90 ms", rank=3, right=True),
        Column("p99 ms", rank=1, right=True),
        Column("min ms", wide=True, right=True),
        Column("runs", wide=True, right=True),
        Column("images/s", rank=2, right=True),
        Column("ratio (95 %)"),
        Column("start s", rank=5, right=True),
        Column("peak MiB", rank=4, right=True),
        Column("file KiB", wide=True, right=True),
        Column("max error", rank=6, right=True),
        Column("top-1", wide=True, right=True),
        Column("provider", wide=True),
        Column("state", wide=all(row.state == "measured" for row in shown)),
        Column("reason", wide=True),
    ]
    for line in _header(result.machine):
        remark(line)
    table(_title(result), columns, [_cells(row, WORDS[row.state]) for row in shown], wide=wide)
    by_reason("not run", dict.fromkeys((row.key.runtime, row.reason) for row in result.rows if row.state == "not_run"))
    for line in _below(result):
        remark(line)


def _title(result: Benchmark) -> str:
    key = result.rows[0].key
    batches = ", ".join(str(batch) for batch in dict.fromkeys(row.key.batch for row in result.rows))
    subjects = ", ".join(dict.fromkeys(row.key.subject for row in result.rows))
    precisions = ", ".join(dict.fromkeys(row.key.precision for row in result.rows))
    return f"{subjects}: {key.input} input, {precisions}, batch {batches}, threads {result.machine.threads}"


def _header(machine: Machine) -> list[str]:
    sets = f" ({', '.join(machine.instruction_sets)})" if machine.instruction_sets else ""
    governed = f", governor {machine.governor}" if machine.governor else ""
    plural = "s" if machine.cores > 1 else ""
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items() if name != "system")
    return [f"{machine.processor}{sets}, {machine.cores} core{plural}{governed}, {machine.system}", versions]


def _cells(row: Row, state: str) -> list[str | None]:
    from ..benchmarking.document import milliseconds

    def ms(percent: float) -> str | None:
        seconds = row.percentile(percent)
        return None if seconds is None else milliseconds(seconds)

    throughput, top1 = row.images_per_second, row.top1
    return [
        row.key.subject,
        row.key.runtime,
        row.key.precision,
        str(row.key.batch),
        *(ms(percent) for percent in (50, 90, 99, 0)),
        str(row.runs),
        None if throughput is None else f"{throughput:,.0f}",
        None if row.ratio is None else str(row.ratio),
        None if row.startup is None else f"{row.startup.seconds:.2f}",
        None if row.peak_bytes is None else f"{row.peak_bytes / _MIB:,.0f}",
        None if row.file_bytes is None else f"{row.file_bytes / 1024:,.0f}",
        None if row.max_abs_error is None else scientific(row.max_abs_error),
        None if top1 is None else f"{top1:.2f} % ({row.top1_source})",
        row.provider,
        state,
        row.reason,
    ]


def _below(result: Benchmark) -> list[str]:
    from ..benchmarking.document import milliseconds

    conditions = result.conditions
    lines = [result.includes]
    if result.measured:
        lines.append(
            f"Rows took turns for {conditions.seconds:.0f} s after a warm-up, and no run was dropped. A ratio is of "
            "medians, to the first row of its batch, with its 95 % interval."
        )
        if not conditions.in_time:
            lines.append("The time was over before every ratio was known within 3 %: a longer --time-limit knows more.")
    if conditions.noise:
        lines.append(f"This is a noisy machine: {'; '.join(conditions.noise)}.")
    lines += [
        "{}: of that, {} ms copy images in, {} ms logits out.".format(row.key, *map(milliseconds, row.copies))
        for row in result.rows
        if row.copies
    ]
    comparison = result.comparison
    if comparison is not None:
        lines += [f"{row.key}: {row.ratio} times {comparison.baseline}, {row.verdict}" for row in comparison.rows]
        if comparison.new:
            lines.append(f"{comparison.new} rows are not in {comparison.baseline}.")
        lines.append(f"allowed: {comparison.allowed:g} times, with 95 % confidence")
    return lines
