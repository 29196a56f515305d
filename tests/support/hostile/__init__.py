"""Releases that somebody meddled with, each made by a few lines of code from a small intact one.

`CASES` holds them all: what is done to the release, what is then verified, and what must be said about it.
"""

from support.hostile import archives, documents, folders, onnx_files
from support.hostile.case import Case

CASES: list[Case] = [*folders.CASES, *documents.CASES, *archives.CASES, *onnx_files.CASES]
