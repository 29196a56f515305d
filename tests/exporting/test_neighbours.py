"""Exports inside somebody's program: threads beside them, and torch set as their caller likes it."""

import contextlib
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from torch import nn

import cifar_export
from cifar_export.errors import GateFailed
from cifar_export.exporting.artifact import export
from cifar_export.formats import FORMATS
from cifar_export.formats import torchscript as format_module
from cifar_export.networks.resnet import with_input
from cifar_export.networks.zoo import NETWORKS
from cifar_export.system.torch_state import torchscript_deprecations
from cifar_export.weights.core import build_network
from cifar_export.weights.sources import load_weights

from support.data_files import noise
from support.formats import EACH_FORMAT, MISSING

NAMES = ("cifar10_resnet20", "cifar100_resnet20")
PIXELS = np.random.default_rng(3).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)


@contextlib.contextmanager
def attribute(holder, name, value):
    before = getattr(holder, name)
    setattr(holder, name, value)
    try:
        yield
        assert getattr(holder, name) == value, f"{name} was not put back"
    finally:
        setattr(holder, name, before)


@contextlib.contextmanager
def default_dtype():
    torch.set_default_dtype(torch.float64)
    try:
        yield
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


@contextlib.contextmanager
def deterministic():
    torch.use_deterministic_algorithms(True)
    try:
        yield
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


STATES = {
    "float64 by default": default_dtype,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "meta device": lambda: torch.device("meta"),
    "inference mode": torch.inference_mode,
    "cuDNN benchmark": lambda: attribute(torch.backends.cudnn, "benchmark", True),
    "no cuDNN": lambda: attribute(torch.backends.cudnn, "enabled", False),
    "TF32": lambda: attribute(torch.backends.cudnn, "allow_tf32", True),
    "no TF32": lambda: attribute(torch.backends.cudnn, "allow_tf32", False),
    "deterministic algorithms": deterministic,
}


@contextlib.contextmanager
def all_states():
    with contextlib.ExitStack() as stack:
        for name, state in STATES.items():
            if name != "no TF32":
                stack.enter_context(state())
        yield


def digest(name, format_name, folder) -> str:
    weights = load_weights(NETWORKS[name])
    output = Path(folder) / f"{name}{FORMATS[format_name].suffix}"
    return export(weights, format_name, output=output, checked=False).sha256


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """sha256 of each network's exports, made one after another with torch as it comes, by (network, format)."""
    folder = tmp_path_factory.mktemp("plain")
    made = {(name, "torchscript"): digest(name, "torchscript", folder) for name in NAMES}
    return made | {
        (NAMES[0], format_name): digest(NAMES[0], format_name, folder)
        for format_name in FORMATS
        if format_name not in MISSING
    }


@pytest.mark.parametrize("state", STATES)
def test_a_setting_of_the_caller_changes_no_byte_of_a_trace_and_stays(state, plain, tmp_path):
    with STATES[state]():
        assert digest(NAMES[0], "torchscript", tmp_path) == plain[NAMES[0], "torchscript"]


@pytest.mark.parametrize("state", STATES)
def test_a_setting_of_the_caller_changes_no_byte_of_the_other_formats_and_stays(state, plain, tmp_path):
    with STATES[state]():
        made = {name: digest(NAMES[0], name, tmp_path) for name in ("onnx", "torch-export")}
    assert made == {name: plain[NAMES[0], name] for name in made}


@pytest.mark.parametrize("format_name", EACH_FORMAT)
def test_all_settings_together_change_no_byte_of_any_format(format_name, plain, tmp_path):
    with all_states():
        assert digest(NAMES[0], format_name, tmp_path) == plain[NAMES[0], format_name]


class Doubled(nn.Module):
    """A module of the caller's own, whose forward pass makes a tensor of the default type."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, images):
        return self.network(images) * torch.full((1,), 2.0)


@pytest.mark.parametrize("format_name", ["torchscript", "torch-export"])
def test_the_default_type_gets_into_no_export_of_a_module_of_the_callers(format_name, tmp_path):
    weights = load_weights(NETWORKS[NAMES[0]])
    module = Doubled(with_input(build_network(weights), "float32", weights.normalization)).eval()
    output = tmp_path / f"net{FORMATS[format_name].suffix}"
    before = export(weights, format_name, output=output, checked=False, module=module).sha256
    with default_dtype():
        assert export(weights, format_name, output=output, checked=False, module=module).sha256 == before


@pytest.fixture(scope="module")
def answers():
    """Probabilities of `PIXELS` from `predict`, and logits from `session`, with torch as it comes."""
    network = cifar_export.load(NAMES[0])
    return network.predict(PIXELS).probabilities, logits(network.session())


def logits(session):
    return session.run(None, {"image": PIXELS})[0]


@pytest.mark.parametrize("state", STATES)
def test_a_setting_of_the_caller_changes_no_answer_of_a_loaded_network(state, answers):
    with STATES[state]():
        network = cifar_export.load(NAMES[0])
        found = network.predict(PIXELS)
        module = network.network()
    assert {(tensor.dtype, tensor.device.type) for tensor in module.parameters()} == {(torch.float32, "cpu")}
    assert not any(tensor.is_inference() for tensor in module.parameters())
    np.testing.assert_array_equal(found.probabilities, answers[0])


def test_all_settings_together_change_no_answer_of_a_session(answers):
    with all_states():
        found = logits(cifar_export.load(NAMES[0]).session())
    np.testing.assert_array_equal(found, answers[1])


def test_all_settings_together_change_no_verdict(tmp_path):
    with all_states():
        artifact = cifar_export.export(NAMES[0], "torchscript", output=tmp_path / "net.torchscript.pt")
        found = cifar_export.predict(artifact.path, PIXELS, top=1)
    assert artifact.parity.passed
    assert len(found.pictures) == len(PIXELS)


@pytest.fixture
def eager_threads():
    """Threads that take turns far more often than by default."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("eager_threads")
