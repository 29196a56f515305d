"""docs/architecture.md is the plan of the tree, and the tests stand as the rooms do."""

from __future__ import annotations

import re

from support.paths import ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text()
PACKAGE = ROOT / "exporter"
NOT_ROOMS = {"__init__.py", "start.py", "py.typed"}  # the package itself, the script that loads it, a marker


def rooms_of_the_tree() -> set[str]:
    """Folders with modules in them, and the modules beside the rooms."""
    folders = {path.parent.relative_to(PACKAGE).as_posix() + "/" for path in PACKAGE.rglob("*.py")} - {"./"}
    return folders | {path.name for path in PACKAGE.glob("*.py")} - NOT_ROOMS


def test_every_room_is_in_the_plan_and_the_other_way_round() -> None:
    table = PAGE.partition("## Rooms")[2].partition("## ")[0]
    planned = re.findall(r"^\| `([\w/.]+)` \|", table, re.MULTILINE)
    assert sorted(planned) == sorted(rooms_of_the_tree())


def test_the_modules_that_the_page_names_exist() -> None:
    table = PAGE.partition("## Rooms")[2].partition("## ")[0]
    for room, said in re.findall(r"^\| `([\w/]+/)` \| (.*) \|$", table, re.MULTILINE):
        for name in re.findall(r"`(\w+\.py)`", said):
            assert (PACKAGE / room / name).is_file(), f"{room}{name}"
    for path in re.findall(r"`((?:\w+/)+\w+\.py)`", PAGE):
        top = ROOT if path.startswith(("tests/", "tools/", "exporter/")) else PACKAGE
        assert (top / path).is_file(), path


def test_the_lint_contract_has_the_same_floors() -> None:
    """The order of the table is the order of the layers, from the top floor down."""
    contract = (ROOT / "pyproject.toml").read_text().partition('name = "Rooms: imports go one way"')[2]
    layers = re.findall(r'^    "(.*)",$', contract.partition("layers = [")[2].partition("]\n")[0], re.MULTILINE)
    in_order = [name.strip() for layer in layers for name in layer.split("|")]
    table = PAGE.partition("## Rooms")[2].partition("## ")[0]
    planned = [name.strip("/").removesuffix(".py") for name in re.findall(r"^\| `([\w.]+/?)` \|", table, re.MULTILINE)]
    assert planned == in_order


def test_each_room_of_the_package_has_its_folder_of_tests() -> None:
    rooms = {room.strip("/") for room in rooms_of_the_tree() if room.endswith("/")}
    folders = {path.parent.relative_to(ROOT / "tests").as_posix() for path in (ROOT / "tests").rglob("test_*.py")}
    assert rooms <= folders, sorted(rooms - folders)
    assert folders - rooms == {"examples", "hostile", "project", "tools"}
