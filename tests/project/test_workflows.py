"""The GitHub workflows: well-formed, safe, and in step with the commands they run."""

import itertools
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cifar_export.networks.zoo import NETWORKS
from cifar_export.release.layout import release_version
from cifar_export.system.commit import source_commit

from support.command_lines import problem
from support.paths import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PACKAGE = (
    Path(__file__).parent / "workflows" / "node_modules" / "@tktco" / "node-actionlint" / "bin" / "node-actionlint.js"
)
# what the variables of our commands can be
VALUES = {
    "$NETWORK": list(NETWORKS),
    "${NETWORK%%_*}": sorted({spec.dataset.name for spec in NETWORKS.values()}),
    "$VERSION": ["1.0.0"],
}


def jobs() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path in WORKFLOWS:
        for name, job in yaml.safe_load(path.read_text())["jobs"].items():
            yield path.name, name, job


def steps() -> Iterator[tuple[str, dict[str, Any]]]:
    for workflow, name, job in jobs():
        for step in job.get("steps", []):
            yield f"{workflow} {name}", step


def actionlint(folder: Path) -> list[str]:
    """The command over the workflows below `folder`: an installed binary, else the WebAssembly build."""
    binary = shutil.which("actionlint", path=f"{Path(sys.executable).parent}") or shutil.which("actionlint")
    if binary:
        return [binary, *(str(path.relative_to(folder)) for path in sorted(folder.glob(".github/workflows/*.yml")))]
    node = shutil.which("node")
    if node and PACKAGE.is_file():
        return [node, str(PACKAGE), ".github/workflows/*.yml"]  # it expands one pattern itself
    pytest.skip("needs actionlint, or Node.js and `make examples-setup`")


def test_actionlint_finds_nothing_but_what_was_planted(tmp_path: Path) -> None:
    folder = tmp_path / ".github" / "workflows"
    shutil.copytree(ROOT / ".github" / "workflows", folder)
    planted = WORKFLOWS[0].read_text().replace("timeout-minutes", "timeout-hours", 1)
    (folder / "planted.yml").write_text(planted)
    done = subprocess.run(actionlint(tmp_path), cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    found = re.findall(r"^(\S+\.yml):\d+:\d+", done.stdout, re.MULTILINE)
    assert set(found) == {".github/workflows/planted.yml"}, done.stdout
    assert "timeout-hours" in done.stdout


def zizmor(*paths: Path) -> subprocess.CompletedProcess[str]:
    binary = Path(sys.executable).with_name("zizmor")
    if not binary.exists():
        pytest.skip("needs zizmor")
    command = [str(binary), "--offline", "--no-progress", "--no-config", *map(str, paths)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_zizmor_finds_nothing() -> None:
    """No injection, no broad permissions, no credentials left about, actions pinned."""
    done = zizmor(*WORKFLOWS)
    assert done.returncode == 0, done.stdout + done.stderr


def test_zizmor_would_find_something(tmp_path: Path) -> None:
    path = tmp_path / "release.yml"
    release = next(path for path in WORKFLOWS if path.name == "release.yml").read_text()
    path.write_text(release.replace('--title "$VERSION"', '--title "${{ github.ref_name }}"'))
    assert "template-injection" in zizmor(path).stdout


def test_no_expression_reaches_a_shell() -> None:
    """What an outsider can choose comes through the environment alone."""
    scripts = [(job, step["run"]) for job, step in steps() if "run" in step]
    assert scripts
    for job, script in scripts:
        assert "${{" not in script, job
        assert "secrets." not in script, job


def test_permissions_are_per_job_and_least() -> None:
    for path in WORKFLOWS:
        assert yaml.safe_load(path.read_text())["permissions"] == {}, path.name
    granted = {(workflow, name): job["permissions"] for workflow, name, job in jobs()}
    more = {where: found for where, found in granted.items() if found != {"contents": "read"}}
    assert more == {
        ("release.yml", "sign"): {"contents": "read", "id-token": "write", "attestations": "write"},
        ("release.yml", "publish"): {"contents": "write"},
    }


def test_jobs_that_can_write_run_no_code_of_a_checkout() -> None:
    release = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text())
    for name in ("sign", "publish"):
        assert not any("actions/checkout" in step.get("uses", "") for step in release["jobs"][name]["steps"])


def test_actions_are_pinned_by_digest_and_named_by_version() -> None:
    versions: dict[str, set[str]] = {}
    for path in WORKFLOWS:
        for line in path.read_text().splitlines():
            if re.search(r"\buses: (?!\./)", line):
                pin = re.search(r"uses: ([\w.-]+/[\w./-]+)@([0-9a-f]{40} # v\d+\.\d+\.\d+)( #|$)", line)
                assert pin, line
                versions.setdefault(pin[1], set()).add(pin[2])
    assert len(versions) >= 5
    assert {action: len(found) for action, found in versions.items()} == dict.fromkeys(versions, 1)


def our_commands() -> Iterator[tuple[str, list[str]]]:
    """Every `cifar-export` command line, for each value that its variables can have."""
    for job, step in steps():
        for line in step.get("run", "").replace("\\\n", " ").splitlines():
            for words in re.findall(r"\bcifar-export ([^)|;&`]+)", line):
                if "`cifar-export" in line:
                    continue  # a mention
                names = [name for name in VALUES if name in words]
                for values in itertools.product(*(VALUES[name] for name in names)):
                    text = words
                    for name, value in zip(names, values, strict=True):
                        text = text.replace(name, value)
                    assert "$" not in text, f"{job}: {text}"
                    yield job, shlex.split(text)


def test_every_command_line_of_ours_parses() -> None:
    commands = list(our_commands())
    assert {words[0] for _, words in commands} == {"data", "package", "merge", "verify"}
    assert [(job, wrong) for job, words in commands if (wrong := problem(words))] == []


def test_the_matrix_is_the_zoo() -> None:
    release = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text())
    assert release["jobs"]["build"]["strategy"]["matrix"]["network"] == list(NETWORKS)


