"""Files in further formats in a release: what is said of them, what they must pass, and who finds and runs them."""

import json
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from cifar_export import load
from cifar_export.errors import GateFailed, Unavailable
from cifar_export.exporting.golden import Golden
from cifar_export.formats import FORMATS
from cifar_export.gate.inputs import bundled_images
from cifar_export.networks.zoo import named
from cifar_export.release.archive import write_archive
from cifar_export.release.build import further
from cifar_export.release.build.assemble import Origin, assemble
from cifar_export.release.build.gate import gate_parity
from cifar_export.release.build.merge import merge
from cifar_export.release.build.network import build_network
from cifar_export.release.build.own import Own, prepare
from cifar_export.release.check.deep import check_deep
from cifar_export.release.check.verify import verify
from cifar_export.release.layout import DEFAULT_EPOCH, FURTHER, MODELS, beside_further, further_file
from cifar_export.release.required import REQUIRED, Wanted
from cifar_export.release.sums import files_below
from cifar_export.release.use.fetch import fetch
from cifar_export.runtimes import Missing, open_runtime, spec_of, why_missing
from cifar_export.weights.seeded import random_weights
from cifar_export.weights.sources import load_weights

from support.hostile.case import edit_json, rewrite_sums
from support.paths import ROOT
from support.seeded_network import bundled_in, test_images

test_images.__test__ = False  # type: ignore[attr-defined]
SPEC = named("cifar100_resnet8")


def ready(name: str) -> bool:
    """Whether this machine writes and runs files in that format."""
    try:
        further.require_formats([name])
    except Unavailable:
        return False
    return True


FORMATS_HERE = tuple(name for name in FURTHER if ready(name))
RUN = tuple(name for name in FORMATS_HERE if not FORMATS[name].code)
pytestmark = pytest.mark.skipif(not RUN, reason="needs what writes and runs one of the further formats")


def read(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text(encoding="utf-8"))


def built(place: Path, scratch: Path, version: str = "1.0.0") -> Path:
    """A whole release of a seeded network in every format that this machine knows."""
    own = prepare(Own(random_weights(SPEC, 1), "MIT", test_images()), scratch)
    folder = place / version
    (folder / SPEC.name).mkdir(parents=True)
    with bundled_in(scratch):
        wanted = Wanted(formats=FORMATS_HERE)
        build_network(SPEC, version, folder / SPEC.name, test_images(), wanted=wanted, own=own)
    assemble(folder, Origin(version, None, DEFAULT_EPOCH))
    return folder


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    return built(tmp_path_factory.mktemp("releases"), tmp_path_factory.mktemp("scratch"))


@pytest.fixture
def network(release: Path, tmp_path: Path) -> Path:
    """A copy of the network's folder, to be changed."""
    return Path(shutil.copytree(release / SPEC.name, tmp_path / SPEC.name))


def test_every_line_of_the_table_is_a_format_with_a_gate() -> None:
    assert set(FURTHER) <= set(FORMATS) - {made.format for made in MODELS.values()}
    for name in FURTHER:
        assert further_file(name) == f"model-uint8{FORMATS[name].suffix}"
        assert spec_of(FORMATS[name].gate).gated
        assert FORMATS[name].gate not in REQUIRED


def test_the_release_is_intact_and_every_file_that_is_no_code_runs(release: Path) -> None:
    assert {further_file(name) for name in FORMATS_HERE} <= set(files_below(release / SPEC.name))
    assert verify(release).problems == []
    report = check_deep(release, "release")
    assert report.problems == ()
    ran = {model.file.partition("/")[2]: model for model in report.models}
    for name in RUN:
        model = ran[further_file(name)]
        assert (model.runtime, model.images) == (FORMATS[name].gate, 8)
        assert 0 < model.max_abs_error <= model.atol
    assert {skipped.file.partition("/")[2] for skipped in report.not_run} == {
        further_file(name) for name in FORMATS_HERE if FORMATS[name].code
    }
    assert all("it is code" in skipped.reason for skipped in report.not_run)


