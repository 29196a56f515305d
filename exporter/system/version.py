"""The tool's version, which stands in setup.cfg alone."""

from __future__ import annotations

from .checkout import CHECKOUT


def _read() -> str:
    # A checkout knows its own version better than the metadata of an installation made earlier.
    setup_cfg = CHECKOUT / "setup.cfg"
    if setup_cfg.is_file():
        lines = setup_cfg.read_text(encoding="utf-8").splitlines()
        version = next((line for line in lines if line.startswith("version = ")), None)
        if "name = cifar-export" in lines and version:
            return version.removeprefix("version = ")
    import importlib.metadata  # half of what --help would otherwise take

    return importlib.metadata.version("cifar-export")


__version__ = _read()
