"""What is no checkpoint of the network asked for is refused with the cause, never with a traceback."""

from __future__ import annotations

import datetime
import io
import json
import os
import pickle  # noqa: TID251 - to write the files that must be refused
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from cifar_export.errors import CifarExportError, InvalidInput
from cifar_export.networks.zoo import NETWORKS, Normalization
from cifar_export.weights.native import save_weights
from cifar_export.weights.reader import MAX_BYTES
from cifar_export.weights.seeded import random_weights
from cifar_export.weights.sources import load_weights

RESNET20 = NETWORKS["cifar10_resnet20"]
NORMALIZATION = Normalization((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
WEIGHTS = random_weights(RESNET20, 0)
STATE = WEIGHTS.state


def refuse(path: Path, message: str, name: str = "cifar10_resnet20") -> str:
    with pytest.raises(InvalidInput, match=message) as caught:
        load_weights(NETWORKS[name], str(path), NORMALIZATION)
    text = str(caught.value)
    assert text.count("\n") <= 1
    assert len(text) < 700
    assert path.name in text
    return text


def saved(content: object, **options: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, **options)
    return stream.getvalue()


class Code:
    """Unpickled, it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


def zip_of(**files: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return stream.getvalue()


def tar_of(name: str, data: bytes) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def onnx_model() -> bytes:
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    other = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", [value], [other])
    return bytes(onnx.helper.make_model(graph, producer_name="pytorch").SerializeToString())


NO_CHECKPOINTS: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "it is empty"),
    "html": (lambda: b"\n<!DOCTYPE html><html>Not Found</html>", "a web page"),
    "lfs": (lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "Git LFS pointer"),
    "json": (lambda: b'{"a": 1}', "JSON"),
    "onnx": (onnx_model, "an ONNX model"),
    "tar": (lambda: tar_of("a", b"b"), "tar archive"),
    "gzip": (lambda: b"\x1f\x8b\x08\x00rest", "gzip archive"),
    "noise": (lambda: bytes(range(7, 250)), "neither safetensors nor a PyTorch checkpoint"),
    "one byte": (lambda: b"\x80", "no PyTorch checkpoint"),
    "zip": (lambda: zip_of(readme=b"hello"), "no data.pkl"),
    "pickle": (lambda: pickle.dumps({"a": 1}), "Python pickle, but no PyTorch checkpoint"),
    "bomb": (lambda: zip_of(**{"a/data.pkl": b"", "a/data/0": bytes(MAX_BYTES + 1)}), "unpacks to more than 64 MiB"),
    "huge header": (lambda: (2**62).to_bytes(8, "little") + b"{" + bytes(99), "neither safetensors nor"),
    "bad header": (lambda: (9).to_bytes(8, "little") + b"{not json" + bytes(9), "damaged safetensors"),
    "list": (lambda: saved([torch.zeros(2)]), "it holds a list, no state dict"),
    "tensor": (lambda: saved(torch.zeros(2)), "it holds a Tensor, no state dict"),
    "nothing": (lambda: saved({}), "no state dict. Its keys: none"),
    "metadata": (lambda: saved({"epoch": 3, "args": {"lr": 1}}), "no state dict. Its keys: epoch; args"),
    "two": (lambda: saved({"state_dict": STATE, "model": STATE}), r"several state dicts \(state_dict, model\)"),
    "optimizer": (lambda: saved({"a": torch.zeros(2)}), "no CIFAR ResNet. Its keys: a"),
}


@pytest.mark.parametrize("kind", NO_CHECKPOINTS)
def test_what_is_no_checkpoint(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "file.pth"
    path.write_bytes(NO_CHECKPOINTS[kind][0]())
    refuse(path, NO_CHECKPOINTS[kind][1])


def test_paths_that_are_no_file(tmp_path: Path) -> None:
    refuse(tmp_path / "absent.pt", "no file .*absent.pt. Weights are `bundled`, `upstream`, or the path")
    refuse(tmp_path, "it is a folder")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "fifo")
        refuse(tmp_path / "fifo", "not a regular file")  # and does not hang
    (tmp_path / "file").write_bytes(b"x")
    refuse(tmp_path / "file" / "below", "no file")
    with (tmp_path / "sparse").open("wb") as stream:
        stream.truncate(MAX_BYTES + 1)
    refuse(tmp_path / "sparse", "larger than 64 MiB")
    for odd in ("nul\0byte", "~nobody-of-that-name/x", "x" * 5000):
        with pytest.raises(InvalidInput):
            load_weights(RESNET20, odd, NORMALIZATION)


@pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}])
def test_code_in_a_pickle_is_named_and_not_run(options: dict[str, Any], tmp_path: Path) -> None:
    path, trap = tmp_path / "evil.pt", tmp_path / "trap"
    path.write_bytes(saved({"state_dict": STATE, "extra": Code(trap)}, **options))
    refuse(path, r"refers to code \((posix|nt)\.mkdir\) and was not run")
    path.write_bytes(pickle.dumps(Code(trap), protocol=2))
    refuse(path, r"refers to code \((posix|nt)\.mkdir\) and was not run")
    path.write_bytes(saved({"state_dict": STATE, "when": datetime.timedelta(1)}, **options))
    assert "save tensors only" in refuse(path, r"refers to code \(datetime\.timedelta\)")
    path.write_bytes(saved(nn.Linear(2, 2), **options))
    refuse(path, r"refers to code \(torch\.nn\.modules\.linear\.Linear\)")
    assert not trap.exists()


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning", "ignore:`torch.jit:FutureWarning")
def test_torchscript_is_named(tmp_path: Path) -> None:
    path = tmp_path / "script.pt"
    torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)), path)
    refuse(path, "a TorchScript archive, which is code and was not run")


def test_torch_export_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    path.write_bytes(zip_of(**{"m/archive_format": b"pt2", "m/models/model.json": b"{}"}))
    refuse(path, r"a torch\.export archive")


def test_text_out_of_a_file_cannot_write_to_the_terminal(tmp_path: Path) -> None:
    torch.save({**STATE, "\x1b[2J\nDone.": torch.zeros(1)}, tmp_path / "w.pt")
    assert r"1 extra key (\x1b[2J\nDone.)" in refuse(tmp_path / "w.pt", "extra key")


def test_another_network_is_named(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save(random_weights(NETWORKS["cifar100_resnet32"], 0).state, path)
    refuse(path, "it is a resnet32, not a resnet20. Ask for `resnet32 --dataset cifar100`", "cifar100_resnet20")
    refuse(path, "it is a resnet32, not a resnet56", "cifar10_resnet56")
    refuse(
        path,
        r"fc\.weight has shape \(100, 64\), expected \(10, 64\) for CIFAR-10\. It looks like CIFAR-100: ask for "
        "`--dataset cifar100`",
        "cifar10_resnet32",
    )
    torch.save(STATE | {"fc.weight": torch.zeros(1000, 64), "fc.bias": torch.zeros(1000)}, path)
    refuse(path, r"fc\.weight has shape \(1000, 64\), expected \(10, 64\).*No data set here has 1000 classes")
    four = {key.replace("layer3.", "layer4."): t for key, t in STATE.items() if key.startswith("layer3.")}
    torch.save(STATE | four, path)
    refuse(path, r"it has 3\+3\+3\+3 blocks, resnet20 has 3\+3\+3")


def without(*keys: str) -> dict[str, Tensor]:
    return {key: tensor for key, tensor in STATE.items() if key not in keys}


def changed(key: str, tensor: object) -> dict[str, object]:
    return {**STATE, key: tensor}


def with_value(key: str, *values: float, dtype: torch.dtype = torch.float32) -> dict[str, object]:
    tensor = STATE[key].clone().to(dtype)
    tensor.view(-1)[: len(values)] = torch.tensor(values, dtype=dtype)
    return changed(key, tensor)


NAN, INF = float("nan"), float("inf")
MISFITS: dict[str, tuple[Callable[[], object], str]] = {
    "missing": (lambda: without("fc.bias"), r"1 missing key \(fc\.bias\)"),
    "many missing": (
        lambda: {key: t for key, t in STATE.items() if "bn2" not in key},
        r"36 missing keys \(layer1\.0\.bn2\.weight, layer1\.0\.bn2\.bias, layer1\.0\.bn2\.running_mean, and 33 more\)",
    ),
    "half a shortcut": (lambda: without("layer3.0.downsample.0.weight"), "1 missing key"),
    "extra": (lambda: changed("stem.bias", torch.zeros(16)), r"1 extra key \(stem\.bias\)"),
    "both": (
        lambda: without("conv1.weight") | {"stem.weight": torch.zeros(1)},
        r"1 missing key \(conv1\.weight\) and 1 extra key \(stem\.weight\)",
    ),
    "shape": (
        lambda: changed("conv1.weight", torch.zeros(16, 3, 7, 7)),
        r"conv1\.weight has shape \(16, 3, 7, 7\), expected \(16, 3, 3, 3\)",
    ),
    "expanded": (
        lambda: changed("fc.bias", torch.zeros(1).expand(2**40)),
        r"fc\.bias has shape \(1099511627776,\), expected \(10,\)",
    ),
    "int": (lambda: changed("fc.bias", torch.zeros(10, dtype=torch.int8)), r"fc\.bias is int8, expected float32"),
    "complex": (lambda: changed("fc.bias", torch.zeros(10, dtype=torch.complex64)), r"fc\.bias is complex64"),
    "bool counter": (
        lambda: changed("bn1.num_batches_tracked", torch.tensor(True)),
        r"bn1\.num_batches_tracked is bool, expected int64",
    ),
    "nan": (lambda: with_value("conv1.weight", NAN, INF, -INF), r"conv1\.weight has 3 of 432 values NaN or infinite"),
    "nan in half": (lambda: with_value("fc.bias", NAN, dtype=torch.float16), r"fc\.bias has 1 of 10 values NaN"),
    "too large": (
        lambda: with_value("fc.bias", 1e300, dtype=torch.float64),
        r"fc\.bias has 1 of 10 values beyond the range of float32",
    ),
    "variance": (
        lambda: with_value("layer1.0.bn1.running_var", -1e-9, -1.0),
        r"layer1\.0\.bn1\.running_var has 2 of 16 values below 0",
    ),
    "duplicate": (lambda: {"module.fc.bias": STATE["fc.bias"], **STATE}, r"module\.fc\.bias and fc\.bias are both fc"),
    "both names": (
        lambda: {**STATE, "linear.bias": STATE["fc.bias"]},
        r"fc\.bias and linear\.bias are both fc\.bias",
    ),
    "no tensor": (lambda: changed("fc.bias", [0.0] * 10), r"fc\.bias is a list, not a tensor"),
    "no name": (lambda: {**STATE, 7: torch.zeros(1)}, "a key that is not a name: 7"),
    "sparse": (lambda: changed("fc.weight", STATE["fc.weight"].to_sparse()), r"fc\.weight is a sparse tensor"),
    "meta": (lambda: changed("fc.weight", torch.empty(10, 64, device="meta")), r"fc\.weight is a meta tensor"),
    "tied": (
        lambda: changed("layer1.0.bn2.weight", STATE["layer1.0.bn1.weight"]),
        r"layer1\.0\.bn1\.weight and layer1\.0\.bn2\.weight share memory",
    ),
}


@pytest.mark.parametrize("case", MISFITS)
def test_state_dicts_that_do_not_fit(case: str, tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save(MISFITS[case][0](), path)
    refuse(path, MISFITS[case][1])


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_quantized_tensors_are_named(tmp_path: Path) -> None:
    quantized = torch.quantize_per_tensor(STATE["fc.weight"], 0.1, 0, torch.qint8)
    torch.save(changed("fc.weight", quantized), tmp_path / "q.pt")
    refuse(tmp_path / "q.pt", r"fc\.weight is a quantized tensor")


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("{", "metadata is damaged"),
        ("[]", "metadata is damaged"),
        ({"schema": 2}, "schema 2, known is 1"),
        ({"schema": 1, "model": "resnet18", "dataset": "cifar10"}, "metadata is damaged"),
        ({"schema": 1, "model": "resnet20", "dataset": "cifar10", "normalization": None}, "metadata is damaged"),
    ],
)
def test_damaged_metadata_of_ours(document: object, message: str, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    text = document if isinstance(document, str) else json.dumps(document)
    safetensors.torch.save_file(STATE, path, {"cifar-export": text})
    refuse(path, message)


FORMATS = {
    "zip": saved({"state_dict": STATE}),
    "legacy": saved({"state_dict": STATE}, _use_new_zipfile_serialization=False),
    "safetensors": safetensors.torch.save(STATE),
}
quick = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@quick
@given(data=st.data(), form=st.sampled_from(sorted(FORMATS)))
def test_any_truncation_is_refused(data: st.DataObject, form: str, tmp_path: Path) -> None:
    whole = FORMATS[form]
    length = data.draw(
        st.integers(0, 4096) | st.integers(0, len(whole) - 1) | st.integers(len(whole) - 99, len(whole) - 1)
    )
    path = tmp_path / "cut.pt"
    path.write_bytes(whole[:length])
    refuse(path, "cut.pt")


@quick
@given(data=st.data(), form=st.sampled_from(sorted(FORMATS)))
def test_any_damage_gives_weights_or_an_error_of_ours(data: st.DataObject, form: str, tmp_path: Path) -> None:
    damaged = bytearray(FORMATS[form])
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, 8000) | st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "damaged.pt"
    path.write_bytes(damaged)
    try:
        weights = load_weights(RESNET20, str(path), NORMALIZATION)
    except CifarExportError:
        return
    assert all(bool(torch.isfinite(tensor).all()) for tensor in weights.state.values())
    assert [tensor.shape for tensor in weights.state.values()] == [tensor.shape for tensor in STATE.values()]


def test_one_wrong_bit_of_a_number_is_refused(tmp_path: Path) -> None:
    damaged = bytearray(FORMATS["zip"])
    place = damaged.index(STATE["fc.weight"].numpy().tobytes())
    damaged[place] ^= 1
    path = tmp_path / "damaged.pt"
    path.write_bytes(damaged)
    refuse(path, "damaged")


leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9)
leaves = leaves | st.just(torch.zeros(2)) | st.just(torch.ones(()))
names = st.sampled_from(["state_dict", "model", "conv1.weight", "fc.weight", "layer1.0.bn1.bias"]) | st.text(max_size=9)
contents = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names | st.integers(), inner, max_size=4),
    max_leaves=9,
)


@quick
@given(content=contents)
def test_whatever_was_saved_is_refused_in_one_or_two_lines(content: object, tmp_path: Path) -> None:
    path = tmp_path / "odd.pt"
    path.write_bytes(saved(content))
    refuse(path, "odd.pt")


@quick
@given(start=st.sampled_from([b"", b"\x80\x02", b"\x80\x04", b"PK\x03\x04", b"\x08\x07"]), rest=st.binary(max_size=300))
def test_whatever_bytes_are_refused_in_one_or_two_lines(start: bytes, rest: bytes, tmp_path: Path) -> None:
    path = tmp_path / "odd.bin"
    path.write_bytes(start + rest)
    refuse(path, "odd.bin")


def test_what_is_refused_for_one_network_stays_usable_for_its_own(tmp_path: Path) -> None:
    save_weights(tmp_path / "ours.safetensors", WEIGHTS)
    refuse(tmp_path / "ours.safetensors", "holds cifar10_resnet20", "cifar10_resnet44")
    assert load_weights(RESNET20, str(tmp_path / "ours.safetensors")).sha256 == WEIGHTS.sha256
