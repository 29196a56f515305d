"""Exported files: what is asked is delivered, whole, under its name, and only after it was proved."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import onnx
import pytest

from cifar_export.errors import GateFailed, Unavailable
from cifar_export.exporting.artifact import export
from cifar_export.formats import FORMATS, FileFacts, FormatSpec, choices_for
from cifar_export.formats.metadata import describe
from cifar_export.formats.onnx_choices import OnnxChoices
from cifar_export.networks.resnet import with_input
from cifar_export.networks.zoo import CIFAR10
from cifar_export.weights.core import build_network

from support.formats import EACH_FORMAT
from support.paths import ROOT


def left_in(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("format_name", EACH_FORMAT)
def test_the_sidecar_describes_the_file(exported, weights20, format_name):
    artifact = exported(format_name, "uint8", 17 if format_name == "onnx" else None)
    sidecar = json.loads((artifact.path.parent / f"{artifact.path.name}.json").read_text())
    assert sidecar["sha256"] == artifact.sha256 == hashlib.sha256(artifact.path.read_bytes()).hexdigest()
    assert sidecar["bytes"] == artifact.path.stat().st_size
    said = FORMATS[format_name].megabytes
    assert said is None or abs(sidecar["bytes"] / 1e6 - said) < 0.02 * said  # what `formats` says of this network
    assert sidecar["labels"] == list(CIFAR10.labels)
    assert (sidecar["mean"], sidecar["std"]) == tuple(weights20.normalization.as_dict().values())
    batch = 1 if format_name == "litert" else "batch"
    assert sidecar["inputs"] == [{"name": "image", "dtype": "uint8", "shape": [batch, 32, 32, 3]}]
    assert sidecar["outputs"] == [{"name": "logits", "dtype": "float32", "shape": [batch, 10]}]


COPY = """
import sys
from pathlib import Path
from cifar_export.exporting.artifact import export
from cifar_export.formats.onnx_choices import OnnxChoices
from cifar_export.weights.sources import load_weights
from cifar_export.networks.zoo import NETWORKS
weights = load_weights(NETWORKS["cifar10_resnet20"], sys.argv[1])
for format_name, variant, choices, name in (
    ("onnx", "float32", None, "p.onnx"), ("onnx", "uint8", OnnxChoices(17), "q.onnx"),
    ("torchscript", "uint8", None, "r.torchscript.pt"), ("torch-export", "uint8", None, "s.pt2"),
):
    export(weights, format_name, variant=variant, choices=choices, output=Path(name))
