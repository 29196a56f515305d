"""The transcript of a newcomer: it leaves out what varies and nothing else, and docs/ has what is said today."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from tools.transcript import main, normal, on_terminal, settled

from support.paths import ROOT

SCRIPT = ROOT / "tools" / "first_ten_minutes.sh"
PAGE = ROOT / "docs" / "first-ten-minutes.md"
BLOCK = re.compile(r"^```text\n(.*?)\n```$", re.MULTILINE | re.DOTALL)
OF_DEMO = ("openvino", "cv2", "tract", "emx_onnx_cgen", "ai_edge_litert")
"""The runtimes that `make demo` brings, and that the page has rows of."""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="opens a pseudo terminal as Linux does")


def first_ten_minutes(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([SCRIPT, *arguments], capture_output=True, text=True, check=False)


def needs_an_environment_of_demo() -> Path:
    """The environment of these tests, if it is what `make demo` makes, on a machine like the page's."""
    if lacking := [name for name in OF_DEMO if importlib.util.find_spec(name) is None]:
        pytest.skip(f"the page shows what `make demo` installs; {', '.join(lacking)} is missing here")
    if torch.version.cuda is None or torch.cuda.is_available():
        pytest.skip("the page shows PyTorch's wheel of PyPI on a machine without a GPU")
    if not (ROOT / ".git").exists():
        pytest.skip("a newcomer clones; this is no git checkout")
    return Path(sys.prefix)


@pytest.mark.slow
def test_the_page_has_what_a_newcomer_is_told_today() -> None:
    done = first_ten_minutes("--installed", needs_an_environment_of_demo())
    assert (done.returncode, done.stderr) == (0, "")
    page = PAGE.read_text()
    if os.environ.get("CIFAR_EXPORT_GOLDEN") == "write":
        PAGE.write_text(BLOCK.sub(lambda _: f"```text\n{done.stdout.strip()}\n```", page, count=1))
    assert BLOCK.findall(page)[0] + "\n\n" == done.stdout


def test_no_answer_on_the_page_is_wider_than_its_terminal() -> None:
    blocks = BLOCK.findall(PAGE.read_text())
    assert len(blocks) == 2
    lines = [line for block in blocks for line in block.splitlines() if not line.startswith("$ ")]
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in "".join(lines)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--quick"], "usage: tools/first_ten_minutes.sh [--installed VENV]"),
        (["--installed"], "usage: tools/first_ten_minutes.sh [--installed VENV]"),
        (["--installed", "/nowhere"], "no environment with cifar-export is at /nowhere. `make demo` makes one."),
    ],
)
def test_wrong_usage_is_one_line(arguments: list[str], said: str) -> None:
    done = first_ten_minutes(*arguments)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"error: {said}\n")


def test_progress_is_wiped_out_and_styles_are_gone() -> None:
    spinner = "\x1b[?25l\x1b[32m⠋\x1b[0m loading\r\x1b[2K\x1b[32m⠙\x1b[0m exporting\r\n\x1b[?25h\r\x1b[1A\x1b[2K"
    assert settled(f"{spinner}\x1b[1mfile\x1b[0m  model.onnx   \r\n\x1b[32m⠋ more\r\x1b[2Kdone\r\n") == (
        "file  model.onnx\ndone\n"
    )


def test_a_command_has_a_terminal_of_80_columns(tmp_path: Path) -> None:
    asks = "import os, sys; print(sys.stdout.isatty(), os.get_terminal_size().columns, os.getcwd()); sys.exit(3)"
    assert on_terminal(f'{sys.executable} -c "{asks}"', tmp_path) == (f"True 80 {tmp_path}\n", 3)


def test_what_varies_is_replaced_and_the_rest_stays(tmp_path: Path) -> None:
    said = f"""file        {tmp_path}/model.onnx
sha256      {"0f" * 32}
bytes       1,119,989
weights     bundled, sha256 f95e4b5b
openvino            1.4e-05      100.00 %     266  passed
openvino-default    4.0e-01       96.62 %     266  reported
reported: openvino-default — error 1.1e-01 exceeds 3.0e-05 (noise), and 3 more
  input sets
parity passed
"""
    assert (
        normal(said, tmp_path)
        == """file        <folder>/model.onnx
sha256      <sha256>
bytes       #
weights     bundled, sha256 f95e4b5b
openvino            #.#e-##      100.00 %     266  passed
openvino-default    …
parity passed
"""
    )


def test_a_benchmark_keeps_its_headings_and_sentences(tmp_path: Path) -> None:
    said = """A processor, 2 cores, Linux x86_64
cifar-export 0.1.0, python 3.11.7
model.onnx: float32 input, float32, batch 1, threads 2
runtime           p50 ms  ratio (95 %)
──────────────────────────────────────
onnxruntime-cpu    0.387  1.00
openvino           0.387  1.00 (0.99–1.01)
not run: opencv — it is not installed. `pip install
  'cifar-export[opencv]'`.
A time is of one batch from a NumPy array (float32, normalized before) to logits
  in another: with the copies in and out, without decoding pictures.
Rows took turns for 10 s after a warm-up, and no run was dropped.
This is a noisy machine: other
  programs took 50% of it.
"""
    assert (
        normal(said, tmp_path)
        == """<processor, cores, system>
<versions>
model.onnx: float32 input, float32, batch 1, threads #
runtime  p50 ms  ratio (95 %)
onnxruntime-cpu  #  #
openvino  #  #
not run: opencv — it is not installed. `pip install 'cifar-export[opencv]'`.
A time is of one batch from a NumPy array (float32, normalized before) to logits
  in another: with the copies in and out, without decoding pictures.
Rows took turns for # s after a warm-up, and no run was dropped.
"""
    )


def test_a_command_that_fails_is_told_and_is_exit_code_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = tmp_path / "cifar-export"
    command.write_text('#!/bin/sh\necho "$1"\nexit "$2"\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    readme = tmp_path / "README.md"
    readme.write_text("$ cifar-export models 0\n$ cifar-export train 5\n$ cifar-export doctor 3\n")
    done = CliRunner().invoke(main, [str(tmp_path)])
    answers = "$ cifar-export models 0\nmodels\n\n$ cifar-export doctor 3\ndoctor\n(exit code 3)\n\n"
    assert (done.exit_code, done.output) == (0, answers)
    earlier = tmp_path / "earlier.txt"
    earlier.write_text(answers)
    readme.write_text("$ cifar-export models 0\n    .venv/bin/cifar-export onnx 1\n$ cifar-export doctor 3\n")
    done = CliRunner().invoke(main, [str(tmp_path), "--but", str(earlier)])
    assert (done.exit_code, done.stdout) == (1, "$ cifar-export onnx 1\nonnx\n(exit code 1)\n\n")
    assert done.stderr == "error: the README's `cifar-export onnx 1` fails\n"
