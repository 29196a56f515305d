"""Weights of whoever packages: converted, measured, and described without figures or a license of others."""

import json
from pathlib import Path

import jsonschema
import pytest
import torch

from cifar_export.errors import GateFailed, InvalidInput
from cifar_export.networks.zoo import Normalization, named
from cifar_export.release.build.network import build_network
from cifar_export.release.build.own import Own, put_into_index
from cifar_export.release.check.verify import verify
from cifar_export.release.documents.sbom import license_of
from cifar_export.weights.core import Weights
from cifar_export.weights.foreign import Reading
from cifar_export.weights.index import bundled_entries
from cifar_export.weights.native import save_weights
from cifar_export.weights.seeded import random_weights
from cifar_export.weights.sources import load_weights

from support.paths import ROOT
from support.seeded_network import bundled_in, test_images

test_images.__test__ = False  # type: ignore[attr-defined]
SPEC = named("cifar100_resnet8")
NORMALIZATION = Normalization((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


@pytest.fixture
def foreign(tmp_path: Path) -> Weights:
    """Somebody's checkpoint: two state dicts, a prefix, no shortcuts."""
    state = {f"module.{key}": t for key, t in random_weights(SPEC, 1).state.items() if "downsample" not in key}
    torch.save({"net": state, "ema": state}, tmp_path / "theirs.pt")
    reading = Reading("net", "pad-end")
    return load_weights(SPEC, str(tmp_path / "theirs.pt"), NORMALIZATION, reading=reading)


def test_the_release_says_whose_they_are_and_what_was_converted(foreign: Weights, tmp_path: Path) -> None:
    index, folder = tmp_path / "index", tmp_path / SPEC.name
    index.mkdir()
    folder.mkdir()
    entry = put_into_index(Own(foreign, "MIT"), test_images(), index)
    assert entry.metrics["images"] == len(test_images().images)
    with bundled_in(tmp_path):  # nothing is bundled there: what is built is what is given
        build_network(SPEC, "1.0.0", folder, test_images(), index=index)
    assert verify(folder).problems == []
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    jsonschema.validate(config, json.loads((ROOT / "docs/schemas/config-1.json").read_text(encoding="utf-8")))
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
    put_into_index(Own(foreign), test_images(), tmp_path)
    assert bundled_entries(tmp_path)[SPEC.name].provenance["origin"]["license"] is None
    assert license_of({"weights": {"origin": {"license": None}}}) is None
    assert license_of({"weights": {}}) == "BSD-3-Clause"


@pytest.mark.parametrize("license", ["", "my own", "MIT\nevil: yes", "MIT AND"])
def test_what_is_no_spdx_expression_is_refused(license: str, foreign: Weights) -> None:
    with pytest.raises(InvalidInput, match="no SPDX expression"):
        Own(foreign, license)
    Own(foreign, "Apache-2.0 OR MIT")


def test_a_figure_that_the_file_states_must_be_true(tmp_path: Path) -> None:
    from dataclasses import replace

    claim = replace(random_weights(SPEC, 1), metrics={"top1": 99.0, "top5": 100.0, "images": "test"})
    save_weights(tmp_path / "w.safetensors", claim)
    weights = load_weights(SPEC, str(tmp_path / "w.safetensors"))
    with pytest.raises(GateFailed, match=r"states a top-1 of 99\.00 %, but .* was measured"):
        put_into_index(Own(weights), test_images(), tmp_path)


def test_the_command_wants_one_network_and_a_file(run, tmp_path: Path) -> None:
    for options, message in [
        (["--weights", "x.pt"], "--weights is for one network"),
        (["resnet20", "--weights", "x.pt"], "--weights is for one network"),
        (["resnet20", "--dataset", "cifar10", "--weights", "upstream"], "only a file can be packaged"),
        (["resnet20", "--dataset", "cifar10", "--license", "MIT"], "--license is for weights of yours"),
        (["--only", "cifar10_resnet20", "--key", "ema"], "--key is for weights of yours"),
    ]:
        result = run("package", *options, "--version", "1.0.0", "--output", tmp_path)
        assert result.exit_code == 2
        assert message in result.stderr
    assert list(tmp_path.iterdir()) == []
