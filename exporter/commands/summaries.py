"""What one result is, as lines of a name and a value."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .tables import fields

if TYPE_CHECKING:
    from pathlib import Path

    from ..accuracy.evaluation import Evaluation
    from ..accuracy.reduction import Reduction
    from ..data.check import DataReport
    from ..exporting.artifact import Artifact
    from ..gate.divergence import Divergence
    from ..networks.zoo import Normalization
    from ..release.build.package import Published


def artifact_summary(
    artifact: Artifact,
    golden: Path | None = None,
    accuracy: Evaluation | None = None,
    reduction: Reduction | None = None,
) -> None:
    """Print what an export made and how it was proved; `golden` is where its golden vectors are."""
    pairs = [("file", str(artifact.path)), ("sha256", artifact.sha256), ("bytes", f"{artifact.bytes:,}")]
    pairs.append(("input", artifact.input))
    if artifact.opset is not None:
        pairs.append(("opset", f"{artifact.opset} (IR version {artifact.ir_version})"))
    if artifact.choices is not None:
        pairs.append(("written", ", ".join(f"{name} {value}" for name, value in artifact.choices.as_dict().items())))
    pairs += [("beside", str(path)) for path in artifact.beside]
    weights = artifact.weights
    pairs.append(("weights", f"{weights.source}, sha256 {weights.sha256[:8]}"))
    pairs.append(("mean / std", normalization(weights.normalization)))
    if artifact.parity is None:
        pairs.append(("parity", "not checked (--no-check)"))
    for result in artifact.parity.runtimes if artifact.parity else ():
        error = "-" if result.max_abs_error is None else scientific(result.max_abs_error)
        pairs.append(
            ("parity", f"passed: {result.runtime} ({result.provider}), largest error {error} on {result.images} images")
        )
    if accuracy is not None:
        pairs.append(("accuracy", f"top-1 {accuracy.top1:.2f} % on {accuracy.images:,} images ({accuracy.runtime})"))
    if reduction is not None:
        pairs.append((reduction.precision, str(reduction)))
    if golden is not None:
        pairs.append(("golden", str(golden)))
    fields(pairs)


def evaluation_summary(network: str, result: Evaluation) -> None:
    """Print an accuracy."""
    fields(
        [
            ("network", network),
            ("runtime", f"{result.runtime} ({result.provider}), {result.input} input"),
            ("top-1", f"{result.top1:.2f} %"),
            ("top-5", f"{result.top5:.2f} %"),
            ("images", f"{result.images:,} ({result.images_per_second:,.0f} a second)"),
        ]
    )


def data_summary(report: DataReport, note: str = "") -> None:
    """Print what stands in a data folder; `note` says what has just been done about it."""
    from ..data.check import STATES

    pairs = [("data set", report.dataset), ("folder", str(report.data_dir / report.folder))]
    pairs.append(("state", f"{note}; {STATES[report.state]}" if note else STATES[report.state]))
    fields(pairs)


def release_summary(release: Published) -> None:
    """Print what a build or a merge has published."""
    networks = list(release.networks)
    pairs = [("release", str(release.path)), ("networks", f"{len(networks)}: {networks[0]}")]
    pairs += [("", f"   {name}") for name in networks[1:]]
    pairs += [
        ("files", f"{release.files}, {release.bytes:,} bytes"),
        ("sha256", f"{release.sha256} (of SHA256SUMS: what to pin)"),
        ("signed", "yes" if release.signed else "no"),
        ("commit", release.commit or "none: not built in a git checkout"),
        ("created", release.created),
    ]
    fields(pairs)


def divergence(found: Divergence) -> list[tuple[str, str]]:
    """Names and values that tell of the first node of an ONNX file that diverges."""
    pairs = [("first wrong node", f"{found.node} ({found.op})"), ("what", found.reason)]
    if found.inputs:
        within = " (as they should be)" if found.kind == "numbers" else ""
        pairs.append(("inputs", ", ".join(found.inputs) + within))
    for weight in found.weights:
        shape = " x ".join(str(size) for size in weight.shape) or "scalar"
        difference = weight.max_abs_difference
        verdict = "the network's" if difference is None else f"off by up to {difference:.1e}"
        pairs.append(("weight", f"{weight.name}, {shape}: {verdict}"))
    if found.max_abs_error is not None and found.ulp_error is not None:
        pairs.append(("error", f"{found.max_abs_error:.1e}, {found.ulp_error:.3g} ulp of the largest value"))
    return pairs


def normalization(values: Normalization) -> str:
    """Mean and standard deviation, for pixels in 0..1."""
    return " / ".join(" ".join(f"{value:.4f}".lstrip("0") for value in three) for three in (values.mean, values.std))


def scientific(value: float) -> str:
    """A number of which the size matters."""
    return f"{value:.1e}"
