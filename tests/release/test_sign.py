"""Signatures: what a valid one accepts, what it refuses, and what is said of unusable keys."""

import base64
import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cifar_export.errors import CifarExportError, GateFailed, InvalidInput, Unavailable
from cifar_export.release.layout import INDEX, SIGNATURE, SUMS
from cifar_export.release.sign import check_private_key, check_signature, require_extra, sign_release, signed_digests
from cifar_export.release.sums import files_below
from cifar_export.system.files import sha256_file

from support.paths import ROOT
from support.releases import fake_release

pytest.importorskip("model_signing", reason="needs the sign extra")
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from support.keys import write_keys

NETWORK = "cifar10_resnet20"


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A signed release, its private and its public key. Not to be changed."""
    folder = tmp_path_factory.mktemp("signed")
    key, public = write_keys(folder, "key")
    release = fake_release(folder / "staging-4f2a", (NETWORK,))
    sign_release(release, key)
    return release, key, public


@pytest.fixture
def release(signed: tuple[Path, Path, Path], tmp_path: Path) -> Path:
    """A copy of the signed release, under another name."""
    return shutil.copytree(signed[0], tmp_path / "1.0.0")


@pytest.fixture
def public(signed: tuple[Path, Path, Path]) -> Path:
    """The signer's public key."""
    return signed[2]


def test_a_renamed_release_is_accepted_with_the_right_key(release: Path, public: Path) -> None:
    check_signature(release, public_key=public)
    assert signed_digests(release / SIGNATURE, public) == {
        name: sha256_file(release / name) for name in files_below(release) if name != SIGNATURE
    }
    assert SUMS in signed_digests((release / SIGNATURE).read_bytes(), public)


