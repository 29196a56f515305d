"""Train planned runs side by side within a time: `python tools/train_gpu.py --minutes N [NETWORK...] --data-dir DIR`.

docs/protocol.md wants recipe, seed and length in a committed plan before a run begins, and only the machine at hand
tells which length ends in time. So there are two halves:

    python tools/train_gpu.py --plan --minutes 60 cifar100_resnet20 cifar100_resnet56
    git add artifacts/plans && git commit
    python tools/train_gpu.py --minutes 60

`--plan` trains each network for a few epochs, side by side as later, in runs with held-out images that are thrown away,
and writes plans for as many epochs as the time allows. The other half trains what is planned and has no run yet; where
a network has several such plans, it measures as `--plan` does and takes the longest that ends in time. When the time is
up it ends the runs that are not finished: `cifar-export train ... --resume` goes on with them, on any machine, and so
does this script.
"""

from __future__ import annotations

import json
import math
import shlex
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from cifar_export.commands.console import Command
from cifar_export.commands.options import data_dir_option
from cifar_export.errors import InvalidInput
from cifar_export.networks.zoo import NETWORKS, named
from cifar_export.system.commit import file_at, source_commit
from cifar_export.system.files import write_atomically
from cifar_export.training.children import side_by_side
from cifar_export.training.log import read
from cifar_export.training.options import CHECKPOINT, HIGHEST_SEED, LOG, RUNS, WEIGHTS
from cifar_export.training.plans import SCHEMA, Plan, evaluated, read_plan
from cifar_export.training.recipe import CONTINUING, PRESETS

ROOT = Path(__file__).resolve().parent.parent
PLANS = "artifacts/plans"
"""From the checkout's top, as git names it."""
MARGIN = 0.9
"""Of the time: what the runs may take by what was measured. The rest is for what was not."""
_MEASURED_EPOCHS = 3
_LOOK_EVERY_S = 0.2


@dataclass(frozen=True)
class Speed:
    """Seconds of a run on `hardware`: `once`, before its first epoch and for compiling, and of each `epoch`."""

    once: float
    epoch: float
    hardware: str

    def epochs_in(self, seconds: float) -> int:
        """As many as end within `seconds`."""
        return math.floor((seconds - self.once) / self.epoch)


def speeds(recipes: dict[str, str], more: Sequence[str], until: float, clock: Callable[[], float]) -> dict[str, Speed]:
    """Measure networks side by side, each with its recipe: by name. `more`: further options of `train`.

    Raises `InvalidInput` where that is not done by `until`, and what a run ends with.
    """
    with tempfile.TemporaryDirectory(prefix="cifar-export-") as folder:
        logs = {name: Path(folder) / name / LOG for name in recipes}
        commands = {
            name: [name, "--recipe", recipe, "--holdout", "--output", str(logs[name].parent), *more]
            for name, recipe in recipes.items()
        }
        began, found = clock(), dict[str, Speed]()
        with side_by_side(commands) as children:
            while len(found) < len(recipes):  # all of them run until the last one is measured
                threading.Event().wait(_LOOK_EVERY_S)
                for name in recipes.keys() - found.keys():
                    ended = not children[name].is_running()
                    if (speed := _speed(name, logs[name], clock() - began)) is not None:
                        found[name] = speed
                    elif ended and (failure := children[name].failure(name)):
                        raise failure
                if (slow := [name for name in recipes if name not in found]) and clock() > until:
                    raise InvalidInput(f"the time is too short even to measure {', '.join(slow)}. Give more --minutes.")
    return found


def _speed(name: str, log: Path, passed: float) -> Speed | None:
    """What the log of a run says that was begun `passed` seconds ago; None before it has enough epochs."""
    events = read(log) if log.exists() else []
    seconds = [event["seconds"] for event in events if event["event"] == "epoch"]
    if len(seconds) < _MEASURED_EPOCHS:
        return None
    epoch = max(seconds[1:])  # the first one compiles
    whole = named(name).dataset.train_images / events[0]["images"]  # without those held out
    return Speed(max(0.0, passed - len(seconds) * epoch), epoch * whole, str(events[0]["hardware"]))


