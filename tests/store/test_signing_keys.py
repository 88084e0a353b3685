"""Keys as files: written whole or not at all, by one of many, and read by nobody else."""

import json
import os
import stat
import time
from base64 import urlsafe_b64decode
from hashlib import sha256
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from gateway.core.rotation import KeyLife
from gateway.store.signing_keys import (
    UNFINISHED,
    UNFINISHED_S,
    KeyDirectory,
    KeysUnusable,
    SigningKey,
    algorithm_of,
    base64url,
    key_id,
    new_private_key,
    signing_key,
)
from tests.fakes.keys import no_space

ALGORITHMS = ("ES256", "EdDSA")


def key(number: int = 1, algorithm: str = "ES256", *, withdraws: bool = False) -> SigningKey:
    private = new_private_key(algorithm)
    return signing_key(KeyLife(number, 1.5, 2.5, key_id(private), algorithm_of(private), withdraws), private)


@pytest.fixture
def directory(tmp_path: Path) -> KeyDirectory:
    made = KeyDirectory(str(tmp_path / "some" / "keys"))
    made.prepare()
    return made


def names(directory: KeyDirectory) -> list[str]:
    return sorted(os.listdir(directory.path))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_key_comes_back_as_it_was(directory: KeyDirectory, algorithm: str) -> None:
    one = key(3, algorithm, withdraws=True)
    assert directory.put(one)
    found = directory.read()
    assert [(each.life, each.jwk, each.header) for each in found.keys] == [(one.life, one.jwk, one.header)]
    assert (found.wrong, found.highest, directory.numbers()) == ([], 3, [3])


def test_only_the_owner_reads_them(directory: KeyDirectory) -> None:
    directory.put(key())
    modes = [
        stat.S_IMODE(os.stat(path).st_mode) for path in (directory.path, f"{directory.path}/{names(directory)[0]}")
    ]
    assert modes == [0o700, 0o600]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's directory")
def test_another_users_directory_is_not_taken(tmp_path: Path) -> None:
    os.chmod(tmp_path, 0o700)
    os.chown(tmp_path, 12345, 12345)
    with pytest.raises(KeysUnusable, match="another user's"):
        KeyDirectory(str(tmp_path)).prepare()


@pytest.mark.parametrize("mode", [0o750, 0o701, 0o777, 0o720])
def test_a_directory_that_others_may_use_is_refused(directory: KeyDirectory, mode: int) -> None:
    os.chmod(directory.path, mode)
    with pytest.raises(KeysUnusable, match="chmod 700"):
        directory.prepare()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_another_library_verifies_what_is_signed(algorithm: str) -> None:
    one = key(algorithm=algorithm)
    token = one.header + b"." + base64url(b'{"sub":"user_1"}')
    token += b"." + base64url(one.sign(token))
    known = jwt.PyJWK.from_dict(dict(one.jwk))
    assert jwt.decode(token, known.key, algorithms=[algorithm]) == {"sub": "user_1"}
    assert jwt.get_unverified_header(token) == {"alg": algorithm, "typ": "JWT", "kid": one.life.kid}


def test_signatures_have_their_full_length_whatever_the_numbers() -> None:
    one = key()
    assert {len(one.sign(b"%d" % n)) for n in range(300)} == {64}


def test_a_kid_is_the_thumbprint_of_rfc_7638() -> None:
    for algorithm in ALGORITHMS:
        one = key(algorithm=algorithm)
        members = ("crv", "kty", "x", "y") if algorithm == "ES256" else ("crv", "kty", "x")
        text = "{" + ",".join(f'"{name}":"{one.jwk[name]}"' for name in members) + "}"
        assert urlsafe_b64decode(one.life.kid + "=") == sha256(text.encode()).digest()


def test_nothing_of_the_private_key_is_published_or_shown() -> None:
    for algorithm in ALGORITHMS:
        one = key(algorithm=algorithm)
        assert set(one.jwk) <= {"kty", "crv", "x", "y", "use", "alg", "kid"}
        assert "private" not in repr(one)


def test_a_number_is_given_once(directory: KeyDirectory) -> None:
    one, other = key(1), key(1)
    assert (directory.put(one), directory.put(other)) == (True, False)
    assert [each.life.kid for each in directory.read().keys] == [one.life.kid]
    assert len(names(directory)) == 1


