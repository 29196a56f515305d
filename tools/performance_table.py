r"""Write the table of docs/performance.md from benchmarks of all networks.

    for network in cifar{10,100}_resnet{20,32,44,56}; do
        cifar-export benchmark $network --precision float32 --precision float16 --precision int8 \
            --batch 1,64 --time-limit 240 --output build/performance/$network
    done
    python tools/performance_table.py build/performance/*/benchmark.json

A column a network, a row for each runtime and precision, a table for each batch: ratios to ONNX Runtime in float32.
Refuses documents of different machines, threads or versions, and those that failed or were interrupted.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- measured -->", "<!-- end of measured -->"
FIRST = ("onnxruntime-cpu", "float32")
Document = dict[str, Any]


def section(documents: Sequence[Document]) -> str:
    """The section "Measured", from a document for each network. Raises ValueError for documents that do not fit."""
    for document in documents:
        _require_fit(document, documents[0])
    machine, conditions = documents[0]["machine"], [document["conditions"] for document in documents]
    batches = list(dict.fromkeys(row["batch"] for document in documents for row in document["rows"]))
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items() if name != "system")
    noise = list(dict.fromkeys(words for one in conditions for words in one["noise"]))
    lines = [
        BEGIN,
        "## Measured",
        "",
        f"{machine['processor']} ({', '.join(machine['instruction_sets'])}), {machine['cores']} cores, "
        f"{machine['threads']} threads, {machine['system']}; {versions}. By `tools/performance_table.py`, input "
        f"{documents[0]['rows'][0]['input']}. Ratios of medians to ONNX Runtime in float32, with half their 95 % "
        "interval; below 1 is faster.",
    ]
    if noise:
        lines += ["", f"The machine was noisy: {'; '.join(noise)}."]
    for batch in batches:
        lines += ["", f"Batch {batch}:", "", *_table(documents, batch)]
    return "\n".join([*lines, END])


def _require_fit(document: Document, first: Document) -> None:
    name = document["rows"][0]["subject"]
    if not document["passed"] or document["interrupted"]:
        raise ValueError(f"{name}: its benchmark failed or was interrupted. Measure it again.")
    if document["machine"] != first["machine"]:
        raise ValueError(f"{name}: measured on another machine, or with other versions. Measure all on one.")
    if (document["rows"][0]["runtime"], document["rows"][0]["precision"]) != FIRST:
        raise ValueError(f"{name}: its first row is not {FIRST[0]} in {FIRST[1]}. Name it first.")


def _table(documents: Sequence[Document], batch: int) -> list[str]:
    found = [
        {
            (row["runtime"], row["precision"]): row
            for row in document["rows"]
            if row["batch"] == batch and row["latency"]
        }
        for document in documents
    ]
    keys = dict.fromkeys(key for rows in found for key in rows)
    heads = [document["rows"][0]["network"].replace("_resnet", "<br>resnet") for document in documents]
    absolute = [f"{1000 * rows[FIRST]['latency']['p50']:.3g}" if FIRST in rows else "" for rows in found]
    return [
        f"| runtime | precision | {' | '.join(heads)} |",
        f"|---|---|{'--:|' * len(documents)}",
        f"| `{FIRST[0]}`, ms | {FIRST[1]} | {' | '.join(absolute)} |",
        *(
            f"| `{runtime}` | {precision} | {' | '.join(_cell(rows.get((runtime, precision))) for rows in found)} |"
            for runtime, precision in keys
            if (runtime, precision) != FIRST
        ),
    ]


def _cell(row: Document | None) -> str:
    if row is None or row["ratio"] is None:
        return ""
    ratio = row["ratio"]
    return f"{ratio['value']:.2f} ± {(ratio['high'] - ratio['low']) / 2:.2f}"


def with_section(page: str, text: str) -> str:
    """`page` with `text` in the place of the section that it has, or at its end."""
    before, found, rest = page.partition(BEGIN)
    if not found:
        return f"{page.rstrip()}\n\n{text}\n"
    return before + text + rest.partition(END)[2]


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("documents", type=Path, nargs="+", metavar="benchmark.json")
    arguments = parser.parse_args()
    try:
        text = section([json.loads(path.read_text(encoding="utf-8")) for path in arguments.documents])
    except (OSError, ValueError, KeyError) as error:
        sys.exit(f"error: {error}")
    PAGE.write_text(with_section(PAGE.read_text(encoding="utf-8"), text), encoding="utf-8")


if __name__ == "__main__":
    main()
