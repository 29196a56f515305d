"""The C++ examples, built with CMake, against the float64 reference."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from cifar_export.exporting.artifact import export
from cifar_export.networks.zoo import network
from cifar_export.weights.seeded import random_weights

from support.consumers import (
    EXAMPLES,
    TOLERANCE,
    Missing,
    ReducedSubject,
    Subject,
    answers,
    cpp_libtorch,
    cpp_onnxruntime,
    for_three,
    homeless,
    largest_error,
    reduced_subject,
    run,
    subject,
    tool,
)

MODELS = {"cpp-onnxruntime": "-uint8.onnx", "cpp-libtorch": "-uint8.torchscript.pt"}
BUILDERS: dict[str, Callable[[], Path]] = {"cpp-onnxruntime": cpp_onnxruntime, "cpp-libtorch": cpp_libtorch}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    weights = random_weights(network("resnet20", "cifar100"), 3)
    return subject(weights, tmp_path_factory.mktemp("exported"), torchscript=True)


@pytest.fixture(scope="module")
def int8(tmp_path_factory: pytest.TempPathFactory) -> ReducedSubject:
    return reduced_subject(tmp_path_factory.mktemp("int8"))


@pytest.fixture(params=list(BUILDERS))
def example(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def program(example: str) -> Path:
    try:
        return BUILDERS[example]()
    except Missing as error:
        pytest.skip(str(error))


only_onnxruntime = pytest.mark.parametrize("example", ["cpp-onnxruntime"])  # what both share is tried once


def ppm(exported: Subject) -> list[Path]:
    return [path.with_suffix(".ppm") for path in exported.pictures.values()]


def test_the_answer_is_the_references(program: Path, example: str, exported: Subject) -> None:
    done = run(program, exported.file(MODELS[example]), *ppm(exported), "--repeat", "2")
    assert done.returncode == 0, done.stderr
    assert largest_error(answers(done.stdout), exported.expected) < TOLERANCE
    assert "ms a picture" in done.stderr


@only_onnxruntime
def test_an_int8_file_gives_the_answer_of_its_simulation(program: Path, example: str, int8: ReducedSubject) -> None:
    done = run(program, int8.file, *(path.with_suffix(".ppm") for path in int8.pictures.values()))
    assert done.returncode == 0, done.stderr
    int8.check(answers(done.stdout), "onnxruntime-cpu")


@only_onnxruntime
def test_a_file_for_three_images_gets_the_picture_and_two_black_ones(
    program: Path, example: str, exported: Subject
) -> None:
    done = run(program, for_three(exported), *ppm(exported))
    assert largest_error(answers(done.stdout), exported.expected) < TOLERANCE


@only_onnxruntime
def test_a_comment_in_the_picture_is_skipped(program: Path, example: str, exported: Subject, tmp_path: Path) -> None:
    picture = tmp_path / "noise.ppm"
    pixels = exported.pictures["noise"].with_suffix(".ppm").read_bytes().removeprefix(b"P6\n32 32\n255\n")
    picture.write_bytes(b"P6\n# made by hand\n32 # width\n32\n255\n" + pixels)
    done = run(program, exported.file(MODELS[example]), picture)
    assert largest_error(answers(done.stdout), {"noise": exported.expected["noise"]}) < TOLERANCE


@only_onnxruntime
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"P6\n64 64\n255\n" + bytes(64 * 64 * 3), "is not 32x32"),
        (b"P6\n32 32\n255\n" + bytes(100), "ends too early"),
        (b"P3\n32 32\n255\n0 0 0", "not a binary 8-bit PPM"),
        (b"", "not a binary 8-bit PPM"),
    ],
)
def test_a_wrong_picture_is_refused(
    program: Path, example: str, exported: Subject, tmp_path: Path, content: bytes, expected: str
) -> None:
    picture = tmp_path / "wrong.ppm"
    picture.write_bytes(content)
    done = run(program, exported.file(MODELS[example]), picture)
    assert (done.returncode, done.stdout) == (1, "")
    assert expected in done.stderr


def test_a_model_that_wants_normalized_input_is_refused(
    program: Path, example: str, exported: Subject, tmp_path: Path
) -> None:
    format_name = "onnx" if example == "cpp-onnxruntime" else "torchscript"
    model = tmp_path / f"model{MODELS[example].removeprefix('-uint8')}"
    export(exported.weights, format_name, output=model, checked=False)
    done = run(program, model, ppm(exported)[0])
    assert done.returncode == 1
    assert "--input uint8" in done.stderr


def test_a_missing_model_or_picture_is_one_line(program: Path, example: str, exported: Subject) -> None:
    for arguments in (["nowhere.onnx", ppm(exported)[0]], [exported.file(MODELS[example]), "nowhere.ppm"]):
        done = run(program, *arguments)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("error: ")


def test_wrong_usage_is_exit_code_2(program: Path, example: str, exported: Subject) -> None:
    for arguments, said in (["model"], "usage: "), (["model", "a.ppm", "--quick"], "unknown option --quick"):
        done = run(program, *arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"error: {said}")


@only_onnxruntime
def test_nothing_is_left_in_the_cache(program: Path, example: str, exported: Subject, tmp_path: Path) -> None:
    done = run(program, exported.file(MODELS[example]), ppm(exported)[0], env=homeless(tmp_path))
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU: CUDA is not refused")
def test_cuda_is_not_replaced_by_the_cpu(program: Path, example: str, exported: Subject) -> None:
    done = run(program, exported.file(MODELS[example]), ppm(exported)[0], "--cuda")
    assert (done.returncode, done.stdout) == (1, "")
    assert "CUDA" in done.stderr
    assert "eave --cuda out" in done.stderr
    assert ".cc" not in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_cuda_gives_the_references_answer(program: Path, example: str, exported: Subject) -> None:
    done = run(program, exported.file(MODELS[example]), *ppm(exported), "--cuda")
    assert done.returncode == 0, done.stderr
    assert largest_error(answers(done.stdout), exported.expected) < TOLERANCE


@pytest.mark.slow
def test_the_default_opset_is_read_too(exported: Subject, tmp_path: Path) -> None:
    try:
        program = cpp_onnxruntime()
    except Missing as error:
        pytest.skip(str(error))
    model = tmp_path / "model.onnx"
    export(exported.weights, "onnx", variant="uint8", output=model, checked=False)
    done = run(program, model, *ppm(exported))
    assert largest_error(answers(done.stdout), exported.expected) < TOLERANCE


def test_without_its_library_cmake_says_what_to_do(example: str, tmp_path: Path) -> None:
    try:
        cmake = tool("cmake")
    except Missing as error:
        pytest.skip(str(error))
    root = {"cpp-onnxruntime": "ORT_ROOT", "cpp-libtorch": "TORCH_ROOT"}[example]
    done = run(cmake, "-S", EXAMPLES / example, "-B", tmp_path, f"-D{root}={tmp_path / 'nowhere'}")
    assert done.returncode == 1
    assert f"-D{root}=" in done.stderr


def test_the_sample_is_the_same_picture_in_both_forms() -> None:
    samples = EXAMPLES / "samples"
    assert Image.open(samples / "ship.ppm").tobytes() == Image.open(samples / "ship.png").convert("RGB").tobytes()
