"""The sidecar of an exported file: where it stands, its bytes, and which files it vouches for."""

import json

import pytest

from cifar_export.errors import InvalidInput
from cifar_export.exporting.sidecar import require_vouched, sidecar_path, sidecar_text
from cifar_export.formats import FileFacts
from cifar_export.system.files import sha256_file

FACTS = FileFacts("torchscript", "float32", {"network": "cifar10_resnet20", "mean": [0.5, 0.25, 0.125]})
BYTES = """{
 "bytes": 7,
 "format": "torchscript",
 "inputs": [
  {
   "dtype": "float32",
   "name": "input",
   "shape": [
    "batch",
    3,
    32,
    32
   ]
  }
 ],
 "ir_version": null,
 "mean": [
  0.5,
  0.25,
  0.125
 ],
 "network": "cifar10_resnet20",
 "opset": null,
 "outputs": [
  {
   "dtype": "float32",
   "name": "logits",
   "shape": [
    "batch",
    10
   ]
  }
 ],
 "sha256": "abcd"
}
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "a.torchscript.pt"
    path.write_bytes(b"content")
    return path


def test_its_name_is_the_files_with_json_behind(file):
    assert sidecar_path(file) == file.parent / "a.torchscript.pt.json"


def test_its_bytes_are_those_of_earlier_versions():
    assert sidecar_text(FACTS, 10, sha256="abcd", size=7) == BYTES


def test_it_vouches_for_the_file_that_it_was_written_for(file):
    sidecar_path(file).write_text(sidecar_text(FACTS, 10, sha256=sha256_file(file), size=7))
    require_vouched(file)
    file.write_bytes(b"changed")
    with pytest.raises(InvalidInput, match="not the file that its sidecar describes") as caught:
        require_vouched(file)
    assert "--trust-file" in str(caught.value)


@pytest.mark.parametrize("content", [None, b"", b"\xff", b"[" * 100_000, b"{"])
def test_what_is_no_sidecar_vouches_for_nothing(file, content):
    if content is not None:
        sidecar_path(file).write_bytes(content)
    with pytest.raises(InvalidInput, match=r"no sidecar a\.torchscript\.pt\.json of ours vouches for it"):
        require_vouched(file)


@pytest.mark.parametrize("document", [[], {}, {"sha256": None}, {"sha256": "00" * 32}, "text"])
def test_a_document_without_the_files_sha256_does_not_vouch_for_it(file, document):
    sidecar_path(file).write_text(json.dumps(document))
    with pytest.raises(InvalidInput, match="not the file that its sidecar describes"):
        require_vouched(file)
