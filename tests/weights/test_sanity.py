"""Weights that float32 cannot run are refused and the layer is named; shortcuts are what was asked for, and said."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from cifar_export.errors import InvalidInput
from cifar_export.networks.zoo import NETWORKS, Normalization
from cifar_export.weights.core import build_network
from cifar_export.weights.foreign import Reading
from cifar_export.weights.seeded import random_weights
from cifar_export.weights.sources import load_weights

RESNET20 = NETWORKS["cifar10_resnet20"]
NORMALIZATION = Normalization((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
STATE = random_weights(RESNET20, 0).state


def test_variances_of_zero_that_blow_up_are_refused_naming_the_layer(tmp_path: Path) -> None:
    state = dict(STATE)
    for key in ("layer1.0.bn1", "layer1.0.bn2", "layer2.1.bn1", "layer2.1.bn2", "layer3.0.bn1", "layer3.0.bn2"):
        state[f"{key}.running_var"] = torch.zeros_like(STATE[f"{key}.running_var"])
        state[f"{key}.weight"] = 3 * torch.ones_like(STATE[f"{key}.weight"])
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(InvalidInput, match=r"float32 cannot run it.*\n?.*layer\d\.\d\.bn\d makes its input") as caught:
        load_weights(RESNET20, str(tmp_path / "w.pt"), NORMALIZATION)
    assert "smallest running_var is 0.0e+00" in str(caught.value)
    assert str(caught.value).count("\n") == 1


def test_a_variance_of_zero_that_does_no_harm_stays(tmp_path: Path) -> None:
    variance = STATE["layer1.0.bn1.running_var"].clone()
    variance[3] = 0.0
    dead = {"layer1.0.bn1.running_var": variance, "layer1.0.bn1.weight": STATE["layer1.0.bn1.weight"].clone()}
    dead["layer1.0.bn1.weight"][3] = 0.0
    torch.save(STATE | dead, tmp_path / "w.pt")
    assert torch.equal(
        load_weights(RESNET20, str(tmp_path / "w.pt"), NORMALIZATION).state["layer1.0.bn1.running_var"], variance
    )


def test_a_scale_that_overflows_is_refused(tmp_path: Path) -> None:
    torch.save(STATE | {"bn1.weight": torch.full((16,), 1e38)}, tmp_path / "w.pt")
    with pytest.raises(InvalidInput, match="float32 cannot run it"):
        load_weights(RESNET20, str(tmp_path / "w.pt"), NORMALIZATION)


class PadEnd(nn.Module):
    """A network of pad-at-the-end shortcuts, written apart from ours; it takes the tensors of ours."""

    @torch.no_grad()
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        def norm(x: torch.Tensor, name: str) -> torch.Tensor:
            s = STATE
            parts = (s[f"{name}.{leaf}"] for leaf in ("running_mean", "running_var", "weight", "bias"))
            return functional.batch_norm(x, *parts)

        x = norm(functional.conv2d(x, STATE["conv1.weight"], padding=1), "bn1").relu()
        for stage in (1, 2, 3):
            for block in range(3):
                name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
                out = norm(functional.conv2d(x, STATE[f"{name}.conv1.weight"], None, stride, 1), f"{name}.bn1").relu()
                out = norm(functional.conv2d(out, STATE[f"{name}.conv2.weight"], None, 1, 1), f"{name}.bn2")
                if stride == 2:
                    x = x[:, :, ::2, ::2]
                    x = torch.cat([x, torch.zeros(len(x), out.shape[1] - x.shape[1], *x.shape[2:])], 1)
                x = (out + x).relu()
        return functional.linear(x.mean((2, 3)), STATE["fc.weight"], STATE["fc.bias"])


def test_the_shortcut_asked_for_is_written_and_said(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save({key: tensor for key, tensor in STATE.items() if "downsample" not in key}, path)
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    expected = PadEnd()(images)

    def logits(shortcut: str | None) -> tuple[torch.Tensor, str]:
        weights = load_weights(RESNET20, str(path), NORMALIZATION, reading=Reading(shortcut=shortcut))
        return build_network(weights)(images), weights.changes[-1]

    end, said = logits("pad-end")
    assert torch.allclose(end, expected, atol=1e-4)
    assert said == "wrote option-A shortcuts as 1x1 convolutions, channels padded at the end"
    both, said = logits("pad-both")
    assert not torch.allclose(both, expected, atol=1e-2)
    assert said.endswith("on both sides")
    assumed, said = logits(None)
    assert torch.equal(assumed, both)
    assert "assumed: --shortcut chooses" in said


def test_shortcuts_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save(STATE, path)
    for name, message in {
        "avg-pool": "average-pool",
        "pad": "no shortcut 'pad'. Known: pad-both, pad-end",
        "pad-end": r"it has shortcuts of its own \(downsample\)",
    }.items():
        with pytest.raises(InvalidInput, match=message):
            load_weights(RESNET20, str(path), NORMALIZATION, reading=Reading(shortcut=name))
