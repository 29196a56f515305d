"""The Python examples, without torch, against the float64 reference."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from cifar_export.networks.zoo import network
from cifar_export.weights.seeded import random_weights

from support.consumers import (
    EXAMPLES,
    TOLERANCE,
    ReducedSubject,
    Subject,
    answers,
    for_three,
    homeless,
    largest_error,
    reduced_subject,
    run,
    subject,
)

# Runs a script as __main__ with some modules out of reach.
LAUNCHER = """
import runpy, sys
script, blocked, *sys.argv[1:] = sys.argv[1:]
sys.argv[0] = script
for name in blocked.split(","):
    sys.modules[name] = None
runpy.run_path(script, run_name="__main__")
"""


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return subject(random_weights(network("resnet20", "cifar100"), 3), tmp_path_factory.mktemp("exported"))


@pytest.fixture(scope="module")
def int8(tmp_path_factory: pytest.TempPathFactory) -> ReducedSubject:
    return reduced_subject(tmp_path_factory.mktemp("int8"))


def launch(runtime: str, blocked: str, *arguments: Path) -> tuple[int, str, str]:
    script = EXAMPLES / "python" / f"classify_{runtime}.py"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONWARNINGS"}
    done = run(sys.executable, "-c", LAUNCHER, script, blocked, *arguments, env=environment)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_the_answer_is_the_references_without_torch(exported: Subject, runtime: str) -> None:
    pytest.importorskip(runtime, reason=f"{runtime} is not installed")
    pictures = exported.pictures.values()
    code, stdout, stderr = launch(runtime, "torch,torchvision,onnx,exporter", exported.file("-uint8.onnx"), *pictures)
    assert code == 0, stderr
    assert largest_error(answers(stdout), exported.expected) < TOLERANCE


@pytest.mark.parametrize(("runtime", "held_as"), [("onnxruntime", "onnxruntime-cpu"), ("openvino", "openvino")])
def test_an_int8_file_gives_the_answer_of_its_simulation(int8: ReducedSubject, runtime: str, held_as: str) -> None:
    pytest.importorskip(runtime, reason=f"{runtime} is not installed")
    code, stdout, stderr = launch(runtime, "torch,torchvision,onnx,exporter", int8.file, *int8.pictures.values())
    assert code == 0, stderr
    int8.check(answers(stdout), held_as)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_file_for_three_images_gets_three(exported: Subject, runtime: str) -> None:
    pytest.importorskip(runtime, reason=f"{runtime} is not installed")
    _, stdout, _ = launch(runtime, "torch", for_three(exported), *exported.pictures.values())
    assert largest_error(answers(stdout), exported.expected) < TOLERANCE


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_without_its_runtime_it_says_what_to_install(exported: Subject, runtime: str) -> None:
    code, _, stderr = launch(runtime, runtime, exported.file("-uint8.onnx"))
    assert code == 1
    assert stderr.strip() == f"error: {runtime} is not installed: pip install {runtime} pillow"


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_wrong_usage_is_exit_code_2(exported: Subject, runtime: str) -> None:
    pytest.importorskip(runtime, reason=f"{runtime} is not installed")
    code, stdout, stderr = launch(runtime, "torch", exported.file("-uint8.onnx"))
    assert (code, stdout) == (2, "")
    assert stderr == f"error: usage: classify_{runtime}.py MODEL.onnx PICTURE...\n"


def test_nothing_is_left_in_the_cache(exported: Subject, tmp_path: Path) -> None:
    script = EXAMPLES / "python" / "classify_onnxruntime.py"
    done = run(sys.executable, script, exported.file("-uint8.onnx"), exported.pictures["noise"], env=homeless(tmp_path))
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []
