"""What `parity` leaves: the JSON document against its published schema, and the page."""

from __future__ import annotations

import dataclasses
import io
import json
import re

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image

from cifar_export.diagnosis.page import page, write_page
from cifar_export.diagnosis.prove import prove
from cifar_export.gate.inputs import input_sets
from cifar_export.gate.report import SCHEMA, RuntimeResult

from support.consumers import Missing, browser, emulate
from support.schemas import checker


@pytest.fixture(scope="module")
def valid():
    return checker(f"parity-{SCHEMA}")


# The page


@pytest.fixture(scope="module")
def reports(weights20, exported, tmp_path_factory):
    """A page of a run that passed and one of a run that failed, with their reports."""
    folder = tmp_path_factory.mktemp("pages")
    model = onnx.load(exported("onnx", "uint8", 17).path)
    tensor = next(t for t in model.graph.initializer if t.name == "layer2.1.conv1.weight")
    array = numpy_helper.to_array(tensor).copy()
    array.flat[:9] = np.inf
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    onnx.save(model, folder / "broken.onnx")
    made = {}
    for name, file in (("passed", exported("onnx", "uint8", 17).path), ("failed", folder / "broken.onnx")):
        report = prove(weights20, file=file, runtimes=["pytorch", "onnxruntime-cpu"], layers=True)
        write_page(folder / f"{name}.html", report, input_sets())
        made[name] = (folder / f"{name}.html", report)
    return made


def test_the_page_is_one_file_that_says_the_verdict_first(reports):
    for name, (path, report) in reports.items():
        html = path.read_text()
        verdict = {"passed": "Parity passed: cifar10_resnet20", "failed": "Parity FAILED: cifar10_resnet20"}[name]
        assert html.index(verdict, html.index("<body>")) < html.index("<h2>")
        assert not re.search(r"https?://|<script|<link rel=.stylesheet|url\(", html)
        assert html.count('src="data:image/png;base64,') == html.count("<img ") == 2
        assert "onnxruntime-cpu" in html
        assert report.versions["torch"] in html
    html = reports["failed"][0].read_text()
    assert "layer2.1.conv1" in html[: html.index("<h2>Runtimes")]
    assert "not a number" in html


def test_the_page_shows_every_value_of_the_graph(reports):
    path, report = reports["passed"]
    assert len(report.layers) > 40
    assert path.read_text().count("<circle") == len(report.layers)


def test_reports_of_both_kinds_are_what_the_schema_says(reports, valid):
    for _, report in reports.values():
        valid(report.as_dict())
    assert reports["failed"][1].as_dict()["divergence"]["node"].startswith("layer2.1.conv1")


def test_what_a_library_says_is_text_on_the_page(reports):
    row = RuntimeResult("x", None, "failed", "<script>alert(1)</script>")
    html = page(dataclasses.replace(reports["passed"][1], runtimes=(row,)), {})
    assert "<script" not in html
    assert "&lt;script&gt;" in html


def test_what_stands_between_backticks_is_code_and_still_text(reports):
    row = RuntimeResult("x", None, "not_run", "it is not installed: `pip install <b>x</b>`.")
    html = page(dataclasses.replace(reports["passed"][1], runtimes=(row,)), {})
    assert "it is not installed: <code>pip install &lt;b&gt;x&lt;/b&gt;</code>." in html


def test_bars_stand_on_the_side_of_the_gate_where_the_errors_are_and_have_an_axis(reports):
    html = reports["passed"][0].read_text()
    charts = re.findall(r"<svg[^>]*Histogram of the errors of .*?</svg>", html, flags=re.S)
    assert len(charts) == 2
    for chart in charts:
        (limit,) = map(float, re.findall(r'class="limit" x1="([\d.]+)"', chart))
        bars = re.findall(r'class="bar" x="([\d.]+)" y="[\d.]+" width="([\d.]+)"', chart)
        assert bars
        assert all(float(x) + float(width) <= limit for x, width in bars)
        levels = re.findall(r'class="level"[^>]*>([\d,]+)<', chart)
        assert levels[:2] == ["1", "10"]


def test_the_command_writes_the_page_or_says_why_not(run, weights20_file, exported, tmp_path):
    command = ["parity", "resnet20", "--weights", weights20_file, "--file", exported("onnx", "uint8", 17).path]
    command += ["--runtime", "onnxruntime-cpu", "--json", "--report"]
    done = run(*command, tmp_path / "new" / "a.html")
    assert done.exit_code == 0
    assert (tmp_path / "new" / "a.html").read_text().startswith("<!doctype html>")
    assert json.loads(done.stdout)["layers"]
    (tmp_path / "file").write_text("")
    refused = run(*command, tmp_path / "file" / "a.html")
    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1), refused.stderr


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (768, "light"), (390, "dark")])
@pytest.mark.parametrize("name", ["passed", "failed"])
def test_the_page_looks_right_in_a_browser(reports, tmp_path, name, width, scheme):
    """No horizontal scrolling, nothing said on the console, nothing fetched, pictures decoded, something drawn."""
    try:
        with browser(tmp_path / "profile") as driver:
            emulate(driver, width, scheme)
            driver.get(reports[name][0].as_uri())
            across = driver.execute_script("return [document.documentElement.scrollWidth, window.innerWidth]")
            fetched = driver.execute_script("return performance.getEntriesByType('resource').map((e) => e.name)")
            decoded = driver.execute_script("return [...document.images].map((i) => i.naturalWidth)")
            screenshot = np.asarray(Image.open(io.BytesIO(driver.get_screenshot_as_png())).convert("RGB"))
            log = driver.get_log("browser")
    except Missing as error:
        pytest.skip(str(error))
    assert across[0] <= across[1]
    assert log == []
    assert [address for address in fetched if not address.startswith("data:")] == []
    assert decoded == [32, 32]
    assert screenshot.shape[1] == width
    assert len(np.unique(screenshot.reshape(-1, 3), axis=0)) > 50
    assert (screenshot[-1, 0].mean() > 128) == (scheme == "light")
