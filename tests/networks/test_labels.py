"""A file of labels is a data set, or a message that says which line is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from cifar_export.errors import InvalidInput
from cifar_export.networks.labels import MOST, read_labels


def write(folder: Path, data: bytes, name: str = "shapes.txt") -> Path:
    (folder / name).write_bytes(data)
    return folder / name


@pytest.mark.parametrize(
    "data", [b"circle\nsquare\n", b"circle\r\nsquare\r\n\r\n", b"\xef\xbb\xbfcircle\nsquare", b" circle \n\tsquare\n\n"]
)
def test_one_label_a_line(data: bytes, tmp_path: Path) -> None:
    dataset = read_labels(write(tmp_path, data))
    assert (dataset.name, dataset.labels, dataset.classes) == ("shapes", ("circle", "square"), 2)


def test_labels_of_any_language_and_with_blanks(tmp_path: Path) -> None:
    assert read_labels(write(tmp_path, "großer Hund\n猫\n".encode())).labels == ("großer Hund", "猫")


@pytest.mark.parametrize(
    ("file", "name"), [("my shapes.v2.txt", "my-shapes-v2"), ("a_b-C9", "a_b-C9"), ("größe.txt", "gr-e")]
)
def test_the_name_is_the_files(file: str, name: str, tmp_path: Path) -> None:
    assert read_labels(write(tmp_path, b"a\nb\n", file)).name == name


WRONG = {
    "empty": (b"", r"has 0 label\(s\)"),
    "one": (b"a\n", r"has 1 label\(s\)"),
    "twice": (b"a\nb\na\n", "lines 1 and 3 are both 'a'"),
    "gap": (b"a\n\nb\n", "line 2: '' is no label"),
    "escape": (b"a\n\x1b[2Jb\n", "line 2: .* is no label"),
    "latin": ("größe\nb\n".encode("latin-1"), "no text in UTF-8"),
    "long": (b"a\n" + b"b" * 201, "line 2: .* is no label"),
    "many": (b"".join(b"%d\n" % number for number in range(MOST + 1)), "more than 10,000 labels"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_no_list_of_labels(kind: str, tmp_path: Path) -> None:
    data, message = WRONG[kind]
    with pytest.raises(InvalidInput, match=message) as caught:
        read_labels(write(tmp_path, data))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["cifar10.txt", "cifar100.txt", "---.txt"])
def test_names_that_mean_something_else_or_nothing(name: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="name"):
        read_labels(write(tmp_path, b"a\nb\n", name))


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="absent"):
        read_labels(tmp_path / "absent.txt")
