"""ExecuTorch programs: the batches that they take, what they say of themselves, and what is refused."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result

from cifar_export.errors import InvalidInput
from cifar_export.exporting.artifact import export
from cifar_export.formats import FORMATS
from cifar_export.gate.inputs import bundled_images
from cifar_export.gate.isolated import IsolatedFile
from cifar_export.networks.zoo import INPUT_VARIANTS, NETWORKS, named
from cifar_export.weights.seeded import random_weights

from support.paths import ROOT

Run = Callable[..., Result]
SPEC = named("cifar10_resnet8")
MAKE = """
import sys
from pathlib import Path
from cifar_export.exporting.artifact import export
from cifar_export.networks.zoo import named
from cifar_export.weights.seeded import random_weights
export(random_weights(named("cifar10_resnet8"), 1), "executorch", output=Path(sys.argv[1]), checked=False)
"""
needs_executorch = pytest.mark.skipif(
    importlib.util.find_spec("executorch") is None, reason="executorch is not installed"
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program of seeded weights that takes pixels, proved."""
    path = tmp_path_factory.mktemp("executorch") / "model.pte"
    return export(random_weights(SPEC, 1), "executorch", variant="uint8", output=path).path


@needs_executorch
@pytest.mark.slow
@pytest.mark.parametrize("variant", INPUT_VARIANTS)
def test_each_input_variant_is_proved_in_executorch(variant: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.pte"
    report = export(random_weights(SPEC, 2), "executorch", variant=variant, output=path).parity
    assert report is not None
    assert [(row.runtime, row.state) for row in report.runtimes] == [("executorch", "passed")]
    assert (report.runtimes[0].provider or "").endswith("XNNPACK")
    facts = FORMATS["executorch"].load().inspect(path)
    assert (facts.variant, (facts.metadata or {})["labels"]) == (variant, list(SPEC.dataset.labels))


@needs_executorch
@pytest.mark.slow
def test_it_takes_every_batch_up_to_its_largest_and_is_fed_larger_ones(made: Path) -> None:
    images = np.concatenate([bundled_images(), bundled_images()])[:130]
    with IsolatedFile("executorch", made) as runtime:
        one_by_one = np.concatenate([runtime.logits(images[at : at + 1]) for at in range(len(images))])
        for size in (2, 7, 15, 16, 17, 31, 63, 64, 65, 130):  # with an example of two images, 16 fails
            assert np.abs(runtime.logits(images[:size]) - one_by_one[:size]).max() < 1e-4, size


@needs_executorch
@pytest.mark.slow
def test_its_bytes_do_not_depend_on_the_process_or_what_it_made_before(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.pte" for number in range(3)]
    for path in paths[:2]:
        export(random_weights(SPEC, 1), "executorch", output=path, checked=False)
    subprocess.run([sys.executable, "-c", MAKE, paths[2]], check=True, cwd=tmp_path, capture_output=True)
    assert len({path.read_bytes() for path in paths}) == 1


@needs_executorch
@pytest.mark.slow
def test_other_formats_have_the_same_bytes_after_it(tmp_path: Path) -> None:
    digests = []
    for number in range(2):
        for name in ("torchscript", "torch-export", "onnx"):
            path = tmp_path / f"{number}{FORMATS[name].suffix}"
            export(random_weights(SPEC, 1), name, output=path, checked=False)
            digests.append(hashlib.sha256(path.read_bytes()).hexdigest())
        export(random_weights(SPEC, 1), "executorch", output=tmp_path / "model.pte", checked=False)
    assert digests[:3] == digests[3:]


@needs_executorch
@pytest.mark.slow
def test_a_program_returns_its_metadata_by_a_method_of_its_own(made: Path) -> None:
    command = "import sys; from executorch.runtime import Runtime as R; p = R.get().load_program(sys.argv[1]); "
    command += "print(p.load_method('metadata').execute([])[0])"
    done = subprocess.run([sys.executable, "-c", command, made], check=True, capture_output=True, text=True)
    document = json.loads(done.stdout.removeprefix("cifar-export "))
    assert document == FORMATS["executorch"].load().inspect(made).metadata


@needs_executorch
@pytest.mark.slow
def test_parity_and_predict_know_the_file_and_run_no_other_than_the_exported(
    run: Run, made: Path, tmp_path: Path
) -> None:
    picture = ROOT / "examples" / "samples" / "ship.png"
    assert run("predict", made, picture).exit_code == 0
    other = tmp_path / "model.pte"
    other.write_bytes(made.read_bytes())
    refused = run("predict", other, picture)
    assert (refused.exit_code, "no sidecar" in refused.stderr) == (2, True)
    other.write_bytes(made.read_bytes()[:200_000])
    damaged = run("predict", other, picture, "--trust-file")
    assert (damaged.exit_code, damaged.stdout) == (2, "")
    path = tmp_path / "bundled.pte"
    assert run("executorch", "resnet20", "-o", path).exit_code == 0
    proved = run("parity", "resnet20", "--file", path, "--json")  # by the runtime of its format, which is no default
    assert proved.exit_code == 0, proved.stderr
    assert "executorch" in [row["runtime"] for row in json.loads(proved.stdout)["runtimes"] if row["state"] == "passed"]


@needs_executorch
@pytest.mark.slow
@pytest.mark.parametrize("name", list(NETWORKS))
def test_every_bundled_network_passes_with_all_images(run: Run, name: str) -> None:
    proved = run("parity", name, "--input", "uint8", "--runtime", "executorch", "--json")
    assert proved.exit_code == 0, proved.stderr


def test_what_a_program_says_of_itself_is_read_without_executorch(tmp_path: Path) -> None:
    path = tmp_path / "model.pte"
    inspect = FORMATS["executorch"].load().inspect
    path.write_bytes(b'<\0\0\0ET12eh00\0\0cifar-export {"input": "unit", "model": "resnet8"}\0\0')
    facts = inspect(path)
    assert (facts.variant, facts.metadata) == ("unit", {"input": "unit", "model": "resnet8"})
    path.write_bytes(b"<\0\0\0ET12eh00 of somebody else")
    assert inspect(path).metadata is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no program",
        b"<\0\0\0ET12cifar-export {\0",
        b"<\0\0\0ET12cifar-export {nothing}\0",
        b'<\0\0\0ET12cifar-export {"a": 1}\0cifar-export {"a": 2}\0',
        b"<\0\0\0ET12cifar-export {" + b"[" * 100_000 + b"}\0",
        b'<\0\0\0ET12cifar-export {"a": "' + b"x" * (1 << 20) + b'"}\0',
    ],
)
def test_a_damaged_program_is_refused_in_one_line(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.pte"
    path.write_bytes(data)
    with pytest.raises(InvalidInput) as refused:
        FORMATS["executorch"].load().inspect(path)
    assert "\n" not in str(refused.value)


def test_without_executorch_nothing_is_written(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cifar_export.runtimes.executorch.importlib.util.find_spec", lambda name: None)
    for options in ([], ["--no-check"]):
        result = run("executorch", "resnet8", "--weights", "random", "-o", tmp_path / "model.pte", *options)
        assert (result.exit_code, list(tmp_path.iterdir())) == (3, [])
        assert "pip install 'cifar-export[executorch]'" in result.stderr
