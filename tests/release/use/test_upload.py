"""`publish --hub` against a stand-in of the Hub: what arrives is the release, and an error leaves the repository."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

import cifar_export
from cifar_export.release.build.assemble import Origin, assemble
from cifar_export.release.documents.card import render_card
from cifar_export.release.layout import CARD, DEFAULT_EPOCH, SUMS
from cifar_export.release.sums import write_sums
from cifar_export.system.files import sha256_file
from cifar_export.system.hub import put

from support.hub_folders import ATTRIBUTES, as_local_dir, content
from support.hub_server import LARGE, Hub
from support.releases import COMMIT, fake_network

NAMES = ("cifar10_resnet20", "cifar100_resnet20")
NAME = NAMES[1]
TOKEN = "hf_secret"
EMPTY = {".gitattributes": ATTRIBUTES}
Run = Callable[..., Result]


def with_cards(release: Path, card: Callable[[str], str] = str) -> Path:
    """A release of stand-in networks with the cards that `package` would write, changed by `card`."""
    for name in NAMES:
        folder = fake_network(release / name, name)
        documents = [json.loads((folder / file).read_text()) for file in ("config.json", "parity.json")]
        (folder / CARD).write_text(card(render_card(*documents)))
        write_sums(folder)
    assemble(release, Origin("1.0.0", COMMIT, DEFAULT_EPOCH))
    return release


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release; nobody writes into it."""
    return with_cards(tmp_path_factory.mktemp("made") / "1.0.0")


@pytest.fixture
def repository(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> str:
    """A new one on the Hub, to which only `TOKEN` may write."""
    hub.put("org/name", EMPTY)
    hub.token = TOKEN
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    return "org/name"


def refused(run: Run, hub: Hub, code: int, words: str, *arguments: object) -> None:
    """It ends with that code and words, in two lines at most, and the repository is as it was."""
    before = {repo: hub.refs[repo, "main"] for repo in hub.repos}
    done = run("publish", *arguments)
    assert (done.exit_code, words in done.stderr) == (code, True), done.output
    assert done.stderr.count("\n") <= 2
    assert TOKEN not in done.output
    assert {repo: hub.refs[repo, "main"] for repo in hub.repos} == before


def test_the_release_arrives_by_one_commit_and_comes_back(
    hub: Hub, repository: str, made: Path, tmp_path: Path, run: Run
) -> None:
    done = run("publish", made, "--hub", repository, "--json")
    assert (done.exit_code, done.stderr) == (0, ""), done.output
    document = json.loads(done.stdout)
    assert document["commit"] == hub.refs[repository, "main"]
    assert document["files"] == {name: len(data) for name, data in content(made).items()}
    assert document["cards"] == [f"{name}/README.md" for name in sorted(NAMES)]
    assert (document["sha256"], document["version"]) == (sha256_file(made / SUMS), "1.0.0")
    assert hub.files(repository) == {**content(made), **EMPTY}
    assert hub.messages == ["release 1.0.0"]
    assert set(hub.blobs.values()) == {data for name, data in content(made).items() if name.endswith(LARGE)}
    assert TOKEN not in done.output
    release = f"hf://{repository}@{document['commit']}"
    assert run("fetch", NAME, "--release", release, "-o", tmp_path / "out").exit_code == 0
    assert content(tmp_path / "out" / NAME) == content(made / NAME)
    assert cifar_export.verify(as_local_dir(made, tmp_path / "local"), hub=True).result.intact


def test_one_network_arrives_with_its_card_at_the_top(hub: Hub, repository: str, made: Path, run: Run) -> None:
    done = run("publish", made / NAME, "--hub", repository)
    assert done.exit_code == 0, done.output
    assert f"release   hf://{repository}@{hub.refs[repository, 'main']}\n" in done.stdout
    assert hub.files(repository) == {**content(made / NAME), **EMPTY}
    assert hub.messages == [f"{NAME} 1.0.0"]
    assert any(path == "/api/validate-yaml" for _, path, _ in hub.requests)  # the Hub sees the card too


def test_a_dry_run_lists_the_files_and_asks_no_server(hub: Hub, made: Path, run: Run) -> None:
    done = run("publish", made, "--hub", "org/name", "--dry-run")
    assert done.exit_code == 0, done.output
    listed = dict(reversed(line.split()) for line in done.stdout.splitlines() if line.startswith(" "))
    assert listed == {name: f"{len(data):,}" for name, data in content(made).items()}
    assert "to upload" in done.stdout
    assert not hub.requests


def test_what_is_not_intact_is_not_uploaded(hub: Hub, repository: str, made: Path, tmp_path: Path, run: Run) -> None:
    changed = Path(shutil.copytree(made, tmp_path / "1.0.0"))
    (changed / NAME / "model.pt2").write_bytes(b"other")
    refused(run, hub, 1, f"is not intact: {NAME}/model.pt2: changed", changed, "--hub", repository)
    refused(run, hub, 1, "is not intact", changed, "--hub", repository, "--dry-run")
    refused(run, hub, 2, "", made / f"{NAME}-1.0.0.tar.gz", "--hub", repository)
    refused(run, hub, 2, "", tmp_path / "nothing", "--hub", repository)
    assert not hub.requests


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda card: card.partition("---\n\n")[2], "it does not begin with a line of ---"),
        (lambda card: card.replace("license: bsd-3-clause\n", ""), "it does not say license"),
        (lambda card: card.replace("library_name: onnx\n", "").replace("pipeline_tag", "x"), "library_name, pipeline"),
        (lambda card: card.replace("license: ", "license: ["), "it can't be read"),
        (lambda card: card.replace("    - type: accuracy\n", "    - kind: accuracy\n"), "it can't be read"),
        (lambda card: card.replace("value: 0.9\n", "value: 90\n"), "a result of 90 is no fraction"),
        (lambda card: card.replace("value: 0.9\n", 'value: "0.9"\n'), "a result of '0.9' is no fraction"),
    ],
)
def test_a_card_with_another_header_is_not_uploaded(
    change: Callable[[str], str], words: str, hub: Hub, repository: str, tmp_path: Path, run: Run
) -> None:
    release = with_cards(tmp_path / "1.0.0", change)
    refused(run, hub, 1, words, release, "--hub", repository)
    refused(run, hub, 1, f"{NAMES[1]}/README.md has no header that the Hub takes", release, "--hub", repository)
    assert not hub.requests


