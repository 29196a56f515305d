"""A process that runs commands in children of its own, whose calls to the system may fail where a test wants.

It imports everything once and forks for each order, so that a point costs no import of torch. An order is a line of
JSON on stdin, the answer one on stdout: the child's exit status (negative: the signal that ended it), what it said, and
each call that changed something below the folder ("rename a.onnx"). `shim.c` is preloaded.
"""

import contextlib
import ctypes
import json
import os
import sys
import tempfile
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import cifar_export.commands.data
import cifar_export.commands.progress
import cifar_export.commands.reports
import cifar_export.commands.train
import cifar_export.commands.training_progress
import cifar_export.data.check
import cifar_export.data.fetch
import cifar_export.exporting.golden
import cifar_export.formats.onnx_graph
import cifar_export.release.use.fetch
import cifar_export.training.run
import cifar_export.weights.sources
from cifar_export import __main__ as cli
from cifar_export.data.fetch import ARCHIVES, Archive
from cifar_export.exporting.artifact import export
from cifar_export.networks.zoo import CIFAR10, network
from cifar_export.system import http
from cifar_export.weights.seeded import random_weights

from support import release_driver

NETWORK = replace(network("resnet8", "cifar10"), dataset=replace(CIFAR10, train_images=100, test_images=50))
"""What `train` trains: on `data_files.write_cifar(folder, CIFAR10, train=100, test=50)`."""

MIRRORED = replace(CIFAR10, train_images=200, test_images=100)
"""What `data fetch` fetches: `data_files.write_cifar(folder, CIFAR10)`."""


def prepare(official: dict[str, str], *, trains: bool) -> None:
    """Put stand-ins in place; `official` are the digests of what a mirror has for CIFAR-10's archive."""
    release_driver.prepare()
    cifar_export.commands.train.network = lambda model, dataset: NETWORK  # type: ignore[attr-defined]
    ARCHIVES["cifar10"] = Archive(ARCHIVES["cifar10"].name, official["md5"], official["sha256"])
    cifar_export.commands.data.DATASETS = {"cifar10": MIRRORED}  # type: ignore[attr-defined]
    http.BACKOFF_SECONDS = 0.0
    with tempfile.TemporaryDirectory() as folder:  # what is imported late
        export(random_weights(NETWORK, 0), "onnx", output=Path(folder, "a.onnx"), golden=Path(folder), checked=False)
    if trains:
        import torch._dynamo  # noqa: F401  # an optimizer does, and it takes five seconds


def obey(order: dict[str, Any], journal: int) -> None:
    """Run the command line as the order says; ends the process."""
    shim = ctypes.CDLL(None)
    folder = order["folder"].encode()
    os.environ.update(order["environment"])
    shim.faults_arm(folder, ctypes.c_long(order["number"]), order["error"], journal)
    cli.main(order["arguments"], prog_name="cifar-export")


def main() -> None:
    """Answer orders until stdin ends."""
    prepare(json.loads(sys.argv[1]), trains="trains" in sys.argv)
    for line in sys.stdin:
        order = json.loads(line)
        with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as journal:
            child = os.fork()
            if child == 0:
                os.dup2(said.fileno(), 1)
                os.dup2(said.fileno(), 2)
                code = 70
                try:
                    obey(order, journal.fileno())
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
            texts = []
            for file in (said, journal):
                file.seek(0)
                texts.append(file.read().decode(errors="replace"))
        answer = {"code": os.waitstatus_to_exitcode(status), "said": texts[0], "calls": texts[1].splitlines()}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
