"""C99: one function that computes the logits of one image, for microcontrollers and whatever has a C compiler.

emx-onnx-cgen writes it of our ONNX file with a batch of 1. The weights stand in the file as hexadecimal constants,
which are exact. It needs libc's `malloc` and `libm`, and no other library.
"""

from __future__ import annotations

import json
import re
import string
from dataclasses import replace
from pathlib import Path

from ..errors import InvalidInput
from ..system.outside import MAX_MODEL_BYTES, read_regular
from . import FORMATS, FileFacts, Request, onnx, require_library
from .metadata import MAX_METADATA_BYTES, dumps, variant_of
from .onnx_choices import OnnxChoices

_HEADER = re.compile(rb"/\* cifar-export (\{.*\}) \*/\n")
_DECLARED = re.compile(r"^extern const \w+ weight\w+(?:\[\d+\])+;\n", re.MULTILINE)
_DEFINED = re.compile(r"^const EMX_UNUSED (?=\w+ weight)", re.MULTILINE)
_INDENTED = re.compile(r"^ +(?=[{}]|-?0x)", re.MULTILINE)  # half of the file is in front of constants
_LOADER = re.compile(r"^_Bool model_load\(.*?^\}\n\n", re.MULTILINE | re.DOTALL)


def serialize(request: Request) -> bytes:
    """The whole file, metadata and labels in its first line. Raises `Unavailable` without emx-onnx-cgen."""
    require_library(FORMATS["c"])
    from emx_onnx_cgen.compiler import Compiler, CompilerOptions
    from onnx import ModelProto

    model = ModelProto.FromString(onnx.serialize(replace(request, choices=OnnxChoices(opset=13, batch=1))))
    del model.metadata_props[:]  # it would copy labels into a comment as they come, and `*/` ends one
    # the limit: larger weights would go into a second file, which the program opens when it runs
    source = Compiler(CompilerOptions(model_name="model", large_weight_threshold=0)).compile(model)
    # `model` alone is seen from outside, so that a program can hold two networks (cc -Dmodel=other)
    source = _DEFINED.sub("static const EMX_UNUSED ", _DECLARED.sub("", source))
    source = _INDENTED.sub("", _LOADER.sub("", source))
    labels = ", ".join(map(_literal, request.metadata["labels"]))
    first = f"/* cifar-export {_in_comment(dumps(request.metadata))} */"
    # declared beforehand: in C++ a const that is not is seen in its own file alone
    last = f"\nextern const char *const model_labels[];\nconst char *const model_labels[] = {{{labels}}};"
    return f"{first}\n{source.rstrip()}\n{last}\n".encode()


def _in_comment(document: str) -> str:
    """The same JSON without a `*`, which could begin or end a comment."""
    return document.replace("*", "\\u002a")


def _literal(text: str) -> str:
    """A string of C that is `text` in UTF-8; three octal digits, because a hexadecimal escape has no end."""
    plain = set(string.ascii_letters + string.digits + " _-.,:;()/&'+")
    return '"' + "".join(chr(b) if chr(b) in plain else f"\\{b:03o}" for b in text.encode()) + '"'


def inspect(path: Path) -> FileFacts:
    """What the file says of itself, read without compiling it: it is code.

    Raises `InvalidInput` for damaged metadata.
    """
    found = _HEADER.match(read_regular(path, MAX_MODEL_BYTES)[:MAX_METADATA_BYTES])
    if found is None:
        return FileFacts("c", None, None)
    try:
        metadata = json.loads(found[1])
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{path}: its first line is no metadata. Export it again.") from error
    return FileFacts("c", variant_of(metadata), metadata)
