"""The C++ examples, built with CMake, against the float64 reference."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
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
    ort_root,
    reduced_subject,
    reference,
    run,
    subject,
    tool,
)
from support.paths import ROOT

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


@pytest.fixture
def configure(tmp_path: Path) -> Callable[[], str]:
    """What CMake says, on one line, of the ONNX Runtime example and the folder `root`; its exit code is 1."""
    try:
        cmake = tool("cmake")
        tool("g++")
    except Missing as error:
        pytest.skip(str(error))

    def said() -> str:
        source, root = EXAMPLES / "cpp-onnxruntime", tmp_path / "root"
        done = run(cmake, "-S", source, "-B", tmp_path / "build", f"-DORT_ROOT={root}")
        assert done.returncode == 1
        return " ".join(done.stderr.split())

    return said


def onnxruntime_folder(root: Path, *, api: int | None = None, version: str | None = None) -> None:
    """A folder with headers of that API, with a library of that version, or with both; they have no content."""
    if api is not None:
        (root / "include").mkdir(parents=True)
        (root / "include" / "onnxruntime_cxx_api.h").touch()
        (root / "include" / "onnxruntime_c_api.h").write_text(f"#pragma once\n#define ORT_API_VERSION {api}\n")
    if version is not None:
        (root / "lib").mkdir(parents=True)
        (root / "lib" / f"libonnxruntime.so.{version}").touch()
        (root / "lib" / "libonnxruntime.so").symlink_to(f"libonnxruntime.so.{version}")


def test_cmake_says_which_half_is_missing_and_where_it_looked(configure: Callable[[], str], tmp_path: Path) -> None:
    root = tmp_path / "root"
    headers, library = (
        "the headers (onnxruntime_cxx_api.h, in include/)",
        "the library (libonnxruntime, in lib/ or lib64/)",
    )
    assert f"not found: {headers} and {library}. Looked in {root}" in configure()
    onnxruntime_folder(root, version="1.21.0")
    assert f"not found: {headers}. Looked in {root}" in configure()
    shutil.rmtree(root)
    onnxruntime_folder(root, api=21)
    shutil.rmtree(tmp_path / "build")
    said = configure()
    assert f"not found: {library}. Looked in {root}" in said
    assert "`make examples-setup`" in said


def test_cmake_refuses_headers_that_are_newer_than_the_library(configure: Callable[[], str], tmp_path: Path) -> None:
    onnxruntime_folder(tmp_path / "root", api=22, version="1.21.9")
    said = configure()
    assert "are of API 22, newer than the library" in said
    assert "which is of API 21" in said


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """What the command of the example's README finds in a project's folder: sources, headers, this environment."""
    try:
        root = Path(ort_root())
        tool("cmake")
        tool("g++")
    except Missing as error:
        pytest.skip(str(error))
    if os.environ.get("ORT_ROOT"):
        pytest.skip("ORT_ROOT is set: `make examples-setup` leaves the library to it")
    for name in ("cpp-onnxruntime", "cpp-common", "samples"):
        shutil.copytree(EXAMPLES / name, tmp_path / "examples" / name, ignore=shutil.ignore_patterns("build"))
    (tmp_path / "tools").mkdir()
    shutil.copy(ROOT / "tools" / "setup_examples.sh", tmp_path / "tools")
    shutil.copytree(root / "include", tmp_path / "build" / "examples" / "onnxruntime" / "include")
    (tmp_path / ".venv").symlink_to(sys.prefix)
    return tmp_path


def set_up(project: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "VENV"}
    return run(project / "tools" / "setup_examples.sh", "--library", env=environment)


def test_the_readmes_own_command_works_after_the_setup(project: Path) -> None:
    weights = random_weights(network("resnet20", "cifar10"), 3)
    model = project / "artifacts" / "exports" / "cifar10_resnet20-uint8.onnx"
    model.parent.mkdir(parents=True)
    export(weights, "onnx", variant="uint8", output=model, checked=False)
    done = set_up(project)
    assert (done.returncode, done.stderr) == (0, "")
    readme = (project / "examples" / "cpp-onnxruntime" / "README.md").read_text()
    command = readme.partition("```sh\n")[2].partition("```")[0]
    done = run("sh", "-c", command, cwd=project / "examples" / "cpp-onnxruntime")
    assert done.returncode == 0, done.stderr
    pixels = np.asarray(Image.open(EXAMPLES / "samples" / "ship.png").convert("RGB"))
    found = answers(done.stdout[done.stdout.index("../samples/ship.ppm") :])
    assert largest_error(found, {"ship": reference(weights, [pixels])[0]}) < TOLERANCE
    # what links to it finds it by the name that it calls itself
    assert (project / "build" / "examples" / "onnxruntime" / "lib" / "libonnxruntime.so.1").is_file()


def test_the_setup_says_why_there_is_no_library(project: Path) -> None:
    header = project / "build" / "examples" / "onnxruntime" / "include" / "onnxruntime_c_api.h"
    header.write_text("#define ORT_API_VERSION 999\n")
    done = set_up(project)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "the headers are of API 999, newer than the library" in done.stderr
    (project / ".venv").unlink()
    done = set_up(project)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "there is no .venv: `make demo` sets it up" in done.stderr
    assert not (header.parents[1] / "lib").exists()


def test_the_sample_is_the_same_picture_in_both_forms() -> None:
    samples = EXAMPLES / "samples"
    assert Image.open(samples / "ship.ppm").tobytes() == Image.open(samples / "ship.png").convert("RGB").tobytes()
