"""Rewrite the zip archives that torch saves, so that their bytes depend on their content only.

TorchScript archives carry source paths (`*.debug_pkl`), an id over them, and class names with a counter that grows
with each trace in a process (`___torch_mangle_12`). All are removed or renumbered here; what is left is stored
uncompressed, with fixed dates, tensors aligned to 64 bytes as torch's own writer does
(caffe2/serialize/inline_container.h, kFieldAlignment), and loads in Python and in C++.
"""

from __future__ import annotations

import io
import pickletools
import re
import zipfile
from collections.abc import Callable, Iterable, Mapping

_ALIGNMENT = 64
_LOCAL_HEADER_BYTES = 30  # APPNOTE.TXT 4.3.7, without name and extra field
_PADDING_ID = b"FB"  # the extra field that torch's writer pads with
_DROPPED = (".debug_pkl", "/.data/serialization_id")
_DROPPED_FOLDERS = ("/traced_inputs",)
_CLASS = re.compile(r"__torch__(?:\.\w+)+")
_MANGLED = re.compile(r"\.___torch_mangle_\d+")
_TEMPORARY = re.compile(r"\b_\d+\b")
_CODE = "archive/code/__torch__/"


def canonical_archive(data: bytes) -> bytes:
    """The same archive with nothing in it that depends on the folder, the date or the process that wrote it."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        records = {
            name: archive.read(name)
            for name in archive.namelist()
            if not name.endswith(_DROPPED) and not any(folder in name for folder in _DROPPED_FOLDERS)
        }
    if any(name.startswith(_CODE) for name in records):
        records = _renumber_classes(records)
    return stored_archive(records)


def stored_archive(records: Mapping[str, bytes]) -> bytes:
    """A zip archive of these records by name, in that order, uncompressed, whose bytes depend on nothing else."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in records.items():
            info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            info.create_system = 0  # else it names the operating system
            info.external_attr = 0
            start = buffer.tell() + _LOCAL_HEADER_BYTES + len(name.encode()) + 4  # 4: id and length of the padding
            padding = -start % _ALIGNMENT
            info.extra = _PADDING_ID + padding.to_bytes(2, "little") + b"Z" * padding
            archive.writestr(info, content)
    return buffer.getvalue()


def _renumber_classes(records: dict[str, bytes]) -> dict[str, bytes]:
    """Give every TorchScript class a number by its first appearance in the archive instead of torch's counter.

    `__torch__.torch.nn.modules.conv.___torch_mangle_7.Conv2d` becomes `...conv.___torch_mangle_1.Conv2d`; the first
    class of a name gets a number too, because torch numbers it as soon as a process traces twice.
    """
    sources = {name: content.decode() for name, content in records.items() if name.startswith(_CODE)}
    pickles = {name: content for name, content in records.items() if name.endswith(".pkl")}
    new_names: dict[str, str] = {}

    def rename(qualified: str) -> str:
        if qualified not in new_names:
            namespace, _, class_name = _MANGLED.sub("", qualified).rpartition(".")
            new_names[qualified] = f"{namespace}.___torch_mangle_{len(new_names)}.{class_name}"
        return new_names[qualified]

    rebuilt = {name: _rename_globals(content, rename) for name, content in pickles.items()}
    classes = dict(_split_classes(sources))
    written: dict[str, str] = {}
    queue = list(new_names)
    for qualified in queue:  # grows while classes are found in the code of others
        body = classes[qualified]
        for found in _CLASS.findall(body):
            if found not in new_names and found in classes:
                rename(found)
                queue.append(found)
        namespace = new_names[qualified].rpartition(".")[0]
        path = f"archive/code/{namespace.replace('.', '/')}.py"
        written[path] = _CLASS.sub(lambda match: new_names.get(match.group(), match.group()), body)
    rest = {name: content for name, content in records.items() if name not in sources and name not in pickles}
    first, *others = rebuilt.items()
    return dict([first]) | {name: text.encode() for name, text in written.items()} | dict(others) | rest


def _split_classes(sources: dict[str, str]) -> Iterable[tuple[str, str]]:
    """(qualified name, source) of each class in the archive's code files."""
    for name, text in sources.items():
        namespace = name.removeprefix("archive/code/").removesuffix(".py").replace("/", ".")
        for body in re.split(r"^(?=class )", text, flags=re.MULTILINE):
            match = re.match(r"class (\w+)", body)
            if match:
                yield f"{namespace}.{match.group(1)}", _renumber_temporaries(body)


def _renumber_temporaries(body: str) -> str:
    """Count a class's temporaries (`_0`, `_1`, ...) from zero: torch counts on through the classes of a file."""
    numbers: dict[str, str] = {}
    return _TEMPORARY.sub(lambda match: numbers.setdefault(match.group(), f"_{len(numbers)}"), body)


def _rename_globals(content: bytes, rename: Callable[[str], str]) -> bytes:
    """Rewrite the class references of a pickle (GLOBAL opcodes, each two lines of text) without loading it."""
    pieces, last = [], 0
    for opcode, argument, position in pickletools.genops(content):
        if position is not None and opcode.name == "GLOBAL" and str(argument).startswith("__torch__."):
            module, name = str(argument).split(" ")
            old = f"c{module}\n{name}\n".encode()
            new_module, _, new_name = rename(f"{module}.{name}").rpartition(".")
            pieces += [content[last:position], f"c{new_module}\n{new_name}\n".encode()]
            last = position + len(old)
    return b"".join([*pieces, content[last:]])
