"""Weights of whoever packages: converted, measured, and described without figures or a license of others."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
import yaml

from cifar_export import load
from cifar_export.errors import GateFailed, InvalidInput
from cifar_export.formats import format_of
from cifar_export.networks.labels import read_labels
from cifar_export.networks.zoo import NetworkSpec, Normalization, model, named
from cifar_export.release.build.network import build_network
from cifar_export.release.build.own import Own, prepare
from cifar_export.release.check.verify import verify
from cifar_export.release.documents.card import render_card
from cifar_export.release.documents.config import own_accuracy
from cifar_export.release.documents.sbom import license_of
from cifar_export.weights.core import Weights
from cifar_export.weights.foreign import Reading
from cifar_export.weights.native import save_weights
from cifar_export.weights.seeded import random_weights
from cifar_export.weights.sources import load_weights

from support.paths import ROOT
from support.releases import fake_network
from support.seeded_network import bundled_in, test_images

test_images.__test__ = False  # type: ignore[attr-defined]
SPEC = named("cifar100_resnet8")
NORMALIZATION = Normalization((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
CONFIG_SCHEMA = json.loads((ROOT / "docs/schemas/config-3.json").read_text(encoding="utf-8"))


def documents(folder: Path) -> list[dict[str, Any]]:
    """`config.json` and `parity.json`."""
    return [json.loads((folder / name).read_text(encoding="utf-8")) for name in ("config.json", "parity.json")]


@pytest.fixture
def foreign(tmp_path: Path) -> Weights:
    """Somebody's checkpoint: two state dicts, a prefix, no shortcuts."""
    state = {f"module.{key}": t for key, t in random_weights(SPEC, 1).state.items() if "downsample" not in key}
    torch.save({"net": state, "ema": state}, tmp_path / "theirs.pt")
    reading = Reading("net", "pad-end")
    return load_weights(SPEC, str(tmp_path / "theirs.pt"), NORMALIZATION, reading=reading)


def test_the_release_says_whose_they_are_and_what_was_converted(foreign: Weights, tmp_path: Path) -> None:
    folder = tmp_path / SPEC.name
    folder.mkdir()
    own = prepare(Own(foreign, "MIT", test_images()), tmp_path)
    assert own.entry.metrics["images"] == len(test_images().images)
    with bundled_in(tmp_path):  # nothing is bundled there: what is built is what is given
        build_network(SPEC, "1.0.0", folder, test_images(), own=own)
    assert verify(folder).problems == []
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    jsonschema.validate(config, CONFIG_SCHEMA)
    assert config["weights"]["source"] == "file"
    assert config["weights"]["origin"] == {
        "sha256": foreign.sha256,
        "key": "net",
        "changes": list(foreign.changes),
        "license": "MIT",
    }
    assert config["normalization"] == NORMALIZATION.as_dict()
    assert config["accuracy"]["reference"] is None
    assert license_of(config) == "MIT"
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "\nlicense: mit\n" in card
    assert "MIT, as whoever made this release states it" in card
    assert foreign.sha256 in card
    assert all(f"- {change}" in card for change in foreign.changes)
    for word in ("BSD-3-Clause", "CIFAR-pretrained-models", "epochs", "Nobody has published"):
        assert word not in card
    loaded = load_weights(SPEC, str(folder / "model.safetensors"))
    assert all(torch.equal(loaded.state[key], tensor) for key, tensor in foreign.state.items())


def test_a_license_that_nobody_stated_is_not_made_up(foreign: Weights, tmp_path: Path) -> None:
    assert prepare(Own(foreign), tmp_path).entry.provenance["origin"]["license"] is None
    assert license_of({"weights": {"origin": {"license": None}}}) is None
    assert license_of({"weights": {}}) == "BSD-3-Clause"


@pytest.mark.parametrize("license", ["", "my own", "MIT\nevil: yes", "MIT AND"])
def test_what_is_no_spdx_expression_is_refused(license: str, foreign: Weights) -> None:
    with pytest.raises(InvalidInput, match="no SPDX expression"):
        Own(foreign, license)
    Own(foreign, "Apache-2.0 OR MIT")


