"""The networks with all that is known of them: sizes, bundled weights, measured and published accuracy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from ..networks.counting import Size, size_of
from ..networks.zoo import (
    DATASETS,
    NETWORKS,
    UPSTREAM_NORMALIZATION,
    NetworkSpec,
    Normalization,
    in_order,
    named,
    network,
)
from .index import BundledEntry, bundled_entries


@dataclass(frozen=True)
class CatalogRow:
    """A network, its size, and its bundled weights (None where none are bundled)."""

    spec: NetworkSpec
    size: Size
    bundled: BundledEntry | None

    @property
    def normalization(self) -> Normalization:
        """What the weights that a command would use were trained with: the bundled ones, else upstream's.

        That of the recipes, where there are neither.
        """
        if self.bundled:
            return self.bundled.normalization
        dataset = self.spec.dataset
        return UPSTREAM_NORMALIZATION[dataset.name] if self.spec.upstream_sha256 else dataset.normalization

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
            "weights": "bundled" if bundled else "upstream" if self.spec.upstream_sha256 else None,
            "sha256": bundled.sha256 if bundled else None,
            "top1": bundled.metrics["top1"] if bundled else None,
            "top5": bundled.metrics["top5"] if bundled else None,
            "top1_interval": list(bundled.top1_interval) if bundled else None,
            "plan": bundled.plan if bundled else None,
            "runs_evaluated": bundled.runs_evaluated if bundled else None,
            "below_reference": bundled.below_reference if bundled else None,
            "reference": asdict(self.spec.reference) if self.spec.reference else None,
        }


def catalog(models: Iterable[str] = ()) -> list[CatalogRow]:
    """All eight and those of `models`, CIFAR-10 first, shallow to deep.

    Raises `Unavailable` for a damaged index of bundled weights, and `InvalidInput` for a name that is no model's.
    """
    entries = bundled_entries()
    more = [network(model, dataset).name for model in models for dataset in DATASETS]
    return [CatalogRow(named(name), size_of(named(name)), entries.get(name)) for name in in_order([*NETWORKS, *more])]
