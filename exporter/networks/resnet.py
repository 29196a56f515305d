"""The network: ResNets of 6n + 2 layers for 32x32 images, with projection shortcuts.

He et al. 2016, "Deep Residual Learning for Image Recognition", section 4.2, with 1x1 stride-2 convolutions (option B)
where the shape changes. State-dict names are those of chenyaofo/pytorch-cifar-models, whose files load strictly.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..system.torch_state import plain
from .zoo import STAGE_WIDTHS, InputVariant, ModelSpec, NetworkSpec, Normalization


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norm, added to their input (projected where `stride` or the width changes)."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample: nn.Module | None = None
        if stride != 1 or in_channels != channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """`x`: float (batch, in_channels, height, width)."""
        shortcut: Tensor = x if self.downsample is None else self.downsample(x)
        residual: Tensor = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out: Tensor = self.relu(residual + shortcut)
        return out


class ResNet(nn.Module):
    """Normalized RGB images, float (batch, 3, 32, 32), to logits, float (batch, classes).

    `normalization` is what its images are to be normalized with, where that is known.
    """

    normalization: Normalization | None = None

    def __init__(self, model: ModelSpec, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, STAGE_WIDTHS[0], 3, 1, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(STAGE_WIDTHS[0])
        self.relu = nn.ReLU(inplace=True)
        in_channels = STAGE_WIDTHS[0]
        stages = []
        for stage, channels in enumerate(STAGE_WIDTHS):
            blocks = []
            for block in range(model.blocks_per_stage):
                blocks.append(BasicBlock(in_channels, channels, stride=2 if stage > 0 and block == 0 else 1))
                in_channels = channels
            stages.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3 = stages
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(in_channels, classes)
        for module in self.modules():  # as the seed initialises: He et al. 2015, fan out
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, input: Tensor) -> Tensor:
        """Logits of normalized images."""
        x = self.relu(self.bn1(self.conv1(input)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.fc(torch.flatten(self.avgpool(x), 1))
        return logits


class Normalizing(nn.Module):
    """A network behind the normalization of its images, which is then part of it."""

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, network: nn.Module, normalization: Normalization) -> None:
        super().__init__()
        self.network = network
        # Buffers, so that they follow .to(device) and .double().
        shape = (1, 3, 1, 1)
        self.register_buffer("pixel_mean", torch.tensor(normalization.mean, dtype=torch.float64).view(shape))
        self.register_buffer("pixel_std", torch.tensor(normalization.std, dtype=torch.float64).view(shape))
        self.to(next(network.parameters()).dtype)

    def normalized(self, scaled: Tensor) -> Tensor:
        """What the network takes, of images (batch, 3, 32, 32) in 0..1."""
        return (scaled - self.pixel_mean) / self.pixel_std


class Uint8ResNet(Normalizing):
    """RGB pixels 0..255, uint8 (batch, 32, 32, 3), to logits."""

    def forward(self, image: Tensor) -> Tensor:
        """Logits of raw pixels."""
        # contiguous(): without it the exported graph computes shapes at run time
        x = image.permute(0, 3, 1, 2).contiguous().to(self.pixel_mean.dtype)
        logits: Tensor = self.network(self.normalized(x / 255.0))
        return logits


class UnitResNet(Normalizing):
    """RGB images in 0..1, float (batch, 3, 32, 32), as torchvision's ToTensor gives them, to logits."""

    def forward(self, image: Tensor) -> Tensor:
        """Logits of images in 0..1."""
        logits: Tensor = self.network(self.normalized(image))
        return logits


def build(spec: NetworkSpec) -> ResNet:
    """A freshly initialised network in training mode; torch's global generator decides the weights."""
    return ResNet(spec.model, spec.dataset.classes)


@plain()
def with_input(network: nn.Module, variant: InputVariant, normalization: Normalization) -> nn.Module:
    """`network` behind an input contract: `float32` is itself, `uint8` takes pixels, `unit` images in 0..1."""
    behind = _BEHIND.get(variant)
    return behind(network, normalization) if behind else network


_BEHIND = {"uint8": Uint8ResNet, "unit": UnitResNet}
