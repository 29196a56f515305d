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
    try:
        commit = _git("rev-parse", "HEAD").decode().strip()
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", *tracked).strip()
    except (OSError, subprocess.CalledProcessError) as error:
        if not required:
            return None
        said = getattr(error, "stderr", b"").decode(errors="replace") or str(error)
        lines = said.strip().splitlines()
        fix = "Fix that, or install the package."
        if "dubious ownership" in said:  # the folder is another user's, as in a container
            fix = f"If you trust it: git config --global --add safe.directory {CHECKOUT}"
        raise Unavailable(f"git cannot tell the commit of this checkout: {lines[0][:200]}\n{fix}") from error
    return commit + ("-dirty" if changed else "")


def file_at(commit: str, path: str) -> bytes | None:
    """Read the file `path` (from the checkout's top, with slashes) as it stood in `commit`; None where it did not.

    `commit`: 40 hex digits, as `source_commit` gives them. Raises `Unavailable` where git or that commit is missing.
    """
    try:
        _git("cat-file", "-e", f"{commit}^{{commit}}")
    except (OSError, subprocess.CalledProcessError) as error:
        raise Unavailable(
            f"git does not know commit {commit[:12]} here.\nFetch the whole history: `git fetch --unshallow`, or --all."
        ) from error
    try:
        return _git("cat-file", "blob", f"{commit}:{path}")
    except subprocess.CalledProcessError:
        return None


def _git(*arguments: str) -> bytes:
    # a hook's GIT_DIR and the like name another repository than this one
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", os.fspath(CHECKOUT), *arguments]
    return subprocess.run(command, capture_output=True, check=True, env=environment).stdout
