"""How a file is written, of whatever format has a choice."""

from __future__ import annotations

from .litert_choices import LitertChoices
from .onnx_choices import OnnxChoices
from .torch_choices import TorchChoices

Choices = OnnxChoices | LitertChoices | TorchChoices
