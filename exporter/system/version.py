"""The tool's version, which stands in setup.cfg alone."""

from __future__ import annotations

import configparser

from .checkout import CHECKOUT


def _read() -> str:
    # A checkout knows its own version better than the metadata of an installation made earlier.
    setup_cfg = CHECKOUT / "setup.cfg"
    if setup_cfg.is_file():
        parser = configparser.ConfigParser()
        parser.read(setup_cfg, encoding="utf-8")
        if parser.get("metadata", "name", fallback=None) == "cifar-export":
            return parser.get("metadata", "version")
    import importlib.metadata  # half of what --help would otherwise take

    return importlib.metadata.version("cifar-export")


__version__ = _read()
