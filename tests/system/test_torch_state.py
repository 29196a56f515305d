"""What torch says of itself while it traces is not said to the user."""

from __future__ import annotations

import pytest
from torch.utils._pytree import LeafSpec

from cifar_export.system.torch_state import tracing


def test_what_torch_says_of_its_own_copies_is_not_heard_while_it_traces() -> None:
    """torch 2.11's torch.export copies and pickles such objects at every export."""
    with pytest.warns(FutureWarning, match="treespec"):
        LeafSpec()
    with tracing():
        LeafSpec()  # warnings are errors here
