"""A process that builds releases of stand-in networks in children of its own, which may die wherever a test wants.

It imports everything once and forks for each order, so that a crash test costs no import. An order is a line of JSON on
stdin, the answer one on stdout: the child's exit status (negative: the signal that ended it) and what it said.
"""

import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

import filelock  # noqa: F401  # what a child without rights could not import any more
import numpy as np

import cifar_export.commands.progress
import cifar_export.commands.reports  # noqa: F401
from cifar_export import __main__ as cli
from cifar_export.data import Split
from cifar_export.release.build import assemble, publish, shelf, workers
from cifar_export.release.build import package as build
from cifar_export.release.build.assemble import write_json
from cifar_export.release.sums import files_below, write_sums

NAMES = ("cifar10_resnet20", "cifar100_resnet20")
FEW = Split(np.zeros((4, 32, 32, 3), np.uint8), np.zeros(4, np.int64))


def die() -> None:
    """The end, without any clean-up."""
    os.kill(os.getpid(), signal.SIGKILL)


def stand_in(spec: Any, version: str, folder: Path, split: Split, **_options: Any) -> dict[str, Any]:
    """A builder that copies a stand-in network, which was made before: what makes them imports torch."""
    at(f"before {spec.name}")
    template = Path(os.environ["RELEASE_TEMPLATES"]) / spec.name
    for name in files_below(template):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(template / name, folder / name)
    config = json.loads((folder / "config.json").read_bytes())
    write_json(folder / "config.json", config | {"version": version})
    write_sums(folder)
    at(f"after {spec.name}")
    return {"seconds": 1.5}


ACTIONS: dict[str, str] = json.loads(os.environ.get("RELEASE_ACTIONS", "{}"))


def at(stage: str) -> None:
    """Do what the order says of this stage: `kill`, a signal's name, `full` (disk), or wait for a pipe's other end."""
    action = ACTIONS.get(stage)
    if action == "kill":
        die()
    elif action in ("SIGINT", "SIGTERM"):
        signal.raise_signal(signal.Signals[action])
    elif action == "end the parent":
        os.kill(os.getppid(), signal.SIGTERM)
        signal.pause()
    elif action == "full":
        raise OSError(28, "No space left on device", str(Path.cwd()))
    elif action is not None:  # two pipes: say that the stage is reached, wait until somebody lets go on
        reached, go_on = action.split(":")
        Path(reached).write_text(f"{os.getpid()} {os.getppid()}")
        with Path(go_on).open() as pipe:
            pipe.readline()


def staged_before(module: Any, name: str, stage: str) -> None:
    """Let `module.name` reach a stage before it does its work, and one after."""
    real = getattr(module, name)

    def function(*arguments: Any, **options: Any) -> Any:
        at(f"before {stage}")
        result = real(*arguments, **options)
        at(f"after {stage}")
        return result

    setattr(module, name, function)


def prepare() -> None:
    """Put the stand-ins and the stages in place."""
    build._default_builder = lambda: stand_in  # type: ignore[assignment]
    build.test_images = workers.test_images = lambda data_dir, dataset: FEW
    build.release_commit = lambda say: "0123456789" * 4
    staged_before(assemble, "write_archive", "archive")
    staged_before(publish, "verify", "verify")
    staged_before(publish, "_settle", "settle")
    staged_before(shelf, "write_plain", "measurements")  # the first that is written
    staged_before(shelf, "add", "index")
    real = Path.replace

    def replace(path: Path, target: Path) -> Path:
        if Path(target).name == "index.json":
            at("before index rename")
        return real(path, target)

    Path.replace = replace  # type: ignore[method-assign]


def obey(order: dict[str, Any]) -> None:
    """Run the command line as the order says; ends the process."""
    os.environ.update(order.get("environment", {}))
    ACTIONS.update(order.get("actions", {}))
    os.environ["RELEASE_ACTIONS"] = json.dumps(ACTIONS)  # for processes that it starts
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background starts with it ignored
    if order.get("umask") is not None:
        os.umask(order["umask"])
    if order.get("nobody") and os.geteuid() == 0:
        os.setgid(65534)
        os.setuid(65534)
    cli.main(order["arguments"], prog_name="cifar-export")


def main() -> None:
    """Answer orders until stdin ends."""
    prepare()
    for line in sys.stdin:
        order = json.loads(line)
        with tempfile.TemporaryFile() as said:
            child = os.fork()
            if child == 0:
                os.dup2(said.fileno(), 1)
                os.dup2(said.fileno(), 2)
                code = 70
                try:
                    obey(order)
                except SystemExit as stop:
                    code = stop.code if isinstance(stop.code, int) else 1 if stop.code else 0
                except BaseException:  # noqa: BLE001  # a child must not go on as its parent
                    traceback.print_exc()
                finally:
                    for stream in (sys.stdout, sys.stderr):
                        with contextlib.suppress(OSError):
                            stream.flush()
                    os._exit(code)
            _, status = os.waitpid(child, 0)
            said.seek(0)
            answer = {"code": os.waitstatus_to_exitcode(status), "said": said.read().decode()}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
elif __name__ == "__mp_main__" or os.environ.get("RELEASE_STAND_INS"):  # in a worker, or to be run by another script
    prepare()
