"""The model card: its header, what it says of the network, and that its programs run as they are printed."""

import json
import os
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml
from onnx import numpy_helper

from cifar_export.formats import FileFacts
from cifar_export.networks.zoo import NETWORKS
from cifar_export.release.documents.card import render_card
from cifar_export.release.documents.config import config_document
from cifar_export.release.layout import GOLDEN, MODELS
from cifar_export.weights.index import bundled_entries

from support.consumers import Missing, npm_packages, ort_root, run, tool
from support.releases import NETWORK_FILES, fake_network

WRONG = "these are not the logits that the network should return"


def block(folder, language, containing=""):
    """The one program of that language in the card of `folder`, that contains some text."""
    card = (folder / "README.md").read_text(encoding="utf-8")
    found = re.findall(rf"^```{language}\n(.*?)^```$", card, re.DOTALL | re.MULTILINE)
    (program,) = (text for text in found if containing in text)
    return program


def header(card):
    opening, text, rest = card.split("---\n", 2)
    assert opening == ""
    return yaml.safe_load(text), rest


def documents(folder):
    return [json.loads((folder / name).read_text(encoding="utf-8")) for name in ("config.json", "parity.json")]


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory):
    """The documents of a stand-in network."""

    def make(name="cifar10_resnet20", **accuracy):
        folder = fake_network(tmp_path_factory.mktemp("card") / name, name)
        config, parity = documents(folder)
        config["accuracy"] |= accuracy
        return config, parity

    return make


# What it says.


@pytest.mark.parametrize("name", list(NETWORKS))
def test_the_header_is_what_model_hubs_read(stand_in, name):
    config, parity = stand_in(name)
    data, body = header(render_card(config, parity))
    assert data["license"] == "bsd-3-clause"
    assert (data["library_name"], data["pipeline_tag"], data["metrics"]) == (
        "onnx", "image-classification", ["accuracy"]
    )  # fmt: skip
    assert data["datasets"] == [f"uoft-cs/{config['dataset']}"]
    assert {"onnx", "safetensors", config["dataset"]} <= set(data["tags"])
    (entry,) = data["model-index"]
    (result,) = entry["results"]
    assert entry["name"] == name
    assert result["task"]["type"] == "image-classification"
    assert result["dataset"]["type"] in data["datasets"]
    assert result["dataset"]["split"] == "test"
    assert [(metric["type"], metric["value"]) for metric in result["metrics"]] == [
        ("accuracy", 0.9),
        ("accuracy", 0.99),
    ]
    assert body.lstrip().startswith(f"# {name}\n")


def test_a_network_below_the_published_figure_says_so_with_the_figure(stand_in):
    reference = NETWORKS["cifar10_resnet20"].reference.top1
    card = render_card(*stand_in(top1=reference - 0.47, below_reference=True))
    assert "**These weights are below the published figure: top-1 is 0.47 points lower.**" in card
    assert f"| {reference:.2f} |" in card
    card = render_card(*stand_in(top1=reference + 0.5, below_reference=False))
    assert "below the published" not in card
    assert "top-1 is 0.50 points above it" in card


def test_only_measured_accuracy_is_listed(stand_in):
    config, parity = stand_in(runtimes={"onnxruntime-cpu": {"top1": 91.25, "top5": 99.0}})
    card = render_card(config, parity)
    assert "| onnxruntime-cpu | 91.25 | 99.00 |" in card
    assert "`pytorch`" not in card
    assert "| pytorch |" in render_card(*stand_in())


def test_the_input_contract_has_the_networks_own_normalization(stand_in):
    config, parity = stand_in()
    config["normalization"] = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    assert "mean 0.1, 0.2, 0.3; std 0.4, 0.5, 0.6" in render_card(config, parity)


def test_people_among_the_classes_are_mentioned_where_there_are_any(stand_in):
    assert "boy" in render_card(*stand_in("cifar100_resnet20"))
    assert "boy" not in render_card(*stand_in("cifar10_resnet20"))


def test_an_index_that_knows_little_of_the_training_is_enough(stand_in):
    config, parity = stand_in()
    config["weights"] |= {"recipe": {"name": "theirs", "epochs": 3}, "seed": None, "training": {}}
    card = render_card(config, parity)
    assert "3 epochs" in card
    assert "seed None" not in card
    assert "Trained on" not in card


