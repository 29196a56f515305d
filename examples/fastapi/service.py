"""An HTTP service for an ONNX file of cifar-export: python service.py FILE.onnx [--port 8000]; -h shows the limits."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import functools
import math
import os
import socket
import sys
import warnings
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

try:
    import numpy as np
    import python_multipart  # noqa: F401 - Starlette asks for it at the first form
    import uvicorn
    from fastapi import FastAPI, HTTPException, Query, Request
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import JSONResponse
    from network import Batcher, Network, Refused, Unusable, probabilities, read_picture
    from pydantic import BaseModel, Field
    from starlette.datastructures import Headers
    from starlette.requests import ClientDisconnect
except ModuleNotFoundError as error:
    sys.exit(f"error: {error.name} is not installed: pip install -r requirements.txt")


def _limit(default: Any, help: str) -> Any:
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True)
class Limits:
    """What the service takes; each is an option of the command."""

    max_bytes: int = _limit(4 << 20, "bytes of a body")
    max_pixels: int = _limit(25_000_000, "pixels of a picture, before it is scaled")
    max_pictures: int = _limit(32, "pictures of a form")
    max_waiting: int = _limit(128, "pictures that are taken and not yet answered")
    max_batch: int = _limit(32, "pictures in one run of the network; 1 turns batching off")
    wait_ms: float = _limit(0.0, "milliseconds that a picture waits for others to run with")
    patience: float = _limit(30.0, "seconds that a body may take to come, and the end for those in flight")


class Guess(BaseModel):
    label: str = Field(description="name of the class, as the file has it")
    index: int = Field(description="its number, from 0")
    probability: float = Field(description="softmax of the logits, 0..1")


class Served(BaseModel):
    network: str = Field(description="data set and model, as the file names them", examples=["cifar10_resnet20"])
    sha256: str = Field(description="of the ONNX file that answered")


class Answer(Served):
    top: list[Guess] = Field(description="the likeliest classes, best first")


class Picture(BaseModel):
    file: str | None = Field(description="the name that came with the picture")
    top: list[Guess] = Field(description="the likeliest classes, best first")


class Answers(Served):
    pictures: list[Picture] = Field(description="in the order in which they came")


class Load(BaseModel):
    accepted: int = Field(description="requests and pictures that are not answered yet")
    queued: int = Field(description="those of them that wait for the network")


class Problem(BaseModel):
    detail: str = Field(description="one sentence: what is wrong")


class BodyLimit:
    """ASGI: refuses a body that says that it is too long unread, and others at the byte that is too much.

    FastAPI's own max_body_size answers in plain text, and older versions take it and do nothing.
    """

    def __init__(self, app: Any, largest: int) -> None:
        self.app, self.largest = app, largest

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        said = int(Headers(scope=scope).get("content-length", 0)) if scope["type"] == "http" else 0
        read = 0

        async def counted() -> Any:
            nonlocal read
            message = await receive() if said <= self.largest else {}
            read += len(message.get("body", b""))
            if max(said, read) > self.largest:
                sentence = f"the body has more than {self.largest:,} bytes; make the pictures smaller, or send fewer"
                raise HTTPException(413, sentence, headers={"Connection": "close"})
            return message

        await self.app(scope, counted, send)


async def _pictures_in(request: Request, limits: Limits, most: int) -> list[tuple[str | None, bytes]]:
    """Names and bytes of the pictures in a body: a form with files, or one picture as it is."""
    try:
        async with asyncio.timeout(limits.patience):
            if request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
                async with request.form(max_files=most, max_fields=0) as form:
                    return [(part.filename, await part.read()) for _, part in form.multi_items()]
            return [(None, await request.body())]
    except TimeoutError:
        sentence = f"the body did not come within {limits.patience:g} seconds"
        raise HTTPException(408, sentence, headers={"Connection": "close"}) from None
    except ClientDisconnect:
        raise HTTPException(400, "the body ended early") from None


def _decode(pictures: list[tuple[str | None, bytes]], limits: Limits) -> list[np.ndarray]:
    if not pictures or not all(data for _, data in pictures):
        raise HTTPException(422, "a picture is missing: send its bytes, or a form with a file")
    decoded = []
    for number, (_, data) in enumerate(pictures, 1):
        try:
            decoded.append(read_picture(data, limits.max_pixels))
        except Refused as error:
            where = f"picture {number} of {len(pictures)}: " if len(pictures) > 1 else ""
            raise type(error)(f"{where}{error}") from None
    return decoded


def _body(kinds: dict[str, Any]) -> dict[str, Any]:
    """A body for OpenAPI, which FastAPI cannot guess where the request is read by hand."""
    return {"requestBody": {"required": True, "content": {kind: {"schema": schema} for kind, schema in kinds.items()}}}


FILE = {"type": "string", "format": "binary"}
FORM = {"type": "object", "properties": {"file": FILE}, "required": ["file"]}
FORMS = {"type": "object", "properties": {"file": {"type": "array", "items": FILE}}, "required": ["file"]}
ONE = _body({"multipart/form-data": FORM, "image/*": FILE, "application/octet-stream": FILE})
PROBLEMS: dict[int | str, Any] = {
    400: {"model": Problem, "description": "the form cannot be read, or has too many files"},
    408: {"model": Problem, "description": "the body did not come in time"},
    413: {"model": Problem, "description": "too many bytes or pixels"},
    415: {"model": Problem, "description": "not a PNG, JPEG, WebP or PPM picture"},
    422: {"model": Problem, "description": "a damaged or missing picture, or a wrong parameter"},
    500: {"model": Problem, "description": "the network failed"},
    503: {"model": Problem, "description": "too many wait already; Retry-After says when to ask again"},
}
Top = Annotated[int, Query(ge=1, le=1000, description="how many classes to answer")]


def application(network: Network, limits: Limits) -> FastAPI:
    """The service, for any ASGI server; one process, one network."""
    batcher = Batcher(network, limits.max_batch, limits.wait_ms / 1000, limits.max_waiting)
    decoders = ThreadPoolExecutor(os.cpu_count())  # so many pictures are in memory as pixels
    served = {"network": network.name, "sha256": network.sha256}

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.worker = asyncio.create_task(batcher.work())
        yield
        app.state.worker.cancel()  # the server has answered by now whoever waited
        await asyncio.wait([app.state.worker])
        decoders.shutdown()

    # without FastAPI's pages /docs and /redoc: they load scripts from another server
    app = FastAPI(title="cifar-export", version="1", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.add_middleware(BodyLimit, largest=limits.max_bytes)

    @app.exception_handler(RequestValidationError)
    async def wrong_parameter(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        return JSONResponse({"detail": f"{first['loc'][-1]}: {first['msg']}"}, 422)

    @app.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> JSONResponse:
        later = {"Retry-After": "1"} if error.status == 503 else {}
        return JSONResponse({"detail": str(error)}, error.status, headers=later)

    async def answer(request: Request, top: int, most: int) -> list[Picture]:
        with batcher.places(1):
            pictures = await _pictures_in(request, limits, most)
            with batcher.places(max(len(pictures) - 1, 0)):
                decode = functools.partial(_decode, pictures, limits)
                pixels = await asyncio.get_running_loop().run_in_executor(decoders, decode)
                rows = await batcher.logits(pixels)
        return [Picture(file=name, top=best(row, top)) for (name, _), row in zip(pictures, rows, strict=True)]

    def best(row: np.ndarray, top: int) -> list[Guess]:
        shares = probabilities(row)
        order = np.argsort(-shares, kind="stable")[:top]
        return [Guess(label=network.labels[i], index=i, probability=shares[i]) for i in order.tolist()]

    @app.post("/classify", responses=PROBLEMS, openapi_extra=ONE)
    async def classify(request: Request, top: Top = 5) -> Answer:
        """Classify one picture of any size: its bytes as the body, or a form with one file."""
        (picture,) = await answer(request, top, 1)
        return Answer(**served, top=picture.top)

    @app.post("/classify/batch", responses=PROBLEMS, openapi_extra=_body({"multipart/form-data": FORMS}))
    async def classify_batch(request: Request, top: Top = 5) -> Answers:
        """Classify several pictures, the files of a form. One that is none, and none is classified."""
        return Answers(**served, pictures=await answer(request, top, min(limits.max_pictures, limits.max_waiting)))

    @app.get("/healthz", responses={503: {"model": Problem}})
    async def healthz(request: Request) -> Served:
        """Alive: the network has answered once, on zeros, and takes pictures."""
        if request.app.state.worker.done():
            raise HTTPException(503, "nothing runs the network any more")
        return Served(**served)

    @app.get("/readyz", responses={503: {"model": Problem}})
    async def readyz() -> Load:
        """Ready for another request: there is a place in the queue."""
        with batcher.places(1):
            pass
        return Load(accepted=batcher.accepted, queued=batcher.queue.qsize())

    return app


def listen(host: str, port: int) -> socket.socket:
    listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    # connections inherit it; asyncio leaves it to the maker of the socket, and answers would come 40 ms late
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _from(low: int, high: float, kind: Callable[[str], Any]) -> Callable[[str], Any]:
    def number(text: str) -> Any:
        if not low <= (value := kind(text)) <= high:
            raise ValueError
        return value

    return number


def main() -> None:
    usage = "service.py FILE.onnx [--port PORT] [more: see service.py -h]"
    parser = argparse.ArgumentParser("service.py", usage, allow_abbrev=False)
    parser.add_argument("file", type=Path, metavar="FILE.onnx")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port", type=_from(0, 65535, int), default=8000, help="0 takes a free one (%(default)s)")
    parser.add_argument("--threads", type=_from(1, 1024, int), default=1, help="of one run (%(default)s)")
    for one in dataclasses.fields(Limits):
        kind = type(one.default)
        number = _from(one.name.startswith("max"), 1e12, kind)
        option, about = f"--{one.name.replace('_', '-')}", f"{one.metadata['help']} (%(default)s)"
        parser.add_argument(option, type=number, default=one.default, metavar="N", help=about)
    given = vars(parser.parse_args())
    try:
        network = Network(given["file"], given["threads"])
    except Unusable as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    host, port = given["host"], given["port"]
    try:
        listener = listen(host, port)
    except OSError as error:
        cause = str(error.strerror).partition(" (")[0]  # without the address, said twice
        print(f"error: cannot listen on {host}, port {port} ({cause}). Try --port 0.", file=sys.stderr)
        sys.exit(3)
    limits = Limits(**{one.name: given[one.name] for one in dataclasses.fields(Limits)})
    patience = math.ceil(limits.patience)  # on SIGTERM nothing new is taken, and what is in flight is answered
    config = uvicorn.Config(
        application(network, limits), log_level="warning", access_log=False, timeout_graceful_shutdown=patience
    )
    warnings.filterwarnings("ignore", module="PIL")  # odd metadata and large pictures are judged by network.py
    address = f"[{host}]" if ":" in host else host
    print(f"{network.name} on http://{address}:{listener.getsockname()[1]}", flush=True)
    uvicorn.Server(config).run([listener])


if __name__ == "__main__":
    main()
