"""Pictures of four formats, as `predict` and data sets of pictures read them."""

import io

import atheris
import numpy as np
from harness import fuzz, memory_folder
from PIL import Image

with atheris.instrument_imports(include=["cifar_export.data.pictures", "PIL"]):
    from cifar_export.data.pictures import NotAPicture, read_picture

FILE = memory_folder() / "picture.png"


def target(data: bytes) -> None:
    FILE.write_bytes(data)
    pixels = read_picture(FILE)
    if pixels.shape != (32, 32, 3) or pixels.dtype != np.uint8:
        raise AssertionError(f"{pixels.dtype} {pixels.shape}")


def saved(mode: str, kind: str, side: int = 9) -> bytes:
    stream = io.BytesIO()
    Image.new(mode, (side, side + 3)).save(stream, kind)
    return stream.getvalue()


KINDS = {"PNG": ("RGB", "P", "I;16", "RGBA"), "JPEG": ("RGB", "L"), "WEBP": ("RGB", "RGBA"), "PPM": ("RGB", "1")}
SEEDS = (saved(mode, kind) for kind, modes in KINDS.items() for mode in modes)
fuzz("pictures", target, SEEDS, (NotAPicture,))
