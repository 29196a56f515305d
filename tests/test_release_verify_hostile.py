"""Every hostile release is refused, for the reason that a user needs to read, and the terminal stays whole."""

import re
import shutil
from pathlib import Path

import pytest
from hostile import CASES, archives
from hostile.case import Case
from releases import fake_release

from exporter.release.verify import MAX_PROBLEMS, extract, main

COMPLAINT = re.compile(r"[ -~]{1,400}")


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake_release(tmp_path_factory.mktemp("intact") / "1.0.0")


@pytest.fixture
def release(intact: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(intact, tmp_path / "here" / "1.0.0"))


def test_cases_have_names_of_their_own() -> None:
    assert len({case.name for case in CASES}) == len(CASES) > 100


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_hostile_release_is_refused(case: Case, release: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = case.make(release) or release
    assert main([str(path), "--json"]) == 1
    output = capsys.readouterr()
    document = json.loads(output.out)
    problems = document["problems"]
    assert any(case.says in problem for problem in problems), problems
    if case.alone:
        assert len(problems) == 1, problems
    assert len(problems) <= MAX_PROBLEMS + 1
    assert all(COMPLAINT.fullmatch(problem) for problem in problems)
    assert document["verdict"] == "not intact"
    assert output.out.isascii()
    assert not output.err


@pytest.mark.parametrize("case", archives.CASES, ids=lambda case: case.name)
def test_hostile_archive_leaves_nothing(case: Case, release: Path, tmp_path: Path) -> None:
    path = case.make(release)
    assert path is not None
    before = set(tmp_path.rglob("*"))
    problems = extract(path, tmp_path / "new")
    assert any(case.says in problem for problem in problems)
    assert set(tmp_path.rglob("*")) == before