def test_its_documents_keep_to_their_schemas_and_name_every_file(release: Path) -> None:
    folder = release / SPEC.name
    for name, schema in (("config.json", "config-3.json"), ("parity.json", "release-parity-3.json")):
        jsonschema.validate(read(folder, name), json.loads((ROOT / "docs/schemas" / schema).read_text()))
    config, parity, index = read(folder, "config.json"), read(folder, "parity.json"), read(release, "index.json")
    assert tuple(config["further"]) == tuple(sorted(FORMATS_HERE))
    for name in FORMATS_HERE:
        file = further_file(name)
        size = (folder / file).stat().st_size
        beside = sorted(beside_further(name))
        assert config["further"][name] == {"file": file, "bytes": size, "runtime": FORMATS[name].gate, "beside": beside}
        assert set(beside) <= set(files_below(folder))
        assert config["golden"][file] == config["golden"]["model-uint8.onnx"]
        (row,) = parity["further"][name]["runtimes"]
        assert (row["runtime"], row["role"], row["passed"]) == (FORMATS[name].gate, "gated", True)
        described = index["networks"][SPEC.name]["files"][file]
        assert (described["format"], described["input"], described["bytes"]) == (name, "uint8", size)
        library = FORMATS[name].library
        assert library is None or library in config["built_with"]


def test_the_bill_of_materials_and_the_attestations_name_them(release: Path) -> None:
    schema = json.loads((ROOT / "docs/schemas/attestation-1.json").read_text())
    made, tested = (read(release, name) for name in ("provenance.intoto.json", "test-result.intoto.json"))
    for document in (made, tested):
        jsonschema.validate(document, schema)
    assert made["predicate"]["buildDefinition"]["externalParameters"]["formats"] == sorted(FORMATS_HERE)
    bill = read(release, "sbom.cdx.json")
    files = {part["name"]: part for part in bill["components"][0]["components"]}
    for name in FORMATS_HERE:
        file = f"{SPEC.name}/{further_file(name)}"
        assert f"{file}: parity {FORMATS[name].gate} uint8" in tested["predicate"]["passedTests"]
        assert files[file]["description"] == f"{name}, uint8 input"
        assert any(subject["name"] == file for subject in made["subject"])
        for beside, what in beside_further(name).items():
            assert files[f"{SPEC.name}/{beside}"]["description"] == what


def test_the_card_has_a_table_of_them(release: Path) -> None:
    card = (release / SPEC.name / "README.md").read_text(encoding="utf-8")
    config = read(release / SPEC.name, "config.json")
    for name in FORMATS_HERE:
        file = further_file(name)
        row = f"| `{file}` | {FORMATS[name].title} | {spec_of(FORMATS[name].gate).title} | "
        atol = f"{config['golden'][file]['atol']:.2g}"
        assert f"{row}{config['further'][name]['bytes']:,} bytes | {atol} |" in card
        for described, what in {file: FURTHER[name], **beside_further(name)}.items():
            assert f"| `{described}` | {what} |" in card
    assert ("and so is `model-uint8.c`: load them only" in card) == ("c" in FORMATS_HERE)
    assert ("but `model-uint8.c` takes one image at a time" in card) == ("c" in FORMATS_HERE)


def test_a_release_without_them_does_not_speak_of_them(release: Path, tmp_path: Path) -> None:
    from cifar_export.release.documents.card import render_card

    config, parity = read(release / SPEC.name, "config.json"), read(release / SPEC.name, "parity.json")
    for name in FORMATS_HERE:
        for key in ("models", "golden"):
            del config[key][further_file(name)]
    card = render_card(config | {"further": {}}, parity | {"further": {}})
    assert "Further formats" not in card
    assert "TorchScript and .pt2 files are code: load" in card


def test_it_is_fetched_and_loaded_with_its_files(release: Path, tmp_path: Path) -> None:
    got = fetch(SPEC.name, str(release), output=tmp_path)
    loaded = load(SPEC.name, release)
    images = bundled_images()[:4]
    expected = loaded.session().run(None, {"image": images})[0]
    for name in FORMATS_HERE:
        assert further_file(name) in got.files
        with open_runtime(FORMATS[name].gate, loaded.path(further_file(name))) as runtime:
            assert np.abs(runtime.logits(images) - expected).max() < 1e-3


