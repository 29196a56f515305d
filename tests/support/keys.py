"""Key pairs for signing. Needs the `sign` extra."""

from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec


def write_keys(folder: Path, name: str, private: Any = None, password: bytes | None = None) -> tuple[Path, Path]:
    """`name`.pem and `name`.pub.pem in `folder`: of `private`, else of a new P-256 key."""
    private = private or ec.generate_private_key(ec.SECP256R1())
    hidden = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    pem = serialization.Encoding.PEM
    key, public = folder / f"{name}.pem", folder / f"{name}.pub.pem"
    key.write_bytes(private.private_bytes(pem, serialization.PrivateFormat.PKCS8, hidden))
    public.write_bytes(private.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))
    return key, public