def test_weights_that_training_started_from_are_named(stand_in):
    config, parity = stand_in()
    assert "started from" not in render_card(config, parity)
    assert "epochs in all" not in render_card(config, parity)
    config["weights"]["training"]["initial"] = {"network": "cifar10_resnet32", "sha256": "0123456789" + "ab" * 27}
    config["weights"]["training"]["earlier_runs"] = [{"epochs": 40}, {"epochs": 24}]
    config["weights"]["recipe"] |= {"epochs": 3}
    card = render_card(config, parity)
    assert "It started from the weights of cifar10_resnet32 (sha256 01234567), trained before." in card
    assert "It is the last of 3 runs, with 67 epochs in all; what follows is of this one." in card


def test_the_parts_of_a_run_that_was_resumed_elsewhere_are_named(stand_in):
    config, parity = stand_in()
    assert "Trained on a processor, in float32, for 1 minutes." in render_card(config, parity)
    config["weights"]["training"]["parts"] = [
        {"epochs": 76, "seconds": 710.9, "hardware": "NVIDIA H100", "precision": "bf16"},
        {"epochs": 6, "seconds": 3267.6, "hardware": "AMD EPYC, 1 thread", "precision": "float32"},
    ]
    card = render_card(config, parity)
    assert (
        "It was trained in parts: 76 epochs on NVIDIA H100, in bf16, for 12 minutes; then 6 epochs on AMD EPYC, 1 "
        "thread, in float32, for 54 minutes.\n\n## License"
    ) in card
    assert "Trained on" not in card


@pytest.mark.parametrize("name", list(NETWORKS))
def test_the_story_of_every_bundled_network_can_be_told(stand_in, name):
    config, parity = stand_in(name)
    facts = {file: FileFacts(kind, variant, None) for file, (kind, variant, _) in MODELS.items()}
    real = config_document(bundled_entries()[name], NETWORKS[name], "1.0.0", facts, dict.fromkeys(GOLDEN, 0.0))
    assert "## Training" in render_card(real | {"models": config["models"]}, parity)


def test_teachers_are_named(stand_in):
    config, parity = stand_in()
    assert "average answers" not in render_card(config, parity)
    config["weights"]["recipe"] |= {"distill": 0.9}
    config["weights"]["training"]["teachers"] = [
        {"network": "cifar10_resnet32", "sha256": "0123456789" + "ab" * 27},
        {"network": "cifar10_resnet44", "sha256": "fedcba9876" + "ab" * 27},
    ]
    assert (
        "Its targets were the labels (10 %) and the average answers (90 %) of cifar10_resnet32 (sha256 01234567), "
        "cifar10_resnet44 (sha256 fedcba98)."
    ) in render_card(config, parity)


@pytest.mark.parametrize(
    ("recipe", "told"),
    [
        ({}, "The weights are those of the last epoch;"),
        ({"ema_decay": 0.9}, "The weights are a moving average after the last epoch;"),
        ({"average_from": 0.25}, "The weights are the average of those after each of the last epochs;"),
        ({"prune": 0.75}, "was left out with probability 0.75\nand counted 4 times where it stayed."),
    ],
    ids=["last", "moving average", "average of epochs", "pruned"],
)
def test_what_the_weights_are_and_which_images_trained_them_is_told(stand_in, recipe, told):
    config, parity = stand_in()
    config["weights"]["recipe"] = {"name": "any", "epochs": 3} | recipe
    card = render_card(config, parity)
    assert told in card
    assert ("was left out" in card) == ("prune" in recipe)
    assert "| distill |" not in card  # what a recipe of an older version did not say
    assert "\n\n\n" not in card.replace("\n\n\n#include", "")


def test_every_file_is_in_its_table(built_network):
    card = (built_network.folder / "README.md").read_text(encoding="utf-8")
    for name in set(NETWORK_FILES) - {"README.md"}:
        shown = f"{name.rpartition('/')[0]}/" if name.endswith(".pb") else name
        assert re.search(rf"^\| `{re.escape(shown)}` \| .+ \|$", card, re.MULTILINE), name


def test_it_is_tidy(built_network):
    text = (built_network.folder / "README.md").read_bytes()
    lines = text.decode().split("\n")
    assert b"\r" not in text
    assert "\n\n\n" not in text.decode().replace("\n\n\n#include", "")
    assert not [line for line in lines if line != line.rstrip()]
    assert not re.search(r"\{\{|\}\}|\{%|None|nan|Undefined", text.decode())


