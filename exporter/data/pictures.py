"""Any PNG, JPEG, WebP or PPM file as the 32×32 RGB pixels that the networks were trained on.

What happens to a picture, in this order:

1. its EXIF orientation is applied; of an animation the first frame counts;
2. 16-bit values become 8-bit ones (v / 257, rounded), palettes and greyscale become RGB, and what is transparent is
   composited on white; color profiles are not applied;
3. the largest square in its middle is cut out: shapes keep their proportions;
4. the square is brought to 32×32. It is reduced with Pillow's BOX filter: each source pixel counts once, so fine
   patterns do not alias, nothing overshoots, and other languages can compute the same in a few lines (examples/web
   does); it is one of the filters that Chrabaszcz et al. (arXiv:1707.08819) made 32×32 pictures of ImageNet with. It
   is enlarged with BILINEAR. A 32×32 picture passes through unchanged.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import CifarExportError, InvalidInput, first_line, from_os_error
from ..networks.preprocess import Pixels
from ..networks.zoo import IMAGE_SIZE
from ..system.outside import open_regular

FORMATS = ("PNG", "JPEG", "WEBP", "PPM")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".ppm")  # what is looked for in a folder; a file named may have any
BACKGROUND = (255, 255, 255)
MAX_PIXELS = 100_000_000  # a 24-bit picture of that size takes 300 MB; a file that asks for more may be a bomb
MAX_FILE_BYTES = 4 * MAX_PIXELS
_ALPHA_MODES = ("RGBA", "LA", "PA", "RGBa", "La")


class NotAPicture(InvalidInput):
    """A file that cannot be shown to a network: no picture of a known format, damaged, or too large."""


def find_pictures(paths: Sequence[Path]) -> list[Path]:
    """The files in `paths`, folders replaced by the pictures right inside them (by suffix, in order of name).

    Raises `InvalidInput` for a path that does not exist and for a folder without pictures.
    """
    found: list[Path] = []
    for path in paths:
        try:
            if not path.is_dir():
                path.stat()
                found.append(path)
                continue
            inside = sorted(entry for entry in path.iterdir() if _counts_as_picture(entry))
        except OSError as error:
            raise from_os_error(error, f"read {path}") from error
        if not inside:
            raise InvalidInput(f"{path}: no pictures in this folder. Put {', '.join(SUFFIXES)} files there.")
        found += inside
    return found


def _counts_as_picture(entry: Path) -> bool:
    """By its name, in a folder. A link that leads nowhere counts, and is reported when it is read."""
    return entry.suffix.lower() in SUFFIXES and not entry.name.startswith(".") and not entry.is_dir()


def read_picture(path: Path) -> Pixels:
    """The picture at `path` as uint8 (32, 32, 3) RGB, made as the module's text says. Raises `NotAPicture`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of odd metadata and of large pictures; both are judged here
            with _opened(path) as stream, Image.open(stream, formats=FORMATS) as image:
                _refuse_bomb(path, image)
                return np.asarray(_to_size(_to_rgb(ImageOps.exif_transpose(image))))
    except NotAPicture:
        raise
    except CifarExportError as error:
        raise NotAPicture(str(error)) from error  # it names the path
    except UnidentifiedImageError:
        raise NotAPicture(f"{path}: not a PNG, JPEG, WebP or PPM picture.") from None
    except Image.DecompressionBombError:
        raise NotAPicture(f"{path}: more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels, refused.") from None
    except Exception as error:
        raise NotAPicture(f"{path}: cannot be read as a picture: {first_line(error)}.") from error


def _opened(path: Path) -> IO[bytes]:
    """The file at `path`; what a shell's <(...) gives, a pipe under the system's own name, is read to its end."""
    if path.parent.resolve() in (Path("/dev/fd"), Path(f"/proc/{os.getpid()}/fd")):
        return io.BytesIO(path.read_bytes())
    return open_regular(path, MAX_FILE_BYTES)


def _refuse_bomb(path: Path, image: Image.Image) -> None:
    """Look at the size that the header claims, before anything is decoded."""
    if image.width * image.height > MAX_PIXELS:
        claimed = f"{image.width:,} × {image.height:,} pixels"
        raise NotAPicture(f"{path}: {claimed}, more than {MAX_PIXELS:,}, refused. Make it smaller.")


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("floating-point pixels have no known range")
    if image.mode.startswith("I"):  # 16 bits in 16 or 32; Pillow's own conversion would clip them
        values = np.clip(np.asarray(image).astype(np.int64), 0, 65535)
        grey = ((values + 128) // 257).astype(np.uint8)
        if isinstance(image.info.get("transparency"), int):
            grey[values == image.info["transparency"]] = BACKGROUND[0]
        return Image.fromarray(grey).convert("RGB")
    if image.mode in _ALPHA_MODES or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, (*BACKGROUND, 255)), rgba).convert("RGB")
    return image.convert("RGB")


def _to_size(image: Image.Image) -> Image.Image:
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.crop((left, top, left + side, top + side))
    if side == IMAGE_SIZE:
        return square
    resampling = Image.Resampling.BOX if side > IMAGE_SIZE else Image.Resampling.BILINEAR
    return square.resize((IMAGE_SIZE, IMAGE_SIZE), resampling)
