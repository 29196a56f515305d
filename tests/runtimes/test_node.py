"""Node.js runs in a process that ends with the runtime. The process is a stand-in here: Python, under the name node."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from cifar_export.errors import InvalidInput
from cifar_export.runtimes.node import NodeSession

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the stand-in is a script with a #! line")

# What examples/logits.mjs does: a note of itself, then logits that are the number of bytes that came in.
SCRIPT = """#!{python}
import json, os, struct, sys
here = {folder!r}
open(os.path.join(here, "pid"), "w").write(str(os.getpid()))
if sys.argv[3].endswith("bad.onnx"):
    sys.exit("SyntaxError: no model")
def say(data):
    sys.stdout.buffer.write(struct.pack("<I", len(data)) + data)
    sys.stdout.buffer.flush()
say(json.dumps({{"provider": "cpu", "version": "1.2.3"}}).encode())
while head := sys.stdin.buffer.read(4):
    data = sys.stdin.buffer.read(struct.unpack("<I", head)[0])
    say(struct.pack("<2f", len(data), len(data)))
"""


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that the stand-in writes its process id to."""
    script = tmp_path / "node"
    script.write_text(SCRIPT.format(python=sys.executable, folder=str(tmp_path)))
    script.chmod(0o755)
    monkeypatch.setenv("PATH", os.pathsep.join([str(tmp_path), os.environ["PATH"]]))
    return tmp_path / "pid"


def runs(pid: Path) -> bool:
    try:
        os.kill(int(pid.read_text()), 0)
    except ProcessLookupError:
        return False
    return True


def test_a_closed_session_leaves_no_process(node: Path, tmp_path: Path) -> None:
    with NodeSession(tmp_path / "model.onnx", "onnxruntime-node") as session:
        assert session.provider == "cpu, onnxruntime-node 1.2.3"
        assert np.array_equal(session.logits(np.zeros((1, 2), np.float32)), [[8, 8]])
        assert runs(node)
    assert not runs(node)
    session.close()  # once more does no harm


def test_an_error_in_the_block_leaves_no_process(node: Path, tmp_path: Path) -> None:
    def fail() -> None:
        with NodeSession(tmp_path / "model.onnx", "onnxruntime-node"):
            raise RuntimeError("out of cheese")

    with pytest.raises(RuntimeError, match="out of cheese"):
        fail()
    assert not runs(node)


def test_a_file_that_is_refused_leaves_no_process(node: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"onnxruntime-node cannot load .*bad\.onnx: SyntaxError: no model\. Export"):
        NodeSession(tmp_path / "bad.onnx", "onnxruntime-node")
    assert not runs(node)