def test_the_same_bytes_twice_and_by_a_merge(release: Path, tmp_path: Path) -> None:
    again = built(tmp_path / "again", Path(shutil.copytree(release, tmp_path / "scratch")))
    names = files_below(release)
    assert files_below(again) == names
    assert [name for name in names if (again / name).read_bytes() != (release / name).read_bytes()] == []
    merged = merge([release], tmp_path / "merged").path
    assert [name for name in names if (merged / name).read_bytes() != (release / name).read_bytes()] == []


@pytest.mark.parametrize("name", RUN)
def test_a_file_of_other_weights_is_found_though_it_says_otherwise(name: str, network: Path) -> None:
    """A network without its first weights, which says that it is the one of the release."""
    weights = load_weights(SPEC, str(network / "model.safetensors"))
    wrong = {key: value * (0.9 if key == "fc.weight" else 1) for key, value in weights.state.items()}
    _write(network, name, wrong)
    (problem,) = check_deep(network, "network").problems
    assert problem.startswith(f"{further_file(name)}: is off by ")


@pytest.mark.parametrize("name", FORMATS_HERE)
def test_a_wrong_file_does_not_pass_parity_and_nothing_is_granted(name: str, network: Path) -> None:
    weights = load_weights(SPEC, str(network / "model.safetensors"))
    wrong = {key: value * (0.9 if key == "fc.weight" else 1) for key, value in weights.state.items()}
    _write(network, name, wrong)
    gate, file = FORMATS[name].gate, network / further_file(name)
    files = {"onnx": network / "model-uint8.onnx", name: file}
    with pytest.raises(GateFailed, match=rf"cifar100_resnet8: parity failed on uint8 input: .*{gate}"):
        gate_parity(weights, "uint8", files, ["pytorch", gate], further=[gate])
    with pytest.raises(GateFailed, match=f"{gate} was not compared"):
        gate_parity(weights, "uint8", files, ["pytorch", "onnxruntime-cpu"], further=[gate])
    images = bundled_images()[:2]
    nothing = Golden(images, np.zeros((2, SPEC.dataset.classes), np.float32), 1e-6)
    with pytest.raises(GateFailed, match=rf"cifar100_resnet8: {further_file(name)} is off by .* is not released"):
        further.golden_errors(SPEC.name, network, [name], nothing)


def _write(network: Path, name: str, state: dict[str, Any]) -> None:
    """Put a file with that state dict, and the metadata of the weights that stand there, in the place of `name`'s."""
    from dataclasses import replace

    from cifar_export.exporting.artifact import write_file
    from cifar_export.networks.resnet import with_input
    from cifar_export.weights.core import build_network as module_of

    weights = load_weights(SPEC, str(network / "model.safetensors"))
    module = with_input(module_of(replace(weights, state=state)), "uint8", weights.normalization).eval()
    write_file(network / further_file(name), weights, name, "uint8", module, choices=None, checked=True)
    size = (network / further_file(name)).stat().st_size
    edit_json(network / "config.json", lambda config: config["further"][name].update(bytes=size))
    rewrite_sums(network)


@pytest.mark.parametrize("name", RUN)
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda config, name: config["further"].pop(name), "of other further formats"),
        (lambda config, name: config["further"].update(tflite={}), "no format tflite is known"),
        (lambda config, name: config["further"][name].update(runtime="pytorch"), "says of it"),
        (lambda config, name: config["further"][name].update(bytes=1), "says of it"),
        (lambda config, name: config["models"][further_file(name)].update(input="float32"), "input variant is uint8"),
        (lambda config, name: config["golden"][further_file(name)].update(atol=1.0), "too large to show anything"),
        (lambda config, name: config["golden"].pop(further_file(name)), "does not describe it"),
    ],
)
def test_deep_finds_what_is_described_otherwise(
    network: Path, name: str, change: Callable[[Any, str], object], said: str
) -> None:
    edit_json(network / "config.json", lambda config: change(config, name))
    rewrite_sums(network)
    problems = check_deep(network, "network").problems
    assert any(said in line for line in problems), problems


