"""What is run, on what stands there before, and what must be true of the folder whatever happened on the way."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cifar_export.networks.zoo import CIFAR10
from cifar_export.release.check.verify import verify
from cifar_export.system.leftovers import leftover_of
from cifar_export.training import checkpoint, log

from support.data_files import contents, write_cifar

NAME = "cifar10_resnet20"
Files = Mapping[str, bytes]
"""The content of each file, by its path in the folder."""


@dataclass(frozen=True)
class World:
    """What the commands need: addresses of a release and its digest, older states by scenario, data to train on."""

    release_url: str
    release_sha256: str
    mirror_url: str
    served: Path
    older: Mapping[str, Path]
    data: Path


@dataclass(frozen=True)
class Scenario:
    """A command, and what is special about what it leaves."""

    arguments: Callable[[Path, World], list[object]]
    """Of the folder: the command line."""
    together: bool = True
    """Whether a failure leaves the old files or the new ones, all of them and no other."""
    older: bool = False
    """Whether it begins with files of a run before: `World.older` has them."""
    again: Callable[[Path, World], list[object]] | None = None
    """The next run, where it is another one."""
    whole: Callable[[Path, str, Files], str] | None = None
    """Says what is wrong with a file that need not be one of two: its folder, its path, what a run without faults
    left."""
    same: Callable[[str], bool] = lambda path: True
    """Which files have the same bytes in every run."""


def is_ours(name: str) -> bool:
    """Whether a file or folder of that name is a temporary or a lock of ours, or a download that goes on."""
    return bool(leftover_of(Path(name))) or name.endswith((".cifar-export.lock", ".part", ".part.json"))


def finished(folder: Path) -> dict[str, bytes]:
    """The files below `folder` under names that a user would take for whole, and that are not said to be ours."""
    files = contents(folder)
    return {
        path: data
        for path, data in files.items()
        if not any(map(is_ours, Path(path).parts)) and f"{path}.part.json" not in files
    }


def age(folder: Path) -> None:
    """Make everything an hour old, so that leftovers are not taken for those of a process that has just begun."""
    for path in (folder, *folder.rglob("*")):
        os.utime(path, (1_000_000_000, 1_000_000_000), follow_symlinks=False)


def leftovers(folder: Path) -> list[str]:
    """Temporaries and locks below `folder`."""
    return [str(path.relative_to(folder)) for path in folder.rglob("*") if is_ours(path.name)]


def _export(folder: Path, _: World) -> list[object]:
    options = ["--no-check", "--output", folder / "a.onnx", "--golden", folder / "golden"]
    return ["onnx", "resnet8", "--weights", "random", *options]


def _package(folder: Path, _: World) -> list[object]:
    return ["package", "--only", NAME, "--version", "1.0.0", "--output", folder / "releases"]


def _package_again(folder: Path, world: World) -> list[object]:
    """A release that stands there is never made again: the next version is."""
    arguments = _package(folder, world)
    if (folder / "releases" / "1.0.0").exists():
        arguments[arguments.index("1.0.0")] = "1.0.1"
    return arguments


def _package_whole(folder: Path, path: str, new: Files) -> str:
    if path.startswith(("cache/", "state/")):
        return ""  # digests decide whether it is used
    if path == "releases/index.json":
        listed = json.loads((folder / path).read_bytes())["releases"]
        missing = [item["version"] for item in listed if not (folder / "releases" / item["version"]).is_dir()]
        return f"lists {missing}" if missing else ""
    if path.endswith(".measurements.json"):
        json.loads((folder / path).read_bytes())
        return ""
    problems = verify(folder / "releases" / Path(path).parts[1]).problems
    return problems[0] if problems else ""


def _fetch(folder: Path, world: World) -> list[object]:
    return ["fetch", NAME, "--release", world.release_url, "--sha256", world.release_sha256, "--output", folder]


def _train(folder: Path, world: World) -> list[object]:
    options = ["--epochs", 2, "--recipe", "swa", "--device", "cpu", "--resume"]
    return ["train", "resnet8", "--output", folder, "--data-dir", world.data, *options]


def _train_whole(folder: Path, path: str, new: Files) -> str:
    if path == "checkpoint.pt":
        checkpoint.load(folder / path)
    elif path == "log.jsonl":
        log.read(folder / path)
    else:
        return "it differs from that of a run without faults"
    return ""


_PACKAGE = Scenario(
    _package,
    together=False,
    again=_package_again,
    whole=_package_whole,
    same=lambda path: path.startswith("releases/"),
)
_DATA_FETCH = Scenario(lambda folder, world: ["data", "fetch", "--dataset", "cifar10", "--data-dir", folder])
SCENARIOS = {
    "onnx": Scenario(_export),
    "onnx over an older one": Scenario(_export, older=True),
    "package": _PACKAGE,
    "package beside an older one": replace(_PACKAGE, older=True),
    "fetch": Scenario(_fetch),
    "data fetch": _DATA_FETCH,
    "data fetch over damaged files": replace(_DATA_FETCH, together=False, older=True),
    "train": Scenario(
        _train,
        together=False,
        whole=_train_whole,
        same=lambda path: path in ("weights.safetensors", "curve.png"),
    ),
}


def environment(folder: Path, world: World) -> dict[str, str]:
    """What the commands read of it."""
    return {
        "CIFAR_EXPORT_CACHE": str(folder / "cache"),
        "CIFAR_EXPORT_DATA_URL": world.mirror_url,
        "XDG_STATE_HOME": str(folder / "state"),
        "no_proxy": "127.0.0.1",
    }


def problems_of(scenario: Scenario, folder: Path, old: Files, new: Files, code: int, world: World) -> list[str]:
    """What is wrong with `folder` after a run that ended with `code` (-9: killed), of what must be true always."""
    now = finished(folder)
    problems = []
    for path, data in now.items():
        if data == old.get(path) or (data == new.get(path) and scenario.same(path)):
            continue
        if scenario.whole is None:
            problems.append(f"{path} is neither the old file nor the new one")
        else:
            try:
                said = scenario.whole(folder, path, new)
            except Exception as error:  # noqa: BLE001  # whatever a reader raises: the file is not whole
                said = repr(error)
            problems += [f"{path}: {said}"] if said else []
    served = {path.name: path.read_bytes() for path in world.served.rglob("*.tar.gz")}
    problems += [f"{path} is not whole" for path, data in contents(folder).items() if data != served.get(path, data)]
    problems += [f"{path} is gone" for path in old if path not in now]
    if code == 0 and set(filter(scenario.same, now)) != set(filter(scenario.same, new)):
        problems.append(f"it says that all is done, and there is {sorted(now)}")
    if code > 0 and scenario.together and now not in (old, new):  # new: it stands, and is perhaps not on the disk yet
        problems.append(f"it failed, and there is {sorted(now)}")
    return problems


def begin(scenario: Scenario, name: str, folder: Path, world: World) -> dict[str, bytes]:
    """Make `folder` as it is before the command, and say what is in it."""
    if scenario.older:
        shutil.copytree(world.older[name], folder)
    else:
        folder.mkdir()
    return finished(folder)


def make_data(folder: Path) -> Any:
    """What `driver.NETWORK` is trained on."""
    return write_cifar(folder, CIFAR10, train=100, test=50)
