"""Builders of networks that build nothing and tell something of their process, which imports them from here."""

import os
from typing import Any

import torch


def tell_threads(*_: Any, **__: Any) -> dict[str, Any]:
    """How many threads this process has, by torch and for what it starts."""
    return {"torch": torch.get_num_threads(), "started": os.environ["OMP_NUM_THREADS"]}
