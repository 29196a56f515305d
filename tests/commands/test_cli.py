"""The command as people and scripts meet it: instant help, clean streams, exit codes, no tracebacks."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import click
import numpy as np
import pytest
from click.testing import CliRunner

from cifar_export import __main__ as cli
from cifar_export.commands.console import Command
from cifar_export.commands.reports import predictions_table
from cifar_export.errors import CifarExportError, GateFailed, InvalidInput, Unavailable, from_os_error
from cifar_export.prediction.predict import Guess, Prediction, Predictions
from cifar_export.system.version import __version__

from support.paths import ROOT

COMMANDS = sorted(cli.main.commands)
HEAVY = {"torch", "torchvision", "onnx", "onnxruntime", "numpy", "rich", "safetensors", "PIL", "openvino"}


def python(*arguments: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *arguments], text=True, capture_output=True, **options)


def test_help_and_import_stay_light():
    """One process shows the help of every command and looks at what that has imported."""
    code = f"""
import sys
import cifar_export, cifar_export.__main__ as cli
from click.testing import CliRunner
for arguments in [[], *[[name] for name in {COMMANDS!r}], ["data", "fetch"], ["data", "check"]]:
    result = CliRunner().invoke(cli.main, [*arguments, "--help"])
    assert result.exit_code == 0 and "Usage" in result.stdout, arguments
