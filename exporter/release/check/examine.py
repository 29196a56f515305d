"""All that can be checked of a release: its files, who signed it, and that its ONNX files do what it says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import GateFailed
from ...system.files import require_file, sha256_bytes
from ...system.outside import read_regular
from ..layout import SIGNATURE, SUMS
from ..signer import Signer
from .checked import check
from .verify import Result, hub_blobs, parse_sums, place, shown

if TYPE_CHECKING:
    from .deep import DeepReport


@dataclass(frozen=True)
class Examined:
    """What was found: `result` with the problems, and all of it in a few words, `verdict`.

    `signer` is whose signature was found valid, None where none was looked for. `deep` is None where nothing was run.
    """

    result: Result
    verdict: str
    signer: Signer | None
    deep: DeepReport | None

    def as_dict(self) -> dict[str, Any]:
        """For JSON: that of the `Result`, with `origin`, `verdict` and `deep`."""
        named = vars(self.signer) if self.signer else {}
        return self.result.as_dict() | {
            "origin": {name: shown(value) for name, value in named.items() if value is not None} or None,
            "verdict": self.verdict,
            "deep": self.deep.as_dict() if self.deep else None,
        }


def examine(
    path: Path,
    *,
    signer: Signer | None = None,
    deep: bool = False,
    hub: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Examined:
    """Check the release, network's folder or archive at `path`; what is wrong with it, the result says.

    With a `signer`, a release must be signed by it. With `deep`, each ONNX file is run too, and each archive compared
    with its folder. With `hub`, it may be a download of the Hugging Face Hub, as `verify` says. Raises `InvalidInput`
    for what is none of these or cannot be read, and for an unusable key; `Unavailable` where the machine lacks memory,
    the `sign` extra or Sigstore's keys.
    """
    if signer is not None and signer.public_key is not None:
        require_file(signer.public_key)
    result = check(path, hub=hub)
    verdict, report = result.verdict, None
    if signer is not None and result.intact:
        result = _check_origin(result, signer, hub=hub)
        verdict = f"intact, signed by {shown(signer)}" if result.intact else "origin refused"
    if deep and result.intact:
        from .deep import check_deep  # imports onnx

        report = check_deep(Path(result.path), result.kind, progress, blobs=hub_blobs(path) if hub else None)
        result = replace(result, problems=list(report.problems))
        verdict = verdict if result.intact else result.verdict
    return Examined(result, verdict, signer if result.intact else None, report)


def _check_origin(result: Result, signer: Signer, *, hub: bool) -> Result:
    from ..sign import check_signature

    if result.kind != "release":
        return replace(
            result, problems=[f"model.sig: missing: only a whole release is signed, and this is one {result.kind}"]
        )
    folder = Path(result.path)
    hubs = _of_hub(folder) if hub else {}
    key, identity, issuer = signer.public_key, signer.identity, signer.issuer
    try:
        check_signature(folder, public_key=key, identity=identity, issuer=issuer, **hubs)
    except GateFailed as error:
        return replace(result, problems=[f"model.sig: {shown(' '.join(str(error).split()))}"])
    return result


def _of_hub(folder: Path) -> dict[str, Any]:
    """Where the signature of an intact download of the Hub is, and what it must be over; the rest is the Hub's."""
    blobs = hub_blobs(folder)
    sums = read_regular(place(folder / SUMS, blobs))
    return {
        "signature": place(folder / SIGNATURE, blobs),
        "found": {**parse_sums(sums)[0], SUMS: sha256_bytes(sums)},
    }
