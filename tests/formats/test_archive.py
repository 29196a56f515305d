"""TorchScript and .pt2 files: their metadata, their tensors, and what is not in them."""

import json
import zipfile

import pytest
import torch

from cifar_export.networks.zoo import CIFAR10
from cifar_export.system.torch_state import torchscript_deprecations

from support.paths import ROOT


@pytest.mark.parametrize("format_name", ["torchscript", "torch-export"])
def test_torch_files_carry_metadata_where_their_loaders_look(exported, format_name):
    artifact = exported(format_name, "uint8")
    extra = {"metadata.json": ""}
    if format_name == "torchscript":
        with torchscript_deprecations():
            torch.jit.load(artifact.path, _extra_files=extra)
    else:
        torch.export.load(artifact.path, extra_files=extra)
    assert json.loads(extra["metadata.json"])["labels"] == list(CIFAR10.labels)


@pytest.mark.parametrize("format_name", ["torchscript", "torch-export"])
def test_tensors_in_torch_files_are_aligned_for_mmap(exported, format_name):
    path = exported(format_name, "uint8").path
    data = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            header = data[info.header_offset : info.header_offset + 30]
            start = info.header_offset + 30 + int.from_bytes(header[26:28], "little")
            start += int.from_bytes(header[28:30], "little")
            assert start % 64 == 0, info.filename
            assert info.compress_type == zipfile.ZIP_STORED


@pytest.mark.parametrize("format_name", ["torchscript", "torch-export"])
def test_members_have_one_date_and_no_system(exported, format_name):
    with zipfile.ZipFile(exported(format_name, "uint8").path) as archive:
        for info in archive.infolist():
            assert (info.date_time, info.create_system) == ((1980, 1, 1, 0, 0, 0), 0), info.filename


def test_a_torchscript_file_moves_to_another_type_as_its_users_expect(exported):
    with torchscript_deprecations():
        module = torch.jit.load(exported("torchscript", "uint8").path).double()
    logits = module(torch.zeros(3, 32, 32, 3, dtype=torch.uint8))
    assert (logits.dtype, tuple(logits.shape)) == (torch.float64, (3, 10))


def test_no_source_path_and_no_pickle_of_inputs_is_left_in_torch_files(exported):
    for format_name in ("torchscript", "torch-export"):
        with zipfile.ZipFile(exported(format_name, "uint8").path) as archive:
            for name in archive.namelist():
                assert str(ROOT).encode() not in archive.read(name), name
                assert not name.endswith(".debug_pkl")
                assert "sample_inputs" not in name or not archive.read(name)
