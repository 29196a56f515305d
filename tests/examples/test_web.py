"""The web page in headless Chromium: its answers, its errors, the keyboard, a phone's width."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cifar_export.data.pictures import read_picture
from cifar_export.networks.zoo import NETWORKS, network
from cifar_export.runtimes import open_runtime, why_missing
from cifar_export.weights.seeded import random_weights

from support.consumers import (
    EXAMPLES,
    TOLERANCE,
    Missing,
    ReducedSubject,
    Subject,
    browser,
    largest_error,
    npm_packages,
    page_top,
    reduced_subject,
    reference,
    run,
    serve,
    state_of,
    subject,
    tool,
)

if importlib.util.find_spec("selenium") is None:
    pytest.skip("selenium is not installed", allow_module_level=True)
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

PATIENCE_SECONDS = 120  # a page that is done sooner is not waited for
SCREENSHOTS = EXAMPLES.parent / "build" / "examples" / "screenshots"


@pytest.fixture(scope="module")
def subjects(tmp_path_factory: pytest.TempPathFactory) -> list[Subject]:
    folder = tmp_path_factory.mktemp("exports")
    batches = {"cifar10": None, "cifar100": 3}  # one file takes any batch, the other one size
    return [
        subject(random_weights(network("resnet20", name), 3), folder, batch=batch) for name, batch in batches.items()
    ]


@pytest.fixture(scope="module")
def int8(subjects: list[Subject]) -> ReducedSubject:
    """A network that is there in float32 too, though with other weights."""
    return reduced_subject(subjects[0].folder)


@pytest.fixture(scope="module")
def site(subjects: list[Subject], int8: ReducedSubject, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(subjects[0].folder, tmp_path_factory.mktemp("site"))


def build(models: Path, out: Path) -> Path:
    try:
        done = run(tool("node"), npm_packages("web") / "build.mjs", "--models", models, "--out", out)
    except Missing as error:
        pytest.skip(str(error))
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    try:
        with browser(tmp_path_factory.mktemp("profile")) as driver:
            yield driver
    except Missing as error:
        pytest.skip(str(error))


class Page:
    """The page in a browser: what a visitor does and sees."""

    def __init__(self, driver: Any, url: str) -> None:
        self.driver = driver
        driver.set_window_size(1280, 900)
        driver.get(url)
        self.wait("ready", "error")

    def wait(self, *states: str) -> str:
        WebDriverWait(self.driver, PATIENCE_SECONDS, 0.05).until(lambda driver: state_of(driver) in states)
        return state_of(self.driver)

    def by(self, css: str) -> Any:
        return self.driver.find_element(By.CSS_SELECTOR, css)

    def choose(self, select: str, value: str) -> None:
        Select(self.by(f"#{select}")).select_by_value(value)

    def upload(self, path: Path) -> str:
        self.driver.execute_script("document.documentElement.dataset.state = 'waiting'")
        self.by("#file").send_keys(str(path))
        return self.wait("done", "error")

    def seen(self) -> list[int]:
        """RGB values of the 32x32 canvas."""
        script = (
            "const c = document.getElementById('seen').getContext('2d');"
            "return [...c.getImageData(0, 0, 32, 32).data].filter((_, i) => i % 4 !== 3)"
        )
        return list(self.driver.execute_script(script))

    def errors(self) -> list[str]:
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]


@pytest.fixture
def page(chromium: Any, site: Path) -> Iterator[Page]:
    chromium.get_log("browser")  # reading empties it
    with serve(site) as url:
        opened = Page(chromium, url)
        yield opened
        chromium.get("about:blank")


def test_a_sample_gets_the_references_answer(page: Page, subjects: list[Subject]) -> None:
    sample = EXAMPLES / "samples" / "ship.png"
    page.by("#samples button[title=ship]").click()
    for known in subjects:
        page.choose("dataset", known.weights.network.dataset.name)
        page.wait("done", "error")
        WebDriverWait(page.driver, PATIENCE_SECONDS).until(
            lambda _, known=known: known.weights.network.dataset.name in page.by("#status").text
        )
        (expected,) = reference(known.weights, [read_picture(sample)])
        assert largest_error({"ship": page_top(page.driver)}, {"ship": expected}) < TOLERANCE
    assert "ms per inference on WebAssembly" in page.by("#time").text
    shown = page.by("#top li:first-child span").text
    assert shown == expected[0][0].replace("_", " ")
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.driver.save_screenshot(str(SCREENSHOTS / "wide.png"))
    assert page.errors() == []
    names = page.driver.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    origin = page.driver.execute_script("return location.origin")
    assert any(name.endswith(".wasm") for name in names)
    assert all(name.startswith((f"{origin}/", "data:")) for name in names)  # no other server was asked


def test_each_precision_is_a_choice_of_its_own(site: Path, int8: ReducedSubject) -> None:
    models = json.loads((site / "index.json").read_text(encoding="utf-8"))["models"]
    said = [(one["dataset"], one["name"], one["precision"]) for one in models]
    assert said == [
        ("cifar10", "resnet20", "float32"),
        ("cifar10", "resnet20, int8", "int8"),
        ("cifar100", "resnet20", "float32"),
    ]
    assert models[1]["bytes"] == int8.file.stat().st_size == (site / "models" / models[1]["file"]).stat().st_size


def test_an_int8_file_gives_the_answer_of_its_simulation_in_webassembly(site: Path, int8: ReducedSubject) -> None:
    """The page's runtime, without a browser."""
    if why_missing("onnxruntime-web") is not None:
        pytest.skip(str(why_missing("onnxruntime-web")))
    pixels = np.stack([np.asarray(Image.open(path)) for path in int8.pictures.values()])
    with open_runtime("onnxruntime-web", int8.file) as runtime:
        rows = runtime.logits(pixels)
    labels = NETWORKS["cifar10_resnet20"].dataset.labels
    found = {
        name: [(labels[i], float(row[i])) for i in np.argsort(-row)[:5]]
        for name, row in zip(int8.pictures, rows, strict=True)
    }
    int8.check(found, "onnxruntime-web")