@pytest.mark.parametrize("name", FORMATS_HERE)
def test_a_file_that_was_left_out_is_missed(name: str, network: Path) -> None:
    for file in (further_file(name), *beside_further(name)):
        (network / file).unlink()
        rewrite_sums(network)
        assert f"config.json: names {file}, which SHA256SUMS does not list" in verify(network).problems
        assert f"{file}: missing, and `package` writes one" in check_deep(network, "network").problems


@pytest.mark.skipif("ort" not in RUN, reason="needs ONNX Runtime")
def test_what_stands_beside_a_file_must_be_of_it(network: Path) -> None:
    (beside,) = beside_further("ort")
    (network / beside).write_text("ai.onnx;11;Conv\n")
    rewrite_sums(network)
    assert check_deep(network, "network").problems == (f"model-uint8.ort: {beside} beside it is of another file",)


def test_an_archive_is_tried_too(release: Path, tmp_path: Path) -> None:
    archive = tmp_path / f"{SPEC.name}-1.0.0.tar.gz"
    write_archive(release / SPEC.name, SPEC.name, archive, DEFAULT_EPOCH)
    report = check_deep(archive, "archive")
    assert report.problems == ()
    assert {further_file(name) for name in RUN} <= {model.file for model in report.models}


def test_without_its_runtime_a_file_is_not_run_and_that_is_said(
    release: Path, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no problem of the release, so the exit code is 0."""
    lacking = Missing("it is not installed", "Install it.")
    gates = {FORMATS[name].gate for name in FURTHER}
    monkeypatch.setattr(
        "cifar_export.runtimes.why_missing", lambda name: lacking if name in gates else why_missing(name)
    )
    done = run("verify", release, "--deep")
    assert done.exit_code == 0, done.output
    for name in RUN:
        assert f"{SPEC.name}/{further_file(name)}: not run: it is not installed. Install it.\n" in done.stdout
    document = json.loads(run("verify", release, "--deep", "--json").stdout)
    assert {entry["file"].partition("/")[2] for entry in document["deep"]["not_run"]} == {
        further_file(name) for name in FORMATS_HERE
    }
    assert document["problems"] == []


def test_verify_says_in_which_runtime_a_file_ran(release: Path, run: Any) -> None:
    done = run("verify", release / SPEC.name, "--deep")
    for name in RUN:
        assert f"{further_file(name)}: {FORMATS[name].gate}, 8 golden images off by " in done.stdout


@pytest.mark.skipif("openvino" not in RUN, reason="needs OpenVINO")
def test_a_file_that_cannot_be_read_is_one_line(network: Path) -> None:
    path = network / "model-uint8.openvino.zip"
    with zipfile.ZipFile(path) as archive:
        metadata = archive.read("model/extra/metadata.json")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/extra/metadata.json", metadata)
    edit_json(network / "config.json", lambda c: c["further"]["openvino"].update(bytes=path.stat().st_size))
    rewrite_sums(network)
    (problem,) = check_deep(network, "network").problems
    assert problem.startswith("model-uint8.openvino.zip: openvino-ir cannot load")


@pytest.mark.parametrize("name", [name for name in FURTHER if FORMATS[name].library])
def test_what_a_format_needs_is_asked_for_before_anything_is_built(
    name: str, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cifar_export.formats.importlib.util.find_spec", lambda module: None)
    fix = f"pip install 'cifar-export[{name}]'"
    result = run("package", "cifar10_resnet20", "--version", "1.0.0", "--output", tmp_path / "out", "--format", name)
    assert (result.exit_code, fix in result.stderr) == (3, True), result.stderr
    assert not (tmp_path / "out").exists()


def test_an_unknown_format_is_wrong_usage_and_the_known_ones_are_named(run: Any, tmp_path: Path) -> None:
    result = run("package", "resnet20", "--version", "1.0.0", "--output", tmp_path, "--format", "openvin")
    assert result.exit_code == 2
    assert "'openvin' is not one of 'openvino', 'ort', 'c'" in result.stderr
    assert not list(tmp_path.iterdir())
