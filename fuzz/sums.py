"""SHA256SUMS, as the standalone verifier reads it."""

import atheris
from harness import fuzz

with atheris.instrument_imports(include=["cifar_export.release.check.verify"]):
    from cifar_export.release.check import verify


def target(data: bytes) -> None:
    digests, problems = verify.parse_sums(data)
    for name in digests:
        if verify.name_problem(name) is not None and not problems:
            raise AssertionError(f"a name that may lead elsewhere was taken: {name!r}")
        verify.shown(name)


LINE = b"0" * 64 + b"  cifar10_resnet20/model.onnx\n"
SEEDS = (LINE, LINE + b"f" * 64 + b" *a b.json\n", b"\\" + LINE, b"# note\n" + LINE, LINE.replace(b"/", b"/../"), b"")
fuzz("sums", target, SEEDS, (verify.NotARelease,) if hasattr(verify, "NotARelease") else ())
