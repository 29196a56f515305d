"""The documentation says what the files say."""

import re
import shlex

import pytest

from cifar_export.networks.interval import wilson
from cifar_export.networks.zoo import NETWORKS
from cifar_export.training.plans import evaluated
from cifar_export.weights.index import bundled_entries

from support.command_lines import problem
from support.paths import ROOT
from support.shapes import write_shapes

PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").glob("*/README.md")]


def test_the_accuracy_table_is_the_index():
    text = (ROOT / "docs" / "accuracy.md").read_text()
    rows = text.partition("<!-- table -->")[2].partition("<!-- end of table -->")[0].strip().splitlines()[2:]
    expected = []
    for name, spec in NETWORKS.items():
        cells = [name, f"{spec.reference.top1:.2f} / {spec.reference.top5:.2f}"]
        entry = bundled_entries().get(name)
        if entry is None:
            cells += ["not trained yet", "", ""]
        else:
            cells.append(f"{entry.top1:.2f} / {entry.top5:.2f}")
            cells.append(f"{entry.top1 - spec.reference.top1:+.2f}")
            start = f" from {initial['network']}" if (initial := entry.provenance.get("initial")) else ""
            epochs = f"{entry.recipe['epochs']} {'pruned ' if entry.recipe.get('prune') else ''}epochs"
            runs = entry.provenance.get("earlier_runs", [])
            runs = [*runs, {"epochs": entry.recipe["epochs"], "prune": entry.recipe.get("prune", 0)}]
            total = f"; {sum(run['epochs'] for run in runs)} epochs in all" if len(runs) > 1 else ""
            pruned = sum(run["epochs"] for run in runs if run["prune"])
            total += f", {pruned} of them pruned" if total and pruned else ""
            cells.append(f"{entry.recipe['name']}, {epochs}{start}, seed {entry.seed}{total}")
        expected.append("| " + " | ".join(cells).replace("|  |", "| |").replace("|  |", "| |") + " |")
    normal = [re.sub(r"\s+", " ", row) for row in rows]
    assert normal == [re.sub(r"\s+", " ", row) for row in expected]


def test_the_table_of_what_trained_cifar100_is_the_index():
    text = (ROOT / "docs" / "accuracy.md").read_text()
    for name, entry in bundled_entries().items():
        if entry.dataset == "cifar100":
            whole = {"epochs": entry.recipe["epochs"], **entry.provenance}
            parts = entry.provenance.get("parts", [whole])
            assert sum(part["epochs"] for part in parts) == entry.recipe["epochs"]
            assert [part["hardware"] for part in parts] == ["NVIDIA H100 80GB HBM3", "AMD EPYC, 1 thread"][: len(parts)]
            cells = [f"{part['epochs']} epochs, {part['seconds']:,.0f} s" for part in parts] + [""] * (2 - len(parts))
            assert f"| {name} | {' | '.join(cells)} |".replace("|  |", "| |") in text


def test_the_protocol_shows_every_run_that_was_scored():
    text = (ROOT / "docs" / "protocol.md").read_text()
    rows = text.partition("<!-- table -->")[2].partition("<!-- end of table -->")[0].strip().splitlines()[2:]
    expected = []
    for run in evaluated(ROOT / "artifacts" / "plans"):
        low, high = wilson(run["top1"], run["images"])
        network, plan, bundled = run["network"], run["plan"], "yes" if run["bundled"] else "no"
        name = plan.removeprefix(f"{network}-").removesuffix(".json")
        figures = f"{run['top1']:.2f} | {low:.2f}–{high:.2f} | {bundled}"
        expected.append(f"| {network} | [{name}](../artifacts/plans/{plan}) | {run['written']} | {figures} |")
    assert rows == expected


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), target


def command_lines() -> list[tuple[str, list[str]]]:
    """The commands that the pages of docs/ show, each with its page."""
    found = []
    for page in sorted((ROOT / "docs").glob("*.md")):
        text = page.read_text().replace("\\\n", " ")
        for line in re.findall(r"^(?:    |\$ )cifar-export (.*)", text, re.MULTILINE):
            words = re.sub(r"[\[\]]", " ", line.partition("  #")[0]).replace("…", "0.5,0.5,0.5").replace(" N ", " 2 ")
            found.append((page.name, shlex.split(words)))
    return found


def test_every_command_of_the_pages_is_understood(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_shapes(tmp_path / "shapes", train=1, test=1)  # what they name
    for name in (
        "run/weights.safetensors",
        "quantized/weights.safetensors",
        "model.onnx",
        "theirs.onnx",
        "shapes.onnx",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    commands = command_lines()
    assert len(commands) > 50
    assert [(page, words, wrong) for page, words in commands if (wrong := problem(words))] == []
