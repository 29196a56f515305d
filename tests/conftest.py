"""Fixtures that several rooms share. Nothing heavy is imported before a test asks for it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from support.hub_server import Hub, serving_hub
from support.web_server import Server, serving

if TYPE_CHECKING:
    from cifar_export.exporting.artifact import Artifact
    from cifar_export.networks.zoo import DatasetSpec
    from cifar_export.weights.core import Weights

    from support.built_network import BuiltNetwork


_DATA = os.environ.get("CIFAR_DATA")


@pytest.fixture(autouse=True)
def _without_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only tests that ask for the real data get it: `parity` would take the whole test set each time."""
    monkeypatch.delenv("CIFAR_DATA", raising=False)


@pytest.fixture(scope="session")
def cifar_data() -> Path:
    """The folder of the real data sets."""
    folder = _DATA
    if not folder:
        pytest.skip("needs the real data sets: set CIFAR_DATA to their folder")
    if not Path(folder).is_dir():
        pytest.skip(f"needs the real data sets: CIFAR_DATA={folder} is no folder")
    return Path(folder)


@pytest.fixture
def write_cifar() -> Callable[..., DatasetSpec]:
    """Write a seeded data set in the binary layout; the spec that comes back tells its size."""
    from support.data_files import write_cifar

    return write_cifar


@pytest.fixture
def http_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A web server over an empty folder; downloads don't wait between tries and take no proxy to it."""
    monkeypatch.setattr("cifar_export.system.http.BACKOFF_SECONDS", 0.0)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1")
    root = tmp_path / "www"
    root.mkdir()
    with serving(root) as server:
        yield server


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A stand-in for the Hugging Face Hub, which its library takes for the real one; it keeps nothing of the user's."""
    pytest.importorskip("huggingface_hub", reason="needs the hub extra")
    from cifar_export.system.hub import library

    library()  # imported before its settings are changed
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with serving_hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        # which the library reads when it is imported
        template = f"{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.url)
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)  # plain HTTP is all it speaks
        monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "hf" / "token"))
        yield server


@pytest.fixture(scope="session")
def weights20() -> Weights:
    """Seeded weights of the CIFAR-10 ResNet-20."""
    from cifar_export.networks.zoo import NETWORKS
    from cifar_export.weights.seeded import random_weights

    return random_weights(NETWORKS["cifar10_resnet20"], seed=0)


@pytest.fixture(scope="session")
def weights20_file(weights20: Weights, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a safetensors file."""
    from cifar_export.weights.native import save_weights

    path = tmp_path_factory.mktemp("weights") / "cifar10_resnet20.safetensors"
    save_weights(path, weights20)
    return path


@pytest.fixture(scope="session")
def exported(weights20: Weights, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Artifact]:
    """Export `weights20` once for each (format, variant, opset) and give the same artifact to every test."""
    from cifar_export.exporting.artifact import export
    from cifar_export.formats import FORMATS
    from cifar_export.formats.onnx_choices import OnnxChoices

    folder = tmp_path_factory.mktemp("exported")
    made: dict[tuple[str, str, int | None], Artifact] = {}

    def make(format_name: str, variant: str = "float32", opset: int | None = None) -> Artifact:
        key = (format_name, variant, opset)
        if key not in made:
            output = folder / f"{variant}-{opset}{FORMATS[format_name].suffix}"
            choices = OnnxChoices(opset) if opset else None
            made[key] = export(weights20, format_name, variant=variant, choices=choices, output=output)
        return made[key]

    return make


@pytest.fixture(scope="session")
def built_network(tmp_path_factory: pytest.TempPathFactory) -> BuiltNetwork:
    """A seeded network as `package` would build it; nobody writes into it."""
    from support.built_network import BuiltNetwork
    from support.seeded_network import build, bundle

    index, folder = tmp_path_factory.mktemp("bundled"), tmp_path_factory.mktemp("built") / "cifar100_resnet20"
    bundle(index)
    said: list[str] = []
    measurements = build(index, folder, progress=said.append)
    return BuiltNetwork(folder, index, measurements, tuple(said))


@pytest.fixture(autouse=True)
def _keep_termination() -> Iterator[None]:
    """A command that ran in this process leaves the process as killable as it was."""
    from cifar_export.system.files import ENDING

    before = {number: signal.getsignal(number) for number in ENDING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def run() -> Callable[..., Result]:
    """Run the command line in this process: `run("models", "--json")`. What it needs of data is given by --data-dir."""

    from cifar_export import __main__ as cli

    def invoke(*arguments: object) -> Result:
        without_data = {"CIFAR_DATA": None}  # else parity takes the whole test set each time
        return CliRunner().invoke(cli.main, [str(argument) for argument in arguments], env=without_data)

    return invoke


@pytest.fixture
def bad(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Put runtimes of tests/support/bad_runtimes.py into the table, under the names of their classes."""
    from support.bad_runtimes import put_into_table

    def add(*names: str, **more: Any) -> list[str]:
        return [put_into_table(monkeypatch, name, name, **more).name for name in names]

    return add
