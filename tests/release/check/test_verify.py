"""`verify` on small releases: what is intact passes, whatever is done to it is noticed, and it stands alone."""

import ast
import gzip
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result as Run
from hypothesis import given
from hypothesis import strategies as st

from cifar_export.errors import GateFailed
from cifar_export.release.check import verify as verifier
from cifar_export.release.check.verify import compare, describe, extract, main, onnx_problem, parse_sums, verify
from cifar_export.release.sums import format_sums

from support.hostile.archives import entries_of, tar
from support.hostile.case import ARCHIVE, NETWORK, edit_json, files_below, reseal
from support.releases import fake_release

SCRIPT = Path(verifier.__file__)


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An intact release; tests leave it as it is."""
    return fake_release(tmp_path_factory.mktemp("intact") / "1.0.0")


@pytest.fixture
def release(intact: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(intact, tmp_path / "1.0.0"))


# what is intact


def test_release_is_intact(intact: Path) -> None:
    result = verify(intact)
    assert result.problems == []
    assert result.verdict == "intact, origin not checked"
    assert (result.kind, result.version, result.signed) == ("release", "1.0.0", False)
    assert set(result.networks) == {"cifar10_resnet20", "cifar100_resnet20"}
    listed = [name for name in files_below(intact) if name != "SHA256SUMS"]
    assert (result.files, result.bytes) == (len(listed), sum((intact / name).stat().st_size for name in listed))


def test_network_folder_is_intact_under_any_name(intact: Path, tmp_path: Path) -> None:
    for folder in (intact / NETWORK, shutil.copytree(intact / NETWORK, tmp_path / "my_model")):
        result = verify(folder)
        assert (result.problems, result.kind, result.networks) == ([], "network", (NETWORK,))


def test_archive_is_intact_under_any_name(intact: Path, tmp_path: Path) -> None:
    for archive in (intact / ARCHIVE, shutil.copy(intact / ARCHIVE, tmp_path / "download (1).tar.gz")):
        result = verify(archive)
        assert (result.problems, result.kind, result.networks, result.version) == ([], "archive", (NETWORK,), "1.0.0")


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_verdict_is_the_same_with_any_number_of_threads(release: Path, threads: int) -> None:
    (release / NETWORK / "model.pt2").write_bytes(b"other")
    (release / "extra").touch()
    assert verify(release, threads=threads) == verify(release)


def test_signature_is_the_only_file_that_may_be_added(release: Path) -> None:
    (release / "model.sig").write_bytes(b"{}")
    result = verify(release)
    assert result.intact
    assert result.signed
    (release / "Model.sig").write_bytes(b"{}")
    assert verify(release).problems == ["Model.sig: not listed in SHA256SUMS"]


def test_verdict_tells_of_a_signature_that_was_not_checked(release: Path) -> None:
    assert "with a signature" not in describe(verify(release))
    (release / "model.sig").write_bytes(b"{}")
    assert describe(verify(release)).endswith("with a signature)")


def test_folder_of_releases_is_told_from_a_release(intact: Path) -> None:
    assert verify(intact.parent).problems == [
        "SHA256SUMS: missing: nothing here can be checked",
        f"{intact.parent.name}: may hold releases. Name one of them, like 1.0.0",
    ]


def test_sha256sum_agrees(intact: Path) -> None:
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=intact, check=True)


# whatever is done to it


def _flip(release: Path, rng: random.Random) -> str:
    name = rng.choice([name for name in files_below(release) if (release / name).stat().st_size])
    data = bytearray((release / name).read_bytes())
    place = rng.randrange(len(data))
    data[place] ^= 1 << rng.randrange(8)
    (release / name).write_bytes(data)
    return f"bit flipped in byte {place} of {name}"


def _truncate(release: Path, rng: random.Random) -> str:
    name = rng.choice([name for name in files_below(release) if (release / name).stat().st_size])
    size = rng.randrange((release / name).stat().st_size)
    os.truncate(release / name, size)
    return f"{name} cut to {size} bytes"


def _new_name(release: Path, rng: random.Random) -> Path:
    folder = rng.choice([release, *(path for path in sorted(release.rglob("*")) if path.is_dir())])
    old = rng.choice(files_below(release)).rpartition("/")[2]
    name = rng.choice(
        [f"{old}.bak", old.upper(), f".{old}", f"{old}~", "x" * rng.randint(1, 100), "model.sig.bak", old]
    )
    path = folder / name
    if path.exists() or path == release / "model.sig":  # the one file that may come
        return _new_name(release, rng)
    return path


def _rename(release: Path, rng: random.Random) -> str:
    things = sorted(release.rglob("*"))
    thing, new = rng.choice(things), _new_name(release, rng)
    if thing in new.parents:
        return _rename(release, rng)
    thing.rename(new)
    return f"{thing.relative_to(release)} renamed to {new.relative_to(release)}"


def _add(release: Path, rng: random.Random) -> str:
    new = _new_name(release, rng)
    kind = rng.choice(["file", "empty file", "folder", "link", "copy"])
    if kind == "folder":
        new.mkdir()
    elif kind == "link":
        new.symlink_to(rng.choice(files_below(release)))
    elif kind == "copy":
        shutil.copy(release / rng.choice(files_below(release)), new)
    else:
        new.write_bytes(rng.randbytes(100) if kind == "file" else b"")
    return f"{kind} {new.relative_to(release)} added"


def _delete(release: Path, rng: random.Random) -> str:
    thing = rng.choice(sorted(release.rglob("*")))
    if thing.is_dir():
        shutil.rmtree(thing)
    else:
        thing.unlink()
    return f"{thing.relative_to(release)} deleted"


def _swap(release: Path, rng: random.Random) -> str:
    one, two = rng.sample(files_below(release), 2)
    if (release / one).read_bytes() == (release / two).read_bytes():
        return _swap(release, rng)
    (release / one).rename(release / "spare")
    (release / two).rename(release / one)
    (release / "spare").rename(release / two)
    return f"{one} and {two} swapped"


CHANGES: tuple[Callable[[Path, random.Random], str], ...] = (_flip, _truncate, _rename, _add, _delete, _swap)


def _notices_changes(release: Path, scratch: Path, seeds: range) -> None:
    for seed in seeds:
        rng = random.Random(seed)
        changed = Path(shutil.copytree(release, scratch / release.name))
        what = rng.choice(CHANGES)(changed, rng)
        assert not verify(changed).intact, f"seed {seed}: {what}"
        shutil.rmtree(changed)


def test_any_change_to_a_release_is_noticed(intact: Path, tmp_path: Path) -> None:
    _notices_changes(intact, tmp_path, range(50))


@pytest.mark.slow
def test_a_thousand_changes_to_a_release_are_noticed(intact: Path, tmp_path: Path) -> None:
    _notices_changes(intact, tmp_path, range(50, 1050))


@pytest.mark.slow
def test_any_change_to_a_network_is_noticed(intact: Path, tmp_path: Path) -> None:
    _notices_changes(intact / NETWORK, tmp_path, range(300))


def _notices_flips(archive: Path, scratch: Path, seeds: range) -> None:
    """Any flipped bit in an archive is noticed, or it is one that means nothing: what comes out is the same."""
    data = archive.read_bytes()
    reference = scratch / "reference"
    assert extract(archive, reference) == []
    expected = {name: (reference / name).read_bytes() for name in files_below(reference)}
    for seed in seeds:
        rng = random.Random(seed)
        place = rng.choice([rng.randrange(len(data)), rng.randrange(20), len(data) - 1 - rng.randrange(20)])
        changed = bytearray(data)
        changed[place] ^= 1 << rng.randrange(8)
        (scratch / archive.name).write_bytes(changed)
        out = scratch / "out"
        if extract(scratch / archive.name, out):
            assert not out.exists()
            continue
        assert {name: (out / name).read_bytes() for name in files_below(out)} == expected, f"seed {seed}"
        shutil.rmtree(out)


def test_any_flipped_bit_in_an_archive_is_noticed_or_harmless(intact: Path, tmp_path: Path) -> None:
    _notices_flips(intact / ARCHIVE, tmp_path, range(50))


@pytest.mark.slow
def test_a_thousand_flipped_bits_in_an_archive_are_noticed_or_harmless(intact: Path, tmp_path: Path) -> None:
    _notices_flips(intact / ARCHIVE, tmp_path, range(50, 1050))


def test_every_cut_of_an_archive_is_noticed(intact: Path, tmp_path: Path) -> None:
    data = (intact / ARCHIVE).read_bytes()
    path = tmp_path / ARCHIVE
    for size in [*range(20), *random.Random(0).sample(range(len(data)), 20), len(data) - 1]:
        path.write_bytes(data[:size])
        assert not verify(path).intact, size


# unpacking


def test_extract_makes_the_folder_of_the_release(intact: Path, tmp_path: Path) -> None:
    assert extract(intact / ARCHIVE, tmp_path / "new") == []
    assert {name: (tmp_path / "new" / name).read_bytes() for name in files_below(tmp_path / "new")} == {
        name: (intact / NETWORK / name).read_bytes() for name in files_below(intact / NETWORK)
    }
    assert verify(tmp_path / "new").intact
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_extract_touches_nothing_that_stands_there(intact: Path, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    with pytest.raises(FileExistsError):
        extract(intact / ARCHIVE, tmp_path / "new")
    assert list(tmp_path.iterdir()) == [tmp_path / "new"]


def test_extract_that_is_interrupted_leaves_nothing(
    intact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(verifier.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        extract(intact / ARCHIVE, tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


def test_archive_is_read_as_tarfile_reads_it(intact: Path, tmp_path: Path) -> None:
    """The reader is one of our own: the standard library's must find the same files in the same archive."""
    assert extract(intact / ARCHIVE, tmp_path / "new") == []
    with tarfile.open(intact / ARCHIVE) as archive:
        members = archive.getmembers()
        found = {member.name.partition("/")[2]: archive.extractfile(member).read() for member in members}  # type: ignore[union-attr]
    assert found == {name: (tmp_path / "new" / name).read_bytes() for name in files_below(tmp_path / "new")}


