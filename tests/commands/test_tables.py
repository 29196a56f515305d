"""What a person reads at 80 and at 120 columns, and what a program reads in a pipe: golden files in tables/."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cifar_export.commands.reports import (
    agreement_table,
    catalog_table,
    diagnosis_table,
    parity_table,
    predictions_table,
)
from cifar_export.commands.streams import say
from cifar_export.commands.tables import Column, fields, fitting
from cifar_export.weights.catalog import catalog

from support.reports import AGREEMENT, DIAGNOSIS, NO_GPU, PARITY, PREDICTIONS

GOLDEN = Path(__file__).parent / "tables"
TABLES: dict[str, Callable[[], None]] = {
    "models": lambda: catalog_table(catalog(["resnet8"])),
    "parity": lambda: parity_table(PARITY),
    "doctor": lambda: diagnosis_table(DIAGNOSIS),
    "evaluate": lambda: agreement_table(AGREEMENT),
    "predict": lambda: predictions_table(PREDICTIONS),
}


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What `show` prints on a terminal so wide, without its bold and colors."""

    def shown(show: Callable[[], None], columns: int) -> str:
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        for name, value in {"COLUMNS": str(columns), "LINES": "50", "TERM": "xterm"}.items():
            monkeypatch.setenv(name, value)
        show()
        return re.sub(" +$", "", click.unstyle(capsys.readouterr().out), flags=re.MULTILINE)

    return shown


def same(text: str, name: str) -> bool:
    """Whether `text` is that of a golden file; CIFAR_EXPORT_GOLDEN=write writes what is so now.

    Rules are as long as this rich draws them: before release 15 it left out the last column's gap.
    """
    file = GOLDEN / f"{name}.txt"
    if os.environ.get("CIFAR_EXPORT_GOLDEN") == "write":
        file.write_text(text)
    return re.sub("─+", "─", text) == re.sub("─+", "─", file.read_text())


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("name", TABLES)
def test_on_a_terminal(name: str, columns: int, terminal: Callable[..., str]) -> None:
    text = terminal(TABLES[name], columns)
    assert max(map(len, text.splitlines())) <= columns
    assert same(text, f"{name}-{columns}"), text


@pytest.mark.parametrize("name", TABLES)
def test_in_a_pipe_a_record_is_a_line_and_sentences_are_on_stderr(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    TABLES[name]()
    said = capsys.readouterr()
    assert len({line.count("\t") for line in said.out.splitlines()}) == 1
    assert same(said.out, f"{name}-piped"), said.out
    assert "\t" not in said.err


def test_the_width_of_a_pipe_does_not_matter(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("COLUMNS", "FORCE_COLOR"):
        monkeypatch.setenv(name, "20")
    TABLES["predict"]()
    assert same(capsys.readouterr().out, "predict-piped")


def test_what_did_not_run_has_one_line_for_each_reason(terminal: Callable[..., str]) -> None:
    text = " ".join(terminal(TABLES["parity"], 80).split())
    assert text.count("nvidia-smi") == 1
    assert f"onnxruntime-cuda-tf32, onnxruntime-tensorrt — {NO_GPU}" in text
    assert text.count("not run") == 2


def test_wide_has_every_column_in_full(terminal: Callable[..., str]) -> None:
    text = terminal(lambda: catalog_table(catalog(), wide=True), 80)
    assert ".4914 .4822 .4465 / .2023 .1994 .2010" in text
    assert all(name in text for name in ("classes", "weights", "reference"))
    assert "largest error 2.0e-01, allowed 4.2e-06" in terminal(lambda: parity_table(PARITY, wide=True), 80)


@given(
    st.lists(
        st.tuples(st.integers(1, 60), st.integers(0, 3), st.booleans(), st.booleans()), min_size=1, max_size=8
    ).filter(lambda columns: not all(wide for *_, wide in columns)),
    st.integers(24, 200),
)
def test_columns_fit_and_those_of_higher_rank_go_first(asked: list[tuple[int, int, bool, bool]], room: int) -> None:
    columns = [Column("", rank, cut=cut, wide=wide) for _, rank, cut, wide in asked]
    shown = fitting(columns, [width for width, *_ in asked], room)
    assert sum(shown.values()) + 2 * (len(shown) - 1) <= room
    dropped = [column.rank for place, column in enumerate(columns) if place not in shown and not column.wide]
    assert 0 not in dropped
    assert not dropped or max((columns[place].rank for place in shown), default=0) <= min(dropped)
    for place, width in shown.items():
        assert 1 <= width <= asked[place][0]


def test_a_long_value_goes_on_below_itself_on_a_terminal(terminal: Callable[..., str]) -> None:
    pairs = [("file", "a\nb.onnx"), ("mean / std", "words " * 20 + "end")]
    lines = terminal(lambda: fields(pairs), 80).splitlines()
    assert lines[0] == r"file        a\nb.onnx"
    assert [line.partition("words")[0] for line in lines[1:]] == ["mean / std  ", " " * 12]
    assert max(map(len, lines)) <= 80
    assert " ".join(" ".join(lines[1:]).split()) == f"mean / std {'words ' * 20}end"


def test_a_value_in_a_pipe_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    fields([("mean / std", "words " * 20 + "end")])
    assert capsys.readouterr().out == f"mean / std  {'words ' * 20}end\n"


def test_errors_break_between_words_on_a_terminal_and_are_whole_in_a_log(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = "note: " + "words " * 40 + "/a/path/that/is/not/broken"
    say(line)
    assert capsys.readouterr().err == f"{line}\n"
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    say(line)
    said = capsys.readouterr().err
    assert max(map(len, said.splitlines())) <= 80
    assert " ".join(said.split()) == line
