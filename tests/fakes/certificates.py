"""Certificates made on the spot: authorities, and what they issue to servers and clients.

authority = Authority(); pair = authority.issue("gw.example.com").write(tmp_path, "server"); pair.cert, pair.key
"""

import functools
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Pair:
    """A certificate and its key as files."""

    cert: str
    key: str


@dataclass(frozen=True)
class Issued:
    """A certificate and its key in PEM."""

    cert: bytes
    key: bytes

    def write(self, folder: Path, name: str) -> Pair:
        """Store both, over what was there."""
        cert, key = folder / f"{name}.pem", folder / f"{name}.key"
        cert.write_bytes(self.cert)
        key.write_bytes(self.key)
        return Pair(str(cert), str(key))


class Authority:
    """Issues certificates that are good now, unless told otherwise."""

    def __init__(self, name: str = "test authority") -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = self._signed(self.name, self.key.public_key(), (), is_authority=True)
        self.pem = self.certificate.public_bytes(serialization.Encoding.PEM)

    def write(self, folder: Path, name: str = "ca") -> str:
        """Store the authority's own certificate."""
        file = folder / f"{name}.pem"
        file.write_bytes(self.pem)
        return str(file)

    def issue(
        self, *names: str, begins: timedelta = -DAY, ends: timedelta = DAY, passphrase: bytes | None = None
    ) -> Issued:
        """Issue a certificate for host names and addresses; `begins` and `ends` are relative to now."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0] if names else "client")])
        made = self._signed(subject, key.public_key(), names, begins=begins, ends=ends)
        locked = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
        return Issued(made.public_bytes(serialization.Encoding.PEM), key.private_bytes(*form, locked))

    def _signed(
        self, subject: x509.Name, public: Any, names: tuple[str, ...], *, is_authority: bool = False,
        begins: timedelta = -DAY, ends: timedelta = DAY,
    ) -> x509.Certificate:  # fmt: skip
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + begins)
            .not_valid_after(now + ends)
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName([_san(name) for name in names]), critical=False)
        return builder.sign(self.key, hashes.SHA256())

    def trusted(self, client: Pair | None = None) -> ssl.SSLContext:
        """Make a client's context that trusts this authority alone."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=self.pem.decode())
        if client is not None:
            context.load_cert_chain(client.cert, client.key)
        return context


def _san(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


@functools.cache
def authority(name: str = "test authority") -> Authority:
    """Give the authority of this name; one per process."""
    return Authority(name)
