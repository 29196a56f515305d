"""What `--help` shows, in a terminal of 80 columns."""

import shlex
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from cifar_export import __main__ as cli
from cifar_export.commands.help import LONG, SECTIONS
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
    assert WITH_RUNTIME == [("benchmark",), ("evaluate",), ("package",), ("parity",), ("predict",)]


LEAVES = [path for path, command in COMMANDS.items() if not isinstance(command, click.Group)]


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_h_is_help_and_o_is_output(path):
    short = CliRunner().invoke(cli.main, [*path, "-h"], env={"COLUMNS": "80"})
    assert (short.stdout, short.stderr) == (shown(path), "")
    for parameter in COMMANDS[path].params:
        assert ("--output" in parameter.opts) == ("-o" in parameter.opts)


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_options_of_long_commands_are_in_sections(path):
    headings = [line[:-1] for line in shown(path).splitlines() if line.endswith(":") and line[0] != " "]
    options = sum(isinstance(parameter, click.Option) for parameter in COMMANDS[path].params) + 1  # --help
    if options > LONG:
        assert "Options" not in headings
        assert len(headings) > 2
    else:
        assert headings == ["Options", "Examples"]


def test_every_option_of_the_sections_is_one():
    options = {name for command in COMMANDS.values() for parameter in command.params for name in parameter.opts}
    listed = [name for names in SECTIONS.values() for name in names]
    assert set(listed) <= options | {"--help"}
    assert len(listed) == len(set(listed))


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_the_examples_are_understood(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("model.onnx", "benchmark.json", "weights.safetensors", "cat.png", "maker.pem"):
        Path(name).touch()
    examples = COMMANDS[path].examples
    assert 1 <= len(examples) <= 2
    for example in examples:
        words = shlex.split(example.removeprefix('eval "$(').removesuffix(')"'))
        assert words[: 1 + len(path)] == ["cifar-export", *path]
        with COMMANDS[path].make_context(" ".join(path), words[1 + len(path) :]):
            pass
        assert example in " ".join(shown(path).replace("\\\n", " ").split())


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script_for_the_shell_that_completes(shell):
    script = CliRunner().invoke(cli.main, ["completion", shell])
    assert script.exit_code == 0
    assert f"_CIFAR_EXPORT_COMPLETE={shell}_complete" in script.stdout
    typed = {"_CIFAR_EXPORT_COMPLETE": f"{shell}_complete", "COMP_WORDS": "cifar-export doc", "COMP_CWORD": "1"}
    if shell == "fish":  # which says what is typed, not its place
        typed["COMP_CWORD"] = "doc"
    answer = CliRunner().invoke(cli.main, [], prog_name="cifar-export", env=typed)
    assert "doctor" in answer.stdout
    assert "evaluate" not in answer.stdout