def test_long_path_in_two_parts_of_the_header_is_read(release: Path, tmp_path: Path) -> None:
    long = "/".join(["d" * 30] * 5)
    (release / NETWORK / long).parent.mkdir(parents=True)
    (release / NETWORK / long).write_bytes(b"deep")
    reseal(release)

    (tmp_path / "x.tar.gz").write_bytes(gzip.compress(tar(entries_of(release))))
    assert extract(tmp_path / "x.tar.gz", tmp_path / "new") == []
    assert (tmp_path / "new" / long).read_bytes() == b"deep"


def test_archive_that_differs_from_its_folder_is_noticed(release: Path) -> None:
    assert compare(release / ARCHIVE, release / NETWORK) == []
    (release / NETWORK / "README.md").write_text("other\n")
    reseal(release)
    assert verify(release).intact
    assert compare(release / ARCHIVE, release / NETWORK) == [f"{ARCHIVE}: holds other files than the folder"]


# the parsers


names = st.lists(st.text("Aab0_.+-", max_size=4).map("x{}y".format), min_size=1, max_size=3).map("/".join)
digests = st.integers(0, 2**256 - 1).map("{:064x}".format)


@given(st.dictionaries(names, digests, min_size=1))
def test_sums_that_are_written_are_read(listed: dict[str, str]) -> None:
    found, problems = parse_sums(format_sums(listed).encode())
    assert found == listed
    # names may differ in case only, or be file and folder, or devices of Windows
    assert all("are one path" in problem or "no release has" in problem for problem in problems)


