"""SHA256SUMS, index.json and config.json that lie, with checksums that were made right again where that hides it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.hostile.case import ARCHIVE, NETWORK, Case, collector, edit_json, reseal, rewrite_sums

CASES: list[Case] = []
case = collector(CASES)

DIGEST = "0" * 64


def _sums_line(name: str, line: bytes, says: str) -> None:
    """A case with a line more in SHA256SUMS."""

    def make(release: Path) -> None:
        sums = release / "SHA256SUMS"
        sums.write_bytes(sums.read_bytes() + line)

    CASES.append(Case(name, make, says, alone=False))


for _name, _line, _says in (
    ("sums_absolute", f"{DIGEST}  /etc/passwd\n", "/etc/passwd is an absolute path"),
    ("sums_drive", f"{DIGEST}  C:/windows\n", "C:/windows is an absolute path"),
    ("sums_unc", f"{DIGEST}  \\\\server\\share\n", "is an absolute path"),
    ("sums_parent", f"{DIGEST}  ../outside\n", "../outside is a path that leaves the folder"),
    ("sums_parent_inside", f"{DIGEST}  x/../index.json\n", "x/../index.json is a path that leaves the folder"),
    ("sums_parent_windows", f"{DIGEST}  x\\..\\..\\y\n", "is a path that leaves the folder"),
    ("sums_dot", f"{DIGEST}  ./index.json\n", "./index.json is a name that no release has"),
    ("sums_double_slash", f"{DIGEST}  x//y\n", "x//y is a name that no release has"),
    ("sums_option", f"{DIGEST}  -rf\n", "-rf is a name that no release has"),
    ("sums_option_inside", f"{DIGEST}  x/--help\n", "x/--help is a name that no release has"),
    ("sums_windows_device", f"{DIGEST}  x/NUL.txt\n", "x/NUL.txt is a name that no release has"),
    ("sums_trailing_dot", f"{DIGEST}  x/y.\n", "x/y. is a name that no release has"),
    ("sums_stream", f"{DIGEST}  x/y:hidden\n", "x/y:hidden is a name that no release has"),
    ("sums_escape", f"{DIGEST}  x\x1b[2J\n", r"x\x1b[2J is a name that no release has"),
    ("sums_nul", f"{DIGEST}  x\0y\n", r"x\x00y is a name that no release has"),
    ("sums_long", f"{DIGEST}  {'x' * 5000}\n", "xxx... is a name that no release has".replace("...", "")),
    ("sums_unicode", f"{DIGEST}  mod\u0435l.onnx\n", r"mod\u0435l.onnx is a name that no release has"),
    ("sums_twice", f"{DIGEST}  index.json\n", "index.json is listed twice"),
    ("sums_case", f"{DIGEST}  Index.json\n", "Index.json and index.json are one path on some systems"),
    ("sums_case_of_folder", f"{DIGEST}  {NETWORK.upper()}/x\n", f"and {NETWORK} are one path on some systems"),
    ("sums_file_and_folder", f"{DIGEST}  index.json/x\n", "index.json/x and index.json are one path on some systems"),
    ("sums_out_of_order", f"{DIGEST}  a\n", "a is out of order"),
    ("sums_binary", f"{DIGEST} *zz\n", "is no `<sha256>  <path>`"),
    ("sums_upper", f"{'A' * 64}  zz\n", "is no `<sha256>  <path>`"),
    ("sums_md5", f"{'0' * 32}  zz\n", "is no `<sha256>  <path>`"),
    ("sums_escaped", f"\\{DIGEST}  zz\n", "is no `<sha256>  <path>`"),
    ("sums_comment", "# all is well\n", "is no `<sha256>  <path>`"),
    ("sums_blank", "\n", "is no `<sha256>  <path>`"),
    ("sums_cut", f"{DIGEST}  zz", "is empty or its last line has no end"),
    ("sums_lists_itself", f"{DIGEST}  SHA256SUMS\n", "SHA256SUMS is never listed"),
    ("sums_lists_signature", f"{DIGEST}  model.sig\n", "model.sig is never listed"),
):
    _sums_line(_name, _line.encode(), _says)
_sums_line("sums_not_utf8", f"{DIGEST}  x".encode() + b"\xff\n", r"x\udcff is not UTF-8")


@case("SHA256SUMS: larger than 4 MiB", alone=False)
def sums_huge(release: Path) -> None:
    with (release / "SHA256SUMS").open("r+b") as stream:
        stream.truncate(1 << 40)  # a sparse file


def _turned(networks: dict[str, Any]) -> dict[str, Any]:
    return dict(zip(networks, reversed(networks.values()), strict=True))


def _index(name: str, says: str, change: Callable[[Any], object], *, alone: bool = True) -> None:
    """A case with another index.json, rightly listed."""

    def make(release: Path) -> None:
        edit_json(release / "index.json", change)
        rewrite_sums(release)

    CASES.append(Case(name, make, says, alone))


_index("index_schema", "index.json: not of schema 1", lambda index: index.update(schema=2))
_index("index_schema_true", "index.json: not of schema 1", lambda index: index.update(schema=True))
_index("index_no_version", "index.json: names no version", lambda index: index.pop("version"))
_index("index_bad_version", "index.json: names no version", lambda index: index.update(version="1.0.0\x1b[2J"))
_index("index_no_networks", "index.json: names no version, or no networks", lambda index: index.update(networks={}))
_index("index_networks_list", "index.json: names no version, or no networks", lambda index: index.update(networks=[1]))
_index(
    "index_other_version",
    "index.json: is that of version 2.0.0, but the folder is called 1.0.0",
    lambda index: index.update(version="2.0.0"),
    alone=False,
)
_index(
    "index_other_digest",
    "sbom.cdx.json: index.json has another sha256 than SHA256SUMS",
    lambda index: index["files"]["sbom.cdx.json"].update(sha256=DIGEST),
)
_index(
    "index_other_size",
    "sbom.cdx.json: index.json has another size",
    lambda index: index["files"]["sbom.cdx.json"].update(bytes=1),
)
_index(
    "index_size_of_another_type",
    "sbom.cdx.json: index.json has another size",
    lambda index: index["files"]["sbom.cdx.json"].update(bytes="all"),
)


def _size_of_one_byte(name: str, size: object) -> None:
    """A case with a file of one byte, whose size in index.json is `size`: Python takes True and 1.0 for 1."""

    def make(release: Path) -> None:
        (release / NETWORK / "labels.txt").write_bytes(b"x")
        reseal(release)
        edit_json(
            release / "index.json",
            lambda index: index["networks"][NETWORK]["files"]["labels.txt"].update(bytes=size),
        )
        rewrite_sums(release)

    CASES.append(Case(name, make, f"{NETWORK}/labels.txt: index.json has another size"))


_size_of_one_byte("index_size_true", True)
_size_of_one_byte("index_size_with_a_fraction", 1.0)
_index(
    "index_entry_of_another_type",
    "sbom.cdx.json: index.json has another sha256",
    lambda index: index["files"].update({"sbom.cdx.json": None}),
    alone=False,
)
_index(
    "index_forgets_a_file",
    "sbom.cdx.json: listed in SHA256SUMS, but not named in index.json",
    lambda index: index["files"].pop("sbom.cdx.json"),
)
_index(
    "index_forgets_a_network",
    f"{NETWORK}/model.onnx: listed in SHA256SUMS, but not named in index.json",
    lambda index: index["networks"].pop(NETWORK),
    alone=False,
)
_index(
    "index_names_more",
    "../../etc/passwd: named in index.json, but not listed in SHA256SUMS",
    lambda index: index["files"].update({"../../etc/passwd": {"sha256": DIGEST, "bytes": 1}}),
)
_index(
    "index_other_model_digest",
    f"{NETWORK}/model.onnx: index.json has another sha256 than SHA256SUMS",
    lambda index: index["networks"][NETWORK]["files"]["model.onnx"].update(sha256=DIGEST),
)
_index(
    "index_other_folder",
    f"index.json: {NETWORK} has another folder or archive",
    lambda index: index["networks"][NETWORK].update(folder="../elsewhere"),
)
_index(
    "index_other_archive",
    f"index.json: {NETWORK} has another folder or archive",
    lambda index: index["networks"][NETWORK].update(archive="cifar100_resnet20-1.0.0.tar.gz"),
)
_index(
    "index_swaps_networks",
    f"index.json: {NETWORK} has another folder or archive",
    lambda index: index["networks"].update(_turned(index["networks"])),
    alone=False,
)


def _index_text(name: str, says: str, change: Callable[[str], str]) -> None:
    """A case with an index.json that is another text, rightly listed."""

    def make(release: Path) -> None:
        path = release / "index.json"
        path.write_text(change(path.read_text()))
        rewrite_sums(release)

    CASES.append(Case(name, make, says))


_index_text("index_no_json", "index.json: no JSON document", lambda text: text[:-10])
_index_text("index_empty", "index.json: no JSON document", lambda _: "")
_index_text("index_list", "index.json: not of schema 1", lambda _: "[1]")
_index_text(
    "index_key_twice", "index.json: no JSON document: a key comes twice", lambda text: '{"schema": 9,' + text[1:]
)
_index_text("index_nan", "index.json: no JSON document: NaN is no JSON", lambda text: '{"x": NaN,' + text[1:])
_index_text("index_deep", "index.json: no JSON document", lambda _: "[" * 100_000)
_index_text("index_big_number", "index.json: no JSON document", lambda text: '{"x": ' + "9" * 5000 + "," + text[1:])


@case("index.json: no JSON document")
def index_not_utf8(release: Path) -> None:
    path = release / "index.json"
    path.write_bytes(path.read_bytes().replace(b'"name"', b'"\xff\xfe"'))
    rewrite_sums(release)


@case("index.json: not listed in SHA256SUMS: neither a release nor")
def neither_release_nor_network(release: Path) -> Path:
    folder = release.parent / "something"
    folder.mkdir()
    (folder / "model.bin").write_bytes(b"weights")
    rewrite_sums(folder)
    return folder


@case(f"{NETWORK}/SHA256SUMS: disagrees with the release's about labels.txt")
def sums_of_a_network_disagree(release: Path) -> None:
    sums = release / NETWORK / "SHA256SUMS"
    lines = [DIGEST + line[64:] if line.endswith("labels.txt") else line for line in sums.read_text().splitlines()]
    sums.write_text("".join(f"{line}\n" for line in lines))

    def tell(index: Any) -> None:
        import hashlib

        index["networks"][NETWORK]["files"]["SHA256SUMS"]["sha256"] = hashlib.sha256(sums.read_bytes()).hexdigest()

    edit_json(release / "index.json", tell)
    rewrite_sums(release)


def _config(name: str, says: str, change: Callable[[Any], object], *, alone: bool = True) -> None:
    """A case with another config.json, and every checksum right."""

    def make(release: Path) -> None:
        edit_json(release / NETWORK / "config.json", change)
        reseal(release)

    CASES.append(Case(name, make, says, alone))


_config("config_schema", f"{NETWORK}/config.json: not of schema 1", lambda config: config.update(schema="1"))
_config(
    "config_of_another_network",
    f"{NETWORK}/config.json: describes cifar10_resnet56, but stands in {NETWORK}",
    lambda config: config.update(network="cifar10_resnet56"),
)
_config(
    "config_of_another_version",
    f"{NETWORK}/config.json: is of version 0.9, the release of 1.0.0",
    lambda config: config.update(version="0.9"),
)
_config("config_no_network", f"{NETWORK}/config.json: names no network", lambda config: config.pop("network"))
_config(
    "config_no_models",
    f"{NETWORK}/config.json: names no models",
    lambda config: config.update(models={}, golden=[]),
)
_config(
    "config_names_a_model_more",
    f"{NETWORK}/config.json: names ../evil.onnx, which SHA256SUMS does not list",
    lambda config: config["models"].update({"../evil.onnx": {}}),
)
_config(
    "config_names_other_vectors",
    f"{NETWORK}/config.json: names /etc/input_0.pb, which SHA256SUMS does not list",
    lambda config: config["golden"]["model.onnx"].update(folder="/etc"),
    alone=False,
)
_config(
    "config_other_weights",
    f"{NETWORK}/config.json: names other weights than model.safetensors",
    lambda config: config["weights"].update(sha256=DIGEST),
)


@case(f"config.json: describes {NETWORK}, but stands in cifar10_resnet56")
def network_folder_renamed(release: Path) -> Path:
    return (release / NETWORK).rename(release / "cifar10_resnet56")


@case("index.json: is that of version 1.0.0, but the folder is called 2.0.0")
def release_folder_renamed(release: Path) -> Path:
    return release.rename(release.with_name("2.0.0"))


@case(f"{ARCHIVE}: listed in SHA256SUMS, but not named in index.json", alone=False)
def archive_under_another_version(release: Path) -> None:
    edit_json(release / "index.json", lambda index: index["files"].pop(ARCHIVE))
    rewrite_sums(release)
