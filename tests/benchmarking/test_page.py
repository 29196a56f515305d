"""The page of a benchmark: one file that says what happened, and fits any window."""

from __future__ import annotations

import copy
import re

import pytest

from cifar_export.benchmarking.page import page

from support.consumers import Missing, browser, emulate


@pytest.fixture(scope="module")
def failed(measured):
    """A document in which a row failed, one is slower, and the machine was noisy."""
    document = copy.deepcopy(measured)
    document["passed"] = False
    document["rows"][1] |= {"state": "failed", "reason": "<script>alert(1)</script>", "latency": None}
    document["conditions"]["noise"] = ["other programs took 25% of it"]
    key = {name: document["rows"][0][name] for name in ("subject", "runtime", "precision", "input", "batch", "threads")}
    compared = {**key, "ratio": {"value": 1.5, "low": 1.4, "high": 1.6}, "verdict": "slower"}
    document["comparison"] = {"baseline": "old.json", "allowed": 1.1, "rows": [compared], "new": 2}
    return document


def test_the_page_is_one_file_with_a_bar_and_a_distribution_for_each_row(measured):
    html = page(measured)
    assert not re.search(r"https?://|<script|<link rel=.stylesheet|url\(", html)
    assert html.count('class="mid"') == html.count("<svg ") == 4
    assert html.count("Median of a batch of ") == 2
    assert measured["includes"] in html
    assert measured["machine"]["versions"]["torch"] in html
    assert html.count("Not run: onnxruntime-cuda. ") == 1


def test_bars_are_as_long_as_the_times(measured):
    html = page(measured)
    first = [float(width) for width in re.findall(r'class="far" style="width:([\d.]+)%', html)]
    longest = [
        max(row["latency"]["p99"] for row in measured["rows"] if row["batch"] == n and row["latency"]) for n in (1, 4)
    ]
    expected = [100 * row["latency"]["p99"] / longest[row["batch"] == 4] for row in measured["rows"] if row["latency"]]
    assert first == pytest.approx(expected, abs=0.5)


def test_the_page_says_what_failed_first_and_as_text(failed):
    html = page(failed)
    head = html[: html.index("<h2>")]
    assert "Benchmark FAILED" in head
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in head
    assert "<script" not in html
    assert "noisy machine: other programs took 25% of it" in head
    assert "1.50 (1.40–1.60)" in html
    assert "2 rows are not in it" in html


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (768, "dark"), (390, "light")])
def test_the_page_fits_the_window(failed, tmp_path, width, scheme):
    (tmp_path / "a.html").write_text(page(failed))
    try:
        with browser(tmp_path / "profile") as driver:
            emulate(driver, width, scheme)
            driver.get((tmp_path / "a.html").as_uri())
            across = driver.execute_script("return [document.documentElement.scrollWidth, window.innerWidth]")
            back = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
            log = driver.get_log("browser")
    except Missing as error:
        pytest.skip(str(error))
    assert across[0] <= across[1]
    assert log == []
    assert (int(re.findall(r"\d+", back)[0]) > 128) == (scheme == "light")
