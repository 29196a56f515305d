"""C files: proved by compiling them, with bytes of the network's alone, and no way out of their comments."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cifar_export.errors import InvalidInput
from cifar_export.exporting.artifact import export
from cifar_export.formats import FORMATS
from cifar_export.gate.inputs import bundled_images
from cifar_export.networks.zoo import INPUT_VARIANTS, named
from cifar_export.runtimes import open_runtime, why_missing
from cifar_export.weights.seeded import random_weights

from support.paths import ROOT

pytest.importorskip("emx_onnx_cgen")
pytestmark = pytest.mark.skipif(why_missing("c") is not None, reason="needs a C compiler")
SPEC = named("cifar10_resnet8")
MAKE = """
import sys
from pathlib import Path
from cifar_export.exporting.artifact import export
from cifar_export.networks.zoo import named
from cifar_export.weights.seeded import random_weights
export(random_weights(named("cifar10_resnet8"), 1), "c", output=Path(sys.argv[1]), checked=False)
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of seeded weights, proved."""
    return export(random_weights(SPEC, 1), "c", variant="uint8", output=tmp_path_factory.mktemp("c") / "model.c").path


@pytest.mark.parametrize("variant", INPUT_VARIANTS)
def test_each_input_variant_is_proved_by_the_compiled_file(variant: Any, tmp_path: Path) -> None:
    report = export(random_weights(SPEC, 2), "c", variant=variant, output=tmp_path / "model.c").parity
    assert report is not None
    assert [(row.runtime, row.state) for row in report.runtimes] == [("c", "passed")]


def test_a_changed_weight_is_seen_by_parity(run: Any, made: Path, tmp_path: Path) -> None:
    changed = tmp_path / "model.c"
    source = made.read_text()
    weights = list(re.finditer(r"-?0x1\.\w+p-2f", source))
    changed.write_text(source[: weights[50].start()] + "0x1p+3f" + source[weights[50].end() :])
    command = ("parity", "cifar10_resnet8", "--weights", "random", "--seed", "1", "--input", "uint8", "--runtime", "c")
    options = ("--trust-file", "--file")
    assert run(*command, *options, made).exit_code == 0
    failed = run(*command, *options, changed)
    assert failed.exit_code == 1
    assert "parity FAILED" in failed.stderr


def test_code_that_nobody_vouches_for_is_not_run(run: Any, made: Path, tmp_path: Path) -> None:
    copied = tmp_path / "model.c"
    shutil.copy(made, copied)
    refused = run("predict", copied, ROOT / "examples" / "samples" / "cat.png")
    assert refused.exit_code == 2
    assert "--trust-file" in refused.stderr


def test_what_the_file_says_of_itself_is_read_without_a_compiler(made: Path) -> None:
    facts = FORMATS["c"].load().inspect(made)
    assert (facts.variant, facts.precision, (facts.metadata or {})["model"]) == ("uint8", "float32", "resnet8")


def test_its_bytes_do_not_depend_on_the_process_or_what_it_made_before(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.c" for number in range(3)]
    for path in paths[:2]:
        export(random_weights(SPEC, 1), "c", output=path, checked=False)
    environment = os.environ | {"PYTHONHASHSEED": "77"}
    subprocess.run([sys.executable, "-c", MAKE, paths[2]], check=True, cwd=ROOT, capture_output=True, env=environment)
    assert len({path.read_bytes() for path in paths}) == 1


def test_two_networks_in_one_program_share_no_name(made: Path, tmp_path: Path) -> None:
    built = []
    for name in ("first", "second"):
        built.append(tmp_path / f"{name}.o")
        flags = [f"-Dmodel={name}", f"-Dmodel_labels={name}_labels", "-std=c99", "-c", "-o", built[-1]]
        done = subprocess.run(["cc", *flags, "-Wall", "-Wextra", "-Werror", made], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
    subprocess.run(["cc", "-r", "-nostdlib", "-o", tmp_path / "both.o", *built], check=True, capture_output=True)


def test_labels_cannot_leave_comment_or_string(tmp_path: Path) -> None:
    labels = ("*/ #error one /*", '"; #error two "', "back\\", "line\nend", "??/", "Größe", "\x1b]0;x", "a", "b", "%s")
    spec = dataclasses.replace(SPEC, dataset=dataclasses.replace(SPEC.dataset, labels=labels))
    weights = dataclasses.replace(random_weights(SPEC, 1), network=spec)
    path = export(weights, "c", output=tmp_path / "model.c", checked=False).path
    assert (FORMATS["c"].load().inspect(path).metadata or {})["labels"] == list(labels)
    program = tmp_path / "main.c"
    program.write_text(
        "#include <stdio.h>\nextern const char *const model_labels[10];\n"
        "int main(void) { for (int i = 0; i < 10; ++i) { fputs(model_labels[i], stdout); putchar(0); } return 0; }\n"
    )
    built = tmp_path / "main"
    flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-o", built]
    done = subprocess.run(["cc", *flags, program, path, "-lm"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    said = subprocess.run([built], capture_output=True, check=True).stdout.decode()
    assert said.split("\0")[:-1] == list(labels)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda text: text[: len(text) // 2], "no function"),
        (lambda text: "", "no function"),
        (lambda text: text.replace("malloc(", "mallocate((", 1), "error: "),
        (lambda text: text.replace("void model(", "static void model(", 1), "no function"),
    ],
)
def test_a_damaged_file_is_refused_in_one_line(made: Path, tmp_path: Path, damage: Any, said: str) -> None:
    path = tmp_path / "model.c"
    path.write_text(damage(made.read_text()))
    with pytest.raises(InvalidInput, match=said) as refused:
        open_runtime("c", path)
    assert "\n" not in str(refused.value)


def test_where_memory_is_short_the_logits_are_no_numbers(made: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.c"
    path.write_text("#define malloc(size) ((void)(size), NULL)\n" + made.read_text().replace("#include <stdlib.h>", ""))
    path.write_text("#include <stdlib.h>\n" + path.read_text())
    with open_runtime("c", path) as runtime:
        assert np.isnan(runtime.logits(bundled_images()[:2])).all()


def test_metadata_that_is_no_json_is_named(made: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.c"
    path.write_text(made.read_text().replace('{"dataset"', '{dataset"', 1))
    with pytest.raises(InvalidInput, match="first line is no metadata"):
        FORMATS["c"].load().inspect(path)


def test_without_the_generator_nothing_is_written(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cifar_export.formats.importlib.util.find_spec", lambda name: None)
    result = run("c", "resnet8", "--weights", "random", "-o", tmp_path / "model.c")
    assert (result.exit_code, list(tmp_path.iterdir())) == (3, [])
    assert "pip install 'cifar-export[c]'" in result.stderr


def test_a_compiler_that_compiles_nothing_is_named(run, weights20_file, tmp_path, monkeypatch):
    monkeypatch.setenv("CC", "false")
    done = run("c", "resnet20", "--weights", weights20_file, "--output", tmp_path / "a.c")
    assert done.exit_code == 1
    assert "`false` compiles nothing here (exit code 1)" in done.stderr
    assert ".." not in done.stderr.replace("...", "")
    assert list(tmp_path.iterdir()) == []


def test_without_a_compiler_nothing_is_written(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    command = ("c", "resnet8", "--weights", "random", "-o", tmp_path / "model.c", "--json")
    result = run(*command)
    assert (result.exit_code, list(tmp_path.iterdir())) == (3, [])
    assert "Install gcc" in result.stderr
    unproved = run(*command, "--no-check")
    assert json.loads(unproved.stdout)["parity"]["passed"] is None
