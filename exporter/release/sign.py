"""The signature of a release: OpenSSF Model Signing, `model.sig` over every other file in the folder.

A signature is a Sigstore bundle with a DSSE envelope whose in-toto payload lists path and sha256 of each file
(https://github.com/sigstore/model-transparency). It is made offline with a P-256 key here, or keyless by the
`model_signing` command in the release workflow. The folder's own name is no part of what is checked.

Needs the `sign` extra; nothing of it is imported before it is used.
"""

from __future__ import annotations

import contextlib
import json
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from ..errors import GateFailed, InvalidInput, Unavailable, first_line, from_os_error
from ..system.files import require_file, staged
from ..system.outside import read_regular
from .layout import INDEX, SIGNATURE

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes

CURVE = "secp256r1"
MAX_KEY_BYTES = 1 << 16
MAX_SIGNATURE_BYTES = 1 << 24
"""About 600 bytes a file are used; a release of eight networks has about 130 files."""
_NAMED = 5  # how many files a message names


def sign_release(folder: Path, key: Path) -> None:
    """Write `folder`/model.sig, over all other files below `folder`, with the private key (PEM, P-256) at `key`.

    An older signature is replaced. Raises `InvalidInput` for a key or a folder that cannot be used, `Unavailable`
    without the `sign` extra.
    """
    signing = _model_signing()
    check_private_key(key)
    name = f"cifar-export-{_version(folder)}"

    class Named(signing.hashing.Config):  # type: ignore[misc,name-defined]
        """The subject is the release, not the folder's passing name."""

        def hash(self, model_path: Path, *, files_to_hash: Iterable[Path] | None = None) -> Any:
            found = super().hash(model_path, files_to_hash=files_to_hash)
            files = [
                signing.manifest.FileManifestItem(path=Path(item.identifier), digest=item.digest)
                for item in found.resource_descriptors()
            ]
            kind = signing.manifest.SerializationType.from_args(found.serialization_type)
            return signing.manifest.Manifest(name, files, kind)

    hashing = Named().set_ignored_paths(paths=[SIGNATURE], ignore_git_paths=False)
    config = signing.signing.Config().use_elliptic_key_signer(private_key=key).set_hashing_config(hashing)
    with staged(folder / SIGNATURE) as temporary:
        temporary.unlink()  # whatever is in the folder is signed
        try:
            config.sign(folder.resolve(), temporary)
        except ValueError as error:  # a link or a special file
            raise InvalidInput(f"{folder} can't be signed: {first_line(error)}. Remove it.") from error


def check_signature(
    folder: Path,
    *,
    public_key: Path | None = None,
    identity: str | None = None,
    issuer: str | None = None,
    signature: Path | None = None,
    found: Mapping[str, str] | None = None,
) -> None:
    """Check that `folder`/model.sig is valid and that the folder has just the files it lists, each unchanged.

    Name the signer by `public_key` (PEM, P-256; works offline), or by the `identity` and OpenID Connect `issuer` that a
    keyless signature's certificate must bear (asks Sigstore's servers for their current keys). The `signature` may lie
    elsewhere, and what the folder has may be `found` already (sha256 by path). Raises `GateFailed`
    where the signature is missing, invalid or another's, or a file was changed, added, removed or is a link;
    `InvalidInput` for an unusable key; `Unavailable` without the `sign` extra or Sigstore's keys.
    """
    signed = signed_digests(signature or folder / SIGNATURE, public_key, identity=identity, issuer=issuer)
    found = _hashed(folder) if found is None else found
    differences = {
        "changed": {name for name in signed.keys() & found.keys() if signed[name] != found[name]},
        "added": found.keys() - signed.keys(),
        "missing": signed.keys() - found.keys(),
    }
    said = [f"{what}: {_some(names)}" for what, names in differences.items() if names]
    if said:
        raise GateFailed(f"{folder} is not what was signed ({'; '.join(said)}).")


