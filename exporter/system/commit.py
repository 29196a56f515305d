"""The git commit that this code is."""

from __future__ import annotations

import os
import subprocess

from ..errors import Unavailable
from .checkout import CHECKOUT

CODE = ("cli.py", "exporter")


def source_commit(tracked: tuple[str, ...] = CODE, *, required: bool = False) -> str | None:
    """Ask git for the commit of the checkout this code runs from, `-dirty` if any of `tracked` was changed.

    None outside a checkout. Where git cannot tell (it is not installed, or refuses a folder of another user): None
    too, or `Unavailable` if `required`.
    """
    if not (CHECKOUT / ".git").exists():
        return None
    # a hook's GIT_DIR and the like name another repository than this one
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}

    def git(*arguments: str) -> str:
        command = ["git", "-C", os.fspath(CHECKOUT), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        return done.stdout.strip()

    try:
        commit = git("rev-parse", "HEAD")
        changed = git("status", "--porcelain", "--untracked-files=no", "--", *tracked)
    except (OSError, subprocess.CalledProcessError) as error:
        if not required:
            return None
        lines = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
        raise Unavailable(
            f"git cannot tell the commit of this checkout: {lines[0][:200]}\nFix that, or install the package."
        ) from error
    return commit + ("-dirty" if changed else "")