def stating(tmp_path: Path, top1: float, images: str = "test") -> Weights:
    """Weights whose file states an accuracy."""
    claim = replace(random_weights(SPEC, 1), metrics={"top1": top1, "top5": 100.0, "images": images})
    save_weights(tmp_path / "w.safetensors", claim)
    return load_weights(SPEC, str(tmp_path / "w.safetensors"))


def test_a_figure_that_the_file_states_must_be_true_to_an_image(tmp_path: Path) -> None:
    measured = prepare(Own(random_weights(SPEC, 1), split=test_images()), tmp_path).entry.top1
    one = 100 / len(test_images().images)
    assert prepare(Own(stating(tmp_path, measured + one), split=test_images()), tmp_path).entry.top1 == measured
    for wrong in (measured + 2 * one, 99.0):
        with pytest.raises(GateFailed, match=r"states a top-1 of .* %, but .* was measured"):
            prepare(Own(stating(tmp_path, wrong), split=test_images()), tmp_path)


@pytest.mark.parametrize(
    ("images", "accuracy", "said"),
    [
        ("test", {"top1": 61.5, "top5": 100.0, "source": "stated"}, "Top-1 61.50 %, top-5 100.00 % of the test images"),
        ("held out", {"top1": None, "top5": None, "source": "unknown"}, "Unknown: the file of the weights states none"),
    ],
)
def test_without_test_images_the_card_says_what_the_file_states_or_that_nothing_is_known(
    tmp_path: Path, images: str, accuracy: dict[str, object], said: str
) -> None:
    entry = prepare(Own(stating(tmp_path, 61.5, images)), tmp_path).entry
    config, parity = documents(fake_network(tmp_path / "cifar100_resnet20", "cifar100_resnet20"))
    config |= {"accuracy": own_accuracy(entry), "weights": config["weights"] | {"source": "file"} | entry.provenance}
    nothing = {"images": None, "below_reference": False, "reference": None, "runtimes": {}}
    assert config["accuracy"] == accuracy | nothing
    jsonschema.validate(config, CONFIG_SCHEMA)
    card = render_card(config, parity)
    assert said in card
    assert "model-index" not in card
    assert "was run on `model.onnx` when this release was made, and had to agree" not in card


def test_a_network_of_ones_own_labels_is_released_verified_fetched_and_loaded(run, tmp_path: Path) -> None:
    labels = ("null", "<b>sea</b>", "Ärger", "red *disc*")
    (tmp_path / "my-2_labels.txt").write_text("\n".join(labels), encoding="utf-8")
    own = NetworkSpec(model("resnet8"), read_labels(tmp_path / "my-2_labels.txt"))
    torch.save(random_weights(own, 3).state, tmp_path / "theirs.pt")
    given = ["--weights", tmp_path / "theirs.pt", "--labels", tmp_path / "my-2_labels.txt"]
    normalization = ["--mean", "0.5,0.5,0.5", "--std", "0.25,0.25,0.25"]
    with bundled_in(tmp_path):
        result = run(
            "package", "resnet8", *given, *normalization, "--version", "1.0.0", "--output", tmp_path, "--no-cache"
        )
    assert result.exit_code == 0, result.stderr
    assert "there are no test images of my-2_labels here" in result.stderr
    release = tmp_path / "1.0.0"
    deep = run("verify", release, "--deep")
    assert deep.exit_code == 0, deep.stdout
    assert run("fetch", own.name, "--release", release, "--output", tmp_path / "got").exit_code == 0
    folder = tmp_path / "got" / own.name
    config, parity = documents(folder)
    jsonschema.validate(config, CONFIG_SCHEMA)
    jsonschema.validate(parity, json.loads((ROOT / "docs/schemas/release-parity-3.json").read_text(encoding="utf-8")))
    assert (config["labels"], config["accuracy"]["source"]) == (list(labels), "unknown")
    assert (folder / "labels.txt").read_text(encoding="utf-8").splitlines() == list(labels)
    for file in ("model.onnx", "model-uint8.onnx", "model.torchscript.pt", "model.pt2"):
        assert (format_of(folder / file).load().inspect(folder / file).metadata or {})["labels"] == list(labels)
    card = (folder / "README.md").read_text(encoding="utf-8")
    header = yaml.safe_load(card.split("---\n")[1])
    assert "datasets" not in header
    assert "null, \\<b\\>sea\\</b\\>, Ärger, red \\*disc\\*" in card
    for word in ("CIFAR-pretrained-models", "BSD-3-Clause", "Northcutt", "uoft-cs", "photographs"):
        assert word not in card
    loaded = load(own.name, release)
    assert loaded.labels == labels
    assert loaded.predict(np.zeros((1, 32, 32, 3), np.uint8)).probabilities.shape == (1, 4)
    assert loaded.weights().network.name == own.name
    answer = run("predict", folder, ROOT / "examples" / "samples" / "ship.png", "--json")
    assert {guess["label"] for guess in json.loads(answer.stdout)[0]["top"]} == set(labels)
    merged = run("merge", release, "--output", tmp_path / "merged")
    assert merged.exit_code == 0, merged.stderr
    assert (tmp_path / "merged/1.0.0/SHA256SUMS").read_bytes() == (release / "SHA256SUMS").read_bytes()


