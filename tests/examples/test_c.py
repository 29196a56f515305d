"""The C example, compiled with its exported network, against the float64 reference."""

from __future__ import annotations

from pathlib import Path

import pytest

from cifar_export.exporting.artifact import export
from cifar_export.networks.zoo import network
from cifar_export.runtimes import why_missing
from cifar_export.weights.seeded import random_weights

from support.consumers import EXAMPLES, TOLERANCE, Subject, answers, largest_error, run, subject

pytest.importorskip("emx_onnx_cgen")
pytestmark = pytest.mark.skipif(why_missing("c") is not None, reason="needs a C compiler")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return subject(random_weights(network("resnet8", "cifar100"), 3), tmp_path_factory.mktemp("exported"))


@pytest.fixture(scope="module")
def program(exported: Subject) -> Path:
    source = export(exported.weights, "c", variant="uint8", output=exported.folder / "model.c").path
    built = exported.folder / "classify"
    flags = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-O2", "-DCLASSES=100")
    done = run("cc", *flags, "-o", built, EXAMPLES / "c" / "main.c", source, "-lm")
    assert (done.returncode, done.stderr) == (0, "")
    return built


def test_it_prints_the_five_likeliest_classes(exported: Subject, program: Path) -> None:
    done = run(program, *(path.with_suffix(".ppm") for path in exported.pictures.values()))
    assert (done.returncode, done.stderr) == (0, "")
    assert largest_error(answers(done.stdout), exported.expected) < TOLERANCE


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot open"),
        (b"", "is not a binary 8-bit PPM file"),
        (b"\x89PNG\r\n\x1a\n", "is not a binary 8-bit PPM file"),
        (b"P6 31 32 255\n" + bytes(31 * 32 * 3), "is not 32x32"),
        (b"P6 32 32 65535\n" + bytes(32 * 32 * 6), "is not a binary 8-bit PPM file"),
        (b"P6 99999999999999999999 32 255\n", "is not"),
        (b"P6 32 32 255\n" + bytes(3071), "ends too early"),
    ],
)
def test_a_bad_picture_is_one_line_and_exit_code_1(program: Path, tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "picture.ppm"
    if content is not None:
        path.write_bytes(content)
    done = run(program, path)
    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [(), ("--help",)])
def test_wrong_usage_is_exit_code_2(program: Path, arguments: tuple[str, ...]) -> None:
    assert run(program, *arguments).returncode == 2