def test_signing_says_nothing(
    release: Path, signed: tuple[Path, Path, Path], capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        sign_release(release, signed[1])
        check_signature(release, public_key=signed[2])
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []


def test_the_signature_names_the_release_and_not_the_folder(release: Path) -> None:
    payload = json.loads(base64.b64decode(json.loads((release / SIGNATURE).read_bytes())["dsseEnvelope"]["payload"]))
    assert payload["subject"][0]["name"] == "cifar-export-1.0.0"
    assert payload["predicate"]["serialization"]["ignore_paths"] == [SIGNATURE]
    assert "staging" not in json.dumps(payload)


def test_the_standard_command_agrees(release: Path, public: Path) -> None:
    command = [
        *(sys.executable, "-m", "model_signing", "verify", "key", os.fspath(release)),
        *("--signature", os.fspath(release / SIGNATURE), "--public_key", os.fspath(public), "--no-ignore-git-paths"),
    ]
    subprocess.run(command, capture_output=True, check=True)


def test_what_the_standard_command_signed_is_accepted(release: Path, signed: tuple[Path, Path, Path]) -> None:
    (release / SIGNATURE).unlink()
    command = [
        *(sys.executable, "-m", "model_signing", "sign", "key", os.fspath(release), "--no-ignore-git-paths"),
        *("--signature", os.fspath(release / SIGNATURE), "--private_key", os.fspath(signed[1])),
    ]
    subprocess.run(command, capture_output=True, check=True)
    check_signature(release, public_key=signed[2])


@pytest.mark.skipif(not all(map(shutil.which, ("jq", "openssl", "sha256sum"))), reason="needs jq, openssl, sha256sum")
def test_the_signature_can_be_checked_without_this_tool_as_documented(
    release: Path, public: Path, tmp_path: Path
) -> None:
    page = (ROOT / "docs" / "releases.md").read_text()
    script = page.partition("<!-- tests/release/test_sign.py runs this -->\n```sh\n")[2].partition("```")[0]
    shutil.copy(public, release.parent / "key.pub.pem")
    command = ["bash", "-e", "-o", "pipefail", "-c", script.replace("/tmp/", f"{tmp_path}/")]
    done = subprocess.run(command, cwd=release, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "Verified OK"), done.stderr
    flip(release / NETWORK / "model.onnx")
    done = subprocess.run(command, cwd=release, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr


def test_another_key_is_refused(release: Path, tmp_path: Path) -> None:
    _, other = write_keys(tmp_path, "other")
    with pytest.raises(GateFailed, match=r"not valid, or not by .*other\.pub\.pem"):
        check_signature(release, public_key=other)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def swap(release: Path) -> None:
    one, other = release / NETWORK / "model.onnx", release / NETWORK / "model-uint8.onnx"
    kept = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(kept)


def link(release: Path) -> None:
    """The same bytes, but through a link out of the folder."""
    path = release / NETWORK / "model.onnx"
    elsewhere = release.parent / "elsewhere.onnx"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


TAMPERED: dict[str, tuple[Callable[[Path], object], str]] = {
    "changed byte": (lambda release: flip(release / NETWORK / "model.onnx"), f"changed: {NETWORK}/model.onnx"),
    "changed sums": (lambda release: flip(release / SUMS), f"changed: {SUMS}"),
    "added file": (lambda release: (release / "run.py").write_text(""), r"added: run\.py"),
    "added git file": (lambda release: (release / ".gitattributes").write_text(""), "added: .gitattributes"),
    "added signature": (
        lambda release: shutil.copy(release / SIGNATURE, release / NETWORK),
        f"added: {NETWORK}/{SIGNATURE}",
    ),
    "removed file": (lambda release: (release / NETWORK / "config.json").unlink(), f"missing: {NETWORK}/config.json"),
    "swapped pair": (swap, f"changed: {NETWORK}/model-uint8.onnx, {NETWORK}/model.onnx"),
    "link": (link, "symlink"),
    "linked folder": (lambda release: (release / "more").symlink_to(release / NETWORK), "symlink"),
    "pipe": (lambda release: os.mkfifo(release / "pipe"), "special file"),
    "no signature": (lambda release: (release / SIGNATURE).unlink(), "is not signed"),
    "empty signature": (lambda release: (release / SIGNATURE).write_bytes(b""), "is not JSON"),
    "truncated signature": (
        lambda release: (release / SIGNATURE).write_bytes((release / SIGNATURE).read_bytes()[:-200]),
        "is not JSON",
    ),
    "signature is binary": (lambda release: (release / SIGNATURE).write_bytes(os.urandom(900)), "is not JSON"),
    "signature is a list": (lambda release: (release / SIGNATURE).write_text("[1]"), "is not a Sigstore bundle"),
    "signature is deep": (lambda release: (release / SIGNATURE).write_text("[" * 100_000), "is not JSON"),
    "signature is huge": (lambda release: os.truncate(release / SIGNATURE, 1 << 30), "at most 16 MiB"),
    "signature is a folder": (
        lambda release: ((release / SIGNATURE).unlink(), (release / SIGNATURE).mkdir()),
        "is not a regular file",
    ),
    "signature is a link": (
        lambda release: (
            (release / SIGNATURE).rename(release.parent / "sig")
            and (release / SIGNATURE).symlink_to(release.parent / "sig")
        ),
        "is not a regular file",
    ),
}


@pytest.mark.parametrize("case", TAMPERED)
def test_tampering_is_refused(case: str, release: Path, public: Path) -> None:
    tamper, said = TAMPERED[case]
    tamper(release)
    with pytest.raises(GateFailed, match=said) as caught:
        check_signature(release, public_key=public)
    assert len(str(caught.value).splitlines()) <= 2


def test_the_signature_of_another_release_is_refused(
    release: Path, signed: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    other = fake_release(tmp_path / "1.1.0", (NETWORK,), "1.1.0")
    sign_release(other, signed[1])
    shutil.copy(other / SIGNATURE, release)
    with pytest.raises(GateFailed, match=r"is not what was signed \(changed: "):
        check_signature(release, public_key=signed[2])


def test_signing_again_replaces_the_signature(release: Path, signed: tuple[Path, Path, Path]) -> None:
    (release / "notes.txt").write_text("added before the release was signed again\n")
    sign_release(release, signed[1])
    check_signature(release, public_key=signed[2])
    assert not [name for name in files_below(release) if ".tmp" in name]


def edit(bundle: dict, path: str, change: Callable[[str], object]) -> dict:
    """A copy of `bundle` with the value at `path` ("dsseEnvelope.payload") changed."""
    bundle = json.loads(json.dumps(bundle))
    *parents, last = path.split(".")
    at = bundle
    for name in parents:
        at = at[int(name)] if isinstance(at, list) else at[name]
    at[last] = change(at[last])
    return bundle


def with_payload(change: Callable[[dict], object]) -> Callable[[str], str]:
    def changed(text: str) -> str:
        payload = json.loads(base64.b64decode(text))
        change(payload)
        return base64.b64encode(json.dumps(payload).encode()).decode()

    return changed


BUNDLES: dict[str, tuple[str, Callable[[str], object]]] = {
    "another digest is claimed": (
        "dsseEnvelope.payload",
        with_payload(lambda payload: payload["predicate"]["resources"][0].update(digest="0" * 64)),
    ),
    "one file fewer is claimed": (
        "dsseEnvelope.payload",
        with_payload(lambda payload: payload["predicate"]["resources"].pop()),
    ),
    "more is ignored": (
        "dsseEnvelope.payload",
        with_payload(lambda payload: payload["predicate"]["serialization"]["ignore_paths"].append("run.py")),
    ),
    "the same, written otherwise": ("dsseEnvelope.payload", with_payload(lambda payload: None)),
    "payload is cut": ("dsseEnvelope.payload", lambda text: text[:-5]),
    "payload is empty": ("dsseEnvelope.payload", lambda text: ""),
    "payload of another type": ("dsseEnvelope.payloadType", lambda text: "text/plain"),
    "no signatures": ("dsseEnvelope.signatures", lambda found: []),
    "signatures of another kind": ("dsseEnvelope.signatures", lambda found: 7),
    "signature of nothing": ("dsseEnvelope.signatures.0.sig", lambda text: ""),
    "signature of another thing": ("dsseEnvelope.signatures.0.sig", lambda text: base64.b64encode(b"x" * 70).decode()),
    "another media type": ("mediaType", lambda text: "application/json"),
    "hint at another key": ("verificationMaterial.publicKey.hint", lambda text: "0" * 64),
    "no hint": ("verificationMaterial.publicKey.hint", lambda text: ""),
    "no key": ("verificationMaterial.publicKey", lambda found: None),
    "no envelope": ("dsseEnvelope", lambda found: None),
}


@pytest.mark.parametrize("case", BUNDLES)
def test_a_tampered_bundle_vouches_for_nothing(
    case: str, release: Path, public: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = release / SIGNATURE
    bundle = json.loads(path.read_bytes())
    path.write_text(json.dumps(bundle))
    assert signed_digests(path, public)  # writing it anew alone does not matter
    path.write_text(json.dumps(edit(bundle, *BUNDLES[case])))
    with pytest.raises(GateFailed) as caught:
        signed_digests(path, public)
    assert len(str(caught.value).splitlines()) == 1
    assert capfd.readouterr() == ("", "")


def test_a_signature_over_other_digests_vouches_for_nothing(release: Path, signed: tuple[Path, Path, Path]) -> None:
    from model_signing import hashing, signing

    blake = hashing.Config().use_file_serialization(hashing_algorithm="blake3").set_ignored_paths(paths=[SIGNATURE])
    config = signing.Config().use_elliptic_key_signer(private_key=signed[1]).set_hashing_config(blake)
    config.sign(release, release / SIGNATURE)
    with pytest.raises(GateFailed, match="sha256 of whole files"):
        signed_digests(release / SIGNATURE, signed[2])


def unusable_keys(folder: Path) -> dict[str, tuple[Path, Path, str]]:
    """Private key, public key and what is said of them."""
    good, good_public = write_keys(folder, "good")
    for name, data in (("empty", b""), ("garbage", os.urandom(300)), ("broken", good.read_bytes()[:60])):
        (folder / f"{name}.pem").write_bytes(data)
    (folder / "folder.pem").mkdir()
    os.mkfifo(folder / "pipe.pem")
    ssh = ed25519.Ed25519PrivateKey.generate()
    (folder / "ssh.pem").write_bytes(
        ssh.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption())
    )
    one = {
        name: (folder / f"{name}.pem",) * 2
        for name in ("missing", "empty", "garbage", "broken", "folder", "pipe", "ssh")
    }
    said = {
        "missing": "No such file",
        "folder": "is a folder",
        "pipe": "not a regular file",
        "ssh": "private key|in PEM",
    }
    return {
        **{name: (*pair, said.get(name, "in PEM|is a private key")) for name, pair in one.items()},
        "other curve": (*write_keys(folder, "p384", ec.generate_private_key(ec.SECP384R1())), "is not a P-256 key"),
        "rsa": (*write_keys(folder, "rsa", rsa.generate_private_key(65537, 2048)), "is not a P-256 key"),
        "ed25519": (*write_keys(folder, "ed", ed25519.Ed25519PrivateKey.generate()), "is not a P-256 key"),
        "mixed up": (good_public, good, "is a (public|private) key"),
    }


def test_unusable_keys_are_named(release: Path, tmp_path: Path) -> None:
    before = (release / SIGNATURE).read_bytes()
    for case, (key, public, said) in unusable_keys(tmp_path).items():
        for use in (
            lambda key=key: sign_release(release, key),
            lambda key=key: check_private_key(key),
            lambda public=public: check_signature(release, public_key=public),
        ):
            with pytest.raises(InvalidInput) as caught:
                use()
            caught.match(said)
            assert len(str(caught.value).splitlines()) == 1, case
    assert (release / SIGNATURE).read_bytes() == before


def test_a_key_with_a_password_is_refused(release: Path, tmp_path: Path) -> None:
    key, _ = write_keys(tmp_path, "hidden", password=b"secret")
    with pytest.raises(InvalidInput, match="protected by a password"):
        sign_release(release, key)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_key_is_refused(release: Path, tmp_path: Path) -> None:
    key, _ = write_keys(tmp_path, "closed")
    key.chmod(0)
    with pytest.raises(InvalidInput, match="Permission denied"):
        sign_release(release, key)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda release: shutil.rmtree(release), "is not a release"),
        (lambda release: (release / INDEX).unlink(), "is not a release"),
        (lambda release: (release / INDEX).write_text("{}"), "names no version"),
        (link, "symlink"),
    ],
)
def test_only_a_release_of_plain_files_is_signed(
    spoil: Callable[[Path], object], said: str, release: Path, signed: tuple[Path, Path, Path]
) -> None:
    (release / SIGNATURE).unlink()
    spoil(release)
    with pytest.raises(InvalidInput, match=said):
        sign_release(release, signed[1])
    assert not (release / SIGNATURE).exists()


