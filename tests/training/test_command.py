"""`cifar-export train`: what is asked of the library, and what is printed."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from cifar_export import __main__ as cli
from cifar_export.errors import GateFailed
from cifar_export.networks.zoo import MODELS, NETWORKS
from cifar_export.training import run
from cifar_export.training.loop import Progress
from cifar_export.training.recipe import PRESETS, QUICK
from cifar_export.weights.index import bundled_entries

RESULT = run.TrainingResult(
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
)
EPOCH = {"epoch": 1, "loss": 2.5, "train_top1": 41.0, "top1": 43.25, "top5": 70.5, "images_per_second": 800.0}


@pytest.fixture
def asked(monkeypatch):
    """Options that the command asked for; a stand-in reports one epoch and a result."""
    seen: list[run.Options] = []

    def stand_in(options, on_progress, on_note):
        seen.append(options)
        on_progress(Progress(1, 2, 390, 390, 800.0, 200.0, EPOCH))
        return RESULT

    monkeypatch.setattr(run, "train", stand_in)
    return seen


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
    for given, network in (([], "cifar100_resnet32"), (["--initial-model", "resnet20"], "cifar100_resnet20")):
        result = invoke("resnet32", "--dataset", "cifar100", "--initial-weights", "bundled", *given)
        assert result.exit_code == 0, result.output
        assert asked[-1].network.name == "cifar100_resnet32"
        assert asked[-1].initial.network.name == network
        assert asked[-1].initial.sha256 == bundled_entries()[network].sha256


@pytest.mark.parametrize(
    ("given", "code", "told"),
    [
        (["--initial-model", "resnet20"], 2, "--initial-weights"),
        (["--mean", "0,0,0", "--std", "1,1,1"], 2, "--initial-weights"),
        (["--initial-weights", "no/such/file.pt"], 2, "no/such/file.pt"),
        (["--initial-weights", "bundled", "--mean", "0.5,0.5,0.5"], 2, "--std"),
        (["--initial-weights", "bundled", "--initial-model", "resnet18"], 2, "resnet18"),
    ],
)
def test_initial_weights_that_cannot_be_had_are_an_error_before_training(asked, given, code, told):
    result = invoke("resnet32", *given)
    assert result.exit_code == code
    assert told in result.stderr
    assert asked == []


def test_published_weights_of_another_normalization_are_refused_before_they_are_downloaded(asked, monkeypatch):
    monkeypatch.setenv("CIFAR_EXPORT_UPSTREAM_URL", "http://127.0.0.1:9")  # nobody answers there
    upstream = ("resnet20", "--dataset", "cifar100", "--initial-weights", "upstream")
    result = invoke(*upstream)
    assert (result.exit_code, asked) == (2, [])
    assert "0.2673" in result.stderr
    assert "0.2009" in result.stderr
    result = invoke(*upstream, "--initial-model", "resnet56")
    assert (result.exit_code, asked) == (2, [])
    assert "cifar100_resnet56, which is deeper" in result.stderr
    own = NETWORKS["cifar100_resnet20"].dataset.normalization  # who insists gets as far as the download
    given = [f"--{name}={','.join(map(str, getattr(own, name)))}" for name in ("mean", "std")]
    assert (invoke(*upstream, *given).exit_code, asked) == (3, [])


def test_a_checkpoint_that_does_not_say_its_normalization_is_told_it(asked, tmp_path, weights20):
    import torch

    path = tmp_path / "foreign.pt"
    torch.save(weights20.state, path)
    given = ("resnet20", "--dataset", weights20.network.dataset.name, "--initial-weights", str(path))
    refused = invoke(*given)
    assert (refused.exit_code, asked) == (2, [])
    assert "--mean R,G,B and --std R,G,B" in refused.stderr
    expected = weights20.network.dataset.normalization
    options = [f"--{name}={','.join(map(str, getattr(expected, name)))}" for name in ("mean", "std")]
    assert invoke(*given, *options).exit_code == 0
    assert asked[0].initial.normalization == expected


def test_teachers_are_all_bundled_networks_of_the_data_set_or_the_named_ones(asked):
    some = ["--teacher", "resnet20", "--teacher", "resnet56", "--teacher", "resnet20"]
    for given, models in (([], MODELS), (some, ("resnet20", "resnet56"))):
        result = invoke("resnet32", "--dataset", "cifar100", "--recipe", "distill", *given)
        assert result.exit_code == 0, result.output
        names = [f"cifar100_{model}" for model in models]
        assert [teacher.network.name for teacher in asked[-1].teachers] == names
        assert [teacher.sha256 for teacher in asked[-1].teachers] == [bundled_entries()[name].sha256 for name in names]


def test_a_run_that_is_resumed_needs_no_teachers(asked, tmp_path):
    given = ("resnet20", "--recipe", "distill", "--resume", "--output", str(tmp_path))
    assert invoke(*given).exit_code == 0
    assert len(asked[-1].teachers) == len(MODELS)  # there is no checkpoint: the run begins anew
    (tmp_path / run.CHECKPOINT).touch()
    assert invoke(*given).exit_code == 0
    assert asked[-1].teachers == ()
    assert invoke(*given, "--teacher", "resnet20").exit_code == 0
    assert len(asked[-1].teachers) == 1


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--recipe", "quick", "--teacher", "resnet20"], "quick does not"),
        (["--recipe", "distill", "--teacher", "resnet18"], "resnet18"),
        (["--recipe", "distill", "--teacher", ""], "''"),
        (["--recipe", "distill", "--holdout"], "it would report too much"),
        (["--recipe", "quick", "--holdout", "--initial-weights", "bundled"], "it would report too much"),
        (["--recipe", "quick", "--holdout", "--initial-weights", "upstream"], "it would report too much"),
    ],
)
def test_teachers_that_cannot_be_had_or_know_too_much_are_wrong_usage(asked, monkeypatch, given, told):
    monkeypatch.setenv("CIFAR_EXPORT_UPSTREAM_URL", "http://127.0.0.1:9")  # nobody answers there
    result = invoke(
        "resnet20", *(["--initial-weights", "upstream"] if "--initial-weights" not in given else []), *given
    )
    assert (result.exit_code, asked) == (2, [])
    assert told in result.stderr


def test_held_out_images_are_unknown_to_initial_weights_or_they_are_refused(asked, tmp_path, weights20):
    from cifar_export.weights.native import save_weights

    given = ("resnet20", "--holdout", "--initial-weights", str(tmp_path / "weights.safetensors"))
    for images, code in (("test", 2), (run.HELD_OUT, 0)):
        save_weights(tmp_path / "weights.safetensors", replace(weights20, metrics={"top1": 1.0, "images": images}))
        result = invoke(*given)
        assert (result.exit_code, len(asked)) == (code, 1 - code // 2), result.output
        assert ("it would report too much" in result.stderr) == (code == 2)


@pytest.mark.parametrize("name", PRESETS)
def test_recipes_for_trained_weights_say_so_when_they_begin_with_random_ones(asked, tmp_path, name):
    given = ("resnet20", "--recipe", name, "--output", str(tmp_path))
    wanted = name in ("restart", "swa", "distill")
    assert ("note: recipe" in invoke(*given).stderr) == wanted
    assert "note: recipe" not in invoke(*given, "--initial-weights", "bundled").stderr
    (tmp_path / run.CHECKPOINT).touch()
    assert "note: recipe" not in invoke(*given, "--resume").stderr
    assert [options.initial is None for options in asked] == [True, False, True]


def test_refusals_of_this_command_are_json_too(asked):
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
    for expected in ("epoch   1/2", "loss 2.500", "41.00 %", "top-1 43.25 %", "800 images/s", "3 min left"):
        assert expected in result.stderr
    for expected in ("68.50 % of the test images", "62 min on a CPU, 2 threads", "there/weights.safetensors"):
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
    assert result.stderr == "interrupted. No epoch was complete: there is nothing to resume.\n"
    (tmp_path / run.CHECKPOINT).touch()
    result = invoke(*given)
    assert result.exit_code == 130
    assert result.stderr == "interrupted. Continue after the last complete epoch with --resume.\n"


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
