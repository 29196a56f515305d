"""What `--help` shows, in a terminal of 80 columns."""

import click
import pytest
from click.testing import CliRunner

from cifar_export import __main__ as cli
from cifar_export.runtimes import RUNTIMES


def commands(group: click.Group = cli.main, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], click.Command]:
    found: dict[tuple[str, ...], click.Command] = {path: group}
    for name, command in group.commands.items():
        inner = commands(command, (*path, name)) if isinstance(command, click.Group) else {(*path, name): command}
        found |= inner
    return found


COMMANDS = commands()
WITH_RUNTIME = [path for path, command in COMMANDS.items() if any(p.opts == ["--runtime"] for p in command.params)]


def shown(path: tuple[str, ...]) -> str:
    result = CliRunner().invoke(cli.main, [*path, "--help"], env={"COLUMNS": "80"})
    assert result.exit_code == 0
    return result.stdout


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_line_fits(path):
    lines = shown(path).splitlines()
    assert [line for line in lines if len(line) > 80] == []
    _, found, summaries = shown(path).partition("Commands:\n")
    assert bool(found) == isinstance(COMMANDS[path], click.Group)
    for line in summaries.splitlines():  # a summary that does not fit is cut, and ends with "..."
        assert line.endswith(".")
        assert not line.endswith("...")


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_option_is_described_in_sentences(path):
    for parameter in COMMANDS[path].params:
        if isinstance(parameter, click.Option):
            text = (parameter.help or "").partition("  [default")[0]
            assert text[:1].isupper() or text.startswith("sha256"), parameter.opts
            assert text.endswith("."), parameter.opts


@pytest.mark.parametrize("path", WITH_RUNTIME, ids=" ".join)
def test_runtimes_are_listed_by_doctor_and_by_whoever_is_given_another(path):
    text = " ".join(shown(path).split())
    assert "--runtime NAME" in text
    assert "`cifar-export doctor` lists all names." in text
    assert "onnxruntime-tensorrt" not in text
    result = CliRunner().invoke(cli.main, [*path, "resnet20", "--runtime", "onyx"])
    assert result.exit_code == 2
    assert [name for name in RUNTIMES if repr(name) not in result.stderr] == []


def test_every_command_with_runtimes_was_looked_at():
    assert WITH_RUNTIME == [("evaluate",), ("package",), ("parity",), ("predict",)]
