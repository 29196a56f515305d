"""What a release costs: `cifar-export package` against bare exports of the same networks, and verify against sha256sum.

A release holds, for each network, four model files, golden vectors and documents, each file proved by parity on 266
images and the network scored on 10,000 test images. The base is one process for each network that calls
`torch.onnx.export(dynamo=True)` and proves nothing. Each side runs in processes of its own, the two one after the
other; wall time is what a user waits, CPU time what the work costs. Scoring, which the base has nothing to set against,
is taken off in a second ratio: its seconds as the build measured them, divided by the networks built at once.

    python benchmarks/package.py [--data-dir data] [--jobs 1] [--only NETWORK]... [--verify-runs 9] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

from export import BARE, Seconds, machine, run_process

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from cifar_export.release.layout import measurements_name  # noqa: E402  # of this checkout
from cifar_export.weights.index import bundled_entries, bundled_folder  # noqa: E402


def main() -> None:
    options = _parse()
    entries = bundled_entries()
    names = options.only or list(entries)
    if missing := [name for name in names if name not in entries]:
        sys.exit(f"no weights of {', '.join(missing)} are bundled")
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "releases"
        command = [
            str(ROOT / "cli.py"),
            "package",
            "--version",
            "1.0.0",
            "--no-cache",
            "--json",
            "--output",
            str(output),
        ]
        command += ["--data-dir", str(options.data_dir), "--jobs", str(options.jobs)]
        ours = run_process([*command, *(word for name in names for word in ("--only", name))])
        bare = [_bare(name, Path(folder) / "bare.onnx") for name in names]
        scoring = _scoring(output / measurements_name("1.0.0"), options.jobs)
        verified = _verify(output / "1.0.0", options.verify_runs)
    base = Seconds(sum(seconds.wall for seconds in bare), sum(seconds.cpu for seconds in bare))
    document = {
        "networks": names,
        "jobs": options.jobs,
        "machine": machine(),
        "package": _row(ours, base),
        "package_without_scoring": _row(Seconds(ours.wall - scoring.wall, ours.cpu - scoring.cpu), base),
        "verify": verified,
    }
    if options.json:
        print(json.dumps(document, indent=1))
        return
    print(f"{document['machine']}; {len(names)} networks, {options.jobs} at once")
    for title, name, other in (
        ("cifar-export package", "package", f"{len(names)} bare torch.onnx.export scripts"),
        ("without scoring", "package_without_scoring", "the same scripts"),
        ("verify.py", "verify", "sha256sum -c"),
    ):
        row = document[name]
        print(f"{title}: {row['ours']['wall']:.2f} s wall, {row['ours']['cpu']:.2f} s CPU")
        print(f"  {other}: {row['base']['wall']:.2f} s wall, {row['base']['cpu']:.2f} s CPU")
        print(f"  ratio: {row['ratio']['wall']:.2f} wall, {row['ratio']['cpu']:.2f} CPU")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=Path(os.environ.get("CIFAR_DATA") or "data"))
    parser.add_argument("--jobs", type=int, default=1, help="networks built at once (default: 1)")
    parser.add_argument("--only", action="append", metavar="NETWORK", help="default: every network with weights")
    parser.add_argument("--verify-runs", type=int, default=9, help="runs of verify and of sha256sum (default: 9)")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def _bare(name: str, path: Path) -> Seconds:
    weights = bundled_folder() / bundled_entries()[name].file
    return run_process(["-c", BARE, name, str(weights), str(path)])


def _scoring(measurements: Path, jobs: int) -> Seconds:
    """What scoring added to the build: its CPU seconds, and those by the wall shared by the networks built at once."""
    steps = [found["seconds"]["accuracy"] for found in json.loads(measurements.read_text())["networks"].values()]
    at_once = min(jobs, len(steps))
    return Seconds(sum(step["wall"] for step in steps) / at_once, sum(step["cpu"] for step in steps))


def _verify(release: Path, runs: int) -> dict[str, dict[str, float]]:
    """Medians of verify and of `sha256sum -c` on the same folder, alternating, after an uncounted run of both."""
    taken: tuple[list[Seconds], list[Seconds]] = ([], [])
    script = ROOT / "exporter" / "release" / "check" / "verify.py"
    for run in range(runs + 1):
        commands = (["-I", "-S", str(script), str(release)], ["sha256sum", "--quiet", "-c", "SHA256SUMS"])
        found = (run_process(commands[0]), run_process(commands[1], program=None, cwd=release))
        if run > 0:
            for times, seconds in zip(taken, found, strict=True):
                times.append(seconds)
    ours, base = (
        Seconds(statistics.median(s.wall for s in times), statistics.median(s.cpu for s in times)) for times in taken
    )
    return _row(ours, base)


def _row(ours: Seconds, base: Seconds) -> dict[str, dict[str, float]]:
    return {
        "ours": {"wall": ours.wall, "cpu": ours.cpu},
        "base": {"wall": base.wall, "cpu": base.cpu},
        "ratio": {"wall": ours.wall / base.wall, "cpu": ours.cpu / base.cpu},
    }


if __name__ == "__main__":
    main()