"""


def test_bytes_do_not_depend_on_folder_user_time_zone_or_name(exported, weights20_file, tmp_path):
    """Another checkout in another folder, another process, home, time zone and output name: the same files."""
    checkout = tmp_path / "elsewhere" / "deep"
    shutil.copytree(ROOT / "exporter", checkout / "cifar_export", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "setup.cfg", checkout)
    there = tmp_path / "work"
    there.mkdir()
    environment = os.environ | {
        "PYTHONPATH": str(checkout), "HOME": str(there), "TZ": "Asia/Tokyo", "USER": "someone", "PYTHONHASHSEED": "7",
    }  # fmt: skip
    command = [sys.executable, "-W", "ignore", "-c", COPY, str(weights20_file)]
    subprocess.run(command, cwd=there, env=environment, check=True, umask=0o077)
    for artifact, name in (
        (exported("onnx", "float32", 18), "p.onnx"),
        (exported("onnx", "uint8", 17), "q.onnx"),
        (exported("torchscript", "uint8"), "r.torchscript.pt"),
        (exported("torch-export", "uint8"), "s.pt2"),
    ):
        assert (there / name).read_bytes() == artifact.path.read_bytes(), name
        assert b"elsewhere" not in (there / name).read_bytes()
        for path in (there / f"{name}.json", artifact.path.parent / f"{artifact.path.name}.json"):
            assert str(path.parent) not in path.read_text()
        assert (there / f"{name}.json").read_bytes() == path.read_bytes()


def test_a_second_trace_in_the_same_process_gives_the_same_torchscript_bytes(exported, weights20, tmp_path):
    again = export(weights20, "torchscript", variant="uint8", output=tmp_path / "again.torchscript.pt")
    assert again.sha256 == exported("torchscript", "uint8").sha256


def test_skipping_the_check_is_written_into_the_file(weights20, tmp_path):
    artifact = export(weights20, "onnx", choices=OnnxChoices(17), output=tmp_path / "a.onnx", checked=False)
    assert artifact.parity is None
    properties = {entry.key: entry.value for entry in onnx.load(artifact.path).metadata_props}
    assert properties["parity"] == "not checked"


# What breaks an export, and that nothing is left of it: each fault is planted between the network and the file.


def change_fc(module):
    module.fc.weight.data[3, 5] += 1e-2


def drop_a_bias(module):
    module.layer2[1].bn2.bias.data.zero_()
    module.layer2[1].bn2.running_mean.zero_()


FAULTS = {"one fc weight changed by 1e-2": change_fc, "one layer's bias dropped": drop_a_bias}


@pytest.mark.parametrize("format_name", ["onnx", "torchscript"])
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_broken_export_is_refused_and_leaves_the_older_file(weights20, tmp_path, format_name, fault):
    path = tmp_path / f"a{FORMATS[format_name].suffix}"
    path.write_bytes(b"an older file")
    module = build_network(weights20)
    fault(module)
    with pytest.raises(GateFailed, match=r"parity failed: .*exceeds"):
        export(weights20, format_name, output=path, module=module)
    assert path.read_bytes() == b"an older file"
    assert left_in(tmp_path) == [path.name]


@pytest.mark.parametrize("lie", [{"metadata": None}, {"variant": "uint8"}, {"std": [0.5] * 3}, {"parity": "passed"}])
@pytest.mark.parametrize("format_name", EACH_FORMAT)
def test_a_file_that_says_other_things_of_itself_than_were_asked_is_refused(
    weights20, tmp_path, monkeypatch, format_name, lie
):
    """Whatever the format: what stands in the file is read back before it appears."""
    choices = choices_for(format_name)
    said = {"variant": "float32", "metadata": describe(weights20, "float32", checked=False, choices=choices)}

    def tried(facts):
        module = SimpleNamespace(
            serialize=lambda request: b"x",
            inspect=lambda path: FileFacts(format_name, **facts),
            companions=lambda data: dict.fromkeys(FORMATS[format_name].beside, b"y"),
        )
        monkeypatch.setattr(FormatSpec, "load", lambda self: module)
        export(weights20, format_name, output=tmp_path / f"a{FORMATS[format_name].suffix}", checked=False)

    with pytest.raises(GateFailed, match="does not say of itself what was asked for"):
        tried(said | lie if lie.keys() <= said.keys() else said | {"metadata": said["metadata"] | lie})
    assert left_in(tmp_path) == []
    tried(said)
    assert all(path.is_file() for path in FORMATS[format_name].beside_of(tmp_path / f"a{FORMATS[format_name].suffix}"))


def test_a_swapped_normalization_in_the_graph_is_refused(weights20, tmp_path):
    swapped = type(weights20.normalization)(weights20.normalization.std, weights20.normalization.mean)
    module = with_input(build_network(weights20), "uint8", swapped).eval()
    with pytest.raises(GateFailed, match="parity failed"):
        export(weights20, "onnx", variant="uint8", choices=OnnxChoices(17), output=tmp_path / "a.onnx", module=module)
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("format_name", EACH_FORMAT)
def test_a_network_in_training_mode_is_refused_before_it_is_exported(weights20, tmp_path, format_name):
    module = build_network(weights20)
    module.layer2[0].bn1.train()
    with pytest.raises(GateFailed, match=r"layer2\.0\.bn1 is in training mode"):
        export(weights20, format_name, output=tmp_path / f"a{FORMATS[format_name].suffix}", module=module)
    assert left_in(tmp_path) == []


def test_the_command_of_a_failed_gate_exits_with_1(run, weights20_file, tmp_path, monkeypatch):
    import cifar_export.exporting.artifact

    real = cifar_export.exporting.artifact.build_network

    def broken(weights):
        network = real(weights)
        change_fc(network)
        return network

    monkeypatch.setattr(cifar_export.exporting.artifact, "build_network", broken)
    output = tmp_path / "a.onnx"
    result = run("onnx", "resnet20", "--weights", weights20_file, "--opset", 17, "--output", output, "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["exit_code"] == 1
    assert "parity failed: onnxruntime-cpu: error" in result.stderr
    assert left_in(tmp_path) == []


# Where files go, and what the file system says to it.


def test_the_file_system_refusing_is_one_line_and_leaves_nothing(run, weights20_file, tmp_path):
    (tmp_path / "folder.onnx").mkdir()
    (tmp_path / "file").write_text("")
    command = ["onnx", "resnet20", "--weights", weights20_file, "--opset", 17, "--no-check", "--output"]
    for output, said in (
        (tmp_path / "folder.onnx", "it is a folder"),
        (tmp_path / "file" / "a.onnx", "Check the path and its permissions"),
        (tmp_path / "a.pt2", "must end with .onnx"),
        (Path("/proc/nowhere/a.onnx"), "Check the path and its permissions"),
    ):
        result = run(*command, output)
        assert (result.exit_code, result.stderr.count("\n")) == (2, 1), result.stderr
        assert said in result.stderr
    assert left_in(tmp_path) == ["file", "folder.onnx"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_ends_with_3_and_leaves_the_older_file(weights20, tmp_path, monkeypatch):
    path = tmp_path / "a.onnx"
    path.write_bytes(b"an older file")
    real = Path.write_bytes
    monkeypatch.setattr(
        Path, "write_bytes", lambda self, data: real(Path("/dev/full") if "tmp" in self.name else self, data)
    )
    with pytest.raises(Unavailable, match="No space left on device"):
        export(weights20, "onnx", choices=OnnxChoices(17), output=path)
    assert path.read_bytes() == b"an older file"
    assert left_in(tmp_path) == ["a.onnx"]


INTERRUPTED = """
import signal, sys
import cifar_export.__main__ as cli, cifar_export.exporting.artifact
number = int(sys.argv.pop(1))
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background starts with it ignored
def interrupt(*arguments, **options):
    print("checking", flush=True)
    signal.raise_signal(number)
    signal.pause()