def test_threads_write_the_bytes_that_one_writes(plain, tmp_path):
    wanted = [*plain, *reversed(plain)]
    folders = [tmp_path / str(number) for number in range(len(wanted))]
    for folder in folders:
        folder.mkdir()
    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(lambda asked, folder: digest(*asked, folder), wanted, folders))
    assert made == [plain[asked] for asked in wanted]


@pytest.mark.usefixtures("eager_threads")
def test_two_threads_open_sessions_that_answer_as_those_of_one_do(answers):
    networks = [cifar_export.load(name) for name in NAMES]
    with ThreadPoolExecutor(2) as pool:
        found = [logits(session) for session in pool.map(lambda network: network.session(), networks)]
    np.testing.assert_array_equal(found[0], answers[1])
    np.testing.assert_array_equal(found[1].argmax(axis=1), networks[1].predict(PIXELS).indices)
    assert found[1].shape == (4, 100)


def test_no_convolution_of_a_trace_may_use_tf32(tmp_path):
    digest(NAMES[0], "torchscript", tmp_path)
    with torchscript_deprecations():
        module = torch.jit.load(tmp_path / f"{NAMES[0]}.torchscript.pt")
    graph = module.inlined_graph
    convolutions = list(graph.findAllNodes("aten::_convolution"))
    assert len(convolutions) > 18
    assert {list(node.inputs())[-1].toIValue() for node in convolutions} == {False}


def test_a_trace_that_may_use_tf32_is_refused(tmp_path):
    with (
        mock.patch.object(format_module, "serialize", format_module.serialize.__wrapped__),  # without fixed settings
        pytest.raises(GateFailed, match="the trace allows TF32"),
        torchscript_deprecations(),
    ):
        digest(NAMES[0], "torchscript", tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "command",
    [
        ("onnx", "resnet20", "--output", "caf\udce9.onnx"),
        ("torchscript", "resnet20", "--output", "caf\udce9.torchscript.pt"),
        ("torch-export", "resnet20", "--output", "caf\udce9.pt2"),
        ("parity", "resnet20", "--file", "caf\udce9.onnx"),
        ("evaluate", "resnet20", "--data-dir", ".", "--file", "caf\udce9.onnx"),
        ("predict", "caf\udce9.onnx", "cat.png"),
    ],
)
def test_a_name_that_is_not_utf8_is_refused_by_name(command, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("cifar_export.data.load_split", lambda *_: noise(1))
    Path("cat.png").write_bytes(b"")
    if "--file" in command or command[0] == "predict":
        Path(os.fsdecode(b"caf\xe9.onnx")).write_bytes(b"")
    before = sorted(tmp_path.iterdir())
    result = run(*command)
    assert result.exit_code == 2
    assert "the name is not UTF-8" in result.stderr
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("as_link", [False, True])
def test_parity_in_a_folder_whose_name_is_not_utf8_is_refused_and_does_not_fail(
    as_link, exported, run, tmp_path, monkeypatch
):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    (folder / "net.onnx").write_bytes(exported("onnx", "float32").path.read_bytes())
    (tmp_path / "link.onnx").symlink_to(folder / "net.onnx")
    monkeypatch.chdir(tmp_path if as_link else folder)
    result = run("parity", "resnet20", "--runtime", "onnxruntime-cpu", "--file", "link.onnx" if as_link else "net.onnx")
    assert result.exit_code == 2
    assert "caf\\udce9/net.onnx: the name is not UTF-8" in result.stderr


def test_an_export_into_a_folder_whose_name_is_not_utf8_passes(run, tmp_path, monkeypatch):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    monkeypatch.chdir(folder)
    result = run("onnx", "resnet20")
    assert result.exit_code == 0, result.stderr
    assert (folder / "artifacts" / "exports" / "cifar10_resnet20.onnx").is_file()
