"""`cifar_export.load`: a network by its name, from a release or from what comes with the installation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import overload

from ...errors import GateFailed, InvalidInput
from ...networks.normalization import normalization_from
from ...networks.zoo import named
from ...system.files import write_atomically
from ...system.folders import cache_folder
from ..check.verify import parse_json
from ..contents import CONFIG_SCHEMAS
from ..layout import CONFIG, SUMS
from ..signer import signer_of
from .fetch import difference, install, open_release, require_known
from .loaded import BundledNetwork, LoadedNetwork, ReleasedNetwork, read_checked
from .source import Source, is_url, kept_sums


@overload
def load(name: str) -> BundledNetwork: ...


@overload
def load(
    name: str,
    release: str | Path,
    *,
    sha256: str | None = None,
    public_key: str | Path | None = None,
    identity: str | None = None,
    issuer: str | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> ReleasedNetwork: ...


def load(
    name: str,
    release: str | Path | None = None,
    *,
    sha256: str | None = None,
    public_key: str | Path | None = None,
    identity: str | None = None,
    issuer: str | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> LoadedNetwork:
    """The network called `name` (`cifar100_resnet20`) of `release`, else with the weights of this installation.

    `release` is a release's folder, the folder of one of its networks (what `cifar-export fetch` makes), also as the
    Hugging Face Hub's library downloads them, the URL of a release that is served as plain files, or
    `hf://ORG/NAME@REVISION` on that Hub. Of a URL, `sha256` (that of the release's SHA256SUMS) or its signer is needed:
    `public_key` (a PEM file), or `identity` and `issuer` for a keyless signature; a whole commit of the Hub needs none.
    What is downloaded is kept in the user's cache folder, or where CIFAR_EXPORT_CACHE says: with `sha256` alone, later
    calls need no network; else the signature is asked for anew. Everything is checked at each call; a damaged copy in
    the cache is replaced.
    `progress` gets the bytes of a download so far, and in all or None.

    Raises `InvalidInput` (no such network, a URL that nothing vouches for), `GateFailed` (something differs from what
    is vouched for) and `Unavailable` (no network, a full disk).

    >>> import cifar_export, numpy
    >>> network = cifar_export.load("cifar10_resnet20")
    >>> network.predict(numpy.zeros((2, 32, 32, 3), "uint8")).probabilities.shape
    (2, 10)
    """
    require_known(name)
    if release is None:
        if (sha256, public_key, identity, issuer) != (None, None, None, None):
            raise InvalidInput(
                "sha256, public_key and identity describe a release. Name it too: release=URL or folder."
            )
        return _bundled(name)
    signer = signer_of(None if public_key is None else Path(public_key), identity, issuer)
    kept = cache_folder() / "releases" if is_url(release) else Path()  # a folder needs no home of the user
    source = open_release(release, sha256=sha256, signer=signer, kept=kept)
    if source.folder is not None:
        return _released(name, source, source.folder if source.single else source.folder / name)
    folder = kept / source.sha256 / name
    install(source, name, folder, replace=True, progress=progress)
    if kept_sums(kept, source.sha256) is None:  # with it, later calls need not ask
        write_atomically(kept / source.sha256 / SUMS, source.sums)
    return _released(name, source, folder)


def _bundled(name: str) -> BundledNetwork:
    from ...weights.index import bundled_entries

    entry = bundled_entries().get(name)
    if entry is None:
        raise InvalidInput(
            f"no weights of {name} come with this installation. Name a release that has them: release=URL or folder."
        )
    return BundledNetwork(name, named(name).dataset.labels, entry.normalization)


def _released(name: str, source: Source, folder: Path) -> ReleasedNetwork:
    """The network in `folder`, by its config.json. Raises `GateFailed` where that is none, or another network's."""
    files = source.files(name)
    folder = folder.absolute()  # it is read again when it is used: the current folder may be another then
    problem = difference(folder, files, hub=source.folder is not None)
    if problem:
        raise GateFailed(f"{folder} is not what {source.location} says: {problem}.")
    if CONFIG not in files:
        raise GateFailed(f"{folder} is not a network of a release: it has no {CONFIG}.")
    try:
        config = parse_json(read_checked(folder, CONFIG, files[CONFIG]))
        if config["schema"] not in CONFIG_SCHEMAS:
            raise ValueError(f"schema {config['schema']}, but only {', '.join(map(str, CONFIG_SCHEMAS))} are known")
        held, version, labels = config["network"], config["version"], config["labels"]
        if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
            raise ValueError("its labels are not a list of names")
        if not all(isinstance(config.get(more, {}), dict) for more in ("reduced", "further")):
            raise ValueError("its files in reduced precision or further formats are not described")
        normalization = normalization_from(config["normalization"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise GateFailed(f"{folder / CONFIG} does not describe a network of a release ({error}).") from error
    if held != name:
        raise InvalidInput(f"{folder} holds {held}, not {name}.")
    return ReleasedNetwork(name, tuple(labels), normalization, str(version), folder, config, files)
