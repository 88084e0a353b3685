"""Contexts, and when they are made anew; what they do on the wire stands in `tests/wire/test_tls.py`."""

import os
import ssl
from pathlib import Path
from typing import Any

import pytest

from gateway.core.model import ListenTls, UpstreamTls
from gateway.net.tls import LOOK_EVERY, Contexts, Reread, client_context, reason_of, server_context
from tests.fakes.certificates import Authority, Pair, authority


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return authority().issue("a.example").write(tmp_path, "server")


class Told:
    """What was told."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, event: str, **fields: Any) -> None:
        self.events.append((event, fields))

    @property
    def names(self) -> list[str]:
        return [event for event, _ in self.events]


def test_a_server_offers_forward_secrecy_and_authenticated_encryption_alone(pair: Pair) -> None:
    context = server_context(ListenTls(pair.cert, pair.key))
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_COMPRESSION
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert context.verify_mode is ssl.CERT_NONE
    for cipher in context.get_ciphers():
        assert cipher["aead"], cipher["name"]
        assert cipher["protocol"] == "TLSv1.3" or cipher["name"].startswith("ECDHE-")


def test_an_authority_of_clients_makes_their_certificates_required(pair: Pair, tmp_path: Path) -> None:
    assert server_context(ListenTls(pair.cert, pair.key, authority().write(tmp_path))).verify_mode is ssl.CERT_REQUIRED


def test_upstreams_are_verified_by_the_systems_authorities_unless_told_otherwise(tmp_path: Path) -> None:
    usual = client_context(UpstreamTls())
    assert (usual.verify_mode, usual.check_hostname) == (ssl.CERT_REQUIRED, True)
    own = client_context(UpstreamTls(ca=authority().write(tmp_path)))
    assert (own.verify_mode, own.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert len(own.get_ca_certs()) == 1
    off = client_context(UpstreamTls(verify=False))
    assert (off.verify_mode, off.check_hostname) == (ssl.CERT_NONE, False)


def test_a_key_with_a_passphrase_is_refused_instead_of_asked_for(tmp_path: Path) -> None:
    locked = authority().issue("a.example", passphrase=b"secret").write(tmp_path, "locked")
    with pytest.raises(OSError, match="passphrase"):
        server_context(ListenTls(locked.cert, locked.key))
    with pytest.raises(OSError, match="passphrase"):
        client_context(UpstreamTls(client_cert=locked.cert, client_key=locked.key))


# --- following files -------------------------------------------------------------------------------------------------


def reread(pair: Pair, told: Told) -> Reread:
    return Contexts(told).server(ListenTls(pair.cert, pair.key))


def test_files_that_stay_the_same_are_not_read_again(pair: Pair) -> None:
    told = Told()
    watched = reread(pair, told)
    first = watched.context
    for _ in range(3):
        watched.look()
    assert (watched.context, told.names) == (first, [])


def test_a_change_is_read_once_it_has_settled(pair: Pair, tmp_path: Path) -> None:
    told = Told()
    watched, newer = reread(pair, told), authority().issue("a.example")
    first = watched.context
    Path(pair.cert).write_bytes(newer.cert)
    watched.look()
    Path(pair.key).write_bytes(newer.key)  # the other half, before the first one was tried
    watched.look()
    assert (watched.context, told.names) == (first, [])
    watched.look()
    assert watched.context is not first
    watched.look()
    assert told.names == ["certificate_read"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        pytest.param(lambda pair: os.unlink(pair.cert), "No such file or directory", id="missing"),
        pytest.param(lambda pair: Path(pair.cert).write_bytes(b""), "no certificate or key in PEM form", id="empty"),
        pytest.param(lambda pair: Path(pair.cert).write_text("nonsense"), "no certificate or key in PEM form", id="not-pem"),
        pytest.param(
            lambda pair: Path(pair.cert).write_bytes(authority().issue("b.example").cert),
            "certificate and key do not belong together", id="mismatch",
        ),
        pytest.param(
            lambda pair: Path(pair.key).write_bytes(authority().issue("b", passphrase=b"x").key),
            "the key has a passphrase", id="locked",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_used_leaves_the_old_one_and_is_told_once(pair: Pair, change: Any, why: str) -> None:
    told = Told()
    watched = reread(pair, told)
    first = watched.context
    change(pair)
    for _ in range(5):
        watched.look()
    assert watched.context is first
    ((event, fields),) = told.events
    assert (event, fields["level"], fields["why"]) == ("certificate_not_read", "error", why)
    assert fields["files"] == [pair.cert, pair.key]


def test_half_a_certificate_is_read_when_it_is_whole(pair: Pair) -> None:
    told = Told()
    watched, whole = reread(pair, told), Path(pair.cert).read_bytes()
    Path(pair.cert).write_bytes(whole[:100])
    watched.look(), watched.look()
    Path(pair.cert).write_bytes(whole)
    watched.look(), watched.look()
    assert told.names == ["certificate_not_read", "certificate_read"]


def test_a_link_that_leads_elsewhere_is_a_change(tmp_path: Path) -> None:
    """As Kubernetes does it: the files are links through a directory that is itself a link, which is exchanged."""
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        authority().issue("a.example").write(tmp_path / folder, "tls")
    (tmp_path / "now").symlink_to("one")
    pair = Pair(str(tmp_path / "tls.pem"), str(tmp_path / "tls.key"))
    for file in (pair.cert, pair.key):
        Path(file).symlink_to(f"now/{Path(file).name}")
    told = Told()
    watched = reread(pair, told)
    (tmp_path / "next").symlink_to("two")
    (tmp_path / "next").rename(tmp_path / "now")
    watched.look(), watched.look()
    assert told.names == ["certificate_read"]


# --- all of them -----------------------------------------------------------------------------------------------------


def test_the_same_settings_are_the_same_context(pair: Pair) -> None:
    contexts = Contexts(Told())
    assert contexts.server(ListenTls(pair.cert, pair.key)) is contexts.server(ListenTls(pair.cert, pair.key))
    assert contexts.client(UpstreamTls()) is contexts.client(UpstreamTls())
    assert contexts.client(UpstreamTls()) is not contexts.client(UpstreamTls(verify=False))


def test_files_are_looked_at_now_and_then(pair: Pair, tmp_path: Path) -> None:
    told = Told()
    contexts = Contexts(told)
    contexts.server(ListenTls(pair.cert, pair.key))
    contexts.client(UpstreamTls(ca=authority().write(tmp_path)))
    authority().issue("a.example").write(tmp_path, "server")
    Authority("newer").write(tmp_path)
    for _ in range(2 * LOOK_EVERY - 1):
        contexts.look()
    assert told.names == []
    contexts.look()
    assert told.names == ["certificate_read"] * 2


def test_reasons_say_no_more_than_what_is_wrong() -> None:
    assert reason_of(ssl.SSLError(1, "[X] at /secret/place")) == "no certificate or key in PEM form"
    assert reason_of(OSError("in words")) == "in words"
    assert reason_of(FileNotFoundError(2, "No such file", "/secret/place")) == "No such file"
