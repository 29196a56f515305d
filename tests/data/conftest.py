"""A mirror of the data sets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cifar_export.data.fetch import ARCHIVES
from cifar_export.networks.zoo import CIFAR10, DatasetSpec

from support.data_files import Mirror, contents, declare_official, folder_member, pack
from support.web_server import Server


@pytest.fixture
def mirror(
    tmp_path: Path, write_cifar: Callable[..., DatasetSpec], http_server: Server, monkeypatch: pytest.MonkeyPatch
) -> Mirror:
    """A mirror of a tiny CIFAR-10 that has the official layout; its spec, and its files by path."""
    source = tmp_path / "source"
    spec = write_cifar(source, CIFAR10)
    files = contents(source)
    files["cifar-10-batches-bin/batches.meta.txt"] = "\n".join(CIFAR10.labels).encode()
    archive = pack(
        http_server.root / ARCHIVES["cifar10"].name, [(folder_member("cifar-10-batches-bin"), b""), *files.items()]
    )
    declare_official(archive, monkeypatch)
    monkeypatch.setenv("CIFAR_EXPORT_DATA_URL", http_server.url)
    return spec, files
