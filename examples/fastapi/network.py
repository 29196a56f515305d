"""An ONNX file of cifar-export, with ONNX Runtime, NumPy and Pillow alone: its pictures, its batches, its answers."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# ONNX Runtime keeps a device id and a database of events in the user's cache, unless this is set before its import
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import numpy as np
import onnxruntime as ort
from PIL import Image, ImageOps, UnidentifiedImageError

SIDE = 32
FORMATS = ("PNG", "JPEG", "WEBP", "PPM")
MAX_FILE_BYTES = 1 << 30
TYPES = {"uint8": "tensor(uint8)", "unit": "tensor(float)", "float32": "tensor(float)"}  # of each input variant


class Unusable(Exception):
    """A file that cannot be served: one line."""


class Refused(Exception):
    """A request that cannot be answered: one sentence, and the status for HTTP."""

    status = 415  # no picture of a known format


class Damaged(Refused):
    """A picture that cannot be decoded."""

    status = 422


class TooLarge(Refused):
    """A picture of more pixels than are decoded."""

    status = 413


class Full(Refused):
    """More pictures than there are places."""

    status = 503


class Failed(Refused):
    """A run of the network that went wrong."""

    status = 500


class Network:
    """The file in ONNX Runtime. `batch` is the one number of images that it takes, None where it takes any."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        """Raises `Unusable`."""
        data = _read(path)
        self.sha256 = hashlib.sha256(data).hexdigest()
        options = ort.SessionOptions()
        options.log_severity_level = 4  # what is wrong is said once, by the exception
        options.intra_op_num_threads = threads
        try:
            self.session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise Unusable(f"{path}: ONNX Runtime cannot open it ({_first_line(error)}). Export it again.") from error
        said = self.session.get_modelmeta().custom_metadata_map
        if said.get("tool") != "cifar-export":
            raise Unusable(f"{path}: not a file of cifar-export. Make one: cifar-export onnx resnet20 --input uint8")
        try:
            self.name = f"{said['dataset']}_{said['model']}"
            self.variant = said["input"]
            self.labels = tuple(map(str, json.loads(said["labels"])))
            self.mean, self.std = (np.asarray(json.loads(said[key]), np.float64).reshape(3) for key in ("mean", "std"))
            (port,), (output,) = self.session.get_inputs(), self.session.get_outputs()
            self.input, self.output, (batch, *self.shape) = port.name, output.name, port.shape
            self.batch = batch if isinstance(batch, int) else None
            if (port.type, output.shape[1:]) != (TYPES[self.variant], [len(self.labels)]):
                raise ValueError("its inputs or outputs are not those that it names")
            self.logits(np.zeros((1, SIDE, SIDE, 3), np.uint8))
        except Exception as error:  # metadata that is anyone's, and the first run
            what = f"{type(error).__name__}: {_first_line(error)}"
            raise Unusable(f"{path}: cannot be served ({what}). Export it again.") from error

    def logits(self, pixels: np.ndarray) -> np.ndarray:
        """Logits (N, classes) of uint8 pixels (N, 32, 32, 3) RGB; N is `batch` at most, the rest is black."""
        images = pixels
        if self.batch is not None:
            images = np.concatenate([pixels, np.zeros((self.batch - len(pixels), SIDE, SIDE, 3), np.uint8)])
        if self.variant != "uint8":  # in float64, rounded once
            scaled = images / 255.0
            images = ((scaled - self.mean) / self.std if self.variant == "float32" else scaled).astype(np.float32)
            if self.shape[0] == 3:
                images = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
        (logits,) = self.session.run([self.output], {self.input: images})
        if not np.isfinite(logits).all():
            raise ValueError("the network answered with numbers that are none")
        return logits[: len(pixels)]


class Batcher:
    """Runs pictures that come within a few milliseconds of each other through the network together.

    `largest`: so many in one run at most; `wait` in seconds; `most`: so many pictures are taken and not yet answered.
    """

    def __init__(self, network: Network, largest: int, wait: float, most: int) -> None:
        self.network, self.wait, self.most = network, wait, most
        self.largest = min(largest, network.batch or largest)
        self.queue: asyncio.Queue[tuple[float, np.ndarray, asyncio.Future[np.ndarray]]] = asyncio.Queue()
        self.accepted = 0

    @contextlib.contextmanager
    def places(self, pictures: int) -> Iterator[None]:
        """Places among those that are taken. Raises `Full`. To be had before a body is read, which takes memory too."""
        if self.accepted + pictures > self.most:
            raise Full(f"{self.accepted} of {self.most} places are taken; ask again in a second")
        self.accepted += pictures
        try:
            yield
        finally:
            self.accepted -= pictures

    async def logits(self, pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Logits (classes) of each of the pictures, uint8 (32, 32, 3) RGB. Raises `Failed`."""
        loop = asyncio.get_running_loop()
        answers: list[asyncio.Future[np.ndarray]] = [loop.create_future() for _ in pictures]
        for picture, answer in zip(pictures, answers, strict=True):
            self.queue.put_nowait((loop.time(), picture, answer))
        return await asyncio.gather(*answers)

    async def work(self) -> None:
        """Answer, until it is cancelled."""
        with ThreadPoolExecutor(1) as thread:
            while True:
                batch = await self._collect()
                images, answers = np.stack([image for _, image, _ in batch]), [answer for *_, answer in batch]
                try:
                    rows = await asyncio.get_running_loop().run_in_executor(thread, self.network.logits, images)
                except Exception as error:  # noqa: BLE001 - whatever it is, those who wait get it
                    rows = [Failed(f"the network failed: {_first_line(error)}")] * len(batch)
                for answer, row in zip(answers, rows, strict=True):
                    if not answer.done():  # cancelled, with its request
                        (answer.set_exception if isinstance(row, Exception) else answer.set_result)(row)

    async def _collect(self) -> list[tuple[float, np.ndarray, asyncio.Future[np.ndarray]]]:
        """The picture that has waited longest, and what comes until it has waited for `wait`."""
        batch = [await self.queue.get()]
        until = batch[0][0] + self.wait
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                while len(batch) < self.largest and (self.queue.qsize() or asyncio.get_running_loop().time() < until):
                    batch.append(await self.queue.get())
        return batch


