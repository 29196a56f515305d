"""`cifar-export train`: what is asked of the library, and what is printed."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from cifar_export import __main__ as cli
from cifar_export.commands.training_progress import result_lines
from cifar_export.errors import GateFailed
from cifar_export.networks.zoo import NETWORKS, Normalization
from cifar_export.training import run
from cifar_export.training.loop import Progress
from cifar_export.training.options import CHECKPOINT, NamedWeights, Options
from cifar_export.training.recipe import PRESETS, QUICK
from cifar_export.training.result import TrainingResult

RESULT = TrainingResult(
    network="cifar100_resnet32",
    recipe="quick",
    seed=3,
    holdout=False,
    output=Path("there"),
    sha256="ab" * 32,
    top1=68.5,
    top5=90.25,
    seconds=3700.0,
    hardware="a CPU, 2 threads",
    precision="float32",
)
PARTS = (
    {"epochs": 76, "seconds": 710.9, "hardware": "NVIDIA H100", "precision": "bf16"},
    {"epochs": 6, "seconds": 3267.6, "hardware": "AMD EPYC, 1 thread", "precision": "float32"},
)
EPOCH = {"epoch": 1, "loss": 2.5, "train_top1": 41.0, "top1": 43.25, "top5": 70.5, "images_per_second": 800.0}


@pytest.fixture
def asked(monkeypatch):
    """Options that the command asked for; a stand-in reports one epoch and a result."""
    seen: list[Options] = []

    def stand_in(options, on_progress, on_note):
        seen.append(options)
        on_progress(Progress(1, 2, 390, 390, 800.0, 200.0, EPOCH))
        return RESULT

    monkeypatch.setattr(run, "train", stand_in)
    return seen


def test_a_run_that_was_resumed_elsewhere_names_each_part():
    said = dict(result_lines(replace(RESULT, parts=PARTS)))["trained for"]
    assert said == ("76 epochs in 12 min on NVIDIA H100 in bf16; 6 epochs in 54 min on AMD EPYC, 1 thread in float32")
    assert dict(result_lines(RESULT))["trained for"] == "62 min on a CPU, 2 threads, in float32"


def invoke(*arguments: str):
    return CliRunner().invoke(cli.main, ["train", *arguments])


def test_options_reach_the_library(asked, tmp_path):
    given = "resnet32 --dataset cifar100 --recipe release --epochs 7 --seed 3 --resume --holdout --device cpu"
    result = invoke(
        *given.split(), "--threads", "2", "--data-dir", str(tmp_path), "--output", f"{tmp_path}/out", "--tensorboard"
    )
    assert result.exit_code == 0, result.output
    (options,) = asked
    assert options.network.name == "cifar100_resnet32"
    assert options.recipe == PRESETS["release"].with_changes(epochs=7)
    assert (options.seed, options.resume, options.holdout, options.tensorboard) == (3, True, True, True)
    assert (options.device, options.threads) == ("cpu", 2)
    assert (options.data_dir, options.folder) == (tmp_path, tmp_path / "out")


def test_initial_weights_are_of_the_model_itself_or_of_a_named_one(asked):
    own = [f"--{name}=0.1,0.2,0.3" for name in ("mean", "std")]
    for given, model, normalization in (
        ([], "resnet32", None),
        (["--initial-model", "resnet20"], "resnet20", None),
        (own, "resnet32", Normalization((0.1, 0.2, 0.3), (0.1, 0.2, 0.3))),
    ):
        result = invoke("resnet32", "--dataset", "cifar100", "--initial-weights", "bundled", *given)
        assert result.exit_code == 0, result.output
        assert asked[-1].network.name == "cifar100_resnet32"
        assert asked[-1].initial == NamedWeights("bundled", NETWORKS[f"cifar100_{model}"], normalization)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--initial-model", "resnet20"], "Add --initial-weights"),
        (["--mean", "0,0,0", "--std", "1,1,1"], "Add --initial-weights"),
        (["--key", "ema"], "Add --initial-weights"),
        (["--initial-weights", "bundled", "--mean", "0.5,0.5,0.5"], "--std"),
        (["--initial-weights", "bundled", "--initial-model", "resnet18"], "resnet18"),
        (["--recipe", "distill", "--teacher", "resnet18"], "resnet18"),
        (["--recipe", "distill", "--teacher", ""], "''"),
    ],
)
def test_options_that_do_not_fit_together_are_wrong_usage(asked, given, told):
    result = invoke("resnet32", *given)
    assert result.exit_code == 2
    assert told in result.stderr
    assert asked == []


def test_teachers_are_the_named_ones_each_once_or_those_that_training_takes_by_default(asked):
    given = ("resnet32", "--dataset", "cifar100", "--recipe", "distill")
    assert invoke(*given).exit_code == 0
    assert invoke(*given, *(f"--teacher={model}" for model in ("resnet20", "resnet56", "resnet20"))).exit_code == 0
    named = tuple(NamedWeights("bundled", NETWORKS[f"cifar100_{model}"]) for model in ("resnet20", "resnet56"))
    assert [options.teachers for options in asked] == [None, named]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--recipe", "quick", "--teacher", "resnet20"], "quick does not"),
        (["--recipe", "distill", "--holdout"], "--holdout sets aside"),
        (["--recipe", "quick", "--holdout", "--initial-weights", "bundled"], "--holdout sets aside"),
        (["--initial-weights", "no/such/file.pt"], "no/such/file.pt"),
    ],
)
def test_what_training_refuses_is_wrong_usage_before_the_data_is_looked_for(given, told, tmp_path):
    result = invoke("resnet20", "--data-dir", str(tmp_path / "none"), *given)
    assert result.exit_code == 2, result.output
    assert told in result.stderr
    assert result.stderr.count("\n") <= 2


def test_what_training_has_to_say_is_a_note_on_stderr(monkeypatch):
    def says(options, on_progress, on_note):
        on_note("the run begins anew.")

    monkeypatch.setattr(run, "train", says)
    result = invoke("resnet20", "--json")
    assert (result.stdout, result.stderr) == ("", "note: the run begins anew.\n")


def test_refusals_of_this_command_are_json_too():
    result = invoke("resnet20", "--teacher", "resnet20", "--json")
    assert result.exit_code == 2
    assert "quick does not" in json.loads(result.stdout)["error"]


def test_pruning_can_be_turned_off(asked):
    assert invoke("resnet20", "--prune", "0").exit_code == 0
    assert asked[0].recipe == replace(QUICK, prune=0.0)
    assert invoke("resnet20", "--prune", "1").exit_code == 2


def test_by_default_the_quick_recipe_trains_in_a_folder_named_after_it(asked):
    assert invoke("resnet20").exit_code == 0
    assert asked[0].recipe == QUICK
    assert asked[0].folder == Path("artifacts/runs/cifar10_resnet20-quick-seed0")


def test_people_read_epochs_on_stderr_and_the_result_on_stdout(asked):
    result = invoke("resnet20")
    for expected in ("epoch   1/2", "loss 2.500", "41.00 %", "top-1 43.25 %", "3 min left"):
        assert expected in result.stderr
    for expected in (
        "68.50 % of the test images",
        "62 min on a CPU, 2 threads, in float32",
        "there/weights.safetensors",
    ):
        assert expected in result.stdout
    assert "epoch" not in result.stdout


def test_json_is_one_document(asked):
    document = json.loads(invoke("resnet20", "--json").stdout)
    assert (document["top1"], document["sha256"], document["weights"]) == (68.5, "ab" * 32, "there/weights.safetensors")


@pytest.mark.parametrize("name", PRESETS)
def test_show_recipe_trains_nothing(asked, name):
    shown = invoke("resnet20", "--recipe", name, "--epochs", "5", "--show-recipe", "--json")
    assert json.loads(shown.stdout) == PRESETS[name].with_changes(epochs=5).as_dict()
    assert "label_smoothing" in invoke("resnet20", "--recipe", name, "--show-recipe").stdout
    assert asked == []


def test_show_recipe_needs_no_torch():
    code = (
        "import sys, cifar_export.__main__ as cli\n"
        "cli.main(['train', 'resnet20', '--show-recipe', '--json'], standalone_mode=False)\n"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("number", ["0", "-1", "many"])
def test_epochs_must_be_a_positive_number(asked, number):
    assert invoke("resnet20", "--epochs", number).exit_code == 2
    assert asked == []


def test_other_processes_of_torchrun_print_nothing(monkeypatch):
    monkeypatch.setattr(run, "train", lambda options, on_progress, on_note: None)
    result = invoke("resnet20")
    assert (result.exit_code, result.output) == (0, "")


def test_ctrl_c_says_where_to_go_on(monkeypatch, tmp_path):
    def interrupted(options, on_progress, on_note):
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "train", interrupted)
    given = ("resnet20", "--output", str(tmp_path))
    result = invoke(*given)
    assert result.exit_code == 130
    assert result.stderr == "interrupted: no epoch was complete, so there is nothing to resume.\n"
    (tmp_path / CHECKPOINT).touch()
    result = invoke(*given)
    assert result.exit_code == 130
    assert result.stderr == "interrupted: --resume continues at the last checkpoint.\n"


def test_a_diverged_run_is_an_error_of_one_or_two_lines(monkeypatch):
    def diverged(options, on_progress, on_note):
        raise GateFailed("the loss became nan in epoch 3.")

    monkeypatch.setattr(run, "train", diverged)
    result = invoke("resnet20")
    assert (result.exit_code, result.stderr) == (1, "error: the loss became nan in epoch 3.\n")


def test_more_threads_than_any_machine_has_are_refused(asked):
    result = invoke("resnet20", "--threads", "99999999999")
    assert result.exit_code == 2
    assert "4096" in result.stderr
    assert asked == []


def test_a_checkpoint_to_start_from_is_read_as_it_was_asked(asked):
    options = ["--initial-weights", "x.pt", "--key", "ema", "--shortcut", "pad-end"]
    assert invoke("resnet20", *options).exit_code == 0
    assert asked[-1].initial == NamedWeights("x.pt", NETWORKS["cifar10_resnet20"], None, "ema", "pad-end")
