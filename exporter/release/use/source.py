"""A release somewhere, in a folder or behind a URL, whose SHA256SUMS somebody vouches for.

Everything else follows from that one file: it names every other one with its digest.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

from ...errors import GateFailed, InvalidInput, from_os_error
from ...networks.zoo import in_order
from ...system.download import read_url
from ...system.files import sha256_bytes
from ...system.http import NotFound, check_url, without_secrets
from ...system.hub import bring, is_hub, is_pinned
from ...system.outside import read_regular
from ..check.checked import check
from ..check.verify import hub_blobs, parse_sums, place
from ..layout import CONFIG, INDEX, SIGNATURE, SUMS
from ..signer import Signer

MAX_SUMS = 1 << 20
"""Bytes of a SHA256SUMS; that of eight networks has some 15,000."""
MAX_SIGNATURE = 1 << 22
_ARCHIVE = re.compile(r"(?P<network>[A-Za-z0-9_-]+_resnet[0-9]+)-(?P<version>[^/]+)\.tar\.gz")
_HINT = f"the address is that under which {SUMS} lies (on GitHub .../releases/download/<tag>)"
_OR_COMMIT = ", or name the whole commit, 40 hex digits"
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Source:
    """A release's SHA256SUMS, parsed, and what vouches for it.

    `location`: the path, or the URL without secrets; `url`: the URL as it was given. `folder`: the release itself where
    it is local, else None. `sha256`: of the SHA256SUMS; `digests`: what it says, sha256 by path. `vouched`: "sha256"
    and "signature", whichever were checked; nothing for a local release that was only found intact. `single`: the
    folder of one network, not of a release.
    """

    location: str
    folder: Path | None
    sums: bytes
    sha256: str
    digests: Mapping[str, str]
    vouched: tuple[str, ...]
    single: bool = False
    url: str = field(default="", repr=False)

    def files(self, network: str) -> dict[str, str]:
        """sha256 by path inside the network's folder. Raises `InvalidInput`, naming those that the release has."""
        if self.single:
            return {SUMS: self.sha256, **self.digests}
        start = f"{network}/"
        found = {path.removeprefix(start): digest for path, digest in self.digests.items() if path.startswith(start)}
        if SUMS not in found:
            there = ", ".join(in_order(path.removesuffix(f"/{SUMS}") for path in self.digests)) or "no network"
            raise InvalidInput(f"{self.location} has no {network}. It has {there}.")
        return found

    def archive(self, network: str) -> str:
        """The name of the network's archive, `<network>-<version>.tar.gz`. Raises `GateFailed` where it is not one."""
        found = [path for path in self.digests if (match := _ARCHIVE.fullmatch(path)) and match["network"] == network]
        if len(found) != 1:
            raise GateFailed(f"{self.location} lists {len(found)} archives of {network}; a release has one.")
        return found[0]

    def version(self, network: str) -> str:
        """The release's version, as the archive's name has it."""
        match = _ARCHIVE.fullmatch(self.archive(network))
        return match["version"] if match else ""


def is_url(release: str | Path) -> bool:
    """Tell whether `release` is meant as a URL; anything else is a path."""
    return isinstance(release, str) and "://" in release


def below(url: str, file: str) -> str:
    """The address of `file` in the release at `url`; a query (a token, say) stays at the end."""
    parts = urlsplit(url)
    path = f"{parts.path.removesuffix('/' + SUMS).rstrip('/')}/{quote(file, safe='/')}"
    return urlunsplit(parts._replace(path=path, fragment=""))


def open_url(url: str, *, sha256: str | None = None, signer: Signer | None = None, kept: Path | None = None) -> Source:
    """Read the SHA256SUMS of the release at `url`, and check it by its `sha256`, by the signature, or by both.

    A whole commit of the Hugging Face Hub (`hf://ORG/NAME@COMMIT`) needs neither: it names one content, by the Hub's
    word. The signature is `url`/model.sig, and must be by `signer`. With `kept`, a folder, a SHA256SUMS of the digest
    expected that lies in `kept`/<sha256> is taken without asking the server. Raises `InvalidInput` where neither is
    given, `GateFailed` where one does not hold or the signature is missing, `Unavailable` without a network.
    """
    pinned = is_hub(url) and is_pinned(url)
    if not is_hub(url):
        check_url(url)
    expected, place = _digest(sha256), without_secrets(url)
    if expected is None and signer is None and not pinned:
        raise InvalidInput(
            f"refused to trust whatever answers at {place}.\nSay what you expect: the sha256 of the release's {SUMS} "
            f"(--sha256, in Python sha256=), or who signed it (--public-key, public_key=)"
            f"{_OR_COMMIT if is_hub(url) else ''}."
        )
    vouched: tuple[str, ...] = ("sha256",) if expected else ()
    if signer is not None:
        signed = _signed_sums(_read_signature(url), signer, place)
        if expected not in (None, signed):
            raise GateFailed(f"{place} is signed, but for a {SUMS} with sha256 {signed}, not {expected}.")
        expected, vouched = signed, (*vouched, "signature")
    sums = kept_sums(kept, str(expected)) if kept else None
    if sums is None:
        sums = _read(url, SUMS, MAX_SUMS)
        expected = expected or sha256_bytes(sums)
        if (found := sha256_bytes(sums)) != expected:
            raise GateFailed(
                f"{below(place, SUMS)} is not the expected file: sha256 {expected} expected, {found} found.\n"
                "It may be another release, or was changed on the server or on the way. Nothing was written."
            )
    digests = _parse(sums)
    return Source(
        place, None, sums, str(expected), digests, vouched, single=is_hub(url) and _is_single(digests), url=url
    )


