"""A wheel carries all that the command needs, the bundled weights included."""

import email
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from cifar_export.weights.index import bundled_entries

from support.paths import ROOT
from support.wheel import build_wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy of the tracked files, without a network."""
    return build_wheel(tmp_path_factory.mktemp("wheel"))


def test_every_module_and_data_file_is_in_the_wheel(wheel):
    with zipfile.ZipFile(wheel) as archive:
        inside = set(archive.namelist())
    package = ROOT / "exporter"
    files = [path.relative_to(package) for path in package.rglob("*") if path.suffix in (".py", ".j2", ".png", ".json")]
    assert {f"cifar_export/{file}" for file in (*files, "py.typed")} <= inside
    for entry in bundled_entries().values():
        assert f"cifar_export/bundled/{entry.file}" in inside
    assert not [name for name in inside if name.startswith("cifar_export/bundled/") and name.endswith(".png")]


def test_what_an_index_of_packages_shows_leads_nowhere_but_to_the_web(wheel):
    with zipfile.ZipFile(wheel) as archive:
        text = next(archive.read(name) for name in archive.namelist() if name.endswith("/METADATA")).decode()
    metadata = email.message_from_string(text)
    links = re.findall(r"\]\(([^)]*)\)", metadata.get_payload())
    assert links
    assert [link for link in links if not link.startswith("https://")] == []
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata.get_all("Project-URL")
    assert [line for line in metadata.get_all("Classifier") if "OS Independent" in line] == []


def test_an_installed_wheel_exports_bundled_weights_away_from_the_checkout(wheel, tmp_path):
    if "cifar100_resnet20" not in bundled_entries():
        pytest.skip("no weights of cifar100_resnet20 are bundled yet")
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"PYTHONPATH": str(site)}
    command = ["-m", "cifar_export", "onnx", "resnet20", "--dataset", "cifar100", "--opset", "17"]
    result = subprocess.run(
        [sys.executable, *command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "artifacts" / "exports" / "cifar100_resnet20.onnx").is_file()
    where = [sys.executable, "-c", "import cifar_export; print(cifar_export.__file__)"]
    found = subprocess.run(where, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.startswith(str(site))
