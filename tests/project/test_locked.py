"""The libraries that releases are made with: pinned by hash, as setup.cfg asks for them, and no others."""

from __future__ import annotations

import configparser
import re
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement

from support.paths import ROOT

LOCKED = ROOT / ".github" / "locked"
MACHINE: dict[str, str] = {
    "implementation_name": "cpython",
    "implementation_version": "3.12.0",
    "os_name": "posix",
    "platform_machine": "x86_64",
    "platform_release": "",
    "platform_system": "Linux",
    "platform_version": "",
    "python_full_version": "3.12.0",
    "platform_python_implementation": "CPython",
    "python_version": "3.12",
    "sys_platform": "linux",
}
"""The machine of the release workflow."""


def requirements(section: str, key: str) -> list[Requirement]:
    """What setup.cfg asks for there."""
    config = configparser.ConfigParser(interpolation=None)
    config.read(ROOT / "setup.cfg")
    lines = (line.strip() for line in config[section][key].splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def pins(name: str) -> dict[str, str]:
    """The versions in a locked file. Each line is a pin with its hashes, or a comment."""
    text = (LOCKED / name).read_text().replace("\\\n", " ")
    found = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            pin = re.fullmatch(r"([a-z0-9-]+)==(\S+)((?: +--hash=sha256:[0-9a-f]{64})+)", line)
            assert pin, line
            found[pin[1]] = pin[2]
    return found


def build_requirements() -> list[Requirement]:
    document = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return [Requirement(line) for line in document["build-system"]["requires"]]


@pytest.mark.parametrize("name", ["release.txt", "sign.txt"])
def test_what_is_locked_is_what_setup_cfg_asks_for(name: str) -> None:
    wanted = requirements("options.extras_require", "sign")
    if name == "release.txt":
        wanted = requirements("options", "install_requires") + build_requirements()
    locked = pins(name)
    missing = []
    for each in wanted:
        here = each.marker is None or each.marker.evaluate(MACHINE)
        if here and not each.specifier.contains(locked.get(each.name.lower(), "0"), prereleases=True):
            missing.append(f"{each}: {locked.get(each.name.lower())}")
    assert wanted
    assert missing == [], "run make lock"


def test_a_release_installs_nothing_else() -> None:
    release = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text())
    lines = [
        line.strip()
        for job in release["jobs"].values()
        for step in job.get("steps", [])
        for line in step.get("run", "").splitlines()
        if "install" in line
    ]
    assert len(lines) == 5
    for line in lines:
        assert "--require-hashes" in line or "--no-deps --no-build-isolation --no-index" in line, line


def test_what_is_promised_to_run_has_an_oldest_version() -> None:
    """`make test-oldest` installs those."""
    extras = [requirements("options.extras_require", name) for name in ("openvino", "opencv", "tensorboard", "sign")]
    for each in [*requirements("options", "install_requires"), *(one for extra in extras for one in extra)]:
        assert any(specifier.operator == ">=" for specifier in each.specifier), each