def open_folder(folder: Path, *, sha256: str | None = None, signer: Signer | None = None) -> Source:
    """Verify the release, or the one network's folder, in `folder`, as `cifar-export verify --hub` does.

    Raises `GateFailed` where it is not intact, or has another `sha256` of its SHA256SUMS, or no valid signature by
    `signer`; `InvalidInput` for what is no release at all.
    """
    expected = _digest(sha256)
    blobs = hub_blobs(folder)
    path = place(folder / SUMS, blobs)
    if not folder.is_dir():
        raise InvalidInput(f"{folder} is not the folder of a release. Name one, or the URL of one.")
    if not path.is_file() and not path.is_symlink():
        snapshots = folder / "snapshots"  # of a repository in the Hub's cache
        hint = f" Name one of the folders in {snapshots}." if snapshots.is_dir() else ""
        raise InvalidInput(f"{folder} is not a release: it has no {SUMS}.{hint}")
    result = check(folder, hub=True)
    if result.problems:
        more = f" (and {len(result.problems) - 1} more)" if len(result.problems) > 1 else ""
        raise GateFailed(f"{folder} is not what it claims to be: {result.problems[0]}{more}.")
    try:
        sums = path.read_bytes()
    except OSError as error:
        raise from_os_error(error, f"read {path}") from error
    found = sha256_bytes(sums)
    vouched: tuple[str, ...] = ()
    if expected is not None:
        if found != expected:
            raise GateFailed(f"{path} has sha256 {found}, not {expected}. It is another release, or was changed.")
        vouched = ("sha256",)
    if signer is not None:
        signed = _signed_sums(place(folder / SIGNATURE, blobs), signer, str(folder))
        if signed != found:
            raise GateFailed(f"{folder / SIGNATURE} is for a {SUMS} with sha256 {signed}, not {found}.")
        vouched = (*vouched, "signature")
    return Source(str(folder), folder, sums, found, _parse(sums), vouched, single=result.kind == "network")


def _digest(sha256: str | None) -> str | None:
    if sha256 is None:
        return None
    if not _SHA256.fullmatch(sha256.lower()):
        raise InvalidInput(f"{sha256!r} is not a sha256. Give the 64 hex digits that `sha256sum {SUMS}` prints.")
    return sha256.lower()


def kept_sums(kept: Path, sha256: str) -> bytes | None:
    """The SHA256SUMS of that digest in `kept`/<sha256>, else None."""
    try:
        path = kept / sha256 / SUMS
        if path.is_file() and path.stat().st_size <= MAX_SUMS:
            data = path.read_bytes()
            return data if sha256_bytes(data) == sha256 else None
    except OSError:  # a cache that cannot be read is none
        return None
    return None


def _parse(sums: bytes) -> dict[str, str]:
    digests, problems = parse_sums(sums)
    if problems:
        raise GateFailed(f"{SUMS} is damaged: {problems[0]}.")
    return digests


def _read(url: str, file: str, max_bytes: int) -> bytes:
    """The small `file` of the release at `url`, over HTTP or from the Hub."""
    if not is_hub(url):
        return read_url(below(url, file), max_bytes=max_bytes, hint=_HINT)
    try:
        with tempfile.TemporaryDirectory(prefix="cifar-export-") as folder:
            bring(url, [file], Path(folder), max_bytes=max_bytes)
            return read_regular(Path(folder) / file, max_bytes)
    except OSError as error:
        raise from_os_error(error, f"download {url}") from error


def _is_single(digests: Mapping[str, str]) -> bool:
    """Whether that is the SHA256SUMS of one network's folder, not of a release."""
    return CONFIG in digests and INDEX not in digests


def _read_signature(url: str) -> bytes:
    try:
        return _read(url, SIGNATURE, MAX_SIGNATURE)
    except NotFound as error:
        raise GateFailed(
            f"{without_secrets(url)} is not signed: it has no {SIGNATURE}. "
            "Check it by --sha256 instead, or ask its maker."
        ) from error


def _signed_sums(signature: Path | bytes, signer: Signer, where: str) -> str:
    """The sha256 of the SHA256SUMS that the signature is over, once it is found valid."""
    from ..sign import signed_digests

    signed = signed_digests(signature, signer.public_key, identity=signer.identity, issuer=signer.issuer)
    digest = signed.get(SUMS)
    if digest is None:
        raise GateFailed(f"the {SIGNATURE} of {where} is valid, but not over its {SUMS}.")
    return digest
