"""From the bytes of a file somebody gave us to Python objects that hold tensors. No code from the file is run.

The file is read once, into memory, so that the sha256 is of the very bytes that are parsed.
"""

from __future__ import annotations

import io
import json
import re
import stat
import warnings
import zipfile
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from ..errors import InvalidInput, first_line, from_os_error
from ..errors import printable as printable
from ..networks.zoo import NetworkSpec
from .extras import STAND_INS
from .native import METADATA_KEY

MAX_BYTES = 64 * 2**20
"""For networks of up to resnet128. The largest of the eight has 0.86 million parameters: 7 MB even in float64."""
_BYTES_OF_A_BLOCK = 97_500 * 32
"""Parameters of one block in each of the stages, in float64 and four times over: with averages and optimizer state."""

_PICKLE_MARK = b"\x80"
# What a legacy checkpoint begins with: the pickled magic number of torch.serialization, protocol 2.
_LEGACY_START = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."

# First bytes of things that get mistaken for checkpoints, and what to do then.
_MISTAKEN: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself. Run `git lfs pull` where it came from"),
    (b"\x1f\x8b", "a gzip archive. Unpack it first"),
    (b"BZh", "a bzip2 archive. Unpack it first"),
    (b"\xfd7zXZ", "an xz archive. Unpack it first"),
    (b"\x89HDF", "an HDF5 file (Keras?). Give a PyTorch checkpoint or safetensors"),
    (b"\x93NUMPY", "a NumPy array. Give a PyTorch checkpoint or safetensors"),
    (b"<", "a web page or XML. Download the file itself"),
    (b"{", "JSON. Give a PyTorch checkpoint or safetensors"),
)


def max_bytes(network: NetworkSpec) -> int:
    """Bytes that a file of weights of `network` has at most."""
    return max(MAX_BYTES, network.model.blocks_per_stage * _BYTES_OF_A_BLOCK)


def read_bytes(path: Path, limit: int = MAX_BYTES) -> bytes:
    """Read the file at `path`. Raises `InvalidInput` for what is no file, is empty, or larger than `limit` bytes."""
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise InvalidInput(f"cannot load {path}: it is a folder. Give the file of weights in it.")
        if not stat.S_ISREG(status.st_mode):
            raise InvalidInput(f"cannot load {path}: it is not a regular file.")
        with path.open("rb") as stream:
            data = stream.read(limit + 1)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InvalidInput(f"no file {path}. Weights are `bundled`, `upstream`, or the path of a file.") from error
    except ValueError as error:  # a NUL in the path
        raise InvalidInput(f"no file {str(path)!r}: {error}.") from error
    except OSError as error:
        raise from_os_error(error, f"read {path}") from error
    if not data:
        raise InvalidInput(f"cannot load {path}: it is empty. Download or save it again.")
    if len(data) > limit:
        raise InvalidInput(
            f"cannot load {path}: it is larger than {limit // 2**20} MiB, so it is not one of these networks."
        )
    return data


def is_safetensors(data: bytes) -> bool:
    """Tell whether `data` begins like safetensors: the length of a JSON header, and its brace."""
    return len(data) > 8 and data[8:9] == b"{" and int.from_bytes(data[:8], "little") <= len(data) - 8


def document_in(data: bytes) -> str | None:
    """Our metadata document (text) in safetensors bytes; None where there is none."""
    if not is_safetensors(data):
        return None
    try:
        document = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"][METADATA_KEY]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return document if isinstance(document, str) else None


def read_safetensors(path: Path, data: bytes) -> tuple[dict[str, Any], str | None]:
    """Parse safetensors bytes into tensors, and our metadata document (text; None in a file of someone else's)."""
    try:
        tensors = safetensors.torch.load(data)
        return dict(tensors), document_in(data)
    # The bytes are anyone's: which exceptions a parser of such raises is nowhere promised.
    except Exception as error:
        raise InvalidInput(f"cannot load {path}: damaged safetensors ({_brief(error)}). Get it again.") from error


