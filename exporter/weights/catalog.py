"""The eight networks with all that is known of them: sizes, bundled weights, measured and published accuracy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..networks.counting import Size, size_of
from ..networks.zoo import NETWORKS, UPSTREAM_NORMALIZATION, NetworkSpec, Normalization
from .index import BundledEntry, bundled_entries


@dataclass(frozen=True)
class CatalogRow:
    """A network, its size, and its bundled weights (None where none are bundled)."""

    spec: NetworkSpec
    size: Size
    bundled: BundledEntry | None

    @property
    def normalization(self) -> Normalization:
        """What the weights that a command would use were trained with: the bundled ones, else upstream's."""
        return self.bundled.normalization if self.bundled else UPSTREAM_NORMALIZATION[self.spec.dataset.name]

    def as_dict(self) -> dict[str, Any]:
        """For JSON. Accuracies are percent on the 10,000 test images, `top1_interval` low and high of Wilson's 95 %."""
        bundled = self.bundled
        normalization = self.normalization
        return {
            "network": self.spec.name,
            "model": self.spec.model.name,
            "dataset": self.spec.dataset.name,
            "classes": self.spec.dataset.classes,
            "parameters": self.size.parameters,
            "multiply_adds": self.size.multiply_adds,
            "normalization": normalization.as_dict(),
            "weights": "bundled" if bundled else "upstream",
            "sha256": bundled.sha256 if bundled else None,
            "top1": bundled.metrics["top1"] if bundled else None,
            "top5": bundled.metrics["top5"] if bundled else None,
            "top1_interval": list(bundled.top1_interval) if bundled else None,
            "plan": bundled.plan if bundled else None,
            "runs_evaluated": bundled.runs_evaluated if bundled else None,
            "below_reference": bundled.below_reference if bundled else None,
            "reference": {"top1": self.spec.reference.top1, "top5": self.spec.reference.top5},
        }


def catalog() -> list[CatalogRow]:
    """All eight, CIFAR-10 first, shallow to deep. Raises `Unavailable` for a damaged index of bundled weights."""
    entries = bundled_entries()
    return [CatalogRow(spec, size_of(spec), entries.get(name)) for name, spec in NETWORKS.items()]