cifar_export.exporting.artifact.check = interrupt
sys.argv[0] = "cifar-export"
cli.main()
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_while_checking_leaves_nothing_new(weights20_file, tmp_path, number, code):
    path = tmp_path / "a.torchscript.pt"
    path.write_bytes(b"an older file")
    arguments = [str(int(number)), "torchscript", "resnet20", "--weights", str(weights20_file), "--output", str(path)]
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", INTERRUPTED, *arguments],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (result.returncode, result.stdout) == (code, "checking\n"), result.stderr
    assert "Traceback" not in result.stderr
    assert path.read_bytes() == b"an older file"
    assert left_in(tmp_path) == [path.name]


def test_default_names_say_network_and_input(run, weights20_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    base = ["resnet20", "--weights", weights20_file, "--no-check", "--json"]
    made = [
        json.loads(run("onnx", *base, "--opset", 17).stdout)["path"],
        json.loads(run("onnx", *base, "--opset", 17, "--input", "uint8").stdout)["path"],
        json.loads(run("torchscript", *base).stdout)["path"],
        json.loads(run("torch-export", *base, "--input", "uint8").stdout)["path"],
    ]
    names = ["cifar10_resnet20.onnx", "cifar10_resnet20-uint8.onnx", "cifar10_resnet20.torchscript.pt"]
    assert made == [f"artifacts/exports/{name}" for name in [*names, "cifar10_resnet20-uint8.pt2"]]
    assert all(Path(path).is_file() for path in made)


def test_export_json_has_what_automation_reads(run, weights20, weights20_file, tmp_path):
    output = tmp_path / "a.onnx"
    result = run("onnx", "resnet20", "--weights", weights20_file, "--opset", 17, "--output", output, "--json")
    document = json.loads(result.stdout)
    assert result.exit_code == 0
    assert document["path"] == str(output)
    assert document["sha256"] == hashlib.sha256(output.read_bytes()).hexdigest()
    assert (document["bytes"], document["opset"], document["ir_version"]) == (output.stat().st_size, 17, 8)
    assert document["input"] == "float32"
    weights = document["weights"]
    assert (weights["source"], weights["sha256"]) == ("file", weights20.sha256)
    assert weights["normalization"] == weights20.normalization.as_dict()
    assert document["parity"]["passed"] is True
    assert document["parity"]["runtimes"][0]["provider"] == "CPUExecutionProvider"


def test_file_mode_follows_the_umask(weights20, tmp_path):
    before = os.umask(0o027)
    try:
        path = export(weights20, "torchscript", output=tmp_path / "a.torchscript.pt", checked=False).path
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o640
