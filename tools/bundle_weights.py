"""Put finished training runs into the package: `python tools/bundle_weights.py RUN... --data-dir DIR`.

A run is a folder that `cifar-export train` left. Its weights, log and learning curve go to `artifacts/weights` under
names that carry the first eight digits of the weights' sha256, and its figures into `index.json`: accuracy on the
10,000 test images of the exported ONNX in ONNX Runtime, and PyTorch's beside it. docs/protocol.md has the rules: the
run was planned in `artifacts/plans` before it started, it is the only one of its plan, and it replaces what is bundled
whatever the test set says, unless it stays below the published figure. Each run that was scored is listed in
`artifacts/plans/evaluated.jsonl`.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from cifar_export.accuracy.score import score
from cifar_export.commands.console import Command
from cifar_export.commands.options import data_dir_option
from cifar_export.data import load_split
from cifar_export.errors import GateFailed, InvalidInput, from_os_error
from cifar_export.networks.zoo import named
from cifar_export.system.commit import file_at
from cifar_export.system.files import staged
from cifar_export.training.log import CONDITIONS, differ, parts, read
from cifar_export.training.options import CURVE, LOG, WEIGHTS
from cifar_export.training.plans import EVALUATED, Plan, evaluated, note_evaluated, plan_of
from cifar_export.weights.index import INDEX, BundledEntry, add_to_index, bundled_entries
from cifar_export.weights.sources import load_weights

FOLDER = Path(__file__).resolve().parent.parent / "artifacts" / "weights"
PLANS = "artifacts/plans"
"""From the checkout's top, as git names it."""


def bundle(
    run: Path, data_dir: Path, folder: Path = FOLDER, plans: Path = FOLDER.parent / "plans", *, afterwards: bool = False
) -> BundledEntry:
    """Bundle the finished run in the folder `run`; returns its index entry.

    `afterwards`: take a plan that says that it was written after the run.

    Raises `GateFailed` for a run below the published top-1, which is listed as evaluated all the same, `InvalidInput`
    for a run that is not finished, was not trained on the whole training set, has no plan older than itself, is the
    second one of its plan, or whose weights are not those its log speaks of, and `Unavailable` without the test set or
    the commit that the log names.
    """
    events = read(run / LOG)
    starts, end = [event for event in events if event["event"] == "start"], events[-1]
    if end["event"] != "end":
        raise InvalidInput(f"{run} is not finished. Continue it with `cifar-export train ... --resume`.")
    epochs = [event.get("epoch") for event in events if event["event"] == "epoch"]
    if not starts or epochs != list(range(1, starts[-1]["recipe"]["epochs"] + 1)):
        raise InvalidInput(f"{run / LOG} has not each epoch of its recipe once. Train it anew.")
    start = starts[-1]
    if start["holdout"]:
        raise InvalidInput(f"{run} held out a part of the training set. Bundle a run on all of it.")
    network = named(start["network"])
    weights = load_weights(network, str(run / WEIGHTS))
    if weights.sha256 != end["sha256"]:
        raise InvalidInput(f"{run / WEIGHTS} is not what its log speaks of: sha256 {end['sha256'][:8]} expected.")
    plan = _checked_plan(starts[0], weights.sha256, plans, afterwards)
    split = load_split(data_dir, network.dataset, "test")
    onnx, pytorch = (score(weights, split, runtime) for runtime in ("onnxruntime-cpu", "pytorch"))
    bundled = bundled_entries(folder) if (folder / INDEX).exists() else {}
    old = bundled.get(network.name)
    reference = network.reference
    below = reference is not None and onnx.top1 < reference.top1
    scored = {"top1": onnx.top1, "top5": onnx.top5, "images": onnx.images, "bundled": not below}
    told = {"network": network.name, "plan": plan.file, "written": plan.written, "sha256": weights.sha256}
    note_evaluated(plans, told | scored)
    if below and reference:
        raise GateFailed(
            f"{run} reached {onnx.top1:.2f} %, less than the published {reference.top1:.2f} %.\n"
            f"It is not bundled but listed in {plans / EVALUATED}: commit that, and show it in docs/protocol.md."
        )
    name = f"{network.name}-{weights.sha256[:8]}"
    entry = BundledEntry(
        network=network.name,
        model=network.model.name,
        dataset=network.dataset.name,
        file=f"{name}.safetensors",
        sha256=weights.sha256,
        normalization=weights.normalization,
        recipe=start["recipe"],
        seed=start["seed"],
        metrics={
            "images": onnx.images,
            "top1": onnx.top1,
            "top5": onnx.top5,
            "pytorch_top1": pytorch.top1,
            "pytorch_top5": pytorch.top5,
        },
        below_reference=below,
        provenance=_provenance(events, f"{name}.jsonl", bundled.values()),
        plan=plan.file,
        runs_evaluated=_counted(network.name, plan, plans),
    )
    old_log = _log_of(old)
    files = [(run / WEIGHTS, entry.file), (run / LOG, f"{name}.jsonl")]
    files += [(run / CURVE, f"{name}.png")] if (run / CURVE).exists() else []
    for source, target in files:
        with staged(folder / target) as temporary:
            try:
                shutil.copyfile(source, temporary)
            except OSError as error:
                raise from_os_error(error, f"copy {source}") from error
    add_to_index(folder, entry)
    if old_log is not None and old_log != entry.provenance["log"]:
        for suffix in (".jsonl", ".png"):
            (folder / old_log).with_suffix(suffix).unlink(missing_ok=True)
    return entry