@given(st.dictionaries(names, digests, min_size=1, max_size=3), st.data())
def test_changed_sums_are_never_read_as_the_same(listed: dict[str, str], data: st.DataObject) -> None:
    text = bytearray(format_sums(listed).encode())
    place = data.draw(st.integers(0, len(text) - 1))
    text[place] = data.draw(st.integers(0, 255).filter(lambda value: value != text[place]))
    found, problems = parse_sums(bytes(text))
    assert problems or found != listed


@given(st.binary(max_size=300) | st.text(alphabet="0f \n\r/.xX*", max_size=200).map(str.encode))
def test_sums_of_any_bytes_are_read_only_as_they_would_be_written(content: bytes) -> None:
    found, problems = parse_sums(content)
    if not problems:
        assert format_sums(found).encode() == content
    else:
        assert all(problem.isprintable() and problem.isascii() for problem in problems)


@given(st.binary(max_size=200))
def test_any_bytes_are_an_onnx_file_or_a_problem(content: bytes) -> None:
    for root in ("Model", "Tensor"):
        problem = onnx_problem(content, root)
        assert problem is None or problem.isascii()


@given(st.data())
def test_damaged_onnx_file_never_breaks_the_reader(intact: Path, data: st.DataObject) -> None:
    content = bytearray((intact / NETWORK / "model.onnx").read_bytes())
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    problem = onnx_problem(bytes(content))
    assert problem is None or problem.isascii()