def test_a_link_whose_answer_was_lost_counts(directory: KeyDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link

    def twice(source: str, target: str) -> None:
        link(source, target)
        link(source, target)  # as an NFS client that asks again

    monkeypatch.setattr(os, "link", twice)
    assert directory.put(key())


def test_what_cannot_be_written_is_not_there(directory: KeyDirectory) -> None:
    with no_space(), pytest.raises(KeysUnusable, match="cannot be written to"):
        directory.put(key())
    assert names(directory) == []
    assert directory.put(key())


def test_what_a_crash_left_harms_nobody_and_goes_in_time(directory: KeyDirectory) -> None:
    old, new = (Path(directory.path, f"{UNFINISHED}{name}") for name in ("old", "new"))
    for file in (old, new):
        file.write_bytes(b'{"made_at"')
    os.utime(old, (0, time.time() - UNFINISHED_S - 60))
    assert directory.read() == ([], [], 0)
    directory.clean()
    assert names(directory) == [new.name]


def pem(private: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> str:
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


GOOD = {"made_at": 1, "signs_from": 2, "withdraws": False}
RSA = pem(rsa.generate_private_key(65537, 2048))
P384 = pem(ec.generate_private_key(ec.SECP384R1()))
P256 = pem(ec.generate_private_key(ec.SECP256R1()))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("", "is not a signing key", id="empty"),
        pytest.param("[]", "is not a signing key", id="list"),
        pytest.param("\0" * 500, "is not a signing key", id="zeros"),
        pytest.param(json.dumps(GOOD), "is not a signing key", id="no-key"),
        pytest.param(json.dumps(GOOD | {"private_key": 5}), "is not a signing key", id="number"),
        pytest.param(json.dumps(GOOD | {"private_key": P256[:99]}), "is not a signing key", id="cut"),
        pytest.param(json.dumps(GOOD | {"private_key": P256, "made_at": "x"}), "is not a signing key", id="time"),
        pytest.param(json.dumps(GOOD | {"private_key": P256, "made_at": float("nan")}), "is not a signing", id="nan"),
        pytest.param(json.dumps({"made_at": 1, "signs_from": 2, "private_key": P256}), "is not a", id="withdraws"),
        pytest.param(json.dumps(GOOD | {"private_key": RSA}), "neither ES256 nor EdDSA", id="rsa"),
        pytest.param(json.dumps(GOOD | {"private_key": P384}), "neither ES256 nor EdDSA", id="another-curve"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_key_is_named_and_the_others_are_read(directory: KeyDirectory, text: str, said: str) -> None:
    directory.put(key(1))
    Path(directory.path, "signing-key-000002.json").write_text(text)
    found = directory.read()
    assert len(found.keys) == 1
    assert found.highest == 2
    assert said in found.wrong[0]
    assert "signing-key-000002.json" in found.wrong[0]
    assert "PRIVATE" not in found.wrong[0]


def test_a_key_that_is_a_directory_is_named(directory: KeyDirectory) -> None:
    Path(directory.path, "signing-key-000002.json").mkdir()
    assert "cannot be read: Is a directory" in directory.read().wrong[0]


@pytest.mark.parametrize("name", ["key.pem", "signing-key-.json", "signing-key-1.json.bak", "signing-key-²3.json"])
def test_other_files_are_left_alone(directory: KeyDirectory, name: str) -> None:
    Path(directory.path, name).write_text("x")
    assert directory.read() == ([], [], 0)


def test_a_key_that_is_dropped_is_gone_and_may_be_so_already(directory: KeyDirectory) -> None:
    directory.put(key(1))
    directory.drop(1)
    directory.drop(1)
    assert names(directory) == []


def test_a_path_that_is_a_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    for path in (file, file / "keys"):
        with pytest.raises(KeysUnusable, match=f"{path} cannot be"):
            KeyDirectory(str(path)).prepare()
        with pytest.raises(KeysUnusable, match="cannot be read"):
            KeyDirectory(str(path)).read()
        with pytest.raises(KeysUnusable, match="cannot be written to"):
            KeyDirectory(str(path)).put(key())
        with pytest.raises(KeysUnusable, match="cannot be removed"):
            KeyDirectory(str(path)).drop(1)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_what_root_writes_is_the_directorys_owners(directory: KeyDirectory) -> None:
    os.chown(directory.path, 1234, 1234)
    directory.put(key())
    assert os.stat(f"{directory.path}/{names(directory)[0]}").st_uid == 1234
