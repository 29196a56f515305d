"""Data sets, bundled weights, and the folders that are written to."""

from __future__ import annotations

import tempfile
from pathlib import Path

from ..errors import CifarExportError, Unavailable, first_line
from ..networks.zoo import NETWORKS, DatasetSpec
from ..system.files import sha256_file
from ..weights.index import bundled_entries, bundled_folder
from .report import Check

_REPAIR = "Install cifar-export again, or restore its files from version control."


def check_data(dataset: DatasetSpec, data_dir: Path) -> Check:
    """Whether the files of `dataset` are under `data_dir`, readable and of the right size; `data check` does more."""
    from ..data.layout import BINARY, SPLITS, binary_paths, image_count, python_paths

    name, layout = f"data {dataset.name}", BINARY[dataset.name]
    sizes: dict[Path, int] = {}
    for split in SPLITS:
        paths = binary_paths(data_dir, dataset, split)
        sizes |= dict.fromkeys(paths, image_count(dataset, split) // len(paths) * layout.record_bytes)
    fetch = f"`cifar-export data fetch --dataset {dataset.name} --data-dir {data_dir}`"
    try:
        found = {path: _readable_size(path) for path in sizes}
        python = [path for split in SPLITS for path in python_paths(data_dir, dataset, split)]
        has_python = all(_readable_size(path) is not None for path in python)
    except OSError as error:
        detail = f"cannot read {error.filename or data_dir}: {error.strerror or first_line(error)}"
        return Check(name, "problem", detail, "Correct its permissions, or name another folder with --data-dir.")
    wrong = [path for path, size in sizes.items() if found[path] != size]
    if not wrong:
        return Check(name, "ok", f"complete in {data_dir / layout.folder}, by size")
    if has_python:
        return Check(name, "ok", f"complete in {python[0].parent}, torchvision's folder")
    inner = next((path for path in sizes if (data_dir / path.name).is_file()), None)
    if all(size is None for size in found.values()):
        if inner is not None:
            detail = f"{data_dir} is the inner folder"
            return Check(name, "note", detail, f"Give its parent: --data-dir {data_dir.absolute().parent}.")
        fix = f"{fetch}, or point --data-dir or CIFAR_DATA to where it lies."
        return Check(name, "note", f"not in {data_dir}; `evaluate` and `train` need it, export and parity do not", fix)
    size = found[wrong[0]]
    state = "is missing" if size is None else f"has {size:,} bytes, {sizes[wrong[0]]:,} expected"
    return Check(name, "problem", f"incomplete: {wrong[0]} {state}", f"{fetch}.")


def check_weights() -> Check:
    """Whether every bundled network's file is there with the sha256 of the index."""
    folder = bundled_folder()
    try:
        entries = bundled_entries(folder)
    except CifarExportError as error:
        cause, _, fix = str(error).partition("\n")
        return Check("weights", "problem", cause.rstrip("."), fix or _REPAIR)
    for entry in entries.values():
        path = folder / entry.file
        try:
            digest = sha256_file(path)
        except OSError as error:
            detail = f"the bundled weights {path} cannot be read: {error.strerror or first_line(error)}"
            return Check("weights", "problem", detail, _REPAIR)
        if digest != entry.sha256:
            detail = f"the bundled weights {path} are damaged: sha256 {digest}, {entry.sha256} expected"
            return Check("weights", "problem", detail, _REPAIR)
    absent = [name for name in NETWORKS if name not in entries]
    if absent:
        names = ", ".join(absent) if entries else "any network"
        fix = "For those give `--weights upstream`, or `--weights PATH`."
        return Check("weights", "note", f"{len(entries)} networks bundled, intact; no weights of {names}", fix)
    return Check("weights", "ok", f"{len(entries)} networks bundled, every sha256 right")


def check_cache() -> Check:
    """Whether downloads can be kept."""
    from ..system.folders import cache_folder

    try:
        folder = cache_folder()
    except Unavailable as error:
        return Check("cache-folder", "note", first_line(error), "Set HOME or CIFAR_EXPORT_CACHE.")
    return _check_writable("cache-folder", folder, "Name another one in CIFAR_EXPORT_CACHE.")


def check_output() -> Check:
    """Whether exports can be written to their default place, `artifacts/` in the current folder."""
    fix = "Run it in a folder of yours, or give --output."
    try:
        folder = Path.cwd() / "artifacts"
    except OSError as error:
        return Check("output-folder", "problem", f"the current folder is gone: {error.strerror}", fix)
    return _check_writable("output-folder", folder, fix)


def _check_writable(name: str, folder: Path, fix: str) -> Check:
    """Try it, in the folder itself or in the one it would be made in: permissions alone do not tell."""
    existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    try:
        with tempfile.TemporaryFile(dir=existing) as stream:
            stream.write(bytes(1))
    except OSError as error:
        return Check(name, "problem", f"cannot write to {existing}: {error.strerror or first_line(error)}", fix)
    return Check(name, "ok", f"{folder}{'' if existing == folder else ' can be made'}")


def _readable_size(path: Path) -> int | None:
    """Bytes of the file at `path`; None where there is none. Raises OSError where it cannot be read."""
    try:
        with path.open("rb") as stream:
            return stream.seek(0, 2)
    except FileNotFoundError:
        return None
