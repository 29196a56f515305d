"""Compare what the parts of a short recipe bring, on held-out images: artifacts/studies/recipe-parts.jsonl.

    python tools/compare_recipes.py [--data-dir DIR] [--epochs 12] [--seeds 1] [--threads N] [PART]...

Each part is trained alone on top of the plain recipe, from random weights, with ResNet-20 on the 45,000 images of
CIFAR-10 that are not held out; the test set is never read. Seeds come in turns, so that every part has its first run
before one has its second. Each finished run is a line of the file; a run that is there is not made again, and one that
was interrupted is continued (build/recipes). At the end a table of all lines is printed, as docs/accuracy.md has it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from cifar_export.networks.zoo import network  # noqa: E402  # of this checkout
from cifar_export.training.options import WEIGHTS, NamedWeights, Options  # noqa: E402
from cifar_export.training.recipe import QUICK, Recipe  # noqa: E402
from cifar_export.training.run import train  # noqa: E402

NETWORK = network("resnet20", "cifar10")
RUNS = ROOT / "build" / "recipes"
RESULTS = ROOT / "artifacts" / "studies" / "recipe-parts.jsonl"

PLAIN = replace(QUICK, name="plain", epochs=12, prune=0.0, label_smoothing=0.0, flip="random")
"""`quick` without what is compared here."""

TEACHER = "moving average"
"""The part whose run of the same seed teaches the one that distills: it never saw the held-out images."""

PARTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "moving average": {"ema_decay": 0.999},
    "alternating flips": {"flip": "alternating"},
    "label smoothing": {"label_smoothing": 0.05},
    "pruning": {"prune": 0.5},
    "distillation": {"distill": 0.9, "temperature": 2.0},
    "half as long again": {},
}
"""What each part changes of `PLAIN`."""

LONGER = {"pruning": 4 / 3, "half as long again": 1.5}
"""How many times as many epochs a part has: pruned ones use about two thirds of the images, so that both see as many
images as the plain recipe's; and the gain of time alone."""


def recipe_of(part: str, epochs: int) -> Recipe:
    """Give the recipe of a part at the length that is compared with `epochs` plain ones."""
    return replace(PLAIN, epochs=round(epochs * LONGER.get(part, 1)), **PARTS[part])


def main(parts: Iterable[str], epochs: int, seeds: int, data_dir: Path, threads: int | None) -> None:
    """Train what is missing, then print the table."""
    for seed in range(seeds):
        for part in parts:
            if not any(line["part"] == part and line["seed"] == seed and _long(line, epochs) for line in results()):
                _keep(_trained(part, epochs, seed, data_dir, threads))
    sys.stdout.writelines(f"{line}\n" for line in table(results(), epochs))


def results() -> list[dict[str, Any]]:
    """Read what was measured so far."""
    return [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []


def table(lines: list[dict[str, Any]], epochs: int) -> Iterator[str]:
    """Write a table of the runs compared with `epochs` plain epochs: a line a part, its seeds, and what it brings."""
    yield "| part | epochs | images seen | held-out top-1, each seed | mean gain over plain | minutes |"
    yield "|---|--:|--:|---|--:|--:|"
    here = [line for line in lines if _long(line, epochs)]
    plain = {line["seed"]: line["top1"] for line in here if line["part"] == "plain"}
    for part in PARTS:
        runs = sorted((line for line in here if line["part"] == part), key=lambda line: line["seed"])
        if not runs:
            continue
        gains = [run["top1"] - plain[run["seed"]] for run in runs if run["seed"] in plain]
        gain = f"{statistics.fmean(gains):+.2f}" if gains and part != "plain" else ""
        scores = ", ".join(f"{run['top1']:.2f}" for run in runs)
        seen = f"{statistics.fmean(run['images'] for run in runs) / 1000:,.0f} thousand"
        minutes = f"{statistics.fmean(run['seconds'] for run in runs) / 60:.0f}"
        yield f"| {part} | {runs[0]['recipe']['epochs']} | {seen} | {scores} | {gain} | {minutes} |"


def _long(line: dict[str, Any], epochs: int) -> bool:
    same: bool = line["recipe"] == recipe_of(line["part"], epochs).as_dict()
    return same


def _trained(part: str, epochs: int, seed: int, data_dir: Path, threads: int | None) -> dict[str, Any]:
    folder = RUNS / f"{part.replace(' ', '-')}-{epochs}-seed{seed}"
    teacher = RUNS / f"{TEACHER.replace(' ', '-')}-{epochs}-seed{seed}" / WEIGHTS
    options = Options(
        NETWORK,
        recipe_of(part, epochs),
        data_dir,
        output=folder,
        seed=seed,
        device="cpu",
        threads=threads,
        holdout=True,
        resume=True,
        teachers=(NamedWeights(str(teacher), NETWORK),) if part == "distillation" else (),
    )
    _say(f"{part}, seed {seed}: {options.recipe.epochs} epochs")
    result = train(options, on_note=_say)
    if result is None:
        raise SystemExit("torchrun trains one network in several processes; this compares many. Leave it away.")
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    ended = [event for event in log if event["event"] == "epoch"]
    return {
        "part": part,
        "seed": seed,
        "network": NETWORK.name,
        "top1": result.top1,
        "top5": result.top5,
        "images": sum(event["images"] for event in ended),
        "seconds": round(result.seconds),
        "hardware": result.hardware,
        "precision": result.precision,
        "recipe": options.recipe.as_dict(),
    }


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _keep(line: dict[str, Any]) -> None:
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    with RESULTS.open("a") as file:
        file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "parts", nargs="*", metavar="PART", choices=[*PARTS, []], help="Parts to train; all by default."
    )
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--epochs", type=int, default=PLAIN.epochs)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--threads", type=int)
    given = parser.parse_args()
    main(given.parts or PARTS, given.epochs, given.seeds, given.data_dir, given.threads)
