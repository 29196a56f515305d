"""How `--help` is laid out: the options of long commands in sections, examples at the end."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import click

LONG = 8
"""Options of a command that are one list; more are in sections."""
SECTIONS: dict[str, tuple[str, ...]] = {
    "Network": ("--dataset", "--only", "--weights", "--seed", "--labels", "--mean", "--std", "--key", "--shortcut"),
    "Training": (
        *("--recipe", "--show-recipe", "--epochs", "--prune", "--limit", "--holdout", "--teacher", "--finetune"),
        *("--resume", "--initial-weights", "--initial-model", "--freeze-body"),
    ),
    "File": (
        *("--file", "--trust-file", "--target", "--opset", "--batch", "--batch-norm", "--pooling", "--classifier"),
        *("--input", "--layout", "--io", "--precision", "--format", "--weight-bits", "--scheme", "--calibration"),
    ),
    "Proof and accuracy": (
        *("--runtime", "--all-runtimes", "--data-dir", "--test-set", "--top", "--batch-size", "--check-accuracy"),
        "--accuracy-budget",
        "--no-check",
    ),
    "Measurement": ("--device", "--threads", "--time-limit", "--compare", "--allow"),
    "Release": ("--version", "--jobs", "--no-cache", "--sign-key", "--license"),
    "Result": ("--output", "--golden", "--report", "--save-repro", "--tensorboard", "--wide", "--json", "--help"),
}
"""The options under each heading; what a command has besides stands under "Options"."""


def write_options(command: click.Command, ctx: click.Context, formatter: click.HelpFormatter) -> None:
    """Write the options of `command`: in sections, where there are many."""
    options = [parameter for parameter in command.get_params(ctx) if isinstance(parameter, click.Option)]
    where = {name: heading for heading, names in SECTIONS.items() for name in names} if len(options) > LONG else {}
    found: dict[str, list[tuple[str, str]]] = {}
    for option in options:
        record = option.get_help_record(ctx)
        if record is not None:
            heading = next((where[name] for name in option.opts if name in where), "Options")
            found.setdefault(heading, []).append(record)
    for heading in ("Options", *SECTIONS):
        if heading in found:
            with formatter.section(heading):
                formatter.write_dl(found[heading])


def write_examples(examples: Sequence[str], formatter: click.HelpFormatter) -> None:
    """Write whole commands, each on a line of its own; what is too long goes on after a backslash."""
    if examples:
        with formatter.section("Examples"):
            for example in examples:
                for line in _broken(re.split(" (?=-)", example), formatter.width - formatter.current_indent - 2):
                    formatter.write(f"{'':{formatter.current_indent}}{line}\n")


def _broken(parts: Iterable[str], width: int) -> list[str]:
    lines = [""]
    for part in parts:
        if lines[-1] and len(lines[-1]) + 1 + len(part) > width:
            lines[-1] += " \\"
            lines.append(f"    {part}")
        else:
            lines[-1] += f" {part}" if lines[-1] else part
    return lines
