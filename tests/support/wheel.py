"""The wheel of this checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from support.paths import ROOT


def build_wheel(folder: Path) -> Path:
    """Build it in `folder` from a copy of the tracked files, without a network, and return its path."""
    copy = folder / "checkout"
    ignore = shutil.ignore_patterns("__pycache__", "exports", "releases", "runs", "*.egg-info")
    for name in ("exporter", "artifacts"):
        shutil.copytree(ROOT / name, copy / name, ignore=ignore)
    for name in ("cli.py", "setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    (copy / "docs").mkdir()
    shutil.copy(ROOT / "docs" / "package.md", copy / "docs")
    build = "import sys, setuptools.build_meta as b; print(b.build_wheel(sys.argv[1]))"
    environment = os.environ | {"PYTHONWARNINGS": "ignore"}
    subprocess.run(
        [sys.executable, "-c", build, str(folder)], cwd=copy, env=environment, check=True, capture_output=True
    )
    return next(folder.glob("*.whl"))
