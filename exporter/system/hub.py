"""The Hugging Face Hub: what `hf://ORG/NAME@REVISION` names, and files of it by the Hub's own library, the extra `hub`.

The library reads HF_ENDPOINT (another Hub than huggingface.co), and HF_TOKEN or the login that it keeps; it is imported
when it is used. What it brings is nobody's word yet: the caller checks digests.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import CifarExportError, GateFailed, InvalidInput, Unavailable, first_line, from_os_error, printable
from .http import CHECK_NETWORK, NotFound

SCHEME = "hf://"
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*"
_ADDRESS = re.compile(rf"hf://(?P<name>{_NAME})@(?P<revision>[A-Za-z0-9][A-Za-z0-9._+/-]*)")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def is_hub(url: str) -> bool:
    """Whether `url` is meant as an address on the Hub."""
    return url.startswith(SCHEME)


def parse_address(url: str) -> tuple[str, str]:
    """The repository ("ORG/NAME") and the revision that `url` names. Raises `InvalidInput` for anything else."""
    match = _ADDRESS.fullmatch(url)
    if match:
        return match["name"], match["revision"]
    if re.fullmatch(f"hf://{_NAME}@?", url):
        plain = url.rstrip("@")
        raise InvalidInput(
            f"{plain} names no revision, and what a repository holds changes.\nAdd a commit or a tag: {plain}@REVISION."
        )
    raise InvalidInput(f"{url!r} is no address of the Hub. Write hf://ORG/NAME@REVISION, with a commit or a tag.")


def require_name(name: str) -> None:
    """Raise `InvalidInput` unless `name` can be that of a repository, "ORG/NAME"."""
    if not re.fullmatch(_NAME, name):
        raise InvalidInput(f"{name!r} is no repository of the Hub. Write ORG/NAME.")


def is_pinned(url: str) -> bool:
    """Whether `url` names a whole commit, which no later one can take the place of."""
    return bool(_COMMIT.fullmatch(parse_address(url)[1]))


def library() -> Any:
    """The module `huggingface_hub`. Raises `Unavailable`, with the fix, where it is not installed."""
    # else it asks the Hub for a list of programs by which to tell who runs it, and says so with each request
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        import huggingface_hub
        import huggingface_hub.errors
        import huggingface_hub.utils
    except ImportError as error:
        raise Unavailable(
            f"the Hugging Face Hub needs a package that is not installed ({first_line(error)}).\n"
            "Run: pip install 'cifar-export[hub]'"
        ) from error
    return huggingface_hub


def endpoint() -> str | None:
    """The address of the Hub where HF_ENDPOINT names another than the library's own. Raises `InvalidInput` for none."""
    named = os.environ.get("HF_ENDPOINT", "").rstrip("/")
    if named and not re.match("https?://.", named):
        raise InvalidInput(f"HF_ENDPOINT is {named!r}, which is no address of a Hub. Write https://HOST, or unset it.")
    return named or None


def bring(url: str, files: Sequence[str], folder: Path, *, max_bytes: int) -> None:
    """Download `files` of the repository at `url` to their names in `folder`, which has the library's notes then, too.

    Raises `NotFound` where one is not there, `Unavailable` (no network, no such repository, no access, more than
    `max_bytes` in a file, a full disk, no library), `InvalidInput` for another address.
    """
    name, revision = parse_address(url)
    where: dict[str, Any] = {"repo_id": name, "revision": revision, "allow_patterns": list(files), "local_dir": folder}
    # what the library notes of a repository goes with `folder` too
    where |= {"cache_dir": folder / ".cache" / "huggingface" / "hub", "endpoint": endpoint()}
    with speaking_as_we_do(f"download {url}"), _quiet() as bars:
        download: Callable[..., Any] = library().snapshot_download
        for found in download(**where, tqdm_class=bars, dry_run=True):
            if found.file_size > max_bytes:
                raise Unavailable(f"cannot download {url}/{found.filename}: it has more than {max_bytes:,} bytes.")
        download(**where, tqdm_class=bars)
    for file in files:
        if not (folder / file).is_file():
            raise NotFound(
                f"cannot download {url}: it has no {file}.\nCheck that address, and that it is of a release."
            )


@contextlib.contextmanager
def speaking_as_we_do(doing: str) -> Iterator[None]:
    """Turn the errors of the Hub's library in the block, met while `doing` ("download hf://..."), into ours."""
    errors = library().errors
    try:
        yield
    except CifarExportError:
        raise
    except Exception as error:
        raise _translated(errors, error, doing) from error


