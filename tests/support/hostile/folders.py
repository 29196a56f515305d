"""What can stand in a folder, or be missing."""

import os
import shutil
import socket
from pathlib import Path

from support.hostile.case import ARCHIVE, NETWORK, Case, collector, rewrite_sums

CASES: list[Case] = []
case = collector(CASES)


@case("SHA256SUMS: missing: nothing here can be checked")
def sums_missing(release: Path) -> None:
    (release / "SHA256SUMS").unlink()


@case("SHA256SUMS: missing: nothing here can be checked")
def sums_of_a_network_missing(release: Path) -> Path:
    (release / NETWORK / "SHA256SUMS").unlink()
    return release / NETWORK


@case("SHA256SUMS: missing")
def empty_folder(release: Path) -> Path:
    shutil.rmtree(release)
    release.mkdir()
    return release


@case("SHA256SUMS: is empty", alone=False)
def sums_empty(release: Path) -> Path:
    shutil.rmtree(release)
    release.mkdir()
    (release / "SHA256SUMS").touch()
    return release


@case("SHA256SUMS: has CR LF line ends")
def sums_with_crlf(release: Path) -> None:
    sums = release / "SHA256SUMS"
    sums.write_bytes(sums.read_bytes().replace(b"\n", b"\r\n"))


@case("SHA256SUMS: a symbolic link")
def sums_is_a_link(release: Path) -> None:
    sums = release / "SHA256SUMS"
    sums.rename(release.parent / "elsewhere")
    sums.symlink_to(release.parent / "elsewhere")


def _add_in_another_case(name: str, release: Path) -> Path:
    network = release / NETWORK
    (network / name).write_text("x")
    rewrite_sums(network)
    return network


@case("sha256sums and SHA256SUMS are one path on some systems", alone=False)
def sums_in_lower_case(release: Path) -> Path:
    return _add_in_another_case("sha256sums", release)


@case("Model.sig and model.sig are one path on some systems", alone=False)
def signature_in_upper_case(release: Path) -> Path:
    return _add_in_another_case("Model.sig", release)


@case(f"{NETWORK}/model.onnx: listed in SHA256SUMS, but missing")
def file_missing(release: Path) -> None:
    (release / NETWORK / "model.onnx").unlink()


@case("index.json: listed in SHA256SUMS, but missing")
def index_missing(release: Path) -> None:
    (release / "index.json").unlink()


@case(f"{ARCHIVE}: listed in SHA256SUMS, but missing")
def archive_missing(release: Path) -> None:
    (release / ARCHIVE).unlink()


@case("setup.py: not listed in SHA256SUMS")
def file_added(release: Path) -> None:
    (release / "setup.py").write_text("print('hello')\n")


@case(f"{NETWORK}/model.onnx.data: not listed in SHA256SUMS")
def file_added_to_network(release: Path) -> Path:
    (release / NETWORK / "model.onnx.data").write_bytes(b"weights")
    return release


@case(f"{NETWORK}/.hidden: not listed in SHA256SUMS")
def hidden_file_added(release: Path) -> None:
    (release / NETWORK / ".hidden").touch()


@case(f"{NETWORK}/model.sig: not listed in SHA256SUMS")
def signature_of_a_network_in_a_release(release: Path) -> None:
    (release / NETWORK / "model.sig").write_bytes(b"{}")


@case(f"{NETWORK}/stray/: a folder of which SHA256SUMS lists nothing")
def empty_folder_added(release: Path) -> None:
    (release / NETWORK / "stray").mkdir()


@case("cifar10_resnet1202/: a folder of which SHA256SUMS lists nothing")
def network_added(release: Path) -> None:
    shutil.copytree(release / NETWORK, release / "cifar10_resnet1202")


@case("deep/: a folder of which SHA256SUMS lists nothing")
def deep_tree_added(release: Path) -> None:
    (release / "/".join(["deep"] * 200)).mkdir(parents=True)


@case(f"{NETWORK}/uint8/SHA256SUMS/: a folder of which SHA256SUMS lists nothing")
def folder_called_like_sums(release: Path) -> None:
    (release / NETWORK / "uint8" / "SHA256SUMS").mkdir()


