"""The package is one name among others: modules of the user's that are called `cli` or `exporter` change nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from cifar_export.weights.index import bundled_entries

from support.paths import ROOT
from support.wheel import build_wheel

ENDS = "import sys; sys.exit('this is the file of somebody else')\n"
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The distribution as it is installed."""
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the wheel was installed."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture
def crowded(tmp_path: Path) -> Path:
    """A folder with an own `cli.py`, and packages `cli` and `exporter`, each of which ends the program."""
    for number, names in enumerate((("cli.py", "exporter/__init__.py"), ("cli/__init__.py",))):
        for name in names:
            path = tmp_path / str(number) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(ENDS)
    return tmp_path


@pytest.fixture(params=["editable", "wheel"])
def command(request: pytest.FixtureRequest, crowded: Path) -> Run:
    """Run `cifar-export` as its console script does, among those modules: in their folder, with them on PYTHONPATH."""
    paths = [crowded / "0", crowded / "1"]
    if request.param == "wheel":
        paths.append(request.getfixturevalue("site"))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths)), "CIFAR_DATA": ""}
    script = "import sys; from cifar_export.__main__ import main; sys.exit(main(prog_name='cifar-export'))"

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-c", script, *map(str, arguments)]
        return subprocess.run(words, cwd=crowded / "0", env=environment, capture_output=True, text=True, check=False)

    return run


def test_the_wheel_has_one_top_level_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.partition("/")[0] for name in archive.namelist()}
        script = next(name for name in archive.namelist() if name.endswith("entry_points.txt"))
        assert "cifar-export = cifar_export.__main__:main" in archive.read(script).decode()
    assert {top for top in tops if not top.endswith(".dist-info")} == {"cifar_export"}


def test_the_console_script_of_this_environment_is_the_package_itself() -> None:
    script = Path(sys.executable).with_name("cifar-export")
    if not script.is_file():
        pytest.skip("the command is not installed beside this Python")
    assert "from cifar_export.__main__ import main" in script.read_text()


def test_commands_run_among_modules_of_the_same_names(command: Run, weights20_file: Path, tmp_path: Path) -> None:
    assert command("--version").stdout.startswith("cifar-export, version ")
    output = tmp_path / "model.onnx"
    done = command("onnx", "resnet20", "--weights", weights20_file, "--output", output)
    assert (done.returncode, output.is_file()) == (0, True), done.stderr
    done = command("predict", output, ROOT / "examples" / "samples" / "cat.png")
    assert done.returncode == 0, done.stderr
    assert "%" in done.stdout


def test_the_isolated_worker_too(command: Run, weights20_file: Path) -> None:
    done = command("parity", "resnet20", "--weights", weights20_file, "--runtime", "onnxruntime-cpu")
    assert done.returncode == 0, done.stderr
    assert "parity passed" in done.stderr


HUB = """
import sys, torch
{before}
network = torch.hub.load({root!r}, "cifar10_resnet20", source="local", pretrained={pretrained})
print(network(torch.zeros(2, 3, 32, 32)).shape[1])
import exporter
print(exporter.MINE)
"""


@pytest.mark.parametrize("before", ["", "import exporter"], ids=["hub first", "the user's first"])
@pytest.mark.parametrize("installed", [True, False])
def test_the_hub_loads_beside_a_package_exporter(before: str, installed: bool, tmp_path: Path) -> None:
    (tmp_path / "exporter").mkdir()
    (tmp_path / "exporter" / "__init__.py").write_text("MINE = 'of the user'\n")
    (tmp_path / "exporter" / "resnet.py").write_text(ENDS)
    if not installed:  # as if: the finder of the editable installation finds nothing
        before += "\nsys.meta_path[:] = [finder for finder in sys.meta_path if 'editable' not in repr(finder).lower()]"
    pretrained = "cifar10_resnet20" in bundled_entries()
    script = HUB.format(before=before, root=str(ROOT), pretrained=pretrained)
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "10\nof the user\n"), done.stderr


def test_the_hub_loads_its_own_code_beside_an_installed_copy(site: Path, tmp_path: Path) -> None:
    script = f"""
import sys, cifar_export, cifar_export.networks.resnet as installed
import torch
network = torch.hub.load({str(ROOT)!r}, "cifar10_resnet20", source="local")
print(cifar_export.__file__)
print(sys.modules[type(network).__module__].__file__)
"""
    environment = os.environ | {"PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        str(site / "cifar_export" / "__init__.py"),
        str(ROOT / "exporter" / "networks" / "resnet.py"),
    ]


@pytest.mark.parametrize("how", [[str(ROOT / "cli.py")], ["-m", "cifar_export"]], ids=["cli.py", "-m"])
def test_other_ways_to_start_it(how: list[str], tmp_path: Path) -> None:
    words = [sys.executable, *how, "--version"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("cifar-export, version "), done.stderr


def test_cli_py_runs_the_checkout_it_stands_in(site: Path, tmp_path: Path) -> None:
    """Also where another copy is installed."""
    script = f"import runpy; print(runpy.run_path({str(ROOT / 'cli.py')!r})['package'].__file__)"
    environment = os.environ | {"PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout == f"{ROOT / 'exporter' / '__init__.py'}\n", done.stderr
