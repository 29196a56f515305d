"""Every call that changes something below a command's output fails once, or is its process's last one.

Whatever the call: what stands under its name is whole, what stood there before is untouched or replaced, and the next
run succeeds. `shim.c` counts the calls and chooses among them.
"""

from __future__ import annotations

import errno
import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from cifar_export.data.fetch import ARCHIVES
from cifar_export.networks.zoo import CIFAR10
from cifar_export.release.build import shelf
from cifar_export.system.files import sha256_file

from support.data_files import contents, folder_member, pack, write_cifar
from support.faults.machine import KILL, Machine, compiler, machine
from support.faults.scenarios import (
    NAME,
    SCENARIOS,
    Files,
    World,
    age,
    begin,
    environment,
    finished,
    leftovers,
    make_data,
    problems_of,
)
from support.releases import fake_network, fake_release
from support.web_server import serving

pytestmark = pytest.mark.skipif(compiler() is None, reason="needs Linux and a C compiler for a preloaded library")
FAULTS = {"EIO": errno.EIO, "ENOSPC": errno.ENOSPC, "EINTR": errno.EINTR, "SIGKILL": KILL}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[tuple[Machine, World]]:
    """The process that runs the commands, a server and what else they need."""
    root = tmp_path_factory.mktemp("faults")
    fake_network(root / "templates" / NAME, NAME)
    www, source = root / "www", root / "source"
    release = fake_release(www / "1.0.0", names=(NAME,))
    write_cifar(source, CIFAR10)
    files = {**contents(source), "cifar-10-batches-bin/batches.meta.txt": "\n".join(CIFAR10.labels).encode()}
    archive = pack(www / ARCHIVES["cifar10"].name, [(folder_member("cifar-10-batches-bin"), b""), *files.items()])
    official = {kind: hashlib.new(kind, archive.read_bytes()).hexdigest() for kind in ("md5", "sha256")}
    make_data(root / "data")
    slow = any(item.get_closest_marker("slow") for item in request.session.items)
    with serving(www) as server, machine(root, official, root / "templates", trains=slow) as driver:
        older = {name: root / name for name, scenario in SCENARIOS.items() if scenario.older}
        world = World(f"{server.url}1.0.0/", sha256_file(release / "SHA256SUMS"), server.url, www, older, root / "data")
        make_older(driver, world)
        yield driver, world


def make_older(driver: Machine, world: World) -> None:
    """Make what stands there before, of every scenario that begins with something."""
    exported = world.older["onnx over an older one"]
    arguments = [*SCENARIOS["onnx"].arguments(exported, world), "--seed", 1]
    assert driver.run(arguments, exported, environment(exported, world)).code == 0
    releases = world.older["package beside an older one"] / "releases"
    shelf.add(releases, shelf.describe(fake_release(releases / "0.9.0", names=(NAME,), version="0.9.0")))
    damaged = world.older["data fetch over damaged files"] / "cifar-10-batches-bin"
    damaged.mkdir(parents=True)
    (damaged / "data_batch_1.bin").write_bytes(b"short")
    (damaged / "mine.txt").write_text("mine")


def wrong_at(driver: Machine, world: World, name: str, place: Path, new: Files, number: int, fault: str) -> list[str]:
    """Let one call fail, then run again; what was wrong after either. `new`: what a run without faults leaves."""
    scenario = SCENARIOS[name]
    error = FAULTS[fault]
    shutil.rmtree(place, ignore_errors=True)
    old = begin(scenario, name, place, world)
    arguments, variables = scenario.arguments(place, world), environment(place, world)
    ran = driver.run(arguments, place, variables, number=number, error=error)
    said = problems_of(scenario, place, old, new, ran.code, world)
    if ran.code not in ((-9,) if error == KILL else (0, 3)) or "Traceback" in ran.said:
        said.append(f"it ended with {ran.code}: {ran.said[-500:]}")
    age(place)
    onward = (scenario.again or scenario.arguments)(place, world)
    again = driver.run(onward, place, variables)
    after = finished(place)
    if again.code:
        said.append(f"the next run ended with {again.code}: {again.said[-500:]}")
    said += [f"afterwards {each}" for each in problems_of(scenario, place, old, new, -9, world)]
    if onward == arguments:
        said += [f"afterwards {path} differs" for path in filter(scenario.same, new) if after.get(path) != new[path]]
        said += [f"afterwards {path} is there" for path in filter(scenario.same, after) if path not in new]
    said += [f"afterwards {path} is left" for path in leftovers(place)]
    call = ran.calls[number - 1] if len(ran.calls) >= number else "none"
    return [f"{name}, {fault} at call {number} ({call}): {each}" for each in said]


def points(driver: Machine, world: World, name: str, folder: Path, most: int = 100_000) -> tuple[int, list[str]]:
    """Let each call of a scenario fail in each way, or `most` of them; how many, and what was wrong there."""
    scenario, clean = SCENARIOS[name], folder / "clean"
    begin(scenario, name, clean, world)
    done = driver.run(scenario.arguments(clean, world), clean, environment(clean, world))
    assert done.code == 0, done.said
    every = [(number, fault) for fault in FAULTS for number in range(1, len(done.calls) + 1)]
    chosen = every[:: max(1, len(every) // most)]
    new, wrong = finished(clean), []
    for number, fault in chosen:
        found = wrong_at(driver, world, name, folder / "place", new, number, fault)
        print(*found, sep="\n", end="\n" if found else "", flush=True)
        wrong += found
    return len(chosen), wrong


def test_a_call_that_fails_here_and_there_leaves_nothing_half(made: tuple[Machine, World], tmp_path: Path) -> None:
    """One test, so that one worker needs the process."""
    for name in SCENARIOS.keys() - {"train"}:  # which imports five seconds more
        folder = tmp_path / name
        folder.mkdir()
        count, wrong = points(*made, name, folder, most=3)
        assert count >= 3
        assert wrong == []


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENARIOS)
def test_whatever_call_fails_leaves_nothing_half(made: tuple[Machine, World], tmp_path: Path, name: str) -> None:
    count, wrong = points(*made, name, tmp_path)
    print(f"{name}: {count} points")
    assert wrong == []
