"""`cifar-export predict`: pictures of any kind in, the reference's answer out."""

from __future__ import annotations

import contextlib
import io
import json
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from cifar_export.__main__ import main
from cifar_export.data.pictures import NotAPicture, find_pictures, read_picture
from cifar_export.errors import InvalidInput
from cifar_export.exporting.artifact import export
from cifar_export.gate.inputs import bundled_images
from cifar_export.networks.zoo import InputVariant, network
from cifar_export.prediction.classifier import softmax
from cifar_export.weights.native import save_weights
from cifar_export.weights.seeded import random_weights

from support.consumers import Subject, reference, subject
from support.planting import edit, plant

Predict = Callable[..., Result]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return subject(random_weights(network("resnet20", "cifar100"), 3), tmp_path_factory.mktemp("exported"))


@pytest.fixture
def predict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Predict:
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(main, ["predict", *map(str, arguments)], catch_exceptions=False)


@pytest.fixture
def photo() -> Image.Image:
    """A smooth 96x64 picture whose left, right, top and bottom are told apart."""
    y, x = np.mgrid[:64, :96]
    return Image.fromarray(np.stack([x * 255 // 95, y * 255 // 63, 255 - x * 2], axis=2).astype(np.uint8))


def save(image: Image.Image, path: Path, **options: object) -> Path:
    image.save(path, **options)
    return path


# ---- the answer


@pytest.mark.parametrize("runtime", [None, "onnxruntime-cpu", "openvino"])
def test_the_answer_of_a_file_is_the_references(exported: Subject, predict: Predict, runtime: str | None) -> None:
    if runtime == "openvino":
        pytest.importorskip("openvino", reason="openvino is not installed")
    chosen = ["--runtime", runtime] if runtime else []
    done = predict(exported.file("-uint8.onnx"), *exported.pictures.values(), "--json", *chosen)
    assert done.exit_code == 0, done.stderr
    document = json.loads(done.stdout)
    assert [entry["file"] for entry in document] == [str(path) for path in exported.pictures.values()]
    labels = exported.weights.network.dataset.labels
    for entry, expected in zip(document, exported.expected.values(), strict=True):
        assert set(entry) == {"file", "top"}
        assert all(list(guess) == ["label", "index", "probability"] for guess in entry["top"])
        assert [guess["label"] for guess in entry["top"]] == [label for label, _ in expected]
        assert [labels[guess["index"]] for guess in entry["top"]] == [label for label, _ in expected]
        logits = np.array([logit for _, logit in expected])
        odds = np.log([guess["probability"] for guess in entry["top"]])
        np.testing.assert_allclose(odds - odds[0], logits - logits[0], atol=1e-4)


@pytest.mark.parametrize(
    ("format_name", "name", "variant"),
    [
        ("onnx", "model.onnx", "float32"),
        ("torchscript", "model.torchscript.pt", "float32"),
        pytest.param("torch-export", "model.pt2", "uint8", marks=pytest.mark.slow),
    ],
)
def test_every_format_and_both_inputs_give_one_answer(
    exported: Subject, predict: Predict, tmp_path: Path, format_name: str, name: str, variant: InputVariant
) -> None:
    export(exported.weights, format_name, variant=variant, output=tmp_path / name, checked=False)
    done = predict(name, *exported.pictures.values(), "--json")
    assert done.exit_code == 0, done.stderr
    found = [[guess["label"] for guess in entry["top"]] for entry in json.loads(done.stdout)]
    assert found == [[label for label, _ in top] for top in exported.expected.values()]


@pytest.mark.parametrize("runtime", ["pytorch", "torchscript"])
def test_a_model_with_weights_answers_like_its_export(
    exported: Subject, predict: Predict, tmp_path: Path, runtime: str
) -> None:
    path = tmp_path / "weights.safetensors"
    save_weights(path, exported.weights)
    arguments = ["resnet20", *exported.pictures.values(), "--dataset", "cifar100", "--weights", path, "--json"]
    done = predict(*arguments, "--runtime", runtime)
    assert done.exit_code == 0, done.stderr
    found = [[guess["label"] for guess in entry["top"]] for entry in json.loads(done.stdout)]
    assert found == [[label for label, _ in top] for top in exported.expected.values()]


def test_in_a_pipe_each_class_is_a_line_with_its_picture(exported: Subject, predict: Predict) -> None:
    pictures = list(exported.pictures.values())[:2]
    done = predict(exported.file("-uint8.onnx"), *pictures, "--top", "3")
    assert done.exit_code == 0
    assert all(done.stdout.count(path.name) == 3 for path in pictures)
    for top in list(exported.expected.values())[:2]:
        assert all(label in done.stdout for label, _ in top[:3])


def test_top_is_at_most_all_classes_and_adds_up(exported: Subject, predict: Predict) -> None:
    done = predict(exported.file("-uint8.onnx"), exported.pictures["noise"], "--top", "500", "--json")
    (entry,) = json.loads(done.stdout)
    assert sorted(guess["index"] for guess in entry["top"]) == list(range(100))
    assert sum(guess["probability"] for guess in entry["top"]) == pytest.approx(1, abs=1e-12)
    assert sorted(entry["top"], key=lambda guess: -guess["probability"]) == entry["top"]


def test_softmax_stands_large_logits() -> None:
    logits = np.array([[1000.0, 999.0, -1000.0]], np.float32)
    np.testing.assert_allclose(softmax(logits), [[0.7310585786300049, 0.2689414213699951, 0.0]], rtol=1e-15)


# ---- files and folders


def test_a_folder_is_its_pictures_by_name(tmp_path: Path, photo: Image.Image) -> None:
    names = ["b.PNG", "a.jpeg", "c.webp", "d.ppm"]
    for name in names:
        save(photo, tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture")
    save(photo, tmp_path / ".hidden.png")
    (tmp_path / "folder.png").mkdir()
    extra = save(photo, tmp_path / "odd.suffix", format="PNG")
    assert [path.name for path in find_pictures([tmp_path, extra])] == [*sorted(names), "odd.suffix"]


@pytest.mark.parametrize("content", [[], ["notes.txt"], ["._cat.png"]])
def test_a_folder_without_pictures_is_wrong_usage(
    exported: Subject, predict: Predict, tmp_path: Path, content: list[str]
) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    for name in content:
        (folder / name).touch()
    done = predict(exported.file("-uint8.onnx"), folder)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "no pictures in this folder" in done.stderr


def test_a_missing_path_is_wrong_usage(exported: Subject, predict: Predict) -> None:
    done = predict(exported.file("-uint8.onnx"), exported.pictures["noise"], "typo.png")
    assert done.exit_code == 2
    assert "typo.png: No such file" in done.stderr


def test_broken_files_are_reported_and_skipped(exported: Subject, predict: Predict, tmp_path: Path) -> None:
    whole = exported.pictures["noise"].read_bytes()
    broken = {"text.png": b"not a picture", "empty.jpg": b"", "short.png": whole[: len(whole) // 2]}
    for name, content in broken.items():
        (tmp_path / name).write_bytes(content)
    done = predict(exported.file("-uint8.onnx"), *broken, exported.pictures["noise"], "--json")
    assert done.exit_code == 1
    (entry,) = json.loads(done.stdout)
    assert entry["top"][0]["label"] == exported.expected["noise"][0][0]
    assert all(f"skipped {name}: " in done.stderr for name in broken)
    assert "Traceback" not in done.stderr


def test_nothing_but_broken_files_is_an_empty_list(exported: Subject, predict: Predict, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    done = predict(exported.file("-uint8.onnx"), "broken.png", "--json")
    assert (done.exit_code, json.loads(done.stdout)) == (1, [])


def _png_head(width: int, height: int) -> bytes:
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = b"IDAT" + zlib.compress(b"\0" * 1000)
    chunks = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (head, body, b"IEND")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize("size", [(10_001, 10_000), (13_000, 13_000), (60_000, 60_000)])
def test_a_decompression_bomb_is_refused(tmp_path: Path, size: tuple[int, int]) -> None:
    bomb = tmp_path / "bomb.png"
    bomb.write_bytes(_png_head(*size))
    with pytest.raises(NotAPicture, match=r"pixels.*refused"):
        read_picture(bomb)


def test_other_formats_are_no_pictures(tmp_path: Path, photo: Image.Image) -> None:
    with pytest.raises(NotAPicture, match="not a PNG, JPEG, WebP or PPM"):
        read_picture(save(photo, tmp_path / "photo.png", format="BMP"))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_bytes_are_a_picture_or_an_error_of_ours(tmp_path: Path, data: st.DataObject) -> None:
    format_name = data.draw(st.sampled_from(["PNG", "JPEG", "WEBP", "PPM"]))
    buffer = io.BytesIO()
    Image.fromarray(bundled_images()[0]).save(buffer, format_name)
    content = bytearray(buffer.getvalue())
    for position in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=4)):
        content[position] ^= data.draw(st.integers(1, 255))
    path = tmp_path / "damaged"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    with contextlib.suppress(NotAPicture):
        pixels = read_picture(path)
        assert (pixels.shape, pixels.dtype) == ((32, 32, 3), np.uint8)


# ---- what a picture becomes


@pytest.mark.parametrize("suffix", [".png", ".ppm", ".webp"])
def test_a_picture_of_the_right_size_passes_unchanged(tmp_path: Path, suffix: str) -> None:
    pixels = bundled_images()[7]
    options = {"lossless": True, "exact": True} if suffix == ".webp" else {}
    path = save(Image.fromarray(pixels), tmp_path / f"image{suffix}", **options)
    np.testing.assert_array_equal(read_picture(path), pixels)


def test_reducing_averages(tmp_path: Path) -> None:
    small = bundled_images()[3]
    large = np.kron(small, np.ones((4, 4, 1), np.uint8))
    np.testing.assert_array_equal(read_picture(save(Image.fromarray(large), tmp_path / "large.png")), small)
    fine = np.indices((64, 64)).sum(axis=0) % 2 * 255  # a checkerboard too fine for 32x32 is grey, not a pattern
    board = Image.fromarray(np.repeat(fine[..., None], 3, axis=2).astype(np.uint8))
    assert np.unique(read_picture(save(board, tmp_path / "board.png"))).tolist() == [128]


def test_the_square_in_the_middle_is_taken(tmp_path: Path) -> None:
    for wide in (True, False):
        pixels = np.zeros((32, 96, 3), np.uint8)
        pixels[:, 32:64] = (10, 200, 30)
        image = Image.fromarray(pixels if wide else pixels.transpose(1, 0, 2).copy())
        seen = read_picture(save(image, tmp_path / "wide.png"))
        assert (seen == (10, 200, 30)).all()


def test_a_tiny_picture_is_enlarged(tmp_path: Path) -> None:
    seen = read_picture(save(Image.new("RGB", (1, 3), (9, 8, 7)), tmp_path / "tiny.png"))
    assert seen.shape == (32, 32, 3)
    assert (seen == (9, 8, 7)).all()


def test_what_is_transparent_becomes_white(tmp_path: Path) -> None:
    half = Image.new("RGBA", (32, 32), (200, 0, 100, 0))
    half.paste((200, 0, 100, 255), (0, 0, 16, 32))
    palette = Image.new("P", (32, 32), 1)
    palette.putpalette([0, 0, 0, 200, 0, 100])
    palette.paste(0, (16, 0, 32, 32))
    grey = Image.new("LA", (32, 32), (77, 0))
    for name, image, options, left in (
        ("rgba.png", half, {}, (200, 0, 100)),
        ("rgba.webp", half, {"lossless": True}, (200, 0, 100)),
        ("palette.png", palette, {"transparency": 0}, (200, 0, 100)),
        ("grey.png", grey, {}, (255, 255, 255)),
    ):
        seen = read_picture(save(image, tmp_path / name, **options))
        assert (seen[:, :16] == left).all(), name
        assert (seen[:, 16:] == 255).all(), name


def test_transparent_pixels_do_not_bleed_into_the_average(tmp_path: Path) -> None:
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[::2] = (100, 100, 100, 255)  # every other row; the rest is transparent black
    seen = read_picture(save(Image.fromarray(pixels), tmp_path / "rows.png"))
    assert np.unique(seen).tolist() == [178]  # (100 + 255) / 2, rounded up


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK"])
def test_other_modes_become_rgb(tmp_path: Path, photo: Image.Image, mode: str) -> None:
    image = photo.convert(mode)
    path = save(image, tmp_path / ("image.jpg" if mode == "CMYK" else "image.png"))
    expected = np.asarray(Image.open(path).convert("RGB").crop((16, 0, 80, 64)).resize((32, 32), Image.Resampling.BOX))
    np.testing.assert_array_equal(read_picture(path), expected)


def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path) -> None:
    values = np.linspace(0, 65535, 32 * 32).reshape(32, 32).astype(np.uint16)
    seen = read_picture(save(Image.fromarray(values), tmp_path / "deep.png"))
    np.testing.assert_array_equal(seen, np.repeat(np.round(values / 257).astype(np.uint8)[..., None], 3, axis=2))


def test_the_orientation_of_a_camera_is_applied(tmp_path: Path, photo: Image.Image) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to view
    turned = read_picture(save(photo, tmp_path / "turned.png", exif=exif))
    upright = read_picture(save(photo, tmp_path / "upright.png"))
    np.testing.assert_array_equal(turned, np.rot90(upright, k=-1))


# ---- wrong usage


def test_a_file_needs_no_options_of_a_model(exported: Subject, predict: Predict) -> None:
    for option in (("--dataset", "cifar10"), ("--weights", "bundled"), ("--mean", "0,0,0"), ("--std", "1,1,1")):
        done = predict(exported.file("-uint8.onnx"), exported.pictures["noise"], *option)
        assert done.exit_code == 2
        assert f"{option[0]} is for a network, and the file says its own" in done.stderr


def test_what_is_neither_model_nor_file_is_wrong_usage(exported: Subject, predict: Predict, tmp_path: Path) -> None:
    for name in ("noise.onnx", "model.bin"):
        (tmp_path / name).write_bytes(b"\x08")
    picture = exported.pictures["noise"]
    for arguments, expected in (
        (["resnet18", picture], "no model 'resnet18', and no network, file or folder of that name. Models: resnet20"),
        (["model.bin", picture], "not an exported file by its name"),
        (["missing.onnx", picture], "'missing.onnx', and no network, file or folder of that name"),
        (["noise.onnx", picture], "noise.onnx"),
        ([exported.file("-uint8.onnx"), picture, "--runtime", "torchscript"], "torchscript does not read"),
        (["resnet20", picture, "--trust-file"], "--trust-file without a file"),
    ):
        done = predict(*arguments, "--json")
        assert done.exit_code == 2, arguments
        assert expected in done.stderr
        assert json.loads(done.stdout)["exit_code"] == 2


def test_a_foreign_onnx_file_has_no_labels(exported: Subject, predict: Predict, tmp_path: Path) -> None:
    import onnx

    model = onnx.load(exported.file("-uint8.onnx"))
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "bare.onnx")
    done = predict("bare.onnx", exported.pictures["noise"])
    assert done.exit_code == 2
    assert "does not say its classes" in done.stderr


def test_damaged_metadata_is_refused(exported: Subject, predict: Predict, tmp_path: Path) -> None:
    import onnx

    huge = f"[{10**400}, 1, 1]"
    cases = (("labels", '["cat"]', "100 classes"), ("std", "[0, 1, 1]", "damaged"), ("mean", huge, "damaged"))
    for key, value, expected in cases:
        model = onnx.load(exported.file("-uint8.onnx"))
        next(entry for entry in model.metadata_props if entry.key == key).value = value
        onnx.save(model, tmp_path / "odd.onnx")
        done = predict("odd.onnx", exported.pictures["noise"])
        assert (done.exit_code, done.stdout) == (2, "")
        assert expected in done.stderr


def test_code_runs_only_where_its_sidecar_vouches_for_it(exported: Subject, predict: Predict, tmp_path: Path) -> None:
    path = tmp_path / "model.torchscript.pt"
    export(exported.weights, "torchscript", variant="uint8", output=path, checked=False)
    assert predict(path, exported.pictures["noise"]).exit_code == 0
    path.with_name(f"{path.name}.json").unlink()
    refused = predict(path, exported.pictures["noise"])
    assert refused.exit_code == 2
    assert "--trust-file" in refused.stderr
    assert predict(path, exported.pictures["noise"], "--trust-file").exit_code == 0


def test_broken_weights_are_a_failed_gate(predict: Predict, exported: Subject, tmp_path: Path) -> None:
    change = edit("fc.bias", lambda array: array * np.nan)
    file = plant(exported.file("-uint8.onnx"), tmp_path / "broken.onnx", change)
    done = predict(file, exported.pictures["noise"])
    assert (done.exit_code, done.stdout) == (1, "")
    assert "NaN" in done.stderr


def test_many_pictures_go_in_batches_and_stay_in_order(exported: Subject, tmp_path: Path) -> None:
    from cifar_export.prediction.predict import classifier_of_file
    from cifar_export.prediction.predict import predict as predict_pictures

    pixels = [*bundled_images()[:70]]
    files = [save(Image.fromarray(values), tmp_path / f"{i}.png") for i, values in enumerate(pixels)]
    files.insert(30, tmp_path / "missing.png")
    seen: list[tuple[int, int | None]] = []
    with classifier_of_file(exported.file("-uint8.onnx")) as classifier:
        result = predict_pictures(classifier, files, 1, progress=lambda done, total: seen.append((done, total)))
    expected = [top[0][0] for top in reference(exported.weights, pixels)]
    assert [picture.top[0].label for picture in result.pictures] == expected
    assert seen == [(64, 71), (71, 71)]
    assert len(result.skipped) == 1


def test_a_link_that_leads_nowhere_is_reported(exported: Subject, predict: Predict, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "a.png").symlink_to(exported.pictures["noise"])
    (folder / "b.png").symlink_to(tmp_path / "nowhere")
    done = predict(exported.file("-uint8.onnx"), folder, "--json")
    assert (done.exit_code, len(json.loads(done.stdout))) == (1, 1)
    assert "skipped" in done.stderr
    assert "b.png" in done.stderr


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_named_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(NotAPicture, match=r"a\.png: it is not a regular file"):
        read_picture(tmp_path / "a.png")


def test_the_transparent_value_of_16_bit_grey_is_white(tmp_path: Path) -> None:
    values = np.full((32, 32), 1000, np.uint16)
    values[:, 16:] = 1001
    path = tmp_path / "grey.png"
    Image.fromarray(values).save(path, transparency=1000)
    with Image.open(path) as image:
        assert image.mode.startswith("I")
    seen = read_picture(path)
    assert (seen[:, :16] == 255).all()
    assert (seen[:, 16:] == 4).all()  # 1001 / 257, rounded


def test_find_pictures_refuses_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="No such file"):
        find_pictures([tmp_path / "nowhere"])
