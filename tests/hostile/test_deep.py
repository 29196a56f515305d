"""Releases whose checksums are all right and that are not what `verify --deep` must believe: a line for each."""

from __future__ import annotations

import json
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from click.testing import Result

from support.hostile.case import NETWORK, edit_json, reseal
from support.hostile.onnx_files import external
from support.releases import fake_release

ONNX_FILES = ("model.onnx", "model-uint8.onnx")


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake_release(tmp_path_factory.mktemp("intact") / "1.0.0", names=(NETWORK,))


def drop(folder: Path, *names: str) -> None:
    """Take files away, and out of every document that names them."""
    for name in names:
        (folder / name).unlink()
        edit_json(folder / "config.json", lambda config, name=name: config["models"].pop(name, None))
        edit_json(folder / "config.json", lambda config, name=name: config["golden"].pop(name, None))
        index = folder.parent / "index.json"
        edit_json(index, lambda index, name=name: index["networks"][NETWORK]["files"].pop(name, None))


def without_onnx(folder: Path) -> None:
    drop(folder, *ONNX_FILES)


def without_one(folder: Path) -> None:
    drop(folder, "model-uint8.onnx")


def without_golden(folder: Path) -> None:
    drop(folder, "test_data_set_0/input_0.pb", "model.onnx")


def without_weights(folder: Path) -> None:
    drop(folder, "model.safetensors")


def capitals(folder: Path) -> None:
    model = onnx.load_model_from_string((folder / "model.onnx").read_bytes())
    model.graph.initializer.append(external())
    (folder / "more").mkdir()
    (folder / "more" / "MODEL.ONNX").write_bytes(model.SerializeToString())
    name = "more/MODEL.ONNX"
    edit_json(folder.parent / "index.json", lambda index: index["networks"][NETWORK]["files"].update({name: {}}))


def harmless_capitals(folder: Path) -> None:
    (folder / "more").mkdir()
    shutil.copy(folder / "model.onnx", folder / "more" / "MODEL.ONNX")
    name = "more/MODEL.ONNX"
    edit_json(folder.parent / "index.json", lambda index: index["networks"][NETWORK]["files"].update({name: {}}))


def another_model(folder: Path) -> None:
    edit_json(folder / "config.json", lambda config: config.update(model="resnet32"))


def another_data_set(folder: Path) -> None:
    edit_json(folder / "config.json", lambda config: config.update(dataset="cifar100"))


def twice(name: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        path = folder / name
        path.write_text(path.read_text().replace("{", '{"schema": 1, ', 1))

    return make


def fraction(name: str) -> Callable[[Path], None]:
    return lambda folder: edit_json(folder / name, lambda document: document.update(schema=1.0))


def other_parity(folder: Path) -> None:
    edit_json(folder / "parity.json", lambda parity: parity.update(weights_sha256="0" * 64))


def setuid(folder: Path) -> None:
    path = folder / "labels.txt"
    path.chmod(path.stat().st_mode | stat.S_ISUID)


CASES: dict[str, tuple[Callable[[Path], None], str, bool]] = {  # what is done, what is said, if without --deep too
    "no ONNX file": (without_onnx, "model.onnx: missing, and `package` writes one", False),
    "one ONNX file less": (without_one, "model-uint8.onnx: missing, and `package` writes one", False),
    "no golden vectors": (without_golden, "test_data_set_0/input_0.pb: missing", False),
    "no weights": (without_weights, "config.json: names other weights than model.safetensors", True),
    "external data in capitals": (capitals, "MODEL.ONNX: takes data from another file", True),
    "an undescribed file in capitals": (harmless_capitals, "MODEL.ONNX: config.json does not describe it", False),
    "another model's name": (another_model, "config.json: is of cifar10_resnet20, but names another model", True),
    "another data set's name": (another_data_set, "config.json: is of cifar10_resnet20, but names another model", True),
    "a key twice in parity.json": (twice("parity.json"), "a key comes twice", False),
    "a key twice in config.json": (twice("config.json"), "a key comes twice", True),
    "a schema that equals 1 in parity.json": (fraction("parity.json"), "parity.json: not of schema 1", False),
    "a schema that equals 1 in config.json": (fraction("config.json"), "config.json: not of schema 1", True),
    "parity of other weights": (other_parity, "parity.json: is of another network or other weights", False),
    "a file that is setuid": (setuid, "labels.txt: a file that runs with its owner's rights", True),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_not_as_package_writes_it_is_not_intact(
    run: Callable[..., Result], intact: Path, tmp_path: Path, case: str
) -> None:
    make, says, shallow = CASES[case]
    release = Path(shutil.copytree(intact, tmp_path / "1.0.0"))
    make(release / NETWORK)
    reseal(release)
    for options, code in ((["--deep"], 1), ([], 1 if shallow else 0)):
        done = run("verify", release, *options, "--json")
        document = json.loads(done.stdout)
        assert (done.exit_code, document["intact"]) == (code, code == 0), (options, document["problems"])
        assert (code == 0) or any(says in line for line in document["problems"]), document["problems"]


def test_an_intact_one_is_intact(run: Callable[..., Result], intact: Path) -> None:
    done = run("verify", intact, "--deep", "--json")
    assert (done.exit_code, len(json.loads(done.stdout)["deep"]["models"])) == (0, len(ONNX_FILES))