def _hashed(folder: Path) -> dict[str, str]:
    """sha256 by path of all files below `folder` but the signature. Raises `GateFailed` for a link or special file."""
    signing = _model_signing()
    hashing = signing.hashing.Config().set_ignored_paths(paths=[SIGNATURE], ignore_git_paths=False)
    try:
        return _digests(hashing.hash(folder.resolve()))
    except ValueError as error:  # a link or a special file
        raise GateFailed(f"{folder} is not what was signed: {first_line(error)}.") from error
    except OSError as error:
        raise from_os_error(error, f"read {error.filename or folder}") from error


def signed_digests(
    signature: Path | bytes, public_key: Path | None, *, identity: str | None = None, issuer: str | None = None
) -> dict[str, str]:
    """sha256 by path of the files that a valid `signature`, a file or its content, vouches for; needs none of them.

    The signer is named as in `check_signature`, and the errors are the same.
    """
    if (public_key is None) == (identity is None) or (identity is None) != (issuer is None):
        raise InvalidInput("name the signer: either --public-key, or both --identity and --issuer.")
    signing = _model_signing()
    verifying = signing.verifying.Config()
    where = "the signature" if isinstance(signature, bytes) else str(signature)
    content = _bundle(signature, where, keyless=public_key is None)
    if public_key is not None:
        _check_public_key(public_key)
        verifying.use_elliptic_key_verifier(public_key=public_key)
    else:
        _use_sigstore(verifying, identity, issuer)

    class Signed(signing.manifest.Manifest):  # type: ignore[misc,name-defined]
        """Stands in for the manifest of a folder, and takes down what it is compared with."""

        signed: Any = None

        def __eq__(self, other: object) -> bool:
            self.signed = other
            return True

        __hash__ = None  # type: ignore[assignment]

    class Nothing(signing.hashing.Config):  # type: ignore[misc,name-defined]
        """Hashes no file: `taken` is in the folder's place."""

        def hash(self, model_path: Path, *, files_to_hash: Iterable[Path] | None = None) -> Any:
            del model_path, files_to_hash
            return taken

    kind = signing.manifest.SerializationType.from_args(
        {"method": "files", "hash_type": "sha256", "allow_symlinks": False}
    )
    taken = Signed("", [], kind)
    with _private_copy(content) as copy:
        try:
            verifying.set_hashing_config(Nothing()).verify(copy.parent, copy)
            return _digests(taken.signed)
        except Exception as error:  # whatever the libraries meet in a stranger's bundle, it is not valid
            who, said = public_key or identity, first_line(error, named=not isinstance(error, ValueError))
            raise GateFailed(f"{where} is not valid, or not by {who} ({said}).") from error


def require_extra() -> None:
    """Raise `Unavailable`, with the fix, without the `sign` extra."""
    _model_signing()


def check_private_key(path: Path) -> None:
    """Raise `InvalidInput` unless `path` is a private key to sign with, `Unavailable` without the `sign` extra."""
    require_extra()
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    data = _key_file(path)
    if b"PUBLIC KEY" in data:
        raise InvalidInput(f"{path} is a public key. Sign with the private one.")
    try:
        key = load_pem_private_key(data, None)
    except TypeError:
        raise InvalidInput(
            f"{path} is protected by a password, which is not supported. Use a key without one."
        ) from None
    except Exception as error:
        raise InvalidInput(f"{path} is not a private key in PEM ({first_line(error)}). {_MAKE}") from error
    _check_curve(path, key)


def _model_signing() -> SimpleNamespace:
    """The modules of `model_signing` that are used, or `Unavailable`."""
    try:
        from model_signing import hashing, manifest, signing, verifying
    except ImportError as error:
        raise Unavailable(
            f"signatures need more packages ({first_line(error)}). Run: pip install 'cifar-export[sign]'"
        ) from error
    return SimpleNamespace(hashing=hashing, manifest=manifest, signing=signing, verifying=verifying)


def _digests(manifest: Any) -> dict[str, str]:
    """sha256 by path. Raises ValueError for another kind of manifest."""
    kind: Mapping[str, Any] = manifest.serialization_type
    if kind["method"] != "files" or kind["hash_type"] != "sha256":
        raise ValueError("it does not list the sha256 of whole files")
    return {item.identifier: item.digest.digest_hex for item in manifest.resource_descriptors()}


