"""Arrays in files that another process wrote."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InvalidInput, first_line
from .outside import read_regular

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_ARRAY_BYTES = 1 << 31
"""Of one array: 10,000 images in float64 have 246 million."""


def read_array(path: Path, max_bytes: int = MAX_ARRAY_BYTES) -> NDArray[Any]:
    """The array in the .npy file at `path`; nothing is unpickled.

    Raises `InvalidInput` for whatever else it may be, and for more than `max_bytes`.
    """
    import numpy as np

    data = read_regular(path, max_bytes)
    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
    # NumPy reads the header with Python's tokenizer and evaluates it, which raises what it likes on odd bytes
    except Exception as error:
        raise InvalidInput(f"{path} holds no array: {first_line(error, named=True)}.") from error
    if not isinstance(array, np.ndarray):
        raise InvalidInput(f"{path} holds more than one array.")
    return array
