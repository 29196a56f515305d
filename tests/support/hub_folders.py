"""A folder as the Hugging Face Hub's library leaves it on a disk, in both of its layouts."""

import hashlib
import os
import shutil
from pathlib import Path

COMMIT = "89abcdef0123456789abcdef0123456789abcdef"
ATTRIBUTES = b"*.onnx filter=lfs diff=lfs merge=lfs -text\n"


def as_snapshot(folder: Path, cache: Path, repo: str = "org/name", commit: str = COMMIT) -> Path:
    """The files of `folder` in a cache: blobs by digest, and a snapshot that consists of links to them."""
    kept = cache / f"models--{repo.replace('/', '--')}"
    snapshot = kept / "snapshots" / commit
    (kept / "refs").mkdir(parents=True)
    (kept / "refs" / "main").write_text(commit)
    for name, data in {**content(folder), ".gitattributes": ATTRIBUTES}.items():
        link(snapshot / name, kept / "blobs", data)
    return snapshot


def link(path: Path, blobs: Path, data: bytes) -> Path:
    """Put `data` into `blobs`, and a link to it at `path`; the blob."""
    blob = blobs / hashlib.sha256(data).hexdigest()
    blobs.mkdir(exist_ok=True)
    blob.write_bytes(data)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(os.path.relpath(blob, path.parent))
    return blob


def as_local_dir(folder: Path, target: Path) -> Path:
    """The files of `folder` as they are, and the Hub's own beside them."""
    shutil.copytree(folder, target)
    (target / ".gitattributes").write_bytes(ATTRIBUTES)
    notes = target / ".cache" / "huggingface"
    (notes / "download").mkdir(parents=True)
    (notes / ".gitignore").write_text("*\n")
    (notes / "download" / "index.json.metadata").write_text(f"{COMMIT}\netag\n1.0\n")
    return target


def content(folder: Path) -> dict[str, bytes]:
    """By relative path."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
