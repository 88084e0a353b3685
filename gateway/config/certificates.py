"""Certificate and key files, read to say what is wrong with them before a client meets it.

Raises `ValueError` with what is wrong; never with anything of a key.
"""

import ssl
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from gateway.config.findings import Path, Report

WEAK = "Have it issued anew: with an elliptic curve's key or one of RSA of 2048 bits, and signed with SHA-256"
MAX_BYTES = 4 << 20  # the system's own bundle of authorities has 200 KiB
MISSING = "Name a readable PEM file; a relative name starts where the gateway is started"


def check_pair(cert: tuple[Path, str], key: tuple[Path, str], report: Report) -> None:
    """Look whether a certificate and a key are what they should be, and belong together. Each: its place and file."""
    chain = report.tried(cert[0], read_certificates, cert[1], remedy=MISSING)
    private = report.tried(key[0], read_key, key[1], remedy=MISSING)
    if chain is None:
        return
    _review_dates(chain[0], cert[0], report)
    if private is None:
        return
    owners = [each.public_key() == private.public_key() for each in chain]
    if not owners[0]:
        message = "its first certificate is not the key's: put the key's own first, those above it behind"
        if not any(owners):
            message = f'does not belong to the key "{key[1]}"'
        report.error(cert[0], message, "Name the two files that were issued together")
    else:
        report.tried(cert[0], _try, (cert[1], key[1]), remedy=WEAK)


def check_authority(at: Path, file: str, report: Report) -> None:
    """Look whether a file has certificates of authorities."""
    found = report.tried(at, read_certificates, file, remedy=MISSING)
    for each in found or ():
        _review_dates(each, at, report)


def _review_dates(certificate: x509.Certificate, at: Path, report: Report) -> None:
    now = datetime.now(UTC)
    if certificate.not_valid_after_utc < now:
        report.warning(at, f"expired on {certificate.not_valid_after_utc:%Y-%m-%d}", "Renew it: nobody trusts it now")
    if certificate.not_valid_before_utc > now:
        report.warning(at, f"is good only from {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC on")


def read_certificates(file: str) -> list[x509.Certificate]:
    """Read the certificates of a PEM file, one at least. Raises ValueError."""
    try:
        return x509.load_pem_x509_certificates(_read(file))
    except _Unreadable:
        raise
    except ValueError:
        raise ValueError(f'"{file}" has no certificate in PEM form, or a broken one') from None


def read_key(file: str) -> PrivateKeyTypes:
    """Read the private key of a PEM file. Raises ValueError."""
    data = _read(file)
    try:
        return load_pem_private_key(data, password=None)
    except TypeError:
        raise ValueError(f'"{file}" has a passphrase: store the key without one, readable by the gateway') from None
    except Exception:  # cryptography has several, some of which are no ValueErrors
        raise ValueError(f'"{file}" has no private key in PEM form, or a broken one') from None


class _Unreadable(ValueError):
    pass


def _read(file: str) -> bytes:
    try:
        with open(file, "rb") as opened:
            data = opened.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise _Unreadable(f'"{file}" cannot be read: {getattr(error, "strerror", None) or "not a file name"}') from None
    if len(data) > MAX_BYTES:
        raise _Unreadable(f'"{file}" is larger than {MAX_BYTES} bytes')
    return data


def _try(pair: tuple[str, str]) -> None:
    """Load a pair as the gateway will: OpenSSL has rules of its own, such as against keys that are too small."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*pair)
    except OSError as error:
        raise ValueError(f"OpenSSL does not take it: {getattr(error, 'reason', None) or error.strerror}") from None
