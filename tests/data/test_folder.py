"""A data set of one's own: pictures by label, or records; read once, checked, and the same again."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cifar_export.data import folder as own
from cifar_export.data.folder import read_own
from cifar_export.data.pictures import read_picture
from cifar_export.errors import InvalidInput

LABELS = ("blue", "green", "red")
COLORS = {"blue": (10, 20, 200), "green": (0, 180, 30), "red": (220, 5, 5)}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIFAR_EXPORT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Three labels, four training pictures and two test pictures each, of several kinds and sizes."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "My colors!"
    kinds = [(".png", 32), (".jpg", 40), (".webp", 32), (".PNG", 100)]
    for split, count in (("train", 4), ("test", 2)):
        for label, color in COLORS.items():
            home = folder / split / label
            home.mkdir(parents=True)
            for number, (suffix, side) in enumerate(kinds[:count]):
                noise = rng.integers(-5, 6, (side, side, 3))
                pixels = np.clip(np.array(color) + noise, 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(home / f"{number}{suffix}")
    return folder


def test_pictures_become_labelled_images_in_order_of_name(pictures: Path) -> None:
    data = read_own(pictures)
    assert (data.spec.name, data.spec.title, data.spec.labels) == ("My-colors", "My colors!", LABELS)
    assert (data.spec.train_images, data.spec.test_images, data.spec.folder) == (12, 6, pictures.absolute())
    train, test = data.splits["train"], data.splits["test"]
    assert (train.images.dtype, train.images.shape) == (np.uint8, (12, 32, 32, 3))
    assert train.images.flags.c_contiguous
    assert train.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert test.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert np.array_equal(train.images[3], read_picture(pictures / "train" / "blue" / "3.PNG"))
    assert np.array_equal(train.images[0], np.asarray(Image.open(pictures / "train" / "blue" / "0.png")))


def test_the_normalization_is_that_of_the_training_images(pictures: Path) -> None:
    data = read_own(pictures)
    scaled = data.splits["train"].images / 255
    assert np.allclose(data.spec.normalization.mean, scaled.mean(axis=(0, 1, 2)), atol=5.1e-5)
    assert np.allclose(data.spec.normalization.std, scaled.std(axis=(0, 1, 2)), atol=5.1e-5)


def test_pictures_are_decoded_once_and_again_only_where_something_changed(
    pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[Path] = []

    def counted(path: Path) -> NDArray[np.uint8]:
        decoded.append(path)
        return read_picture(path)

    monkeypatch.setattr(own, "read_picture", counted)
    first = read_own(pictures)
    assert len(decoded) == 18
    again = read_own(pictures)
    assert len(decoded) == 18
    assert again.sha256 == first.sha256
    assert np.array_equal(again.splits["train"].images, first.splits["train"].images)

    changed = pictures / "train" / "red" / "0.png"
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(changed)
    os.utime(changed, (1, 1))
    other = read_own(pictures)
    assert len(decoded) == 36
    assert other.sha256 != first.sha256


@pytest.mark.parametrize("damage", ["cut", "changed", "no archive"])
def test_a_damaged_cache_is_not_believed(pictures: Path, tmp_path: Path, damage: str) -> None:
    first = read_own(pictures)
    (cache,) = (tmp_path / "cache" / "datasets").iterdir()
    content = bytearray(cache.read_bytes())
    if damage == "cut":
        cache.write_bytes(content[:1000])
    elif damage == "no archive":
        cache.write_bytes(b"\0" * 100)
    else:
        with np.load(cache) as held:
            arrays = {name: held[name].copy() for name in held}
        arrays["train_labels"][0] = 2
        np.savez(cache, **arrays)
    again = read_own(pictures)
    assert again.sha256 == first.sha256
    assert again.splits["train"].labels[0] == 0


def test_a_cache_that_cannot_be_written_costs_nothing_else(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "no folder").write_text("")
    monkeypatch.setenv("CIFAR_EXPORT_CACHE", str(tmp_path / "no folder"))
    assert read_own(pictures).spec.train_images == 12


def test_the_content_decides_the_digest_and_not_where_it_lies(pictures: Path, tmp_path: Path) -> None:
    first = read_own(pictures).sha256
    pictures.rename(tmp_path / "elsewhere")
    assert read_own(tmp_path / "elsewhere").sha256 == first


def records(folder: Path, count: int = 20) -> NDArray[np.uint8]:
    """`folder` in CIFAR-10's layout; the training records."""
    rng = np.random.default_rng(1)
    folder.mkdir()
    (folder / "labels.txt").write_text("ant\nbee\ncat\n")
    made = []
    for split in ("train", "test"):
        data = rng.integers(0, 256, (count, 3073), dtype=np.uint8)
        data[:, 0] = np.arange(count) % 3
        data.tofile(folder / f"{split}.bin")
        made.append(data)
    return made[0]


