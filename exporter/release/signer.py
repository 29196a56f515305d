"""Who must have signed a release: the holder of a key, or an identity that an issuer vouches for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..errors import InvalidInput


@dataclass(frozen=True)
class Signer:
    """Who must have signed.

    The holder of the private part of `public_key` (a PEM file), or who `issuer` says is `identity`: keyless, as in the
    release workflow; that asks Sigstore's servers for their keys. Raises `InvalidInput` for anything but one of both.
    """

    public_key: Path | None = None
    identity: str | None = None
    issuer: str | None = None

    def __post_init__(self) -> None:
        """Check that it names one signer."""
        if (self.identity is None) != (self.issuer is None):
            raise InvalidInput("--identity and --issuer belong together. Give both.")
        if (self.public_key is None) == (self.identity is None):
            raise InvalidInput("--public-key and --identity are two ways to say who signed. Give one.")

    def __str__(self) -> str:
        return str(self.public_key) if self.identity is None else f"{self.identity} of {self.issuer}"


def signer_of(public_key: Path | None, identity: str | None, issuer: str | None) -> Signer | None:
    """The signer that the options name; None where they name none."""
    options = (public_key, identity, issuer)
    return None if all(option is None for option in options) else Signer(*options)
