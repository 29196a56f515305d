"""The Node.js example against the float64 reference."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
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
    for_three,
    homeless,
    largest_error,
    npm_packages,
    reduced_subject,
    run,
    subject,
    tool,
)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return subject(random_weights(network("resnet20", "cifar100"), 3), tmp_path_factory.mktemp("exported"))


@pytest.fixture(scope="module")
def int8(tmp_path_factory: pytest.TempPathFactory) -> ReducedSubject:
    return reduced_subject(tmp_path_factory.mktemp("int8"))


@pytest.fixture
def program() -> tuple[str, Path]:
    try:
        return tool("node"), npm_packages("node") / "classify.mjs"
    except Missing as error:
        pytest.skip(str(error))


def test_the_answer_is_the_references(program: tuple[str, Path], exported: Subject) -> None:
    done = run(*program, exported.file("-uint8.onnx"), *exported.pictures.values(), "--repeat", "2")
    assert done.returncode == 0, done.stderr
    assert largest_error(answers(done.stdout), exported.expected) < TOLERANCE
    assert "ms a picture" in done.stderr


def test_an_int8_file_gives_the_answer_of_its_simulation(program: tuple[str, Path], int8: ReducedSubject) -> None:
    done = run(*program, int8.file, *int8.pictures.values())
    assert done.returncode == 0, done.stderr
    int8.check(answers(done.stdout), "onnxruntime-node")


def test_a_file_for_three_images_gets_the_picture_and_two_black_ones(
    program: tuple[str, Path], exported: Subject
) -> None:
    done = run(*program, for_three(exported), *exported.pictures.values())
    assert largest_error(answers(done.stdout), exported.expected) < TOLERANCE


def test_wrong_input_is_one_line(program: tuple[str, Path], exported: Subject, tmp_path: Path) -> None:
    model, picture = exported.file("-uint8.onnx"), exported.pictures["noise"]
    normalized = tmp_path / "model.onnx"
    export(exported.weights, "onnx", output=normalized, checked=False)
    jpeg = tmp_path / "noise.jpg"
    Image.open(picture).save(jpeg)
    lonely = tmp_path / "lonely.onnx"
    shutil.copy(model, lonely)
    for arguments, expected in (
        ([normalized, picture], "--input uint8"),
        ([lonely, picture], "lonely.onnx.json"),
        ([model, "nowhere.png"], "nowhere.png"),
        ([model, jpeg], "noise.jpg is not a PNG file"),
        ([model], "usage"),
        ([model, picture, "--quick"], "--quick"),
    ):
        done = run(*program, *arguments)
        assert (done.returncode, done.stdout) == (2 if expected in ("usage", "--quick") else 1, "")
        assert done.stderr.count("\n") == 1
        assert done.stderr.startswith("error: ")
        assert expected in done.stderr


def test_nothing_is_left_in_the_cache(program: tuple[str, Path], exported: Subject, tmp_path: Path) -> None:
    done = run(*program, exported.file("-uint8.onnx"), exported.pictures["noise"], env=homeless(tmp_path))
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_without_its_packages_it_says_what_to_do(exported: Subject, tmp_path: Path) -> None:
    try:
        node = tool("node")
    except Missing as error:
        pytest.skip(str(error))
    bare = tmp_path / "classify.mjs"
    shutil.copy(EXAMPLES / "node" / "classify.mjs", bare)
    done = run(node, bare, exported.file("-uint8.onnx"), exported.pictures["noise"])
    assert done.returncode == 1
    assert "npm ci --ignore-scripts" in done.stderr


@pytest.mark.parametrize("example", ["node", "web"])
def test_no_registry_is_written_into_the_lock_file(example: str) -> None:
    lock = (EXAMPLES / example / "package-lock.json").read_text(encoding="utf-8")
    assert '"resolved"' not in lock
    assert '"integrity"' in lock
