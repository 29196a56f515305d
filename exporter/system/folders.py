"""The user's own folders: what can be made again (cache), and what must be kept (state)."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import platformdirs

from ..errors import Unavailable

CACHE_VARIABLE = "CIFAR_EXPORT_CACHE"


def cache_folder() -> Path:
    """Where downloads and finished networks are kept: `CIFAR_EXPORT_CACHE`, else the user's cache folder.

    Raises `Unavailable` where the user has no home folder.
    """
    named = os.environ.get(CACHE_VARIABLE)
    return Path(named) if named else _own(platformdirs.user_cache_dir, CACHE_VARIABLE)


def state_folder() -> Path:
    """Where keys and locks are kept. Raises `Unavailable` where the user has no home folder."""
    return _own(platformdirs.user_state_dir, "XDG_STATE_HOME")


def _own(find: Callable[[str], str], variable: str) -> Path:
    try:
        folder = Path(find("cifar-export"))
    except RuntimeError:
        folder = Path("~")
    if not folder.is_absolute():  # of older releases of platformdirs: a folder that is called "~"
        raise Unavailable(f"this user has no home folder. Set HOME, or {variable}, to a folder that may be written.")
    return folder
