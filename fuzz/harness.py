"""What all fuzzers share: seeds out of real files, a corpus that is kept, and what counts as a finding.

    python fuzz/NAME.py [options of libFuzzer, such as -max_total_time=60] [FILE to try]

A finding is whatever a parser of outside bytes raises beside the errors that it documents, and what hangs or eats
memory. `make fuzz` runs each fuzzer for a minute; the corpus lies in build/fuzz/NAME, and what broke something in
build/fuzz/NAME-crash-*: make it a test, then mend the parser.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

import atheris

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))  # seeds are made as the tests make them
LIMITS = ("-timeout=20", "-rss_limit_mb=6144", "-max_len=262144")
_MEMORY = Path("/dev/shm")


def memory_folder() -> Path:
    """An empty folder, in memory where the system has such."""
    return Path(tempfile.mkdtemp(prefix="cifar-export-fuzz-", dir=_MEMORY if _MEMORY.is_dir() else None))


def fuzz(
    name: str, target: Callable[[bytes], None], seeds: Iterable[bytes], allowed: tuple[type[Exception], ...]
) -> None:
    """Call `target` with mutations of `seeds` until libFuzzer's options end it. Errors in `allowed` are answers."""
    corpus = ROOT / "build" / "fuzz" / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    warnings.simplefilter("ignore")  # the tests hold warnings against us; here they would only be slow
    os.environ.setdefault("OMP_NUM_THREADS", "1")

    def once(data: bytes) -> None:
        with contextlib.suppress(*allowed):
            target(data)

    given = [argument for argument in sys.argv[1:] if not argument.startswith("-")]  # files: each is tried once
    folders = [] if given else [str(corpus)]
    arguments = [sys.argv[0], *LIMITS, f"-artifact_prefix={corpus.parent}/{name}-", *sys.argv[1:], *folders]
    atheris.Setup(arguments, once)
    atheris.Fuzz()