def test_the_command_wants_one_network_and_a_file(run, tmp_path: Path) -> None:
    torch.save(random_weights(SPEC, 1).state, tmp_path / "x.pt")
    (tmp_path / "few.txt").write_text("a\nb\n")
    (tmp_path / "a.onnx").write_bytes(b"")
    weights, output = ["--weights", tmp_path / "x.pt"], tmp_path / "releases"
    for options, message in [
        (weights, "packaged for one network"),
        (["resnet20", "resnet32", *weights], "packaged for one network"),
        (["resnet8", *weights], "does not say which classes it knows. Add --dataset, or --labels FILE"),
        (["resnet8", "--labels", tmp_path / "few.txt"], "--labels is for weights of yours"),
        (["cifar100_resnet8", "--labels", tmp_path / "few.txt", *weights], "says its classes itself"),
        (["resnet20", "--dataset", "cifar10", "--weights", "upstream"], "only a file can be packaged"),
        (["resnet20", "--dataset", "cifar10", "--license", "MIT"], "--license is for weights of yours"),
        (["--only", "cifar10_resnet20", "--key", "ema"], "--key is for weights of yours"),
        (["cifar10_resnet20", "--dataset", "cifar100"], "cifar10_resnet20 says cifar10, and --dataset says cifar100"),
        (["--dataset", tmp_path], "no weights of"),
        ([tmp_path], "it has no weights.safetensors or model.safetensors"),
        ([tmp_path / "a.onnx"], "a.onnx"),
    ]:
        result = run("package", *options, "--version", "1.0.0", "--output", output)
        assert result.exit_code == 2, result.stderr
        assert message in result.stderr
    assert not output.exists()


def test_a_test_set_named_in_vain_is_not_passed_over(run, tmp_path: Path) -> None:
    torch.save(random_weights(SPEC, 1).state, tmp_path / "x.pt")
    given = ["cifar100_resnet8", "--weights", tmp_path / "x.pt", "--mean", "0.5,0.5,0.5", "--std", "0.25,0.25,0.25"]
    result = run("package", *given, "--version", "1.0.0", "--data-dir", tmp_path, "--output", tmp_path / "releases")
    assert (result.exit_code, (tmp_path / "releases").exists()) == (3, False)
    assert "no CIFAR-100 in" in result.stderr


def test_a_name_that_no_folder_of_a_release_can_have_is_refused_beforehand(foreign: Weights) -> None:
    for name in ("-x", "x" * 100):
        dataset = replace(SPEC.dataset, name=name)
        with pytest.raises(InvalidInput, match="Give the data set a name"):
            Own(replace(foreign, network=NetworkSpec(SPEC.model, dataset)))