def read_checkpoint(path: Path, data: bytes, limit: int = MAX_BYTES) -> object:
    """Unpickle a torch checkpoint (zip or legacy format) with torch's restricted unpickler.

    Raises `InvalidInput` that says what the file is, where it is something else: truncated, code, TorchScript, ...
    """
    archive = None
    if _is_archive(data):
        archive = _checked_archive(path, data, limit)
    elif data.startswith(b"PK\x03\x04"):
        raise InvalidInput(f"cannot load {path}: a truncated checkpoint, its end is missing. Get it again.")
    elif not data.startswith(_PICKLE_MARK):
        raise InvalidInput(f"cannot load {path}: it is {_guess(data)}.")
    try:
        if archive is not None and (damaged := archive.testzip()) is not None:  # torch looks at no checksum
            raise zipfile.BadZipFile(f"the checksum of {damaged} is wrong")
        with warnings.catch_warnings(), torch.serialization.safe_globals(STAND_INS):
            warnings.simplefilter("ignore")  # about old formats; nothing a user can act on
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True, mmap=False)
    # The bytes are anyone's: a pickle machine may raise anything on them (documented for pickle.UnpicklingError).
    except Exception as error:
        raise InvalidInput(f"cannot load {path}: {_why(data, error)}.") from error


def _is_archive(data: bytes) -> bool:
    """Whether it looks like a zip archive: `is_zipfile`, which raises on some that are damaged."""
    try:
        return zipfile.is_zipfile(io.BytesIO(data))
    except zipfile.BadZipFile:
        return False


def _checked_archive(path: Path, data: bytes, limit: int) -> zipfile.ZipFile:
    """Open a zip archive; refuse one that is no checkpoint, by name, before torch looks at it."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        entries = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as error:
        raise InvalidInput(f"cannot load {path}: a damaged archive ({_brief(error)}). Get it again.") from error
    names = [entry.filename.partition("/")[2] or entry.filename for entry in entries]
    advice = "Save the state dict instead: torch.save(model.state_dict(), path)"
    if "constants.pkl" in names or any(name.startswith("code/") for name in names):
        raise InvalidInput(f"cannot load {path}: a TorchScript archive, which is code and was not run. {advice}.")
    if "archive_format" in names or any(name.startswith("models/") for name in names):
        raise InvalidInput(f"cannot load {path}: a torch.export archive (.pt2), which holds code. {advice}.")
    if "data.pkl" not in names:
        raise InvalidInput(f"cannot load {path}: a zip archive, but no PyTorch checkpoint (no data.pkl in it).")
    if sum(entry.file_size for entry in entries) > limit:
        raise InvalidInput(f"cannot load {path}: it unpacks to more than {limit // 2**20} MiB.")
    return archive


def _guess(data: bytes) -> str:
    """Say what `data` seems to be, given that it is no checkpoint."""
    start = data.lstrip(b"\xef\xbb\xbf \t\r\n")[:64]
    for mark, what in _MISTAKEN:
        if start.startswith(mark):
            return what
    if data[257:262] == b"ustar":
        return "a tar archive. Unpack it first; the oldest checkpoints are tar files themselves: save those again"
    # ModelProto begins with field 1 (ir_version), a varint; field 2 names the producer, or field 8 imports opsets.
    if data[:1] == b"\x08" and data[2:3] in (b"\x12", b":", b"B"):
        return "an ONNX model. Give the checkpoint that it was exported from"
    return "neither safetensors nor a PyTorch checkpoint, or its beginning is damaged. Get it again"


def _why(data: bytes, error: Exception) -> str:
    """Turn what torch.load said, many lines of it, into one cause and a next step."""
    text = str(error)
    if found := re.search(r"GLOBAL ([\w.<>]+)", text):
        return (
            f"its pickle refers to code ({found[1]}) and was not run.\n"
            "Where you trust it, load it yourself and save tensors only: torch.save(model.state_dict(), path)"
        )
    if not _is_archive(data) and not data.startswith(_LEGACY_START):
        return "a Python pickle, but no PyTorch checkpoint. Give a PyTorch checkpoint or safetensors"
    return f"a truncated or damaged checkpoint ({_brief(error)}). Get it again"


def _brief(error: Exception) -> str:
    """Take the first sentence of an error that may be pages long."""
    return printable(re.split(r"\. |: file", first_line(error, limit=120, named=True))[0])
