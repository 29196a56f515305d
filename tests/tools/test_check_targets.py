"""`tools/check_targets.py`: its tables are the documentation's, and a reader that is wrong is found out."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from cifar_export.errors import Unavailable
from cifar_export.formats.onnx_choices import TARGETS
from cifar_export.networks.zoo import NETWORKS
from cifar_export.weights.seeded import random_weights
from tools import check_targets

from support.paths import ROOT

OPENVINO = next(reader for reader in check_targets.READERS if reader.name == "openvino")
WEIGHTS = random_weights(NETWORKS["cifar10_resnet20"], seed=0)


def test_the_documentation_has_the_table_of_targets_and_every_reader() -> None:
    text = (ROOT / "docs" / "targets.md").read_text(encoding="utf-8")
    assert check_targets.choices_table() in text
    measured, unconfirmed = text.split("## Who has read them")[1].split("What no reader has confirmed")
    for reader in check_targets.READERS:
        assert (check_targets.SCRIPTS / f"{reader.name}_reader.py").is_file()
        for target in reader.targets:
            assert f"| `{target}` | {reader.title} |" in measured
    for target in TARGETS:  # each is measured, or said not to be
        assert f"`{target}`" in measured + unconfirmed


def test_a_reader_runs_in_its_python_and_is_held_against_float64() -> None:
    pytest.importorskip("openvino", reason="openvino is not installed")
    outcome = check_targets.read(OPENVINO, "openvino", WEIGHTS, Path(sys.executable))
    assert (outcome.problem, outcome.agrees) == (None, 1.0)
    assert outcome.version
    assert outcome.error is not None
    assert outcome.error < 1e-4
    row = check_targets.table([outcome]).splitlines()[-1]
    assert row == f"| `openvino` | OpenVINO | {outcome.version} | {outcome.error:.1e} | 100% |"


WRONG = """
import json, sys
import numpy as np
images = np.load(sys.argv[2])
np.save(sys.argv[3], np.zeros((len(images), 10), np.float32))
print(json.dumps({"openvino": "1"}))
"""


@pytest.mark.parametrize(
    ("script", "said"),
    [(WRONG, "exceeds"), ("raise ValueError('no such operator')", "refuses the file: ValueError: no such operator")],
)
def test_a_reader_that_is_wrong_or_refuses_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, said: str
) -> None:
    (tmp_path / "openvino_reader.py").write_text(script)
    monkeypatch.setattr(check_targets, "SCRIPTS", tmp_path)
    outcome = check_targets.read(OPENVINO, "openvino", WEIGHTS, Path(sys.executable))
    assert outcome.problem is not None
    assert said in outcome.problem


def test_a_reader_that_cannot_be_installed_is_said_and_tried_again_next_time(tmp_path: Path) -> None:
    nowhere = replace(OPENVINO, packages=("./no-such-package",))
    with pytest.raises(Unavailable, match="OpenVINO cannot be installed"):
        check_targets.environment(nowhere, tmp_path)
    assert not (tmp_path / "openvino" / ".installed").exists()
