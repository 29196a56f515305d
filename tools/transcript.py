"""What the commands of a README say on a terminal of 80 columns, without what varies from machine to machine.

    python tools/transcript.py CHECKOUT [--but FILE]

`tools/first_ten_minutes.sh` starts it in the environment of a newcomer. Commands that need a data set or a release are
left out; with `--but`, so are those whose answer stands in FILE, an earlier transcript. Exit code 1 where a command
ended with anything but 0 and 3. Linux and macOS only: it opens a pseudo terminal.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import shlex
import struct
import subprocess
import sys
import termios
from pathlib import Path

import click

from cifar_export.commands.streams import broken

ROWS, COLUMNS = 24, 80
NEEDS_DATA = ("data fetch", "evaluate", "train", "package", "verify", "fetch")
_COMMAND = re.compile(r"^(?:\$ |    (?:\.venv/bin/)?)(cifar-export .*)$", re.MULTILINE)
_PASSING = re.compile(r"[^\n]*\n?(?:\x1b\[\?25h)?\r?\x1b\[1A\x1b\[2K")  # a spinner or a bar, which its end wipes out
_STYLE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_OF_THE_MACHINE = r"system|packages|torch(?:vision)?|onnxruntime(?:-providers)?|float32|\w+-folder"
_OF_ITS_TIMES = ("This is a noisy", "The time was over")  # sentences of `benchmark` that not every run has
_VARYING = (
    (re.compile(r"\b[0-9a-f]{64}\b"), "<sha256>"),
    (re.compile(r"\b\d\.\de[-+]\d\d\b"), "#.#e-##"),
    (re.compile(r"^(bytes +)[\d,]+$", re.MULTILINE), r"\1#"),
    (re.compile(r'("probability": \d\.\d{3})\d*'), r"\1…"),
    # whether it is reported, and how far it is off, is the processor's choice of precision
    (re.compile(r"^(openvino-default +)#.*$", re.MULTILINE), r"\1…"),
    (re.compile(r"^reported: openvino-default .*\n(?:  .*\n)*", re.MULTILINE), ""),
    # what doctor finds of the machine, and of PyTorch's and ONNX Runtime's wheels
    (re.compile(r"^(?:torch-cuda|cuda-versions) .*\n|^note: cuda-libraries .*\n(?:  .*\n)*", re.MULTILINE), ""),
    (re.compile(rf"^((?:{_OF_THE_MACHINE}) {{2,}})\S.*$", re.MULTILINE), r"\1…"),
)


def commands(page: str) -> list[str]:
    """The lines of a README that run cifar-export, each once, in its order."""
    return list(dict.fromkeys(_COMMAND.findall(page)))


def needs_data(command: str) -> bool:
    """Whether a command works on a data set or on a release."""
    return any(f"cifar-export {name}" in command for name in NEEDS_DATA)


def on_terminal(command: str, folder: Path) -> tuple[str, int]:
    """What a command shows on a terminal of 80 columns once it is done, progress wiped out, and its exit code."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    process = subprocess.Popen(
        shlex.split(command), cwd=folder, stdin=its, stdout=its, stderr=its, start_new_session=True
    )
    os.close(its)
    said = bytearray()
    try:
        while part := os.read(ours, 65536):
            said += part
    except OSError:
        pass  # how Linux tells that the other end is closed
    os.close(ours)
    return settled(said.decode("utf-8", "replace")), process.wait()


def settled(said: str) -> str:
    """What is left of `said` on the screen: no progress, no styles, no blanks at the ends of lines."""
    text = _PASSING.sub("", said.replace("\r\n", "\n"))
    lines = (_STYLE.sub("", line.rpartition("\x1b[2K")[2]).rstrip() for line in text.split("\n"))
    return "\n".join(lines).strip("\n") + "\n"


def normal(text: str, folder: Path) -> str:
    """`text` without hashes, sizes, times, errors, versions, the processor's name, and where `folder` is."""
    text = text.replace(str(folder), "<folder>")
    for varying, instead in _VARYING:
        text = varying.sub(instead, text)
    if "\nRows took turns" in text:
        text = _benchmark(text)
    if text.startswith("[\n {"):
        text = text.partition("\n },\n")[0] + "\n },\n …\n]\n"  # one picture is like another
    return text


def _benchmark(text: str) -> str:
    """The answer of `benchmark`: the headings of its table and the sentences below it."""
    _, title, rest = re.split(r"^(.*, batch \d+, threads) \d+$", text, maxsplit=1, flags=re.MULTILINE)
    head, _, sentences = rest.strip().partition("\nA time is")
    head, remarks, missing = head.partition("\nnot run: ")
    names = [re.split(" {2,}", line) for line in head.splitlines() if "─" not in line]
    table = ["  ".join(names[0]), *(f"{row[0]}  {'  '.join('#' for _ in names[0][1:])}" for row in names[1:])]
    paragraphs = re.sub(r"\n {2,}", " ", f"{remarks}{missing}\nA time is{sentences}".strip()).split("\n")
    told = [re.sub(r"for \d+ s\b", "for # s", line) for line in paragraphs if not line.startswith(_OF_ITS_TIMES)]
    lines = ["<processor, cores, system>", "<versions>", f"{title} #", *table]
    return "\n".join(lines + [broken(line, COLUMNS) for line in told]).rstrip() + "\n"


@click.command(help=__doc__)
@click.argument("checkout", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--but", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="An earlier transcript.")
def main(checkout: Path, but: Path | None) -> None:
    """Run the commands and print what they say."""
    known = but.read_text(encoding="utf-8") if but else ""
    failed = []
    for command in commands((checkout / "README.md").read_text(encoding="utf-8")):
        if needs_data(command):
            continue
        said, code = on_terminal(command, checkout)
        record = f"$ {command}\n{normal(said, checkout)}" + (f"(exit code {code})\n" if code else "") + "\n"
        if record not in known:
            click.echo(record, nl=False)
        if code not in (0, 3):
            failed.append(command)
    for command in failed:
        click.echo(f"error: the README's `{command}` fails", err=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