def write_plans(
    networks: Sequence[str],
    recipe: str,
    seed: int,
    minutes: float,
    more: Sequence[str],
    plans: Path,
    runs: Path = RUNS,
    clock: Callable[[], float] = time.monotonic,
) -> list[Path]:
    """Write a plan for each of `networks` into the folder `plans`: as many epochs as end within `minutes`.

    Raises `InvalidInput` where not even one does, or where that plan had its run.
    """
    measured = speeds(dict.fromkeys(networks, recipe), more, clock() + 60 * minutes / 2, clock)
    found = []
    for name, speed in measured.items():
        epochs = min(PRESETS[recipe].epochs, speed.epochs_in(MARGIN * 60 * minutes))
        if epochs < 1:
            raise InvalidInput(f"not one epoch of {name} ends within {minutes:g} minutes. Give more --minutes.")
        beside = "".join(f", beside {other}" for other in measured if other != name)
        reason = (
            f"As many epochs of the recipe `{recipe}` as {minutes:g} minutes allow on {speed.hardware}{beside}: one "
            f"took {speed.epoch:.3g} s there in a run with held-out images, which was thrown away and whose accuracy "
            "decided nothing."
        )
        found.append(Plan(name, recipe, epochs, seed, reason, "before"))
        if _had_its_run(found[-1], plans, runs):
            raise InvalidInput(f"{found[-1].file} had its run already. Name another --seed, and only then plan.")
    for plan in found:
        fields = {key: value for key, value in vars(plan).items() if value not in (None, ())}
        write_atomically(plans / plan.file, (json.dumps({"schema": SCHEMA, **fields}, indent=2) + "\n").encode())
    return [plans / plan.file for plan in found]


def open_plans(networks: Sequence[str], plans: Path, runs: Path) -> dict[str, list[Plan]]:
    """The plans of `networks` (none: all) that have no finished run, by network; where one is begun, that alone.

    Those that begin with trained weights are left out: this script has none.
    """
    found: dict[str, list[Plan]] = {}
    for path in sorted(plans.glob("*.json")):
        plan = read_plan(path)
        if plan.written != "before" or plan.initial or plan.teachers or (networks and plan.network not in networks):
            continue
        if not _had_its_run(plan, plans, runs):
            found.setdefault(plan.network, []).append(plan)
    for name, some in found.items():
        begun = [plan for plan in some if (_folder(plan, runs) / CHECKPOINT).exists()]
        found[name] = begun[:1] or some
    return found


def _had_its_run(plan: Plan, plans: Path, runs: Path) -> bool:
    return any(one["plan"] == plan.file for one in evaluated(plans)) or (_folder(plan, runs) / WEIGHTS).exists()


def _folder(plan: Plan, runs: Path) -> Path:
    return runs / Path(plan.file).stem


def chosen(
    candidates: dict[str, list[Plan]], more: Sequence[str], ends: float, clock: Callable[[], float]
) -> list[Plan]:
    """Of each network the longest plan that ends by `ends`, or the shortest; measured where there is a choice."""
    if all(len(some) == 1 for some in candidates.values()):
        return [some[0] for some in candidates.values()]
    recipes = {name: some[0].recipe for name, some in candidates.items()}
    measured = speeds(recipes, more, clock() + (ends - clock()) / 2, clock)
    left, found = MARGIN * (ends - clock()), []
    for name, some in candidates.items():
        by_length = sorted(some, key=lambda plan: plan.epochs)
        fitting = [plan for plan in by_length if plan.epochs <= measured[name].epochs_in(left)]
        found.append((fitting or by_length[:1])[-1])
    return found


def _refuse_uncommitted(plan: Plan, plans: Path) -> None:
    """Raise `InvalidInput` unless `plan` stands in the commit that its run would name."""
    commit = source_commit(required=True)
    path = plans / plan.file
    if commit is None or file_at(commit.removesuffix("-dirty"), f"{PLANS}/{plan.file}") != path.read_bytes():
        raise InvalidInput(f"{path} is not committed as it stands. Commit it before its run begins (docs/protocol.md).")