def _checked_plan(start: dict[str, Any], sha256: str, plans: Path, afterwards: bool) -> Plan:
    """Find the plan of the run that began with `start` and made the weights `sha256`, and hold the run to it."""
    plan = plan_of(start, plans)
    path = plans / plan.file
    if plan.written == "afterwards":
        if not afterwards:
            raise InvalidInput(f"{path} says that it was written after the run.\nName --afterwards to take it.")
    elif not start["commit"]:
        raise InvalidInput(f"the log names no commit, so {path} may be younger than the run. Train in a git checkout.")
    else:
        commit = start["commit"].removesuffix("-dirty")  # of the code: a plan that was changed is refused here
        if file_at(commit, f"{PLANS}/{plan.file}") != path.read_bytes():
            raise InvalidInput(
                f"{path} does not stand like this in commit {commit[:12]}, with which the run began.\n"
                "Commit a plan, leave it as it is, and only then train."
            )
    for one in evaluated(plans):
        if one["plan"] == plan.file and one["sha256"] != sha256:
            raise InvalidInput(
                f"{path} had its run already: sha256 {one['sha256'][:8]}, top-1 {one['top1']:.2f} %.\n"
                "A plan has one run; for another one commit another plan, with another seed, first."
            )
    return plan


def _counted(network: str, plan: Plan, plans: Path) -> int | None:
    """Count the runs that were scored for plans written before them; None where `plan` was not."""
    runs = [one for one in evaluated(plans) if one["network"] == network and one["written"] == "before"]
    return len(runs) if plan.written == "before" else None


def _provenance(events: list[dict[str, Any]], log: str, bundled: Iterable[BundledEntry]) -> dict[str, Any]:
    """Say where and how long a run trained, and, where it started from bundled weights, which runs made those.

    Of a run that was resumed: on what most of its epochs were trained, and in `parts` each part where they differ.
    `commits` has several where it was resumed by another version.
    """
    starts = [event for event in events if event["event"] == "start"]
    trained = [part | {"seconds": round(part["seconds"], 1)} for part in parts(events)]
    most = max(trained, key=lambda part: part["epochs"])
    # of the run's very beginning; logs of older versions don't have them
    initial, teachers = starts[0].get("initial"), starts[0].get("teachers")
    earlier: list[dict[str, Any]] = []
    for entry in bundled:
        if entry.sha256 == events[-1]["sha256"]:  # bundled already, in place of what it started from
            earlier = entry.provenance.get("earlier_runs", [])
            break
        if initial and (runs := _runs_up_to(initial["sha256"], entry)):
            earlier = runs
    return {
        **({"initial": initial} if initial else {}),
        **({"teachers": teachers} if teachers else {}),
        **({"earlier_runs": earlier} if earlier else {}),
        **{key: most[key] for key in CONDITIONS},
        **({"parts": trained} if differ(trained) else {}),
        "commits": list(dict.fromkeys(start["commit"] for start in starts)),
        "seconds": round(events[-1]["seconds"], 1),
        "log": log,
    }


def _runs_up_to(sha256: str, entry: BundledEntry) -> list[dict[str, Any]]:
    """List the runs that made the weights `sha256`, the first one first, where they lead to `entry`; else nothing."""
    runs: list[dict[str, Any]] = [
        *entry.provenance.get("earlier_runs", []),
        {
            "network": entry.network,
            "sha256": entry.sha256,
            "recipe": entry.recipe["name"],
            "epochs": entry.recipe["epochs"],
            "prune": entry.recipe.get("prune", 0.0),
            "seed": entry.seed,
            "seconds": entry.provenance["seconds"],
        },
    ]
    last = next((number for number, run in enumerate(runs) if run["sha256"] == sha256), -1)
    return runs[: last + 1]


def _log_of(entry: BundledEntry | None) -> str | None:
    """Name the log that stands beside the network's present weights."""
    log = entry.provenance.get("log") if entry else None
    return log if isinstance(log, str) and Path(log).name == log else None


@click.command(cls=Command)
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path, file_okay=False))
@data_dir_option
@click.option("--afterwards", is_flag=True, help="Take plans that say that they were written after the run.")
def main(runs: tuple[Path, ...], data_dir: Path, afterwards: bool) -> None:
    """Put finished training runs into artifacts/weights."""
    for run in runs:
        entry = bundle(run, data_dir, afterwards=afterwards)
        reference = named(entry.network).reference
        published = reference.top1 if reference else "none"
        low, high = entry.top1_interval
        click.echo(
            f"{entry.file}: top-1 {entry.top1:.2f} % ({low:.2f} to {high:.2f}, published {published}), "
            f"top-5 {entry.top5:.2f} %"
        )
        if "initial" in entry.provenance and "earlier_runs" not in entry.provenance:
            click.echo(
                "note: its initial weights are not of the index: the runs that made them are not listed.", err=True
            )


if __name__ == "__main__":
    main()
