"""The assertion's keys as files of one directory, which processes and machines may share.

A file is written whole beside its name and linked to it, so it is there once, complete, or not at all, over NFS too.
Nothing here decides what a key is for: see `core/rotation`.
"""

import json
import math
import os
import secrets
import stat
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from gateway.core.rotation import KeyLife

BEFORE, BEHIND = "signing-key-", ".json"
UNFINISHED: Final = ".unfinished-"
UNFINISHED_S: Final = 24 * 3600.0  # older ones are a crashed process'
MOST_BYTES: Final = 16_384

PrivateKey = EllipticCurvePrivateKey | Ed25519PrivateKey


class KeysUnusable(Exception):
    """The directory, or a file in it, cannot be used; the text names it and says what to do."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key with its life; `jwk` is its public half, for the key set, and `header` the JWT header that names it."""

    life: KeyLife
    jwk: Mapping[str, str]
    header: bytes
    private: PrivateKey = field(repr=False)

    def sign(self, message: bytes) -> bytes:
        """Sign, in the form that RFC 7518 §3.4 and RFC 8037 §3.1 give signatures."""
        if isinstance(self.private, Ed25519PrivateKey):
            return self.private.sign(message)
        numbers = decode_dss_signature(self.private.sign(message, ECDSA(SHA256())))
        return b"".join(number.to_bytes(32, "big") for number in numbers)


class Found(NamedTuple):
    """What the directory has: the keys, what is wrong with others, and the highest number that is taken."""

    keys: list[SigningKey]
    wrong: list[str]
    highest: int


def base64url(data: bytes) -> bytes:
    """Encode as JOSE does (RFC 7515 §2)."""
    return urlsafe_b64encode(data).rstrip(b"=")


def new_private_key(algorithm: str) -> PrivateKey:
    """Make a key for ES256 or EdDSA."""
    return Ed25519PrivateKey.generate() if algorithm == "EdDSA" else generate_private_key(SECP256R1())


def key_id(private: PrivateKey) -> str:
    """Give a key's thumbprint (RFC 7638)."""
    required = json.dumps(_public_numbers(private), separators=(",", ":"), sort_keys=True)
    return base64url(sha256(required.encode()).digest()).decode()


def algorithm_of(private: PrivateKey) -> str:
    """Name what a key signs with."""
    return "EdDSA" if isinstance(private, Ed25519PrivateKey) else "ES256"


def signing_key(life: KeyLife, private: PrivateKey) -> SigningKey:
    """Make ready what signing and publishing need."""
    jwk = {**_public_numbers(private), "use": "sig", "alg": life.algorithm, "kid": life.kid}
    header = json.dumps({"alg": life.algorithm, "typ": "JWT", "kid": life.kid}, separators=(",", ":"))
    return SigningKey(life, jwk, base64url(header.encode()), private)


def _public_numbers(private: PrivateKey) -> dict[str, str]:
    """Give the members that make a JWK, and no others (RFC 7638 §3.2, RFC 8037 §2)."""
    if isinstance(private, Ed25519PrivateKey):
        raw = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return {"crv": "Ed25519", "kty": "OKP", "x": base64url(raw).decode()}
    numbers = private.public_key().public_numbers()
    x, y = (base64url(number.to_bytes(32, "big")).decode() for number in (numbers.x, numbers.y))
    return {"crv": "P-256", "kty": "EC", "x": x, "y": y}