@pytest.mark.parametrize(
    "signer",
    [
        {},
        {"identity": "someone"},
        {"issuer": "https://issuer.example"},
        {"public_key": Path("key"), "identity": "someone", "issuer": "https://issuer.example"},
        {"public_key": Path("key"), "issuer": "https://issuer.example"},
    ],
)
def test_one_signer_is_named(release: Path, signer: dict) -> None:
    with pytest.raises(InvalidInput, match="either --public-key, or both --identity and --issuer"):
        check_signature(release, **signer)


def test_without_the_extra_the_fix_is_named(release: Path, public: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "model_signing"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "model_signing", None)
    for use in (
        lambda: check_signature(release, public_key=public),
        lambda: sign_release(release, public),
        lambda: check_private_key(public),
        require_extra,
    ):
        with pytest.raises(Unavailable, match=r"pip install 'cifar-export\[sign\]'") as caught:
            use()
        assert caught.value.exit_code == 3


KEYLESS = {"identity": "https://example.com/workflow@refs/tags/v1", "issuer": "https://issuer.example"}


def test_the_two_kinds_of_signature_are_told_apart(release: Path, public: Path) -> None:
    with pytest.raises(GateFailed, match="made with a key, not keyless"):
        check_signature(release, **KEYLESS)
    bundle = json.loads((release / SIGNATURE).read_bytes())
    material = {"certificate": {"rawBytes": ""}, "tlogEntries": []}
    (release / SIGNATURE).write_text(json.dumps(bundle | {"verificationMaterial": material}))
    with pytest.raises(GateFailed, match="not made with a key"):
        check_signature(release, public_key=public)