def test_records_are_read_as_cifar10s_are(tmp_path: Path) -> None:
    train = records(tmp_path / "insects")
    data = read_own(tmp_path / "insects")
    assert (data.spec.name, data.spec.labels) == ("insects", ("ant", "bee", "cat"))
    assert data.splits["train"].labels.tolist() == [i % 3 for i in range(20)]
    assert data.splits["train"].images[5, 2, 7, 1] == train[5, 1 + 1024 + 2 * 32 + 7]


def write(path: Path, text: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())


BAD = {
    # what is done to the folder of pictures, what is said
    "no train": (lambda folder: (folder / "train").rename(folder / "val"), "there is no train folder in it"),
    "no test": (lambda folder: (folder / "test").rename(folder / "val"), "there is no test folder in it"),
    "another label": (lambda folder: (folder / "test/red").rename(folder / "test/rot"), "'rot' is not in train"),
    "one label": (lambda folder: [(folder / "train" / x).rename(folder / x) for x in COLORS if x != "red"], "1 folder"),
    "two ways": (lambda folder: write(folder / "labels.txt", "red\nblue\n"), "remove labels.txt"),
    "an empty label": (lambda folder: (folder / "train" / "aaa").mkdir(), "aaa: no pictures in this folder"),
    "no picture": (lambda folder: write(folder / "train" / "red" / "x.png", "no"), "x.png: not a PNG"),
    "cut": (lambda folder: write(folder / "test" / "red" / "0.png", (folder / "test/red/0.png").read_bytes()[:200]),
            "0.png: cannot be read as a picture"),
    "bidi": (lambda folder: (folder / "train" / "red").rename(folder / "train" / "r\u202eed"), "no readable text"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_folder_that_is_no_data_set_is_refused(pictures: Path, tmp_path: Path, case: str) -> None:
    change, said = BAD[case]
    change(pictures)
    with pytest.raises(InvalidInput, match=said) as caught:
        read_own(pictures)
    assert str(caught.value).count("\n") == 0
    assert not (tmp_path / "cache").exists()


def test_many_bad_pictures_are_counted(pictures: Path) -> None:
    for number in range(5):
        write(pictures / "train" / "red" / f"bad-{number}.png", "no")
    with pytest.raises(InvalidInput, match=r"bad-2\.png.*2 more are like that"):
        read_own(pictures)


def test_hidden_files_and_others_are_no_pictures(pictures: Path) -> None:
    write(pictures / "train" / "red" / ".hidden.png", "no")
    write(pictures / "train" / "red" / "notes.txt", "no")
    write(pictures / "train" / ".git" / "x.png", "no")
    write(pictures / "train" / "red" / "more" / "a.png", (pictures / "train/red/0.png").read_bytes())
    assert read_own(pictures).spec.train_images == 13


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda folder: (folder / "train.bin").write_bytes(b"\0" * 3072), "3,072 bytes are no whole number"),
        (lambda folder: (folder / "test.bin").write_bytes(b""), "0 bytes are no whole number"),
        (lambda folder: (folder / "test.bin").write_bytes(b"\3" + b"\0" * 3072), "record 0 has label 3, expected"),
        (lambda folder: (folder / "test.bin").unlink(), "test.bin"),
        (lambda folder: (folder / "labels.txt").write_text("\n".join(map(str, range(300)))), "300 labels, but"),
    ],
)
def test_records_that_are_damaged_are_refused(tmp_path: Path, change, said: str) -> None:  # type: ignore[no-untyped-def]
    records(tmp_path / "insects")
    change(tmp_path / "insects")
    with pytest.raises(InvalidInput, match=said):
        read_own(tmp_path / "insects")


def test_a_folder_that_is_not_there_or_has_no_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no data set of ours and no folder"):
        read_own(tmp_path / "nowhere")
    records(tmp_path / "§§")
    with pytest.raises(InvalidInput, match="Give it a name of letters and digits"):
        read_own(tmp_path / "§§")
    records(tmp_path / "cifar10")
    assert read_own(tmp_path / "cifar10").spec.name == "cifar10-pictures"  # nobody takes it for the real one
