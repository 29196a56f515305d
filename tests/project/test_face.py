"""`cifar_export`'s public face: its examples run, its signatures name nothing private, and importing it is light."""

import dataclasses
import doctest
import inspect
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

import cifar_export
from cifar_export import api
from cifar_export.networks.labels import read_labels
from cifar_export.networks.zoo import NetworkSpec, model, named
from cifar_export.weights.native import save_weights
from cifar_export.weights.seeded import random_weights

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


def annotations(function):
    signature = inspect.signature(function)
    given = [part.annotation for part in signature.parameters.values() if part.name != "self"]
    return [*given, signature.return_annotation]


def assert_public(*written):
    words = set(re.findall(r"[A-Za-z_]\w*", re.sub(r"Literal\[.*?\]", "", " ".join(written))))
    standard = {
        "Any",
        "Callable",
        "Mapping",
        "None",
        "Path",
        "Sequence",
        "bool",
        "bytes",
        "float",
        "int",
        "str",
        "tuple",
    }
    assert words - standard - {"NDArray", "np", "uint8"} <= set(cifar_export.__all__)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_signatures_name_public_types_only(name):
    assert_public(*annotations(getattr(cifar_export, name)))


@pytest.mark.parametrize("name", ["BundledNetwork", "LoadedNetwork", "ReleasedNetwork"])
def test_what_load_returns_names_public_types_only(name):
    """Its methods and fields: a program hands on what they give."""
    kind = getattr(cifar_export, name)
    for method, function in inspect.getmembers(kind, inspect.isfunction):
        if not method.startswith("_"):
            assert_public(*annotations(function))
    assert_public(*(field.type for field in dataclasses.fields(kind)))


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
        (
            lambda: cifar_export.export("cifar10_resnet20", "torchscript", opset=17),
            "opset 17 for torchscript, which has",
        ),
        (lambda: cifar_export.export("cifar10_resnet20", output="a.onnx", opset=8), "opset 8 cannot be delivered"),
        (lambda: cifar_export.predict("cifar10_resnet20", np.zeros((1, 3, 32, 32))), "this is float64 (1, 3, 32, 32)"),
        (lambda: cifar_export.predict("cifar10_resnet20", [], top=0), "top is 0. Ask for 1 class or more."),
        (lambda: cifar_export.predict("cifar10_resnet20", "missing.png"), "cannot read missing.png"),
    ],
)
def test_wrong_arguments_are_refused_in_a_line(call, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(cifar_export.InvalidInput) as caught:
        call()
    assert message in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_is_read_as_the_commands_read_it(tmp_path):
    spec = named("cifar10_resnet8")
    raw, average = (random_weights(spec, seed).state for seed in (1, 2))
    plain = {key: tensor for key, tensor in average.items() if "downsample" not in key}
    torch.save({"state_dict": raw, "ema": plain}, tmp_path / "theirs.pt")
    given = {"weights": tmp_path / "theirs.pt", "mean": (0.5, 0.5, 0.5), "std": [0.25, 0.25, 0.25]}
    with pytest.raises(cifar_export.InvalidInput, match="Choose one with --key"):
        cifar_export.export("cifar10_resnet8", output=tmp_path / "a.onnx", **given)
    artifact = cifar_export.export(
        "cifar10_resnet8", output=tmp_path / "a.onnx", **given, key="ema", shortcut="pad-end"
    )
    assert (artifact.weights.key, "at the end" in " ".join(artifact.weights.changes)) == ("ema", True)
    for wrong in ({"mean": (1,)}, {"std": None}, {"mean": ("a", 0.5, 0.5)}):
        with pytest.raises(cifar_export.InvalidInput, match="Give three numbers each"):
            cifar_export.export("cifar10_resnet8", **{**given, "key": "ema", **wrong})


def test_weights_of_ones_own_classes_are_named_as_they_name_themselves(tmp_path):
    (tmp_path / "letters.txt").write_text("a\nb\nc\n")
    own = random_weights(NetworkSpec(model("resnet8"), read_labels(tmp_path / "letters.txt")), 1)
    save_weights(tmp_path / "w.safetensors", own)
    report = cifar_export.parity("letters_resnet8", weights=tmp_path / "w.safetensors", runtimes=["onnxruntime-cpu"])
    assert (report.passed, report.network) == (True, "letters_resnet8")
    for name in ("other_resnet8", "letters_resnet14"):
        with pytest.raises(cifar_export.InvalidInput):
            cifar_export.parity(name, weights=tmp_path / "w.safetensors")


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
    for runtime in ("pytorch", "torchscript", "onnxruntime-cpu"):
        found = cifar_export.predict("cifar10_resnet20", pixels, top=1, runtime=runtime)
        assert (found.pictures[0].file, found.pictures[0].top[0].label) == (None, "cat")


def test_pixels_and_files_are_predicted_alike(folder):
    from PIL import Image

    files = cifar_export.predict("cifar10_resnet20", "cat.png").pictures
    with Image.open("cat.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))
    many = cifar_export.predict("cifar10_resnet20", np.stack([pixels] * 65)).pictures  # more than one batch
    assert len(many) == 65
    assert [guess.label for guess in many[-1].top] == [guess.label for guess in files[0].top]
    np.testing.assert_allclose(
        [guess.probability for guess in many[-1].top], [guess.probability for guess in files[0].top], rtol=1e-4
    )
    assert files[0].as_dict()["file"] == "cat.png"
    assert many[0].as_dict()["file"] is None
