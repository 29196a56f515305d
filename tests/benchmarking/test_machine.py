"""What machine it was, and whether it did something else meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from cifar_export.benchmarking import machine, usage
from cifar_export.benchmarking.machine import Conditions, look, shares, this_machine
from cifar_export.system import processor

STAT = "cpu  {user} 0 100 {idle} 0 0 0 {steal} 0 0\ncpu0 1 2 3\n"
IDLE = Conditions(load=0.0, steal=0.0, others=0.0, drift=0.0, seconds=1.0, in_time=True)


@pytest.fixture
def stat(tmp_path, monkeypatch):
    """Write /proc/stat: ticks of programs, of nobody, and of the hypervisor."""
    monkeypatch.setattr(machine, "_STAT", tmp_path / "stat")

    def write(user: int, idle: int, steal: int) -> None:
        (tmp_path / "stat").write_text(STAT.format(user=user, idle=idle, steal=steal))

    return write


@pytest.mark.skipif(not hasattr(os, "sysconf"), reason="ticks are those of Unix")
def test_steal_and_the_work_of_others_are_shares_of_the_machine(stat):
    ticks = os.sysconf("SC_CLK_TCK")
    stat(1000, 1000, 0)
    before = look()
    stat(1000 + 6 * ticks, 1000 + 3 * ticks, ticks)
    assert shares(before, look(), own_seconds=5.0) == pytest.approx((0.1, 0.1))
    assert shares(before, look(), own_seconds=8.0) == pytest.approx((0.1, 0.0))


def test_what_the_system_does_not_tell_is_not_known(stat, tmp_path):
    assert look() is None
    (tmp_path / "stat").write_text("cpu  1 2\n")
    assert look() is None
    stat(1, 1, 1)
    assert shares(look(), look(), 1.0) == (None, None)
    assert Conditions(None, None, None, None, 1.0, True).noise == []


@pytest.mark.parametrize(
    ("noisy", "said"),
    [
        ({"steal": 0.02}, "the hypervisor gave 2.0% of its time to others"),
        ({"others": 0.25}, "other programs took 25% of it"),
        ({"drift": 0.2}, "a tenth of the turns was off by 20% or more"),
    ],
)
def test_a_noisy_machine_is_called_one(noisy, said):
    assert IDLE.noise == []
    assert Conditions(**{**vars(IDLE), **noisy}).noise == [said]


@pytest.mark.parametrize(
    ("cpuinfo", "name", "sets"),
    [
        (
            "processor\t: 0\nmodel name\t: Some Xeon\nflags\t\t: fpu avx2 avx512f avx512_vnni amx_tile\n",
            "Some Xeon",
            ("AVX2", "AVX-512", "VNNI", "AMX"),
        ),
        ("model name : Old\nflags : sse2\n", "Old", ()),
        ("processor\t: 0\nFeatures\t: fp asimd asimddp sve\n", None, ("NEON", "dot product", "SVE")),
        ("", None, ()),
    ],
)
def test_the_instruction_sets_that_decide_are_named(monkeypatch, tmp_path, cpuinfo, name, sets):
    (tmp_path / "cpuinfo").write_text(cpuinfo)
    monkeypatch.setattr(processor, "_CPUINFO", tmp_path / "cpuinfo")
    found = this_machine(1)
    assert found.instruction_sets == sets
    assert found.processor
    assert name is None or found.processor == name


def test_the_governor_is_read_where_there_is_one(monkeypatch, tmp_path):
    monkeypatch.setattr(processor, "_GOVERNOR", tmp_path / "none")
    assert processor.governor() is None
    (tmp_path / "none").write_text("powersave\n")
    assert processor.governor() == "powersave"


@pytest.mark.skipif(not usage._PROC.is_dir(), reason="needs /proc")
def test_the_peak_of_a_process_is_its_own_whatever_its_parent_held():
    """`ru_maxrss` would be the parent's: Linux keeps it over the start of another program."""
    held = np.ones(60 << 20, np.uint8)  # 60 MiB
    script = "import sys; from cifar_export.benchmarking.usage import usage; print(usage()[0])"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, start_new_session=True, check=True
    )
    assert 4 << 20 < int(done.stdout) < 60 << 20
    assert held.all()
    more = script.replace("import sys;", "import sys; held = b'1' * (80 << 20); del held;")
    done = subprocess.run(
        [sys.executable, "-c", more], capture_output=True, text=True, start_new_session=True, check=True
    )
    assert int(done.stdout) > 80 << 20
