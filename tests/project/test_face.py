"""`cifar_export`'s public face: its examples run, its signatures name nothing private, and importing it is light."""

import doctest
import inspect
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

import cifar_export
from cifar_export import api

from support.paths import ROOT
from support.releases import fake_release

FUNCTIONS = ("evaluate", "export", "load", "parity", "predict", "verify")
PAGE = (ROOT / "docs" / "python.md").read_text()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder of a program: a picture, and a release in its place."""
    shutil.copy(ROOT / "examples" / "samples" / "cat.png", tmp_path)
    (tmp_path / "artifacts" / "releases").mkdir(parents=True)
    fake_release(tmp_path / "artifacts" / "releases" / "1.0.0")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_example(name):
    function = getattr(cifar_export, name)
    examples = doctest.DocTestFinder(recurse=False).find(function, name, globs={})
    assert [test for test in examples if test.examples], f"{name} has no example"
    for test in examples:
        results = doctest.DocTestRunner().run(test)
        assert results.failed == 0


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name != "evaluate"])
def test_the_example_of_each_function_runs(name, folder):
    run_example(name)


@pytest.mark.data
def test_the_example_of_evaluate_runs(folder, cifar_data):
    (folder / "data").symlink_to(cifar_data.resolve())
    run_example("evaluate")


def test_the_programs_of_the_page_run(folder, capsys):
    names: dict = {}
    for program in re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL):
        exec(program, names)
    assert capsys.readouterr().out.split("\n") == ["onnxruntime-cpu passed", "cat", "cat", ""]


def test_the_page_lists_every_function_with_its_own_arguments():
    for name, arguments in re.findall(r"^\| `(\w+)\((.*?)\)` \|", PAGE, re.MULTILINE):
        known = inspect.signature(getattr(cifar_export, name)).parameters
        named = [argument.split("=")[0].strip() for argument in arguments.split(",")]
        assert set(named) - {"..."} <= set(known), name
    assert sorted(re.findall(r"^\| `(\w+)\(", PAGE, re.MULTILINE)) == sorted(FUNCTIONS)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_signatures_name_public_types_only(name):
    signature = inspect.signature(getattr(cifar_export, name))
    written = " ".join(str(part.annotation) for part in signature.parameters.values())
    words = set(re.findall(r"[A-Za-z_]\w*", f"{written} {signature.return_annotation}"))
    builtin = {"str", "int", "bool", "bytes", "None", "Path", "Sequence", "Literal", "Progress"}
    formats = {"onnx", "torchscript", "torch", "export", "float32", "uint8"}
    assert words - builtin - formats <= set(cifar_export.__all__)


def test_every_public_name_is_there_and_listed():
    assert set(cifar_export.__all__) <= set(dir(cifar_export))
    assert all(getattr(cifar_export, name) is not None for name in cifar_export.__all__)
    assert set(api.__all__) == set(FUNCTIONS)
    with pytest.raises(AttributeError, match="no attribute 'exports'"):
        _ = cifar_export.exports


def test_importing_it_and_its_functions_is_light():
    code = (
        "import sys, cifar_export; cifar_export.load, cifar_export.verify, cifar_export.GateFailed;"
        "print([name for name in ('torch', 'onnx', 'onnxruntime', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cifar_export.export("resnet20"), "there is no network 'resnet20'. Known networks: cifar10_resnet20"),
        (lambda: cifar_export.export("cifar10_resnet20", "onx"), "no format 'onx'. Known: onnx, torchscript"),
        (lambda: cifar_export.export("cifar10_resnet20", input="int8"), "no input 'int8'. Known: float32, uint8"),
        (lambda: cifar_export.predict("resnet21", []), "there is no network 'resnet21'"),
        (lambda: cifar_export.parity("cifar10_resnet20", runtimes=["tensorflow"]), "no runtime 'tensorflow'"),
        (lambda: cifar_export.verify("nowhere"), "nowhere"),
    ],
)
def test_wrong_arguments_are_refused_in_a_line(call, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(cifar_export.InvalidInput) as caught:
        call()
    assert message in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_changed_release_is_refused(folder):
    release = folder / "artifacts" / "releases" / "1.0.0"
    (release / "cifar10_resnet20" / "labels.txt").write_text("cat\n")
    with pytest.raises(cifar_export.GateFailed, match=r"labels\.txt"):
        cifar_export.verify(release)


def test_a_picture_of_pillow_is_predicted_without_a_warning():
    from PIL import Image

    with Image.open(ROOT / "examples" / "samples" / "cat.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))[None]
    assert not pixels.flags.writeable
    network = cifar_export.load("cifar10_resnet20")
    assert network.labels[network.predict(pixels).indices[0]] == "cat"
