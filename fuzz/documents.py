"""JSON that comes from outside: sidecars, logs and plans of runs, the index of bundled weights."""

import atheris
from harness import ROOT, fuzz, memory_folder

with atheris.instrument_imports(include=["cifar_export.weights", "cifar_export.training", "cifar_export.exporting"]):
    from cifar_export.exporting.sidecar import require_vouched
    from cifar_export.training import log, plans
    from cifar_export.weights.index import INDEX, bundled_entries

from cifar_export.errors import CifarExportError

FOLDER = memory_folder()
MODEL = FOLDER / "model.pt2"
MODEL.write_bytes(b"")


def target(data: bytes) -> None:
    which, content = data[:1], data[1:]
    if which == b"i":
        (FOLDER / INDEX).write_bytes(content)
        bundled_entries(FOLDER)
    elif which == b"l":
        (FOLDER / "log.jsonl").write_bytes(content)
        log.parts(log.read(FOLDER / "log.jsonl"))
    elif which == b"p":
        (FOLDER / "plan.json").write_bytes(content)
        plans.read_plan(FOLDER / "plan.json")
    else:
        (FOLDER / "model.pt2.json").write_bytes(content)
        require_vouched(MODEL)


BUNDLED = ROOT / "artifacts" / "weights"
SEEDS = [b"i" + (BUNDLED / INDEX).read_bytes(), b"s" + b'{"sha256": "00", "bytes": 0}', b"s{}"]
SEEDS += [b"l" + path.read_bytes()[:4000] for path in sorted(BUNDLED.glob("*.jsonl"))[:2]]
SEEDS += [b"p" + path.read_bytes() for path in sorted((ROOT / "artifacts" / "plans").glob("*.json"))[:2]]
fuzz("documents", target, SEEDS, (CifarExportError,))