def _some(names: Iterable[str]) -> str:
    """The first few of `names`, escaped: they may be a stranger's."""
    listed = sorted(names)
    more = f" and {len(listed) - _NAMED} more" if len(listed) > _NAMED else ""
    return ", ".join(ascii(name)[1:-1] for name in listed[:_NAMED]) + more


def _version(folder: Path) -> str:
    path = folder / INDEX
    try:
        return str(json.loads(read_regular(path))["version"])
    except InvalidInput as error:
        raise InvalidInput(f"{folder} is not a release: {error}") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InvalidInput(f"{folder} is not a release: {INDEX} names no version. Package it again.") from error


def _bundle(signature: Path | bytes, where: str, *, keyless: bool) -> bytes:
    """Its content. Raises `GateFailed` for what is no bundle of sane size with the kind of signature expected."""
    content = signature if isinstance(signature, bytes) else _signature_file(signature)
    try:
        bundle = json.loads(content)
    except (ValueError, RecursionError):
        raise GateFailed(f"{where} is damaged: it is not JSON.") from None
    material = bundle.get("verificationMaterial") if isinstance(bundle, dict) else None
    if not isinstance(material, dict):
        raise GateFailed(f"{where} is damaged: it is not a Sigstore bundle.")
    if keyless and "publicKey" in material:
        raise GateFailed(f"{where} was made with a key, not keyless. Check it with --public-key.")
    if not keyless and "publicKey" not in material:
        raise GateFailed(f"{where} was not made with a key. Check it with --identity and --issuer.")
    # without a hint at its key a bundle is of an older make, of which model_signing prints a warning
    if not keyless and not (isinstance(material["publicKey"], dict) and material["publicKey"].get("hint")):
        raise GateFailed(f"{where} is not a signature of a release: it does not name its key.")
    return content


def _signature_file(path: Path) -> bytes:
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_SIGNATURE_BYTES:
            raise GateFailed(
                f"{path} is not a signature: it is not a regular file of at most {MAX_SIGNATURE_BYTES >> 20} MiB."
            )
        return path.read_bytes()
    except FileNotFoundError:
        raise GateFailed(f"{path.parent} is not signed: it has no {path.name}.") from None
    except OSError as error:
        raise from_os_error(error, f"read {path}") from error


@contextlib.contextmanager
def _private_copy(content: bytes) -> Iterator[Path]:
    """What was looked at is what is verified, whoever can write to the folder."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / SIGNATURE
            copy.write_bytes(content)
            yield copy
    except OSError as error:
        raise from_os_error(error, "keep a temporary copy of the signature") from error


def _use_sigstore(verifying: Any, identity: str | None, issuer: str | None) -> None:
    from sigstore.errors import Error

    try:
        verifying.use_sigstore_verifier(identity=identity, oidc_issuer=issuer)
    except Error as error:
        raise Unavailable(
            f"cannot get the keys of Sigstore ({first_line(error)}). A keyless signature is checked online: "
            "connect this machine, or check a signature made with a key."
        ) from error
    except OSError as error:
        raise from_os_error(error, f"keep the keys of Sigstore in {error.filename}") from error


def _check_public_key(path: Path) -> None:
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    data = _key_file(path)
    if b"PRIVATE KEY" in data:
        raise InvalidInput(f"{path} is a private key. Check with the public one: openssl ec -in KEY -pubout")
    try:
        key = load_pem_public_key(data)
    except Exception as error:
        raise InvalidInput(
            f"{path} is not a public key in PEM ({first_line(error)}). Name that of the signer."
        ) from error
    _check_curve(path, key)


_MAKE = "Make one: openssl ecparam -name prime256v1 -genkey -noout -out KEY"


def _check_curve(path: Path, key: PrivateKeyTypes | PublicKeyTypes) -> None:
    curve = getattr(getattr(key, "curve", None), "name", type(key).__name__)
    if curve != CURVE:
        raise InvalidInput(f"{path} is not a P-256 key ({curve}). {_MAKE}")


def _key_file(path: Path) -> bytes:
    require_file(path)
    try:
        with path.open("rb") as stream:
            return stream.read(MAX_KEY_BYTES)
    except OSError as error:
        raise from_os_error(error, f"read {path}") from error