print(sorted({HEAVY!r} & set(sys.modules)))
"""
    result = python("-c", code)
    assert (result.returncode, result.stdout) == (0, "[]\n"), result.stderr


def test_listing_options_needs_no_torch_either():
    code = "import sys, cifar_export.networks.zoo, cifar_export.runtimes, cifar_export.weights.index\n"
    code += "print('torch' in sys.modules)"
    assert python("-c", code).stdout == "False\n"


def test_the_version_is_that_of_setup_cfg(run):
    assert run("--version").stdout == f"cifar-export, version {__version__}\n"
    assert f"version = {__version__}\n" in (ROOT / "setup.cfg").read_text()


@pytest.mark.parametrize("arguments", [["onyx"], ["onnx", "resnet21"], ["onnx", "resnet20", "--datset", "cifar100"]])
def test_a_typo_is_wrong_usage(run, arguments):
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ")
    assert result.stderr.endswith(" -h`.\n")


@pytest.mark.parametrize("arguments", [["onnx", "resnet21"], ["onnx"], ["models", "--tall"], ["data", "check", "-d"]])
def test_wrong_usage_is_a_document_too(run, arguments):
    result = run(*arguments, "--json")
    document = json.loads(result.stdout)
    assert (result.exit_code, document["exit_code"]) == (2, 2)
    assert result.stderr == f"error: {document['error']}\n"


@pytest.mark.parametrize("command", ["onnx", "torchscript", "torch-export", "parity"])
def test_a_missing_checkpoint_is_one_line(run, tmp_path, command):
    result = run(command, "resnet20", "--weights", tmp_path / "nothing.pt", "--json")
    assert result.exit_code == 2
    assert json.loads(result.stdout) == {"error": result.stderr[7:-1], "exit_code": 2}
    assert str(tmp_path / "nothing.pt") in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_missing_data_folder_ends_with_3_and_names_the_next_step(run, weights20_file, tmp_path):
    result = run("evaluate", "resnet20", "--weights", weights20_file, "--data-dir", tmp_path / "none")
    assert result.exit_code == 3
    assert "cifar-export data fetch --dataset cifar10" in result.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--mean", "0.5,0.5,0.5"], "--mean without --std"),
        (["--mean", "0.5,0.5", "--std", "0.2,0.2,0.2"], "has 2 value"),
        (["--mean", "125.3,123.0,113.9", "--std", "63.0,62.1,66.7"], "255"),
        (["--mean", "0.5,0.5,0.5", "--std", "0.2,0,0.2"], "--std"),
    ],
)
@pytest.mark.parametrize("command", ["onnx", "torchscript", "torch-export", "parity", "evaluate"])
def test_a_wrong_normalization_is_refused_alike_everywhere(run, weights20_file, command, options, said):
    result = run(command, "resnet20", "--weights", weights20_file, *options)
    assert result.exit_code == 2
    assert said in result.stderr


def test_a_reader_that_leaves_early_gets_no_traceback():
    script = f"{sys.executable} -m cifar_export models | head -n 1"
    result = subprocess.run(script, shell=True, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.stdout.count("\n") == 1
    assert "Traceback" not in result.stderr


@pytest.mark.skipif(os.name == "nt", reason="needs a POSIX shell")
def test_without_a_stdout_the_exit_code_is_the_errors(tmp_path):
    command = f'exec "{sys.executable}" -m cifar_export onnx resnet20 --weights nofile --json >&-'
    result = subprocess.run(command, shell=True, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1), result.stderr
    assert result.stderr.startswith("error: ")


def test_an_error_that_came_of_an_interruption_counts_as_one():
    """As in a library whose import is interrupted: it names what is not there yet, in place of KeyboardInterrupt."""

    @click.command(cls=Command)
    def interrupted():
        try:
            raise KeyboardInterrupt
        except sys.missing.Error:  # an AttributeError, while the interruption is being handled
            pass

    result = CliRunner().invoke(interrupted)
    assert (result.exit_code, result.stderr) == (130, "interrupted: nothing was left half-written.\n")


def test_what_the_file_system_refuses_is_named():
    @click.command(cls=Command)
    @click.argument("path")
    def refused(path):
        raise PermissionError(13, "Permission denied", path)

    result = CliRunner().invoke(refused, ["/a/path"])
    assert result.exit_code == 2
    assert result.stderr == "error: cannot use /a/path: Permission denied. Check the path and its permissions.\n"


def test_an_error_of_its_own_is_not_taken_for_an_interruption():
    @click.command(cls=Command)
    def broken():
        raise AttributeError("missing")

    assert isinstance(CliRunner().invoke(broken).exception, AttributeError)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_full_disk_under_the_redirected_result_is_one_line(options):
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "cifar_export", "models", *options]
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (result.returncode, result.stderr.count("\n")) == (3, 1), result.stderr
    assert "No space left on device" in result.stderr


def test_a_name_that_stdout_cannot_encode_ends_nothing(weights20_file, tmp_path):
    output = tmp_path / "dür [b]" / "a.torchscript.pt"
    options = ["--weights", str(weights20_file), "--output", str(output), "--no-check"]
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "cifar_export", "torchscript", "resnet20", *options]
    result = subprocess.run(command, env=environment, text=True, capture_output=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert "d\\xfcr [b]" in result.stdout
    assert output.is_file()


def test_parity_takes_the_test_set_where_it_is_asked_for_alone(weights20_file, exported, tmp_path, monkeypatch):
    split = SimpleNamespace(images=np.zeros((7, 32, 32, 3), np.uint8))
    monkeypatch.setattr(
        "cifar_export.data.load_split", lambda folder, *_: split if folder == tmp_path else pytest.fail(str(folder))
    )
    command = ["parity", "resnet20", "--weights", str(weights20_file), "--runtime", "onnxruntime-cpu", "--json"]
    command += ["--file", str(exported("onnx", "float32", 17).path)]
    environment = {"CIFAR_DATA": str(tmp_path)}

    def images(*options, env):
        result = CliRunner().invoke(cli.main, [*command, *options], env=env)
        assert result.exit_code == 0, result.stderr
        row = json.loads(result.stdout)["runtimes"][-1]
        return result.stderr, {sets["inputs"]: sets["images"] for sets in row["inputs"]}.get("test")

    hint = "note: the test set in CIFAR_DATA is not used. Add --test-set to compare on all of it, too.\n"
    assert images(env=environment) == (hint, None)
    assert images(env={"CIFAR_DATA": None}) == ("", None)
    used = f"note: also compared on the 7 test images of CIFAR-10 in {tmp_path}.\n"
    assert images("--test-set", env=environment) == (used, 7)
    assert images("--data-dir", str(tmp_path), env={"CIFAR_DATA": "elsewhere"}) == (used, 7)


@pytest.mark.parametrize("options", [["--data-dir", "HERE"], ["--test-set"]])
def test_a_test_set_that_is_asked_for_and_not_there_is_exit_code_3(run, weights20_file, tmp_path, monkeypatch, options):
    monkeypatch.chdir(tmp_path)
    options = [str(tmp_path) if option == "HERE" else option for option in options]
    result = run("parity", "resnet20", "--weights", weights20_file, *options, "--json")
    assert (result.exit_code, json.loads(result.stdout)["exit_code"]) == (3, 3)


def test_brackets_in_the_name_of_a_picture_are_shown_as_they_are(capsys):
    guess = Guess("cat", 3, 0.5)
    predictions_table(Predictions((Prediction(Path("a[b].png"), (guess,)),), ()))
    assert "a[b].png" in capsys.readouterr().out


def test_json_leaves_stdout_to_the_document(weights20_file, tmp_path):
    """A real process, exporters' own prints and logs included."""
    output = tmp_path / "a.onnx"
    options = ["--weights", str(weights20_file), "--output", str(output), "--json"]
    result = python("-m", "cifar_export", "onnx", "resnet20", *options, cwd=ROOT)
    assert json.loads(result.stdout)["path"] == str(output)
    assert result.stderr == ""


@pytest.mark.parametrize(("error", "code"), [(GateFailed, 1), (InvalidInput, 2), (Unavailable, 3)])
def test_exit_codes_are_those_of_the_documentation(error, code):
    assert error("x").exit_code == code
    assert issubclass(error, CifarExportError)


@pytest.mark.parametrize(
    ("number", "kind"), [(28, Unavailable), (122, Unavailable), (13, InvalidInput), (2, InvalidInput)]
)
def test_what_the_file_system_says_becomes_an_exit_code(number, kind):
    assert isinstance(from_os_error(OSError(number, os.strerror(number)), "write a"), kind)