# the script


def _script(*arguments: object, script: Path = SCRIPT, **options: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-I", "-S", str(script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload,no-any-return]


def test_lone_copy_of_the_script_works(intact: Path, release: Path, tmp_path: Path) -> None:
    script = Path(shutil.copy(SCRIPT, tmp_path / "v.py"))
    done = _script(intact, script=script, cwd=tmp_path, env={"PATH": ""})
    assert (done.returncode, done.stderr) == (0, "")
    assert "intact, origin not checked (release 1.0.0 of 2 networks, 34 files" in done.stdout
    os.truncate(release / "index.json", 5)
    done = _script(release, script=script)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.splitlines()[0] == "index.json: changed: its sha256 is not the one in SHA256SUMS"


def test_script_imports_the_standard_library_only() -> None:
    tree = ast.parse(SCRIPT.read_text(encoding="utf-8"))
    modules = {
        name.partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
    }
    assert modules <= set(sys.stdlib_module_names)


def test_script_works_with_other_pythons(intact: Path) -> None:
    found = [name for name in (f"python3.{minor}" for minor in range(9, 16)) if shutil.which(name)]
    found = [name for name in found if not subprocess.run([name, "-V"], capture_output=True, check=False).returncode]
    if not found:
        pytest.skip("needs another Python on the path")
    for python in found:
        command = [python, "-W", "error", "-I", "-S", str(SCRIPT), str(intact)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), python


def test_script_works_in_any_locale(release: Path) -> None:
    Path(os.fsdecode(os.fsencode(release) + b"/\xe9")).touch()
    done = _script(release, env={"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"})
    assert (done.returncode, done.stdout.splitlines()[0]) == (1, r"\udce9: its name is not UTF-8")


def test_json_is_one_document(intact: Path, tmp_path: Path) -> None:
    done = _script(intact / NETWORK, "--json")
    document = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert document["verdict"] == "intact, origin not checked"
    assert document["origin"] is None
    done = _script(tmp_path / "nothing", "--json")
    assert json.loads(done.stdout) == {"error": f"{tmp_path}/nothing: No such file or directory", "exit_code": 2}


def test_wrong_usage_is_exit_2(intact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (tmp_path / "nothing", intact / "index.json", intact / NETWORK / "model.onnx", "/dev/null", "a\0b"):
        assert main([str(path)]) == 2
        assert capsys.readouterr().err.startswith("error: ")
    with pytest.raises(SystemExit, match="2"):
        main([])


def test_trouble_of_the_machine_is_exit_3(
    intact: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object) -> None:
        raise OSError(5, "Input/output error", "index.json")

    monkeypatch.setattr(verifier, "_hashed", fails)
    assert main([str(intact)]) == 3
    assert capsys.readouterr().err == "error: index.json: Input/output error\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk_below_stdout_is_exit_3(intact: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, SCRIPT, intact], stdout=full, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (3, b"error: can't print: No space left on device\n")


def test_reader_that_goes_away_changes_nothing(release: Path) -> None:
    (release / "extra").touch()
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([sys.executable, SCRIPT, release], stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")


def test_closed_output_changes_nothing(intact: Path, tmp_path: Path) -> None:
    for path, code in ((intact, 0), (tmp_path / "nothing", 2)):
        script = 'exec "$0" "$1" "$2" --json >&- 2>&-'
        done = subprocess.run(["sh", "-c", script, sys.executable, SCRIPT, path], check=False)
        assert done.returncode == code


# the command


def test_command_says_the_same(intact: Path, release: Path, run: Callable[..., Run]) -> None:
    done = run("verify", intact)
    assert (done.exit_code, done.stderr) == (0, "")
    assert "intact, origin not checked" in done.stdout
    (release / "extra").touch()
    done = run("verify", release, "--json")
    assert done.exit_code == 1
    assert json.loads(done.stdout)["problems"] == ["extra: not listed in SHA256SUMS"]


def test_command_refuses_half_an_origin(intact: Path, tmp_path: Path, run: Callable[..., Run]) -> None:
    for options in (["--identity", "a"], ["--issuer", "b"], ["--public-key", tmp_path / "nothing.pem"]):
        assert run("verify", intact, *options).exit_code == 2
    assert run("verify", tmp_path / "nothing", "--json").exit_code == 2


def test_command_refuses_a_missing_signature(intact: Path, tmp_path: Path, run: Callable[..., Run]) -> None:
    key = tmp_path / "key.pem"
    key.write_text("-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n")
    for path in (intact, intact / NETWORK, intact / ARCHIVE):
        done = run("verify", path, "--public-key", key)
        assert done.exit_code == 1, done.output
        assert "model.sig: " in done.stdout


def test_command_names_the_origin_that_was_checked(
    release: Path, tmp_path: Path, run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    def check_signature(folder: Path, **who: object) -> None:
        asked.append((folder, who))

    monkeypatch.setattr("cifar_export.release.sign.check_signature", check_signature)
    (release / "model.sig").write_bytes(b"{}")
    (tmp_path / "key.pem").touch()
    done = run("verify", release, "--public-key", tmp_path / "key.pem")
    assert f"intact, signed by {tmp_path / 'key.pem'} (" in done.stdout
    done = run("verify", release, "--identity", "me", "--issuer", "https://issuer", "--json")
    assert json.loads(done.stdout)["verdict"] == "intact, signed by me of https://issuer"
    assert asked[1] == (release, {"public_key": None, "identity": "me", "issuer": "https://issuer"})

    def refuse(folder: Path, **who: object) -> None:
        raise GateFailed("signed by another key.")

    monkeypatch.setattr("cifar_export.release.sign.check_signature", refuse)
    done = run("verify", release, "--public-key", tmp_path / "key.pem", "--json")
    assert done.exit_code == 1
    document = json.loads(done.stdout)
    assert (document["problems"], document["origin"]) == (["model.sig: signed by another key."], None)
    assert (document["intact"], document["verdict"]) == (False, "origin refused")


def test_sha256_of_sums_tells_a_resealed_release(intact: Path, release: Path) -> None:
    """Who rewrites SHA256SUMS gets an intact release of another digest: that is why the verdict says so."""
    edit_json(release / NETWORK / "config.json", lambda config: config.update(labels=["x"]))
    reseal(release)
    assert verify(release).verdict == "intact, origin not checked"
    sums = [hashlib.sha256((folder / "SHA256SUMS").read_bytes()).hexdigest() for folder in (intact, release)]
    assert sums[0] != sums[1]