def train(
    networks: Sequence[str],
    minutes: float,
    more: Sequence[str],
    plans: Path,
    runs: Path = RUNS,
    tell: Callable[[str], None] = click.echo,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Train what is planned, for `minutes` at most; `tell` hears of each run that it is finished, or how it goes on.

    Raises `InvalidInput` where nothing is planned or a plan is not committed, and at the end what a run ended with.
    """
    ends = clock() + 60 * minutes
    candidates = open_plans(networks, plans, runs)
    if missing := [name for name in networks if name not in candidates] or ([] if candidates else ["any network"]):
        raise InvalidInput(f"no plan without a run of {', '.join(missing)} in {plans}. Write one with --plan.")
    for some in candidates.values():
        for plan in some:
            _refuse_uncommitted(plan, plans)
    wanted = {plan.file: plan for plan in chosen(candidates, more, ends, clock)}
    commands = {name: [*_arguments(plan, runs), *more] for name, plan in wanted.items()}
    with side_by_side(commands) as children:
        while any(child.is_running() for child in children.values()) and clock() < ends:
            threading.Event().wait(_LOOK_EVERY_S)
        failures = {name: child.failure(name) for name, child in children.items() if not child.is_running()}
    for name, plan in wanted.items():
        if not failures.get(name):
            tell(_told(plan, runs))
    for failure in filter(None, failures.values()):
        raise failure


def _arguments(plan: Plan, runs: Path) -> list[str]:
    settings = ["--recipe", plan.recipe, "--epochs", str(plan.epochs), "--seed", str(plan.seed)]
    return [plan.network, *settings, "--output", str(_folder(plan, runs)), "--resume"]


def _told(plan: Plan, runs: Path) -> str:
    folder = _folder(plan, runs)
    if (folder / WEIGHTS).exists():
        return f"{folder}: finished. Score it with tools/bundle_weights.py."
    events = read(folder / LOG) if (folder / CHECKPOINT).exists() else []
    done = sum(event["event"] == "epoch" for event in events)
    onward = shlex.join(["cifar-export", "train", *_arguments(plan, runs)])
    return f"{folder}: {done} of {plan.epochs} epochs. Go on: {onward}"


@click.command(cls=Command)
@click.argument("networks", metavar="[NETWORK]...", nargs=-1)
@click.option("--minutes", type=click.FloatRange(0, min_open=True), required=True, help="When all of it shall be over.")
@click.option("--plan", "planning", is_flag=True, help="Measure, write plans, and train nothing.")
@click.option("--recipe", type=click.Choice(list(PRESETS)), default="release", show_default=True, help="With --plan.")
@click.option("--seed", type=click.IntRange(0, HIGHEST_SEED), default=0, show_default=True, help="With --plan.")
@click.option("--device", type=click.Choice(("auto", "cpu", "cuda")), default="auto", show_default=True)
@click.option("--runs", type=click.Path(path_type=Path, file_okay=False), default=RUNS, help="Folder of the runs.")
@data_dir_option
def main(
    networks: tuple[str, ...],
    minutes: float,
    planning: bool,
    recipe: str,
    seed: int,
    device: str,
    runs: Path,
    data_dir: Path,
) -> None:
    """Train planned runs side by side within a time; with --plan, plan them."""
    names = list(dict.fromkeys(named(name).name for name in networks))
    more = ["--data-dir", str(data_dir), "--device", device]
    plans = ROOT / PLANS
    if not planning:
        train(names, minutes, more, plans, runs)
        return
    if recipe in CONTINUING:
        raise InvalidInput(f"recipe {recipe} begins with trained weights, which this script has none of.")
    for path in write_plans(names or list(NETWORKS), recipe, seed, minutes, more, plans, runs):
        click.echo(path)
    click.echo(f"Commit them before they are trained: git add {PLANS} && git commit", err=True)


if __name__ == "__main__":
    main()