def test_an_int8_file_gives_the_answer_of_its_simulation_on_the_page(page: Page, int8: ReducedSubject) -> None:
    page.choose("dataset", "cifar10")
    page.choose("network", "resnet20, int8")
    found = {}
    for name, path in int8.pictures.items():
        assert page.upload(path) == "done"
        found[name] = page_top(page.driver)
    int8.check(found, "onnxruntime-web")
    assert "resnet20, int8 (cifar10) says" in page.by("#status").text
    assert f"{round(int8.file.stat().st_size / 1000)} kB" in page.by("#time").text


def test_uploads_are_answered_like_the_reference(page: Page, subjects: list[Subject]) -> None:
    page.choose("dataset", "cifar100")
    names = ("real-26", "extreme-1", "noise")
    found = {}
    for name in names:
        path = subjects[1].pictures[name]
        assert page.upload(path) == "done"
        found[name] = page_top(page.driver)
        assert bytes(page.seen()) == Image.open(path).convert("RGB").tobytes()
    assert largest_error(found, {name: subjects[1].expected[name] for name in names}) < TOLERANCE


@pytest.mark.parametrize("kind", ["photo", pytest.param("transparent", marks=pytest.mark.slow)])
def test_another_size_is_reduced_as_predict_does(page: Page, tmp_path: Path, kind: str) -> None:
    base = Image.open(EXAMPLES / "samples" / "frog.png").convert("RGB").resize((150, 117), Image.Resampling.BICUBIC)
    if kind == "transparent":
        base.putalpha(Image.linear_gradient("L").resize(base.size))
    path = tmp_path / "picture.png"
    base.save(path)
    assert page.upload(path) == "done"
    expected = read_picture(path).ravel().tolist()
    assert max(abs(ours - theirs) for ours, theirs in zip(page.seen(), expected, strict=True)) <= 1


