"""Files that appear whole or not at all."""

import pytest

from exporter.errors import InvalidInput
from exporter.files import sha256_bytes, sha256_file, staged, staged_together, write_atomically


def test_a_failure_leaves_the_old_files_and_nothing_else(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_text("old")

    def fail_after_writing():
        with staged_together(first, second) as temporaries:
            for temporary in temporaries:
                temporary.write_text("new")
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        fail_after_writing()
    assert first.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a"]


def test_success_replaces_all(tmp_path):
    first, second = tmp_path / "a", tmp_path / "deep" / "b"
    first.write_text("old")
    with staged_together(first, second) as temporaries:
        for temporary in temporaries:
            temporary.write_text("new")
    assert (first.read_text(), second.read_text()) == ("new", "new")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "b", "deep"]


def test_the_temporary_name_keeps_the_suffix(tmp_path):
    with staged(tmp_path / "a.torchscript.pt") as temporary:
        temporary.write_text("x")
        assert temporary.name.endswith(".a.torchscript.pt")
        assert temporary.parent == tmp_path


def test_a_folder_in_the_way_is_named_before_anything_is_done(tmp_path):
    (tmp_path / "b").mkdir()
    with pytest.raises(InvalidInput, match="it is a folder"), staged_together(tmp_path / "a", tmp_path / "b"):
        pytest.fail("the body ran")


def test_a_link_to_the_output_is_replaced_not_followed(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("old")
    link.symlink_to(target)
    write_atomically(link, b"new")
    assert (target.read_text(), link.read_text(), link.is_symlink()) == ("old", "new", False)


def test_both_sums_agree(tmp_path):
    data = bytes(range(256)) * 5000
    (tmp_path / "a").write_bytes(data)
    assert sha256_file(tmp_path / "a") == sha256_bytes(data)
