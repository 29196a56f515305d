"""`cifar-export package`: from bundled weights to a release folder that stands under its version."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...data import Split
from ...errors import GateFailed, InvalidInput
from ...networks.zoo import NETWORKS, in_order, named
from ...runtimes import require_runtime
from ...system.commit import CODE, source_commit
from ...weights.index import bundled_entries
from ..layout import SIGNATURE, UNLISTED, release_version, source_date_epoch
from ..required import NOTHING_MORE, Wanted
from ..sums import files_below
from .assemble import Origin
from .cache import NetworkCache, cache_key, source_digest
from .further import require_formats
from .own import Own, Prepared, prepare
from .publish import publish, workshop
from .shelf import refuse_taken
from .workers import Builder, Job, build_all, test_images

RELEASES = Path("artifacts") / "releases"
_MADE_OF = (*CODE, "artifacts/weights", "setup.cfg")


@dataclass(frozen=True)
class Published:
    """A release that stands under its version. `sha256` is that of its SHA256SUMS: what consumers pin.

    `reused`: the networks that came from the cache. `files` and `bytes` count what SHA256SUMS lists, as `verify` does.
    """

    path: Path
    version: str
    sha256: str
    networks: tuple[str, ...]
    files: int
    bytes: int
    signed: bool
    commit: str | None
    created: str
    seconds: float
    reused: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "path": str(self.path),
            "version": self.version,
            "sha256": self.sha256,
            "networks": list(self.networks),
            "files": self.files,
            "bytes": self.bytes,
            "signed": self.signed,
            "commit": self.commit,
            "created": self.created,
            "seconds": round(self.seconds, 1),
            "reused": list(self.reused),
        }


def package(
    networks: Sequence[str],
    version: str,
    output: Path = RELEASES,
    *,
    data_dir: Path,
    jobs: int = 1,
    runtimes: Sequence[str] = (),
    wanted: Wanted = NOTHING_MORE,
    sign_key: Path | None = None,
    own: Own | None = None,
    cached: bool = True,
    builder: Builder | None = None,
    progress: Callable[[str], None] = lambda what: None,
    say: Callable[[str], None] = lambda line: None,
) -> Published:
    """Build the release `version` of `networks` (all eight where it is empty) into `output`/`version`.

    Everything cheap is checked before anything is built. At most `jobs` networks are built at once. `runtimes` are
    gated in addition to those that always are. `wanted`: files to make beside the others. `own` are weights to package
    in the place of bundled ones, of the one network that is named, if any is; `data_dir` is not looked into then.
    `builder` makes a network's folder (default: `build_network`). `progress` gets what is being done now, `say` lines
    worth keeping. Raises `GateFailed` where a gate says no, `InvalidInput` for a wrong or taken
    version, weights that are not bundled and places that cannot be written, `Unavailable` for what is missing: test
    set, runtimes, libraries of further formats, the signing extra, disk space.
    """
    began = time.monotonic()
    version = release_version(version)
    names = _names(networks, own)
    epoch = source_date_epoch(dict(os.environ))
    refuse_taken(output, version)
    if own is None:
        _require_weights(names)
    for name in runtimes:
        require_runtime(name)
    require_formats(wanted.formats)
    if sign_key is not None:
        require_signing(sign_key)
    splits = {} if own else _splits(names, data_dir)
    origin, source = Origin(version, release_commit(say), epoch), source_digest()
    builder = builder or _default_builder()
    store = NetworkCache(say) if cached else None
    measurements: dict[str, Any] = {}
    with _prepared(own, progress) as prepared, workshop(output, version, say) as staging:
        entries = {prepared.network.name: prepared.entry} if prepared else bundled_entries()
        todo, keys = [], {}
        for name in names:
            split = prepared.split if prepared else splits[named(name).dataset.name]
            keys[name] = cache_key(builder, entries[name], version, runtimes, split, source, wanted)
            found = store.fetch(keys[name], name, staging / name) if store else None
            if found is None:
                (staging / name).mkdir()
                todo.append(Job(builder, name, version, staging / name, data_dir, tuple(runtimes), prepared, wanted))
            else:
                measurements[name] = found
                say(f"{name}: finished before, taken from the cache")
        reused = tuple(measurements)
        started = time.monotonic()
        with contextlib.closing(build_all(todo, jobs, progress)) as finished:  # its processes end first
            for job, measured in finished:
                measurements[job.network] = measured
                if store and source_digest() == source:
                    store.store(keys[job.network], job.folder, measured)
                seconds = time.monotonic() - started
                say(f"{job.network}: built and proved ({len(measurements)} of {len(names)}, {seconds:.0f} s)")
        _require_unchanged(origin, source)
        progress("assembling and verifying")
        entry = publish(staging, output, origin, measurements, sign_key)
    return published(output, origin, entry.sha256, entry.networks, began, reused)


def _names(networks: Sequence[str], own: Own | None) -> tuple[str, ...]:
    """What is built. Raises `InvalidInput` where weights of one network and other names are given."""
    if own is None:
        return tuple(in_order(named(name).name for name in networks) or NETWORKS)
    if networks and list(networks) != [own.weights.network.name]:
        raise InvalidInput("weights of yours are of one network. Name it, and no other.")
    return (own.weights.network.name,)


def _splits(names: Sequence[str], data_dir: Path) -> dict[str, Split]:
    """The test images by data set."""
    datasets = dict.fromkeys(named(name).dataset.name for name in names)
    return {dataset: test_images(data_dir, dataset) for dataset in datasets}


@contextlib.contextmanager
def _prepared(own: Own | None, progress: Callable[[str], None]) -> Iterator[Prepared | None]:
    """What to build from for the time of the build; None for bundled weights."""
    if own is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="cifar-export-") as folder:
        progress(f"{own.weights.network.name}: {'measuring its accuracy' if own.split else 'converting'}")
        yield prepare(own, Path(folder))


def _require_unchanged(origin: Origin, source: str) -> None:
    """Refuse a release whose code was exchanged under it; one of a changed checkout claims no commit anyway."""
    if origin.commit and not origin.commit.endswith("-dirty") and source_digest() != source:
        raise GateFailed(
            "the source has changed while the release was built, and is no longer that of commit "
            f"{origin.commit[:12]}. Nothing was published. Build the release again."
        )


def _default_builder() -> Builder:
    from .network import build_network  # imports torch

    return build_network


def published(
    output: Path, origin: Origin, sha256: str, networks: Sequence[str], began: float, reused: Sequence[str] = ()
) -> Published:
    """Describe the release that has just appeared; `began` by the monotonic clock."""
    path = output / origin.version
    every = files_below(path)
    files = [name for name in every if name not in UNLISTED]
    return Published(
        path,
        origin.version,
        sha256,
        tuple(networks),
        len(files),
        sum((path / name).stat().st_size for name in files),
        SIGNATURE in every,
        origin.commit,
        origin.created,
        time.monotonic() - began,
        tuple(reused),
    )


def _require_weights(names: Sequence[str]) -> None:
    entries = bundled_entries()
    missing = [name for name in names if name not in entries]
    if missing:
        there = [name for name in names if name in entries]
        by_name = " ".join(f"--only {name}" for name in there)
        fix = f"Package the others by name: {by_name}." if there else "Add --weights PATH, or the folder of a run."
        raise InvalidInput(f"no weights of {', '.join(missing)} are bundled yet.\n{fix}")


def require_signing(key: Path) -> None:
    """Raise `InvalidInput` for a key that cannot sign, `Unavailable` without the `sign` extra."""
    from ..sign import check_private_key

    check_private_key(key)


def release_commit(say: Callable[[str], None]) -> str | None:
    """The commit that a release names; `say` hears what keeps others from building the same."""
    commit = source_commit(_MADE_OF, required=True)
    if commit is None:
        say("note: this is not a git checkout, so the release names no commit and others cannot rebuild it.")
    elif commit.endswith("-dirty"):
        say("note: tracked files have changed since the last commit, so nobody can rebuild this release from source.")
    return commit
