"""The `cifar-export` command in a checkout, installed or not: `python cli.py ...`, `torchrun cli.py train ...`."""

from __future__ import annotations

import importlib
import runpy
from pathlib import Path

# at import, not below: processes that multiprocessing starts import this file to find the package again
package = runpy.run_path(str(Path(__file__).resolve().parent / "exporter" / "start.py"))["load_package"]()

if __name__ == "__main__":
    importlib.import_module(f"{package.__name__}.__main__").main(prog_name="cifar-export")
