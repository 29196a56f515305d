"""docs/errors.md: each cause is provoked, with its exit code and its words, in one voice."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import Result

from cifar_export.errors import InvalidInput
from cifar_export.system.locks import lock_in, only_one

from support.bad_runtimes import put_into_table
from support.keys import write_keys
from support.paths import ROOT
from support.releases import fake_release

ROWS = {
    cause: (int(code), words)
    for cause, code, words in re.findall(
        r"^\| ([^|`]+) \| (\d+) \| `([^`]+)` \|$", (ROOT / "docs" / "errors.md").read_text(), re.MULTILINE
    )
}
Run = Callable[..., Result]
Provoke = Callable[[Run, Path, pytest.MonkeyPatch], Any]
NAME = "cifar10_resnet20"


def _zeros(run: Run, here: Path, patch: pytest.MonkeyPatch) -> Result:
    put_into_table(patch, "torchscript", "Zeros")
    return run("parity", "resnet8", "--weights", "random", "--runtime", "torchscript")


def _damaged(run: Run, here: Path, patch: pytest.MonkeyPatch) -> Result:
    release = fake_release(here / "1.0.0", (NAME,))
    (release / NAME / "config.json").write_text("{}")
    return run("verify", release)


def _parts(run: Run, here: Path, patch: pytest.MonkeyPatch) -> Result:
    one = fake_release(here / "a" / "1.0.0", (NAME,))
    return run("merge", one, fake_release(here / "b" / "1.1.0", (NAME,), "1.1.0"), "-o", here / "out")


def _picture(run: Run, here: Path, patch: pytest.MonkeyPatch) -> Result:
    (here / "a.png").write_text("no picture")
    return run("predict", "resnet8", here, "--weights", "random")


def _slower(run: Run, here: Path, patch: pytest.MonkeyPatch) -> Result:
    command = ("benchmark", "resnet8", "--weights", "random", "--runtime", "onnxruntime-cpu", "--time-limit", "0")
    document = json.loads(run(*command, "--json").stdout)
    row = document["rows"][0]
    row["turn_medians"] = [value / 100 for value in row["turn_medians"]]
    (here / "old.json").write_text(json.dumps(document))
    return run(*command, "--compare", here / "old.json")


def _not_bundled(run: Run, here: Path, patch: pytest.MonkeyPatch) -> Result:
    patch.setattr("cifar_export.weights.sources.bundled_entries", lambda *_: {})
    patch.setattr("cifar_export.release.build.package.bundled_entries", dict)
    alone = run("onnx", "resnet20", "-o", here / "a.onnx")
    released = run("package", "resnet20", "--version", "1.0.0", "-o", here)
    assert alone.exit_code == released.exit_code
    assert "are bundled yet" in alone.stderr
    return released


def _gpu(run: Run, here: Path, patch: pytest.MonkeyPatch) -> Result:
    patch.setattr("torch.cuda.is_available", lambda: False)
    return run("parity", "resnet20", "--runtime", "pytorch-cuda")


def _extra(run: Run, here: Path, patch: pytest.MonkeyPatch) -> Result:
    _, public = write_keys(here, "key")
    patch.setitem(sys.modules, "model_signing", None)
    return run("verify", fake_release(here / "1.0.0", (NAME,)), "--public-key", public)


def _busy(run: Run, here: Path, patch: pytest.MonkeyPatch) -> Result:
    part = fake_release(here / "a" / "1.0.0", (NAME,))
    with only_one(lock_in(here / "out"), InvalidInput("not held")):
        return run("merge", part, "-o", here / "out")


def _no_server(run: Run, here: Path, patch: pytest.MonkeyPatch) -> Result:
    patch.setattr("cifar_export.system.http.BACKOFF_SECONDS", 0.0)
    patch.setenv("no_proxy", "127.0.0.1")
    return run("fetch", NAME, "--release", "http://127.0.0.1:9/1.0.0", "--sha256", "0" * 64, "-o", here)


def _index(run: Run, here: Path, patch: pytest.MonkeyPatch) -> Result:
    (here / "index.json").write_text("{")
    patch.setattr("cifar_export.weights.index.bundled_folder", lambda: here)
    return run("models")


def _full(run: Run, here: Path, patch: pytest.MonkeyPatch) -> SimpleNamespace:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with open("/dev/full", "w") as full:  # noqa: PTH123
        command = [sys.executable, "-m", "cifar_export", "completion", "zsh"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    return SimpleNamespace(stdout="", stderr=done.stderr, exit_code=done.returncode)


def _interrupted(run: Run, here: Path, patch: pytest.MonkeyPatch) -> Result:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    patch.setattr("cifar_export.weights.catalog.catalog", interrupt)
    return run("models")


def _by(*words: str) -> Provoke:
    return lambda run, here, patch: run(*(word.replace("HERE", str(here)) for word in words))


PROVOKED: dict[str, Provoke] = {
    "a file computes something else than its weights in float64": _zeros,
    "a release or a network's folder is not what its SHA256SUMS says": _damaged,
    "parts of a release disagree": _parts,
    "a row of a benchmark is slower than is allowed": _slower,
    "a file among the pictures is none": _picture,
    "the command, an option or a value does not exist": _by("onnx", "resnet20", "--datset", "cifar100"),
    "an argument is missing": _by("parity"),
    "options contradict each other": _by("evaluate", "resnet20", "--all-runtimes", "--runtime", "pytorch"),
    "no such network, file or folder": _by("onnx", "resnet21"),
    "the weights asked for are not bundled": _not_bundled,
    "a file that is named is not there, or not of its kind": _by("onnx", "resnet20", "--weights", "HERE/nothing.pt"),
    "the output's name does not fit, or is taken": _by("onnx", "resnet20", "-o", "HERE/a.pt"),
    "the data set is not there": _by("evaluate", "resnet20", "--data-dir", "HERE"),
    "a runtime or its GPU is not here": _gpu,
    "a package of an extra is not installed": _extra,
    "another process is at work there": _busy,
    "the network or a server does not answer": _no_server,
    "what came with the tool is damaged": _index,
    "the disk is full": _full,
    "Ctrl-C, or a signal (128 plus its number)": _interrupted,
}


def test_every_row_is_provoked() -> None:
    assert list(ROWS) == list(PROVOKED)


@pytest.mark.parametrize("cause", ROWS)
def test_a_cause_has_its_code_and_its_words(
    cause: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, words = ROWS[cause]
    done = PROVOKED[cause](run, tmp_path, monkeypatch)
    said = done.stdout + done.stderr
    assert (done.exit_code, words in said) == (code, True), said
    assert "Traceback" not in said
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    if not words.startswith(("skipped", "interrupted", "sha256")):
        assert errors, said
    for line in errors:
        word = line.removeprefix("error: ").split(" ")[0]
        assert not (word[:1].isupper() and word[1:].islower()), line


@pytest.mark.parametrize("arguments", [["onnx", "resnet21"], ["parity"], ["onyx"], ["models", "--wde"]])
def test_usage_errors_are_two_lines_and_the_same_in_json(run: Run, arguments: list[str]) -> None:
    done = run(*arguments, "--json")
    assert done.stderr.count("\n") == 2
    assert done.stderr.splitlines()[1].startswith("See `")
    assert json.loads(done.stdout) == {"error": done.stderr[len("error: ") : -1], "exit_code": 2}