def probabilities(logits: np.ndarray) -> np.ndarray:
    """The softmax of one row of logits, in float64."""
    powers = np.exp(logits.astype(np.float64) - logits.max())
    return powers / powers.sum()


def read_picture(data: bytes, max_pixels: int) -> np.ndarray:
    """A picture as uint8 (32, 32, 3) RGB, made as `cifar-export predict` does. Raises `Refused`."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > max_pixels:  # as the header says, before anything is decoded
                claimed = f"{image.width:,} x {image.height:,} pixels"
                raise TooLarge(f"the picture has {claimed}, more than {max_pixels:,}; make it smaller")
            return np.asarray(_to_size(_to_rgb(ImageOps.exif_transpose(image))))
    except Refused:
        raise
    except UnidentifiedImageError:
        raise Refused("this is not a PNG, JPEG, WebP or PPM picture") from None
    except Image.DecompressionBombError:
        raise TooLarge(f"the picture has more than {max_pixels:,} pixels; make it smaller") from None
    except Exception as error:
        raise Damaged(f"the picture cannot be decoded: {_first_line(error)}") from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("floating-point pixels have no known range")
    if image.mode.startswith("I"):  # 16 bits in 16 or 32; Pillow's own conversion would clip them
        values = np.clip(np.asarray(image).astype(np.int64), 0, 65535)
        grey = ((values + 128) // 257).astype(np.uint8)
        if isinstance(image.info.get("transparency"), int):
            grey[values == image.info["transparency"]] = 255
        return Image.fromarray(grey).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, (255, 255, 255, 255)), rgba).convert("RGB")
    return image.convert("RGB")


def _to_size(image: Image.Image) -> Image.Image:
    """The square in the middle, averaged down or enlarged."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.crop((left, top, left + side, top + side))
    if side == SIDE:
        return square
    return square.resize((SIDE, SIDE), Image.Resampling.BOX if side > SIDE else Image.Resampling.BILINEAR)


def _read(path: Path) -> bytes:
    if not path.is_file():  # a pipe or a device would be waited for
        raise Unusable(
            f"{path}: no such file, or not a regular one. Make one: cifar-export onnx resnet20 --input uint8"
        )
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise Unusable(f"{path}: more than {MAX_FILE_BYTES:,} bytes, which no file of cifar-export has.")
        return path.read_bytes()
    except OSError as error:
        raise Unusable(f"{path}: cannot be read ({error.strerror}).") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
