"""All that can be checked of a release: its files, who signed it, and that its ONNX files do what it says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import GateFailed
from ...system.files import require_file
from ..signer import Signer
from .checked import check
from .verify import Result, shown

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
    path: Path, *, signer: Signer | None = None, deep: bool = False, progress: Callable[[str], None] | None = None
) -> Examined:
    """Check the release, network's folder or archive at `path`; what is wrong with it, the result says.

    With a `signer`, a release must be signed by it. With `deep`, each ONNX file is run too, and each archive compared
    with its folder. Raises `InvalidInput` for what is none of these or cannot be read, and for an unusable key;
    `Unavailable` where the machine lacks memory, the `sign` extra or Sigstore's keys.
    """
    if signer is not None and signer.public_key is not None:
        require_file(signer.public_key)
    result = check(path)
    verdict, report = result.verdict, None
    if signer is not None and result.intact:
        result = _check_origin(result, signer)
        verdict = f"intact, signed by {shown(signer)}" if result.intact else "origin refused"
    if deep and result.intact:
        from .deep import check_deep  # imports onnx

        report = check_deep(Path(result.path), result.kind, progress)
        result = replace(result, problems=list(report.problems))
        verdict = verdict if result.intact else result.verdict
    return Examined(result, verdict, signer if result.intact else None, report)


def _check_origin(result: Result, signer: Signer) -> Result:
    from ..sign import check_signature

    if result.kind != "release":
        return replace(
            result, problems=[f"model.sig: missing: only a whole release is signed, this is a {result.kind}"]
        )
    try:
        check_signature(Path(result.path), public_key=signer.public_key, identity=signer.identity, issuer=signer.issuer)
    except GateFailed as error:
        return replace(result, problems=[f"model.sig: {shown(' '.join(str(error).split()))}"])
    return result
