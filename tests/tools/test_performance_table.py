"""`tools/performance_table.py`: the table of docs/performance.md is what benchmarks say."""

from __future__ import annotations

import copy

import pytest

from tools.performance_table import BEGIN, END, section, with_section


def row(runtime: str, precision: str, batch: int, ratio: float, subject: str) -> dict:
    return {
        "subject": subject,
        "network": subject,
        "runtime": runtime,
        "precision": precision,
        "input": "float32",
        "batch": batch,
        "latency": {"p50": 0.00072 * ratio},
        "ratio": {"value": ratio, "low": ratio - 0.03, "high": ratio + 0.05},
    }


def document(subject: str) -> dict:
    machine = {"processor": "P", "instruction_sets": ["AVX2"], "cores": 2, "threads": 2, "system": "Linux"}
    missing = row("onnxruntime-node", "float32", 1, 1.0, subject) | {"latency": None, "ratio": None}
    return {
        "passed": True,
        "interrupted": False,
        "machine": machine | {"versions": {"torch": "2.15.0", "system": "Linux"}},
        "conditions": {"noise": []},
        "rows": [
            row("onnxruntime-cpu", "float32", 1, 1.0, subject),
            row("pytorch", "float32", 1, 5.5, subject),
            row("onnxruntime-cpu", "int8", 1, 0.61, subject),
            missing,
        ],
    }


BOTH = [document("cifar10_resnet20"), document("cifar100_resnet56")]


def test_a_column_is_a_network_and_a_row_a_runtime_in_a_precision():
    text = section(BOTH)
    assert "| runtime | precision | cifar10<br>resnet20 | cifar100<br>resnet56 |" in text
    assert "| `onnxruntime-cpu`, ms | float32 | 0.72 | 0.72 |" in text
    assert "| `pytorch` | float32 | 5.50 ± 0.04 | 5.50 ± 0.04 |" in text
    assert "| `onnxruntime-cpu` | int8 | 0.61 ± 0.04 | 0.61 ± 0.04 |" in text
    assert "onnxruntime-node" not in text
    assert "P (AVX2), 2 cores, 2 threads, Linux; torch 2.15.0." in text
    assert "noisy" not in text


def test_a_noisy_machine_is_said():
    noisy = copy.deepcopy(BOTH)
    noisy[1]["conditions"]["noise"] = ["other programs took 25% of it"]
    assert "The machine was noisy: other programs took 25% of it." in section(noisy)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"passed": False}, "failed or was interrupted"),
        ({"interrupted": True}, "failed or was interrupted"),
        ({"machine": {}}, "another machine"),
        ({"rows": [row("pytorch", "float32", 1, 1.0, "x")]}, "first row is not onnxruntime-cpu"),
    ],
)
def test_documents_that_do_not_fit_are_refused(change, said):
    with pytest.raises(ValueError, match=said):
        section([BOTH[0], BOTH[1] | change])


def test_the_section_is_replaced_or_comes_last():
    page = "# Performance\n\nWords.\n"
    once = with_section(page, section(BOTH))
    assert once.startswith(page)
    assert once.count(BEGIN) == once.count(END) == 1
    assert with_section(once + "\nAfter.\n", section(BOTH)) == once + "\nAfter.\n"