class KeyDirectory:
    """The directory. Everything waits for the disk, so call it from a thread."""

    def __init__(self, path: str) -> None:
        self.path = path

    def prepare(self) -> None:
        """Make the directory if it is missing, and check that it is nobody else's to read. Raises KeysUnusable."""
        try:
            os.makedirs(self.path, mode=0o700, exist_ok=True)
            found = os.stat(self.path)
        except OSError as error:
            raise _unusable(self.path, error, "cannot be made") from error
        if found.st_uid not in (os.geteuid(), 0):
            raise KeysUnusable(
                f"{self.path} is another user's. Do: chown $(id -u) {self.path}, or name another directory"
            )
        if stat.S_IMODE(found.st_mode) & 0o077:
            mode = stat.S_IMODE(found.st_mode)
            raise KeysUnusable(f"{self.path} can be read by others (mode {mode:04o}). Do: chmod 700 {self.path}")

    def read(self) -> Found:
        """Read every key. Raises KeysUnusable where the directory cannot be read."""
        found = Found([], [], 0)
        highest = 0
        for number, name in self._names():
            highest = max(highest, number)
            try:
                found.keys.append(_read(os.path.join(self.path, name), number))
            except FileNotFoundError:
                continue  # gone since it was listed
            except KeysUnusable as wrong:
                found.wrong.append(str(wrong))
        return found._replace(highest=highest)

    def numbers(self) -> list[int]:
        """Give the numbers that are taken, of unusable keys too. Raises KeysUnusable."""
        return [number for number, _ in self._names()]

    def _names(self) -> list[tuple[int, str]]:
        try:
            return sorted(_numbered(os.listdir(self.path)))
        except OSError as error:
            raise _unusable(self.path, error, "cannot be read") from error

    def put(self, key: SigningKey) -> bool:
        """Write a key under its number, on the disk for good; False where somebody else has taken the number.

        Raises:
            KeysUnusable: it cannot be written; then it is not there.
        """
        beside = os.path.join(self.path, UNFINISHED + secrets.token_hex(8))
        try:
            _write(beside, _text(key), owner=os.stat(self.path))
            try:
                return _link(beside, self._file(key.life.number))
            finally:
                os.unlink(beside)
                _settle(self.path)
        except OSError as error:
            raise _unusable(self.path, error, "cannot be written to") from error

    def drop(self, number: int) -> None:
        """Remove a key. Raises KeysUnusable."""
        try:
            with suppress(FileNotFoundError):
                os.unlink(self._file(number))
        except OSError as error:
            raise _unusable(self._file(number), error, "cannot be removed") from error

    def clean(self) -> None:
        """Remove what a process left that ended while it wrote."""
        for name in os.listdir(self.path):
            if name.startswith(UNFINISHED):
                file = os.path.join(self.path, name)
                with suppress(OSError):
                    if os.stat(file).st_mtime < time.time() - UNFINISHED_S:
                        os.unlink(file)

    def _file(self, number: int) -> str:
        return os.path.join(self.path, f"{BEFORE}{number:06d}{BEHIND}")


def _numbered(names: list[str]) -> Iterator[tuple[int, str]]:
    for name in names:
        number = name.removeprefix(BEFORE).removesuffix(BEHIND)
        if name == f"{BEFORE}{number}{BEHIND}" and number.isascii() and number.isdigit() and len(number) < 16:
            yield int(number), name


def _text(key: SigningKey) -> bytes:
    pem = key.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    life = key.life
    said = {"made_at": life.made_at, "signs_from": life.signs_from, "withdraws": life.withdraws, "private_key": pem}
    return json.dumps(said, indent=1).encode() + b"\n"


def _write(file: str, data: bytes, *, owner: os.stat_result) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with open(descriptor, "wb") as opened:
            opened.write(data)
            opened.flush()
            if os.geteuid() == 0 and owner.st_uid != 0:
                os.fchown(descriptor, owner.st_uid, owner.st_gid)  # else a gateway that is not root could not read it
            os.fsync(descriptor)
    except OSError:
        os.unlink(file)
        raise


def _link(beside: str, file: str) -> bool:
    try:
        os.link(beside, file)
    except FileExistsError:
        # Over NFS the answer to a link that was made may be lost, and the second try finds the first one's work.
        return os.stat(beside).st_nlink == 2
    return True


def _settle(directory: str) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(file: str, number: int) -> SigningKey:
    try:
        with open(file, "rb") as opened:
            data = opened.read(MOST_BYTES)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _unusable(file, error, "cannot be read") from error
    try:
        said = json.loads(data)
        private = load_pem_private_key(said["private_key"].encode(), password=None)
        made_at, signs_from = _seconds(said["made_at"]), _seconds(said["signs_from"])
        withdraws = said["withdraws"] is True
    except Exception as error:  # json, cryptography and what is missing: of several families
        raise KeysUnusable(f"{file} is not a signing key of the gateway's. Move it away") from error
    if not isinstance(private, Ed25519PrivateKey) and not (
        isinstance(private, EllipticCurvePrivateKey) and isinstance(private.curve, SECP256R1)
    ):
        raise KeysUnusable(f"{file} has a key for neither ES256 nor EdDSA. Move it away")
    life = KeyLife(number, made_at, signs_from, key_id(private), algorithm_of(private), withdraws)
    return signing_key(life, private)


def _seconds(value: Any) -> float:
    seconds = float(value)
    if not math.isfinite(seconds):
        raise ValueError("not a time")
    return seconds


def _unusable(path: str, error: OSError, what: str) -> KeysUnusable:
    why = error.strerror or type(error).__name__
    return KeysUnusable(f"{path} {what}: {why}. It has to be the gateway's own, with mode 0700 and its keys 0600")
