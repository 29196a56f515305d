"""`tools/mutants.py`: the table fits the tree, and its verdicts are true."""

import importlib.util
import sys

import pytest

from support.paths import ROOT


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("mutants", ROOT / "tools" / "mutants.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["mutants"] = module
    spec.loader.exec_module(module)
    return module


def test_every_entry_of_the_table_fits_the_tree(tool):
    assert tool.stale(tool.read_table()) == []


def test_an_entry_that_no_longer_fits_is_named(tool, tmp_path):
    (tmp_path / "code.py").write_text("limit = 4\n")
    gone = tool.Mutant("a limit", "code.py", "limit = 5", "limit = 6", ("tests/test_gone.py::test",))
    assert tool.stale([gone], tmp_path) == [
        "a limit: its old text stands 0 times in code.py, not once",
        "a limit: there is no tests/test_gone.py::test",
    ]


def test_a_planted_fault_is_gone_afterwards(tool, tmp_path):
    (tmp_path / "code.py").write_text("limit = 4\n")
    with tool.planted(tmp_path, tool.Mutant("a limit", "code.py", "4", "40", ("tests",))):
        assert (tmp_path / "code.py").read_text() == "limit = 40\n"
    assert (tmp_path / "code.py").read_text() == "limit = 4\n"


def test_an_incomplete_entry_is_refused(tool, tmp_path):
    (tmp_path / "mutants.toml").write_text('[[mutant]]\nwhat = "a limit"\ntests = []\n')
    with pytest.raises(tool.Problem, match="an entry is incomplete"):
        tool.read_table(tmp_path / "mutants.toml")