def test_what_else_is_in_the_repository_stays_unless_told(hub: Hub, repository: str, made: Path, run: Run) -> None:
    hub.put(repository, {**EMPTY, "notes.md": b"mine", "old/model.bin": b"x"})
    words = "org/name holds files that are not of this release: notes.md, old/model.bin"
    refused(run, hub, 2, words, made, "--hub", repository)
    done = run("publish", made, "--hub", repository, "--replace")
    assert done.exit_code == 0, done.output
    assert hub.files(repository) == {**content(made), **EMPTY}
    assert len(hub.messages) == 1


def test_the_same_release_again_changes_nothing(hub: Hub, repository: str, made: Path, run: Run) -> None:
    first = json.loads(run("publish", made, "--hub", repository, "--json").stdout)
    again = json.loads(run("publish", made, "--hub", repository, "--json").stdout)
    assert again["commit"] == first["commit"]


@pytest.mark.parametrize("step", ["/api/models/org/name", "/preupload/", "/objects/batch", "/large/", "/commit/"])
@pytest.mark.parametrize("status", [401, 403, 404, 412, 418])
def test_an_error_of_the_hub_is_unavailable_and_changes_nothing(
    step: str, status: int, hub: Hub, repository: str, made: Path, run: Run
) -> None:
    hub.failing = {step: status}
    refused(run, hub, 3, "cannot upload to hf://org/name: ", made, "--hub", repository)


def test_a_card_that_the_hub_refuses_is_a_failed_check(hub: Hub, repository: str, made: Path, run: Run) -> None:
    hub.failing = {"/api/validate-yaml": 400}
    refused(
        run, hub, 1, "cannot upload to hf://org/name: Invalid metadata in README.md", made / NAME, "--hub", repository
    )


def test_without_login_or_repository_or_network(
    hub: Hub, repository: str, made: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused(run, hub, 3, "there is no such repository, or you may not", made, "--hub", "org/nothing")
    monkeypatch.setenv("HF_TOKEN", "another")
    refused(run, hub, 3, "log in with `hf auth login`, or set HF_TOKEN", made, "--hub", repository)
    monkeypatch.delenv("HF_TOKEN")
    refused(run, hub, 3, "there is no login to the Hub. Run `hf auth login`", made, "--hub", repository)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    refused(run, hub, 3, "cannot upload to hf://org/name", made, "--hub", repository)


def test_a_file_that_changes_after_it_was_verified_is_not_uploaded(
    hub: Hub, repository: str, made: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = Path(shutil.copytree(made, tmp_path / "1.0.0"))
    real = put

    def late(*arguments: object, **more: object) -> str:
        (release / NAME / "model.pt2").write_bytes(b"other")
        return real(*arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr("cifar_export.release.use.upload.put", late)
    refused(run, hub, 1, f"{NAME}/model.pt2 has changed since it was verified", release, "--hub", repository)


def test_what_somebody_else_commits_meanwhile_stays(hub: Hub, repository: str, made: Path, run: Run) -> None:
    hub.meanwhile = {"notes.md": b"theirs"}
    done = run("publish", made, "--hub", repository, "--replace")
    assert (done.exit_code, "somebody else has changed it meanwhile. Run it again" in done.stderr) == (3, True)
    assert hub.files(repository) == {**EMPTY, **hub.meanwhile}


@pytest.mark.parametrize("name", ["name", "org/name/more", "org/name@v1", "hf://org/name", "", "../x"])
def test_what_is_no_name_of_a_repository_is_wrong_usage(name: str, hub: Hub, made: Path, run: Run) -> None:
    refused(run, hub, 2, "is no repository of the Hub. Write ORG/NAME", made, "--hub", name)


def test_without_the_extra_the_message_says_how_to_get_it(
    hub: Hub, made: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    refused(run, hub, 3, "Run: pip install 'cifar-export[hub]'", made, "--hub", "org/name", "--dry-run")
