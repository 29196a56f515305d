"""Load this package under its own name from the folder it lies in, whether or not it is installed.

The folder is called `exporter`, the package `cifar_export`. `cli.py` and `hubconf.py` run this file to get
`load_package`; as a script it runs one module of the package: `python -P exporter/start.py gate.worker`. It imports
nothing of the package, and nothing beyond the standard library.
"""

from __future__ import annotations

import hashlib
import importlib.util
import runpy
import sys
from pathlib import Path
from types import ModuleType

NAME = "cifar_export"
FOLDER = Path(__file__).resolve().parent


def load_package() -> ModuleType:
    """Import the package of this folder as `cifar_export` and return it; a second call returns the same one.

    Where another copy is already imported under that name (an installed one, say), this one gets a name of its own,
    `cifar_export_` and eight hex digits: imports inside the package are relative, so it does not care.
    """
    name = NAME
    if not _is_ours(sys.modules.get(name)):
        name = f"{NAME}_{hashlib.sha256(str(FOLDER).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(
        name, FOLDER / "__init__.py", submodule_search_locations=[str(FOLDER)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"{FOLDER} cannot be imported as a package.")
    package = importlib.util.module_from_spec(spec)
    sys.modules[name] = package
    try:
        spec.loader.exec_module(package)
    except BaseException:
        del sys.modules[name]
        raise
    return package


def _is_ours(loaded: ModuleType | None) -> bool:
    """Whether the name is free, or is that of the package in this folder."""
    return loaded is None or (loaded.__file__ is not None and Path(loaded.__file__).resolve().parent == FOLDER)


if __name__ == "__main__":
    load_package()
    runpy.run_module(f"{NAME}.{sys.argv.pop(1)}", run_name="__main__", alter_sys=True)