@case(f"{NETWORK}/model.onnx: a symbolic link")
def link_inside(release: Path) -> None:
    model = release / NETWORK / "model.onnx"
    model.rename(release.parent / "model.onnx")
    model.symlink_to(release.parent / "model.onnx")


@case(f"{NETWORK}: a symbolic link", alone=False)
def link_in_place_of_a_folder(release: Path) -> None:
    shutil.move(release / NETWORK, release.parent / NETWORK)
    (release / NETWORK).symlink_to(release.parent / NETWORK, target_is_directory=True)


@case("link: a symbolic link")
def link_added(release: Path) -> None:
    (release / "link").symlink_to("index.json")


@case("link: a symbolic link")
def dangling_link_added(release: Path) -> None:
    (release / "link").symlink_to("/nowhere/at/all")


@case(f"{NETWORK}/loop: a symbolic link")
def link_to_a_parent(release: Path) -> None:
    (release / NETWORK / "loop").symlink_to("..")


@case(f"{NETWORK}/model.pt2: a hard link")
def hard_link_inside(release: Path) -> None:
    os.link(release / NETWORK / "model.pt2", release.parent / "held")


@case(f"{NETWORK}/model.pt2: a pipe, not a regular file")
def pipe_in_place_of_a_file(release: Path) -> None:
    (release / NETWORK / "model.pt2").unlink()
    os.mkfifo(release / NETWORK / "model.pt2")


@case("pipe: a pipe, not a regular file")
def pipe_added(release: Path) -> None:
    os.mkfifo(release / "pipe")


@case("SHA256SUMS: a pipe, not a regular file")
def pipe_in_place_of_sums(release: Path) -> None:
    (release / "SHA256SUMS").unlink()
    os.mkfifo(release / "SHA256SUMS")


@case("model.sig: a pipe, not a regular file")
def pipe_in_place_of_the_signature(release: Path) -> None:
    os.mkfifo(release / "model.sig")


@case("s: a socket, not a regular file")
def socket_added(release: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(release)  # the path of a socket is short
        try:
            server.bind("s")
        finally:
            os.chdir(here)


@case("index.json: a folder, not a regular file")
def folder_in_place_of_a_file(release: Path) -> None:
    (release / "index.json").unlink()
    (release / "index.json").mkdir()


@case(r"b\udcff\udcfe.txt: its name is not UTF-8")
def name_not_utf8(release: Path) -> None:
    (Path(os.fsdecode(os.fsencode(release) + b"/b\xff\xfe.txt"))).touch()


@case(r"\x1b]0;owned\x07\x1b[2J: not listed in SHA256SUMS")
def name_for_the_terminal(release: Path) -> None:
    (release / "\x1b]0;owned\x07\x1b[2J").touch()


@case(r"a\nSHA256SUMS: OK: not listed in SHA256SUMS")
def name_with_a_line_end(release: Path) -> None:
    (release / "a\nSHA256SUMS: OK").touch()


@case(r"fig\u202egpj.exe: not listed in SHA256SUMS")
def name_that_turns_around(release: Path) -> None:
    (release / "fig\u202egpj.exe").touch()


@case(f"{NETWORK}/Model.onnx: not listed in SHA256SUMS", alone=False)
def name_in_another_case(release: Path) -> None:
    (release / NETWORK / "model.onnx").rename(release / NETWORK / "Model.onnx")


@case(f"{NETWORK}/model.onnx: changed", alone=False)
def two_files_swapped(release: Path) -> None:
    one, two, spare = (release / NETWORK / name for name in ("model.onnx", "model-uint8.onnx", "spare"))
    one.rename(spare)
    two.rename(one)
    spare.rename(two)


@case(f"{NETWORK}/labels.txt: changed")
def labels_swapped(release: Path) -> None:
    labels = release / NETWORK / "labels.txt"
    lines = labels.read_text().splitlines()
    labels.write_text("\n".join([lines[1], lines[0], *lines[2:]]) + "\n")


@case("and 100 more problems", alone=False)
def many_files_added(release: Path) -> None:
    for number in range(200):
        (release / f"{number:04}").touch()
