"""Stand-ins for what training scripts pickle beside their tensors: read past, never made.

torch's restricted unpickler calls only what it is told. These classes take any arguments and keep none of them, so no
code of NumPy, argparse or pathlib sees a byte of the file; whatever else a pickle refers to stays refused.
"""

from __future__ import annotations

from typing import Any

_NUMPY = ("scalar", "_reconstruct")
_PATHS = ("Path", "PosixPath", "WindowsPath", "PurePath", "PurePosixPath", "PureWindowsPath")


class Extra:
    """An object of a pickle that is no part of a network."""

    what = "an object"

    def __new__(cls, *_: Any, **__: Any) -> Extra:
        """Take the arguments of any constructor, and forget them."""
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, _: Any) -> None:
        """Take the state of any object, and forget it."""


class _Array(Extra):
    what = "a NumPy array or number"


class _Namespace(Extra):
    what = "an argparse.Namespace"


class _Path(Extra):
    what = "a path"


STAND_INS: list[Any] = [
    # numpy 1 calls its module core, numpy 2 _core
    *((_Array, f"numpy.{core}.multiarray.{name}") for core in ("core", "_core") for name in _NUMPY),
    (_Array, "numpy.ndarray"),
    (_Array, "numpy.dtype"),
    (_Namespace, "argparse.Namespace"),
    # Python 3.13 has them in a module of its own
    *((_Path, f"{module}.{name}") for module in ("pathlib", "pathlib._local") for name in _PATHS),
]
"""What `torch.serialization.safe_globals` takes: a stand-in, and the name that a pickle calls it by."""
