"""`tools/mutants.py`: the table fits the tree, and its verdicts are true."""

import pytest

from tools import mutants


def test_every_entry_of_the_table_fits_the_tree():
    assert mutants.stale(mutants.read_table()) == []


def test_an_entry_that_no_longer_fits_is_named(tmp_path):
    (tmp_path / "code.py").write_text("limit = 4\n")
    gone = mutants.Mutant("a limit", "code.py", "limit = 5", "limit = 6", ("tests/test_gone.py::test",))
    assert mutants.stale([gone], tmp_path) == [
        "a limit: its old text stands 0 times in code.py, not once",
        "a limit: there is no tests/test_gone.py::test",
    ]


def test_a_planted_fault_is_gone_afterwards(tmp_path):
    (tmp_path / "code.py").write_text("limit = 4\n")
    with mutants.planted(tmp_path, mutants.Mutant("a limit", "code.py", "4", "40", ("tests",))):
        assert (tmp_path / "code.py").read_text() == "limit = 40\n"
    assert (tmp_path / "code.py").read_text() == "limit = 4\n"


def test_an_incomplete_entry_is_refused(tmp_path):
    (tmp_path / "mutants.toml").write_text('[[mutant]]\nwhat = "a limit"\ntests = []\n')
    with pytest.raises(mutants.Problem, match="an entry is incomplete"):
        mutants.read_table(tmp_path / "mutants.toml")