@pytest.fixture
def keyless(release: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """The release with a keyless bundle, and who is asked for: the certificate's check is taken as passed."""
    import sigstore.verify
    from model_signing import verifying
    from model_signing._signing import sign_sigstore

    bundle = json.loads((release / SIGNATURE).read_bytes())
    payload = base64.b64decode(bundle["dsseEnvelope"]["payload"])
    bundle["verificationMaterial"] = {"certificate": {"rawBytes": ""}}
    (release / SIGNATURE).write_text(json.dumps(bundle))
    asked: dict[str, object] = {}

    class Verifier(sign_sigstore.Verifier):
        def __init__(self, **options: object) -> None:
            asked.update(options)

        def _verify_signed_content(self, signature: object) -> tuple[str, bytes]:
            if asked["identity"] != KEYLESS["identity"]:
                raise sigstore.errors.VerificationError("Certificate's SANs do not match")
            return "application/vnd.in-toto+json", payload

    monkeypatch.setattr(verifying.sigstore, "Verifier", Verifier)
    monkeypatch.setattr(verifying.sigstore.Signature, "read", classmethod(lambda cls, path: None))
    return asked


def test_a_keyless_signature_is_held_against_identity_and_issuer(release: Path, keyless: dict[str, object]) -> None:
    check_signature(release, **KEYLESS)
    assert (keyless["identity"], keyless["oidc_issuer"]) == (KEYLESS["identity"], KEYLESS["issuer"])
    assert not keyless["use_staging"]
    with pytest.raises(GateFailed, match=r"not by https://example\.com/other"):
        check_signature(release, identity="https://example.com/other", issuer=KEYLESS["issuer"])
    (release / "added.txt").write_text("")
    with pytest.raises(GateFailed, match=r"added: added\.txt"):
        check_signature(release, **KEYLESS)


def test_a_certificate_of_ones_own_is_no_identity(
    release: Path, signed: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anyone can write a certificate that names the workflow: Sigstore's own check, with the keys it brings along."""
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from sigstore.models import ClientTrustConfig

    for name in ("HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    offline = ClientTrustConfig.production(offline=True)
    monkeypatch.setattr(ClientTrustConfig, "production", lambda: offline)
    key = serialization.load_pem_private_key(signed[1].read_bytes(), None)
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(x509.Name([]))
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(KEYLESS["identity"])]), critical=True
        )
        .sign(key, hashes.SHA256())
    )
    raw = base64.b64encode(certificate.public_bytes(serialization.Encoding.DER)).decode()
    bundle = json.loads((release / SIGNATURE).read_bytes())
    bundle["verificationMaterial"] = {"certificate": {"rawBytes": raw}, "tlogEntries": []}
    (release / SIGNATURE).write_text(json.dumps(bundle))
    with pytest.raises(GateFailed, match="is not valid, or not by"):
        check_signature(release, **KEYLESS)


def test_without_a_network_a_keyless_signature_cannot_be_checked(
    release: Path, keyless: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    from model_signing import verifying
    from sigstore.errors import TUFError

    def offline(**options: object) -> None:
        raise TUFError("Failed to refresh TUF metadata")

    monkeypatch.setattr(verifying.sigstore, "Verifier", offline)
    with pytest.raises(Unavailable, match="connect this machine"):
        check_signature(release, **KEYLESS)


def test_errors_are_ours(release: Path, public: Path) -> None:
    """Bundles of many shapes: no exception of a library gets out."""
    shapes = [None, 1, "x", [], {}, {"verificationMaterial": {}}, {"verificationMaterial": {"publicKey": {"hint": 1}}}]
    for shape in shapes:
        for content in (json.dumps(shape), json.dumps({"verificationMaterial": shape, "dsseEnvelope": shape})):
            with pytest.raises(CifarExportError):
                signed_digests(content.encode(), public)