def test_a_file_that_is_no_picture_says_so_and_the_page_goes_on(page: Page, tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_text("no picture")
    assert page.upload(tmp_path / "notes.png") == "error"
    assert page.by("#message").text == "notes.png is no picture that this browser can read."
    page.by("#samples button").click()
    assert page.wait("done") == "done"
    assert not page.by("#message").is_displayed()


def test_a_dropped_picture_is_taken(page: Page) -> None:
    page.driver.execute_script("""
        const box = document.getElementById('drop');
        fetch('samples/frog.png').then((response) => response.blob()).then((blob) => {
          const dataTransfer = new DataTransfer();
          dataTransfer.items.add(new File([blob], 'dropped.png'));
          box.dispatchEvent(new DragEvent('drop', { dataTransfer, bubbles: true, cancelable: true }));
        });
    """)
    assert page.wait("done", "error") == "done"
    assert bytes(page.seen()) == Image.open(EXAMPLES / "samples" / "frog.png").convert("RGB").tobytes()
    assert "dropped.png" in page.by("#seen").get_attribute("aria-label")


def test_the_keyboard_reaches_everything(page: Page) -> None:
    reached = []
    for _ in range(5):
        ActionChains(page.driver).send_keys(Keys.TAB).perform()
        focused = page.driver.switch_to.active_element
        reached.append(focused.get_attribute("id") or focused.get_attribute("title"))
    assert reached == ["dataset", "network", "backend", "file", "airplane"]
    ActionChains(page.driver).send_keys(Keys.ENTER).perform()
    assert page.wait("done", "error") == "done"
    assert page.by("#samples button").get_attribute("aria-pressed") == "true"


def test_it_fits_a_phone(page: Page) -> None:
    metrics = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        page.by("#samples button").click()
        assert page.wait("done", "error") == "done"
        width, top = page.driver.execute_script(
            "return [document.documentElement.scrollWidth, document.getElementById('top').getBoundingClientRect().top]"
        )
        assert width <= 390
        assert 0 <= top < 844  # the answer was scrolled into view
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        page.driver.save_screenshot(str(SCREENSHOTS / "phone.png"))
    finally:
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_page_without_models_says_what_to_run(chromium: Any, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    with serve(build(tmp_path / "none", tmp_path / "site")) as url:
        page = Page(chromium, url)
        assert state_of(chromium) == "error"
        assert "cifar-export onnx resnet20 --input uint8" in page.by("#message").text
        page.by("#samples button").click()
        WebDriverWait(chromium, PATIENCE_SECONDS).until(lambda _: any(page.seen()))
        assert page.wait("error") == "error"
        chromium.get("about:blank")


@pytest.mark.slow
def test_a_model_that_vanished_is_named(chromium: Any, subjects: list[Subject], tmp_path: Path) -> None:
    site = build(subjects[0].folder, tmp_path / "site")
    (site / "models" / "cifar10_resnet20-uint8.onnx").unlink()
    with serve(site) as url:
        page = Page(chromium, url)
        page.by("#samples button").click()
        assert page.wait("done", "error") == "error"
        assert "models/cifar10_resnet20-uint8.onnx is missing" in page.by("#message").text
        page.choose("dataset", "cifar100")
        assert page.wait("done") == "done"
        chromium.get("about:blank")


@pytest.mark.slow
def test_webgpu_gives_the_references_answer(site: Path, subjects: list[Subject], tmp_path: Path) -> None:
    software = ("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan")
    with serve(site) as url, browser(tmp_path / "profile", *software) as driver:
        page = Page(driver, url)
        if not driver.find_elements(By.CSS_SELECTOR, "#backend option[value=webgpu]"):
            pytest.skip("this Chromium offers no WebGPU, not even in software")
        page.choose("backend", "webgpu")
        page.choose("dataset", "cifar100")
        assert page.upload(subjects[1].pictures["noise"]) == "done"
        assert "on WebGPU" in page.by("#time").text
        expected = {"noise": subjects[1].expected["noise"]}
        assert largest_error({"noise": page_top(driver)}, expected) < TOLERANCE


def test_the_build_takes_pixels_models_only_and_replaces_old_ones(subjects: list[Subject], tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    for path in subjects[0].folder.glob("cifar10_resnet20-uint8.onnx*"):
        (models / path.name).write_bytes(path.read_bytes())
    (models / "cifar10_resnet20.onnx").touch()
    out = build(models, tmp_path / "site")
    index = json.loads((out / "index.json").read_text(encoding="utf-8"))
    assert [(entry["file"], entry["dataset"]) for entry in index["models"]] == [
        ("cifar10_resnet20-uint8.onnx", "cifar10")
    ]
    for path in models.iterdir():
        path.unlink()
    assert list((build(models, out) / "models").iterdir()) == []


def test_without_its_packages_the_build_says_what_to_do(tmp_path: Path) -> None:
    try:
        node = tool("node")
    except Missing as error:
        pytest.skip(str(error))
    for name in ("web", "samples"):
        (tmp_path / name).mkdir()
    script = tmp_path / "web" / "build.mjs"
    script.write_bytes((EXAMPLES / "web" / "build.mjs").read_bytes())
    done = run(node, script, "--models", tmp_path, "--out", tmp_path / "site")
    assert done.returncode == 1
    assert "npm ci --ignore-scripts" in done.stderr
