"""Building several networks at once: what each worker process may use of the machine."""

import os

import pytest

from cifar_export.networks.zoo import DATASETS
from cifar_export.release.build.workers import Job, build_all

from support.telling import tell_threads


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the cores of a process are not known on this system")
def test_workers_share_the_cores_and_do_not_fight_for_them(tmp_path, monkeypatch, write_cifar):
    write_cifar(tmp_path, DATASETS["cifar10"], test=10_000)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    share = (os.cpu_count() or 1) + 3  # nothing that torch would take by itself
    monkeypatch.setattr("cifar_export.release.build.workers.cores", lambda: 2 * share)
    names = ("cifar10_resnet20", "cifar10_resnet32")
    jobs = [Job(tell_threads, name, "1.0.0", tmp_path / name, tmp_path, ()) for name in names]
    found = [measured for _, measured in build_all(jobs, 2, lambda line: None)]
    assert found == [{"torch": share, "started": str(share)}] * 2