def _translated(errors: Any, error: Exception, doing: str) -> CifarExportError:
    general = (errors.LocalEntryNotFoundError, errors.DryRunError)
    cause = error.__cause__ if isinstance(error, general) and error.__cause__ else error
    response = getattr(cause, "response", None)
    status = getattr(response, "status_code", None)
    if isinstance(cause, errors.HFValidationError):
        return InvalidInput(f"cannot {doing}: {first_line(cause)}.")
    if isinstance(cause, errors.OfflineModeIsEnabled):
        return Unavailable(f"cannot {doing}: HF_HUB_OFFLINE forbids it. Unset it, then run this again.")
    if isinstance(cause, errors.RevisionNotFoundError):
        return NotFound(f"cannot {doing}: the repository has no such revision. Check the commit or tag.")
    if status in (401, 403) or isinstance(cause, errors.RepositoryNotFoundError):
        return Unavailable(
            f"cannot {doing}: there is no such repository, or you may not do that (HTTP status {status}).\n"
            "Check its name; log in with `hf auth login`, or set HF_TOKEN."
        )
    if status == 412:
        return Unavailable(f"cannot {doing}: somebody else has changed it meanwhile. Run it again.")
    if status is not None:
        return Unavailable(f"cannot {doing}: HTTP status {status}. Run it again later.")
    if isinstance(cause, OSError) and cause.errno is not None and not isinstance(cause, ConnectionError | TimeoutError):
        return from_os_error(cause, doing)
    said = printable(" ".join(str(cause).split())[:200]).rstrip(". ")
    if isinstance(cause, ValueError) and said.startswith("Invalid metadata"):  # of a card, by the Hub's word
        return GateFailed(f"cannot {doing}: {said}.")
    return Unavailable(f"cannot {doing}: {type(cause).__name__}: {said}.\n{CHECK_NETWORK}.")


@contextlib.contextmanager
def _quiet() -> Iterator[Any]:
    """Keep the library from printing: our errors say it. Yields a class of progress bars that show nothing."""
    bars: Any = library().utils.tqdm

    class Silent(bars):  # type: ignore[misc]
        """Counts, and shows nothing."""

        def __init__(self, *arguments: Any, **more: Any) -> None:
            more.pop("name", None)
            super().__init__(*arguments, **{**more, "disable": True})

    voice: Any = library().utils.logging  # a level that `logging` sets is gone when the library's parts are imported
    before = voice.get_verbosity(), library().utils.are_progress_bars_disabled()
    voice.set_verbosity(logging.CRITICAL)
    with warnings.catch_warnings(action="ignore"):  # where the environment wants them
        library().utils.disable_progress_bars()
    try:
        yield Silent
    finally:
        voice.set_verbosity(before[0])
        if not before[1]:
            library().utils.enable_progress_bars()


def put(
    name: str, files: Mapping[str, Path], digests: Mapping[str, str], *, message: str, replace: bool = False
) -> str:
    """Upload `files`, by their paths in the repository `name`, as one commit on main; the commit.

    Whoever's login the library knows makes it. Each of `digests`, sha256 by path, must be that of what is sent. Files
    that are there already and are no others of the same names are an error, or removed by the same commit with
    `replace`. Either all of it is in the repository then, or nothing has changed there.

    Raises `InvalidInput` (files of others there), `GateFailed` (a file has changed, the Hub refuses what is in one) and
    `Unavailable` (no login, no such repository, no permission, no network, an error of the Hub).
    """
    hub = library()
    if not hub.get_token():
        raise Unavailable("there is no login to the Hub. Run `hf auth login`, or set HF_TOKEN.")
    with speaking_as_we_do(f"upload to {SCHEME}{name}"), _quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the Hub's advice on cards
        api = hub.HfApi(endpoint=endpoint())
        before = api.model_info(name)
        others = {file.rfilename for file in before.siblings or ()} - files.keys() - {".gitattributes"}
        if others and not replace:
            some = ", ".join(printable(other) for other in sorted(others)[:3])
            raise InvalidInput(
                f"{name} holds files that are not of this release: {some}{', ...' if len(others) > 3 else ''}.\n"
                "Name another repository, or add --replace: the new commit removes them then."
            )
        operations: list[Any] = [hub.CommitOperationAdd(path, str(file)) for path, file in files.items()]
        for added in operations:
            if added.upload_info.sha256.hex() != digests.get(added.path_in_repo, added.upload_info.sha256.hex()):
                raise GateFailed(f"{added.path_in_repo} has changed since it was verified. Nothing was uploaded.")
        operations += [hub.CommitOperationDelete(other, is_folder=False) for other in sorted(others)]
        made = api.create_commit(name, operations, commit_message=message, parent_commit=before.sha)
        return str(made.oid)