# Its programs.


def python(folder, scratch):
    program = scratch / "run.py"
    program.write_text(block(folder, "python"), encoding="utf-8")
    return [sys.executable, "-W", "error", program]


def javascript(folder, scratch):
    (scratch / "node_modules").symlink_to(npm_packages("node") / "node_modules")
    program = scratch / "run.mjs"
    program.write_text(block(folder, "js"), encoding="utf-8")
    return [tool("node"), program]


def cpp(folder, scratch):
    tool("g++")
    environment = {**os.environ, "ORT_ROOT": ort_root()}
    (scratch / "run.cpp").write_text(block(folder, "cpp"), encoding="utf-8")
    built = run(tool("sh"), "-c", block(folder, "sh", "g++"), cwd=scratch, env=environment)
    assert (built.returncode, built.stdout + built.stderr) == (0, "")
    return [scratch / "run"]


@pytest.fixture(scope="module", params=[python, javascript, cpp], ids=lambda make: make.__name__)
def program(request, built_network, tmp_path_factory):
    try:
        return request.param(built_network.folder, tmp_path_factory.mktemp("program"))
    except Missing as error:
        pytest.skip(str(error))


def golden(folder):
    tensor = onnx.TensorProto.FromString((folder / GOLDEN["model-uint8.onnx"] / "output_0.pb").read_bytes())
    return numpy_helper.to_array(tensor)


def test_a_program_prints_the_classes_of_the_golden_images(program, built_network):
    done = run(*program, cwd=built_network.folder)
    labels = (built_network.folder / "labels.txt").read_text().splitlines()
    expected = [labels[best] for best in golden(built_network.folder).argmax(axis=1)]
    assert (done.returncode, done.stdout.split("\n")[:-1]) == (0, expected), done.stderr
    assert len(set(expected)) > 1


def test_a_program_refuses_other_logits(program, built_network, tmp_path):
    folder = shutil.copytree(built_network.folder, tmp_path / "network")
    file = folder / GOLDEN["model-uint8.onnx"] / "output_0.pb"
    logits = golden(folder).copy()
    logits[-1, -1] += np.float32(1e-3)
    data = file.read_bytes()
    file.write_bytes(data[: -logits.nbytes] + logits.tobytes())
    done = run(*program, cwd=folder)
    assert (done.returncode, WRONG in done.stderr) == (1, True), done.stderr


def test_the_checksums_are_checked_as_printed(built_network, tmp_path):
    check = block(built_network.folder, "sh", "sha256sum")
    try:
        tool("sha256sum")
    except Missing as error:
        pytest.skip(str(error))
    folder = shutil.copytree(built_network.folder, tmp_path / "network")
    done = run(tool("sh"), "-c", check, cwd=folder)
    assert (done.returncode, done.stdout) == (0, "")
    Path(folder, "labels.txt").write_text("cat\n")
    assert run(tool("sh"), "-c", check, cwd=folder).returncode == 1


def test_the_interval_is_that_of_the_test_images(stand_in):
    # Wilson's of 9,000 in 10,000 and of 90 in 100
    card = render_card(*stand_in(top1=90.0, images=10000))
    assert "top-1 anywhere from 89.40 to 90.57 % (95 % score interval, Wilson 1927)" in card
    assert "classes, top-1 90.00 % (89.40–90.57). Release" in card
    assert "from 82.56 to 94.48 %" in render_card(*stand_in(top1=90.0, images=100))


@pytest.mark.parametrize(
    ("training", "told", "not_told"),
    [
        ({}, "It was not planned: of finished runs, the one with the best top-1", "the one run of its plan"),
        ({"plan": "a.json", "runs_evaluated": None}, "which was written after it and says so", "not planned"),
        ({"plan": "a.json", "runs_evaluated": 2}, "for such plans, this one included: 2.", "written after it"),
    ],
    ids=["no plan", "afterwards", "before"],
)
def test_how_the_weights_were_chosen_is_told(stand_in, training, told, not_told):
    config, parity = stand_in()
    config["weights"]["training"] |= training
    card = render_card(config, parity)
    assert told in card
    assert not_told not in card
    assert "\n\n\n" not in card.replace("\n\n\n#include", "")