def test_the_pythons_are_those_that_are_declared() -> None:
    ci = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    declared = re.findall(r"Programming Language :: Python :: (3\.\d+)", (ROOT / "setup.cfg").read_text())
    assert ci["jobs"]["test"]["strategy"]["matrix"]["python"] == declared


@pytest.mark.parametrize(
    ("tag", "fits"),
    [
        ("v1.0.0", True),
        ("v1.1rc1", True),
        ("v2.0.post1", True),
        ("v0.1", True),
        ("1.0.0", False),
        ("v1.0.0-rc1", False),
        ("v01.0", False),
        ("v1.0.0+local", False),
        ("v1.0.0;id", False),
        ("v1.0.0\nversion=2", False),
        ("v", False),
        ("v1.0.0/../..", False),
    ],
)
def test_only_a_normalized_version_is_a_tag_of_a_release(tag: str, fits: bool, tmp_path: Path) -> None:
    if source_commit() is None:
        pytest.skip("needs a git checkout")
    release = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text())
    (script,) = [step["run"] for step in release["jobs"]["plan"]["steps"] if step.get("id") == "plan"]
    output = tmp_path / "output"
    environment = {
        "TAG": tag,
        "GITHUB_OUTPUT": str(output),
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": str(tmp_path),
    }
    done = subprocess.run(["bash", "-e", "-c", script], cwd=ROOT, env=environment, capture_output=True, check=False)
    assert done.returncode == (0 if fits else 1), done.stderr
    if fits:
        found = dict(line.split("=") for line in output.read_text().splitlines())
        assert found["version"] == tag[1:] == release_version(tag[1:])  # so --version is the tag, letter for letter
        assert int(found["epoch"]) > 1_000_000_000
    else:
        assert not output.exists()
