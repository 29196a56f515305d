"""Every command in the README is run."""

import re
import shlex
import shutil
import subprocess

import pytest

from cifar_export.weights.index import bundled_entries
from tools.transcript import commands, needs_data

from support.paths import ROOT

README = (ROOT / "README.md").read_text()
COMMANDS = commands(README)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One current folder for all of them, as a reader has."""
    folder = tmp_path_factory.mktemp("reader")
    shutil.copytree(ROOT / "examples" / "samples", folder / "examples" / "samples")
    return folder


def test_the_readme_has_commands_and_the_two_that_set_up():
    assert len(COMMANDS) > 8
    targets = re.findall(r"^    make (\w+)", README, re.MULTILINE)
    assert targets == ["demo", "test"]
    makefile = (ROOT / "Makefile").read_text()
    assert all(f"\n{target}: " in makefile for target in targets)


def test_commands_run_in_the_order_of_the_page(run, folder, monkeypatch, request):
    monkeypatch.chdir(folder)
    if "cifar100_resnet20" not in bundled_entries():
        pytest.skip("no weights of cifar100_resnet20 are bundled yet")
    for command in COMMANDS:
        if needs_data(command):
            continue
        result = run(*shlex.split(command)[1:])
        assert result.exit_code == 0, (command, result.output)


@pytest.mark.data
def test_commands_that_need_data_run_where_it_is(run, folder, monkeypatch, cifar_data):
    if "cifar100_resnet20" not in bundled_entries():
        pytest.skip("no weights of cifar100_resnet20 are bundled yet")
    monkeypatch.chdir(folder)
    for name in ("XDG_CACHE_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(folder / name))
    (folder / "data").symlink_to(cifar_data.resolve())
    for command in COMMANDS:
        if needs_data(command):
            # half an hour of training is shown, not done
            shown = ["--show-recipe"] if "train" in command else []
            result = run(*shlex.split(command)[1:], *shown)
            assert result.exit_code == 0, (command, result.output)


def test_the_make_targets_are_what_make_knows():
    result = subprocess.run(
        ["make", "-n", "demo", "test", "VENV=none"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0
    for command in ("cifar-export onnx resnet20 --dataset cifar100", "cifar-export parity resnet20 --dataset cifar100"):
        assert command in result.stdout
    assert "pytest -n auto -m 'not slow'" in result.stdout
