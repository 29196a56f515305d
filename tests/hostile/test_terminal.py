"""Text of strangers on its way to a terminal: nothing in it moves a cursor, sets a title or turns the writing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from cifar_export.accuracy.agreement import Agreement, Disagreement, RuntimeAccuracy
from cifar_export.commands import progress, reports, tables
from cifar_export.commands.console import Command
from cifar_export.commands.streams import say
from cifar_export.doctor.report import Check, Diagnosis
from cifar_export.errors import InvalidInput
from cifar_export.exporting.artifact import export
from cifar_export.gate.divergence import Divergence
from cifar_export.gate.report import ParityReport, RuntimeResult
from cifar_export.prediction.predict import Guess, Prediction, Predictions
from cifar_export.weights.core import Weights

# ESC (sets a title), BEL, CSI of C1, bidi override and isolate, carriage return, backspace, DEL, line separator
EVIL = "x\x1b]0;title\x07\x9b31m\u202e\u2066\r\b\x7f\u2028y"
RAW = set(EVIL) - set("x]0;title31my")
ROW = RuntimeResult("r", EVIL, "failed", EVIL)
DIVERGENCE = Divergence(EVIL, EVIL, "numbers", EVIL, EVIL, inputs=(EVIL,))
REPORT = ParityReport("cifar10_resnet20", "float32", "0" * 64, {}, {EVIL: 1.0}, (ROW,), (EVIL,), DIVERGENCE)
UNKNOWN = ParityReport("cifar10_resnet20", "float32", "0" * 64, {}, {}, (ROW,), divergence_unknown=EVIL)
AGREEMENT = Agreement(
    EVIL,
    "float32",
    (EVIL, EVIL),
    (RuntimeAccuracy("r", "failed", reason=EVIL),),
    (Disagreement(0, 0, {"r": 0, EVIL: 1}, 0, 0.0, "tie"),),
)
PREDICTIONS = Predictions((Prediction(Path(EVIL), (Guess(EVIL, 0, 0.5),)),), ())

SHOWN: dict[str, Callable[[], object]] = {
    "a table": lambda: tables.table(EVIL, [tables.Column(EVIL)], [[EVIL]]),
    "fields": lambda: tables.fields([("a", EVIL)]),
    "a line": lambda: tables.print_line(EVIL),
    "predictions": lambda: reports.predictions_table(PREDICTIONS),
    "a parity report": lambda: reports.parity_table(REPORT),
    "a parity report without a node": lambda: reports.parity_table(UNKNOWN),
    "a disagreement": lambda: reports.agreement_table(AGREEMENT),
    "a diagnosis": lambda: reports.diagnosis_table(Diagnosis((Check("a", "problem", EVIL, EVIL),), {})),
    "a note": lambda: say(f"note: {EVIL}"),
}


def clean(text: str) -> bool:
    return "x" in text and not RAW & set(text)


@pytest.mark.parametrize("what", SHOWN)
@pytest.mark.parametrize("on_terminal", [True, False])
def test_everything_that_is_shown_is_escaped(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, what: str, on_terminal: bool
) -> None:
    monkeypatch.setattr(tables, "on_terminal", lambda: on_terminal)
    monkeypatch.setattr(reports, "on_terminal", lambda: on_terminal)
    SHOWN[what]()
    said = capsys.readouterr()
    assert clean(said.out + said.err), ascii(said.out + said.err)


def test_an_error_is_escaped_and_keeps_its_two_lines() -> None:
    @click.command(cls=Command)
    def fails() -> None:
        raise InvalidInput(f"{EVIL}\nNext step: {EVIL}")

    done = CliRunner().invoke(fails)
    assert clean(done.stderr)
    assert done.stderr.count("\n") == 2


def test_labels_of_a_file_and_names_of_pictures(run: Callable[..., Result], weights20: Weights, tmp_path: Path) -> None:
    file = export(weights20, "onnx", output=tmp_path / "a.onnx", checked=False).path
    model = onnx.load_model_from_string(file.read_bytes())
    for entry in model.metadata_props:
        if entry.key == "labels":
            entry.value = json.dumps([EVIL] * 10)
    file.write_bytes(model.SerializeToString())
    folder = tmp_path / "pictures"
    folder.mkdir()
    picture = folder / f"{EVIL.replace('/', '')}.png"
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(picture)
    (folder / f"{EVIL}z.png").write_text("no picture")
    done = run("predict", file, folder)
    assert done.exit_code == 1
    assert clean(done.stdout)
    assert clean(done.stderr)
    assert "skipped" in done.stderr


def test_progress_is_no_markup(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    monkeypatch.setattr(Console, "is_terminal", True)
    with progress.steps() as tell:
        tell(f"trying [red]{EVIL}")
    assert "\x07" not in capsys.readouterr().err
