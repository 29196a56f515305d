"""Words, numbers and folders that no command can do anything with: refused before anything is written, and named."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from cifar_export.errors import InvalidInput, Unavailable
from cifar_export.release.check.verify import verify
from cifar_export.system import commit
from cifar_export.system.download import download, read_url
from cifar_export.training.run import _refuse_foreign

from support.web_server import Server, serving

HUGE = str(10**30)
CASES: list[tuple[str, ...]] = [
    ("train", "resnet20", "--seed", HUGE),
    ("train", "resnet20", "--seed", str(2**32)),
    ("train", "resnet20", "--epochs", HUGE),
    ("train", "resnet20", "--output", ""),
    ("train", "resnet20", "--data-dir", ""),
    ("onnx", "resnet20", "--output", ""),
    ("onnx", "resnet20", "--golden", ""),
    ("parity", "resnet20", "--report", ""),
    ("parity", "resnet20", "--file", ""),
    ("evaluate", "resnet20", "--file", ""),
    ("benchmark", ""),
    ("benchmark", "resnet20", "--batch", HUGE),
    ("benchmark", "resnet20", "--batch", "0"),
    ("benchmark", "resnet20", "--batch", "abc"),
    ("benchmark", "resnet20", "--threads", HUGE),
    ("benchmark", "resnet20", "--time-limit", "nan"),
    ("benchmark", "resnet20", "--allow", "nan"),
    ("benchmark", "resnet20", "--allow", "inf"),
    ("benchmark", "resnet20", "--compare", ""),
    ("benchmark", "resnet20", "--output", ""),
    ("predict", "resnet20", ""),
    ("predict", "", "a.png"),
    ("package", "--version", "1.0.0", "--output", ""),
    ("package", "--version", "1.0.0", "--sign-key", ""),
    ("merge", ""),
    ("merge", "a", "--output", ""),
    ("verify", ""),
    ("verify", "a", "--public-key", ""),
    ("fetch", "cifar10_resnet20", "--release", "a", "--output", ""),
    ("data", "fetch", "--data-dir", ""),
]


@pytest.mark.parametrize("arguments", CASES, ids=" ".join)
def test_it_is_wrong_usage_and_nothing_is_written(
    run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(*arguments)
    assert done.exit_code == 2, done.output
    assert list(tmp_path.iterdir()) == []


def test_a_run_does_not_mix_with_somebodys_files(run: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    for more in ([], ["--resume"]):
        done = run("train", "resnet20", "--output", tmp_path, "--data-dir", tmp_path / "none", *more)
        assert done.exit_code == 2
        assert "holds what is no run's (thesis.tex)" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_folder_of_a_run_is_one_run(tmp_path: Path) -> None:
    ours = [
        "checkpoint.pt",
        "log.jsonl",
        "weights.safetensors",
        "curve.png",
        ".cifar-export.lock",
        ".0123abcd.tmp.log.jsonl",
    ]
    for name in ours:
        (tmp_path / name).write_text("")
    (tmp_path / "tensorboard").mkdir()
    _refuse_foreign(tmp_path)
    _refuse_foreign(tmp_path / "new")
    (tmp_path / ".0123abcd.tmp.other").write_text("")
    with pytest.raises(InvalidInput, match=r"\.0123abcd\.tmp\.other"):
        _refuse_foreign(tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="a current folder cannot be removed there")
@pytest.mark.parametrize("command", ["onnx resnet20", "predict resnet20 a.png", "doctor --json"])
def test_a_current_folder_that_is_gone_is_one_line(tmp_path: Path, command: str) -> None:
    gone = tmp_path / "gone"
    line = f"mkdir {gone} && cd {gone} && rmdir {gone} && exec {sys.executable} -m cifar_export {command}"
    done = subprocess.run(["sh", "-c", line], text=True, capture_output=True, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr == "error: the current folder is gone. Change to another one, then run this again.\n"


def test_a_checkout_of_another_user_is_named_with_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: str) -> bytes:
        said = b"fatal: detected dubious ownership in repository at '/x'\nTo add an exception ...\n"
        raise subprocess.CalledProcessError(128, "git", stderr=said)

    monkeypatch.setattr(commit, "CHECKOUT", Path(__file__).parents[2])
    monkeypatch.setattr(Path, "exists", lambda path: True)
    monkeypatch.setattr(commit, "_git", refuse)
    with pytest.raises(Unavailable, match=r"git config --global --add safe\.directory") as refused:
        commit.source_commit(required=True)
    assert str(refused.value).count("\n") == 1


@pytest.mark.parametrize("to", ["file:///etc/passwd", "ftp://a/b", "gopher://a"])
@pytest.mark.parametrize("how", ["to a file", "into memory"])
def test_a_redirect_to_something_else_is_named(http_server: Server, tmp_path: Path, to: str, how: str) -> None:
    http_server.redirects = {"/a": to}
    with pytest.raises(Unavailable, match="redirects to something that is no http or https address"):
        WAYS[how](f"{http_server.url}a", tmp_path / "a")


WAYS: dict[str, Callable[[str, Path], object]] = {
    "to a file": lambda url, path: download(url, path, md5="0" * 32),
    "into memory": lambda url, path: read_url(url, max_bytes=100),
}


def test_a_redirect_that_fails_names_the_host_that_failed(http_server: Server, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with serving(tmp_path / "other") as closed:
        port = closed.port
    http_server.redirects = {"/a": f"http://localhost:{port}/b"}
    with pytest.raises(Unavailable, match="no connection to localhost"):
        read_url(f"{http_server.url}a", max_bytes=100)


def test_a_signature_in_a_networks_folder_is_a_problem_as_it_is_for_load(tmp_path: Path) -> None:
    from support.releases import fake_network

    network = fake_network(tmp_path / "cifar10_resnet20", "cifar10_resnet20")
    assert verify(network).problems == []
    (network / "model.sig").write_text("{}")
    assert verify(network).problems == ["model.sig: does not belong here: only a whole release is signed"]
