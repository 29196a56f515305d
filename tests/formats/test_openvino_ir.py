"""OpenVINO's own files: what stands in them, that their bytes are the network's alone, and what is refused."""

import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cifar_export.errors import InvalidInput
from cifar_export.exporting.artifact import export
from cifar_export.formats import FORMATS
from cifar_export.gate.inputs import bundled_images
from cifar_export.networks.zoo import INPUT_VARIANTS, named
from cifar_export.runtimes import open_runtime
from cifar_export.weights.seeded import random_weights

from support.paths import ROOT

ov = pytest.importorskip("openvino")
SPEC = named("cifar10_resnet8")
MAKE = """
import sys
from pathlib import Path
from cifar_export.exporting.artifact import export
from cifar_export.networks.zoo import named
from cifar_export.weights.seeded import random_weights
export(random_weights(named("cifar10_resnet8"), 1), "openvino", output=Path(sys.argv[1]), checked=False)
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive of seeded weights, proved."""
    path = tmp_path_factory.mktemp("ir") / "model.openvino.zip"
    return export(random_weights(SPEC, 1), "openvino", variant="uint8", output=path).path


@pytest.mark.parametrize("variant", INPUT_VARIANTS)
def test_each_input_variant_is_proved_in_openvino(variant: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.openvino.zip"
    report = export(random_weights(SPEC, 2), "openvino", variant=variant, output=path).parity
    assert report is not None
    assert [(row.runtime, row.state) for row in report.runtimes] == [("openvino-ir", "passed")]


def test_unpacked_it_is_what_openvino_reads_with_labels_and_float32_weights(made: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(made) as archive:
        archive.extractall(tmp_path)
        assert archive.namelist() == ["model/model.xml", "model/model.bin", "model/extra/metadata.json"]
    model = ov.Core().read_model(tmp_path / "model" / "model.xml")
    labels = json.loads(model.get_rt_info(["framework", "labels"]).astype(str))
    assert labels == list(SPEC.dataset.labels)
    assert "FP16" not in (tmp_path / "model" / "model.xml").read_text()
    images = bundled_images()[:3]
    compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    with open_runtime("openvino-ir", made) as runtime:
        assert np.array_equal(runtime.logits(images), compiled(images)[0])


def test_what_the_file_says_of_itself_is_read_without_openvino(made: Path) -> None:
    facts = FORMATS["openvino"].load().inspect(made)
    assert (facts.variant, facts.precision, (facts.metadata or {})["model"]) == ("uint8", "float32", "resnet8")


def test_its_bytes_do_not_depend_on_the_process_or_what_it_made_before(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.openvino.zip" for number in range(3)]
    for path in paths[:2]:
        export(random_weights(SPEC, 1), "openvino", output=path, checked=False)
    subprocess.run([sys.executable, "-c", MAKE, paths[2]], check=True, cwd=ROOT, capture_output=True)
    assert len({path.read_bytes() for path in paths}) == 1


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: b"no archive",
        lambda data: _without(data, "model/model.bin"),
        lambda data: _without(data, "model/model.xml"),
    ],
)
def test_a_damaged_archive_is_refused_in_one_line(made: Path, tmp_path: Path, damage: Any) -> None:
    path = tmp_path / "model.openvino.zip"
    path.write_bytes(damage(made.read_bytes()))
    with pytest.raises(InvalidInput) as refused:
        open_runtime("openvino-ir", path)
    assert "\n" not in str(refused.value)


def _without(data: bytes, name: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as archive, zipfile.ZipFile(buffer, "w") as less:
        for other in archive.namelist():
            if other != name:
                less.writestr(other, archive.read(other))
    return buffer.getvalue()


def test_without_openvino_nothing_is_written(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cifar_export.runtimes.openvino.importlib.util.find_spec", lambda name: None)
    result = run("openvino", "resnet8", "--weights", "random", "-o", tmp_path / "model.openvino.zip")
    assert (result.exit_code, list(tmp_path.iterdir())) == (3, [])
    assert "pip install 'cifar-export[openvino]'" in result.stderr


def test_formats_lists_every_format(run: Any) -> None:
    rows = json.loads(run("formats", "--json").stdout)
    assert [row["command"] for row in rows] == list(FORMATS)
    lines = run("formats").stdout.splitlines()
    assert [line.split("\t")[:2] for line in lines] == [[row["command"], row["suffix"]] for row in rows]
