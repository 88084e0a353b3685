"""Whom a request comes from and by which ids it is known: forwarding fields, trusted proxies, request id, trace."""

import re
from binascii import hexlify
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import NamedTuple

from gateway.core.model import Forwarding, Header, Peer

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
SCHEMES = {b"http": "http", b"https": "https", b"ws": "http", b"wss": "https"}  # as proxies say X-Forwarded-Proto
PORT = re.compile(rb"[0-9]{1,5}")
REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
TRACEPARENT = re.compile(rb"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")  # W3C Trace Context §3.2
MAX_ADDRESS = 64  # characters of an entry of X-Forwarded-For that are looked at


def forwarding(header: Header, trusted: Sequence[Network] = ()) -> Forwarding:
    """Say who the client is: the peer itself, or what a trusted proxy says of it. Remembered with the header."""
    if header.forwarding is None:
        peer = header.peer
        header.forwarding = _by_proxy(header, trusted) if peer.trusted else _of_peer(peer, header.authority)
    return header.forwarding


def _by_proxy(header: Header, trusted: Sequence[Network]) -> Forwarding:
    peer, seen = header.peer, header.seen
    came, address = seen.get("x-forwarded-for"), peer.address.encode()
    said = SCHEMES.get(_last(seen.get("x-forwarded-proto")).lower())
    scheme = said or peer.scheme
    host = _last(seen.get("x-forwarded-host")) or header.authority
    port = _last(seen.get("x-forwarded-port"))
    if not PORT.fullmatch(port):
        # Many proxies send no port: then it is the one their client's URL had, not this listener's behind them.
        port = _port_of(host, said) if said else b"%d" % peer.port
    lines = _lines(b"%b, %b" % (came, address) if came else address, scheme, host, port)
    return Forwarding(_client(came, peer, trusted), scheme, host, port, lines)


@lru_cache(maxsize=2048)
def _of_peer(peer: Peer, authority: bytes) -> Forwarding:
    port = b"%d" % peer.port
    lines = _lines(peer.address.encode(), peer.scheme, authority, port)
    return Forwarding(peer.address, peer.scheme, authority, port, lines)


def _lines(chain: bytes, scheme: str, host: bytes, port: bytes) -> bytes:
    host_line = b"\r\nX-Forwarded-Host: " + host if host else b""
    return b"\r\nX-Forwarded-For: %b\r\nX-Forwarded-Proto: %b%b\r\nX-Forwarded-Port: %b" % (
        chain, scheme.encode(), host_line, port,
    )  # fmt: skip


def _last(value: bytes | None) -> bytes:
    return value.rpartition(b",")[2].strip() if value else b""


def _port_of(host: bytes, scheme: str) -> bytes:
    _, _, port = host.rpartition(b":")
    if port != host and PORT.fullmatch(port):
        return port
    return b"443" if scheme == "https" else b"80"


def _client(chain: bytes | None, peer: Peer, trusted: Sequence[Network]) -> str:
    """Take the rightmost address that is not one of ours: everything left of it the client may have made up.

    Where all are ours it is the leftmost, which is as far as the chain can be believed.
    """
    client = peer.address
    for entry in reversed(chain.decode("latin-1").split(",") if chain else ()):
        address = _read_address(entry.strip()[:MAX_ADDRESS])
        if address is None:
            break
        client = str(address)
        if not _is_inside(address, trusted):
            break
    return client


@lru_cache(maxsize=4096)
def _read_address(text: str) -> Address | None:
    """Read an IP address with or without port, brackets or zone; an IPv4-mapped one is the IPv4 it stands for."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _is_inside(address: Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)


def is_trusted(address: str, trusted: Sequence[Network]) -> bool:
    """Say whether an IP address lies in one of the networks; an IPv4-mapped one counts as the IPv4 it is."""
    read = _read_address(address)
    return read is not None and _is_inside(read, trusted)


class Trace(NamedTuple):
    """A request's id and its `traceparent`."""

    request_id: bytes
    traceparent: bytes


def trace(header: Header, bits: int) -> Trace:
    """Take a trusted proxy's ids, else make them from 192 random bits.

    Our own trace id doubles as the request id, so that either finds the other. Flag 01: an upstream whose sampler
    follows its parent would otherwise record nothing behind the gateway (W3C Trace Context §3.2.2.4).
    """
    digits = hexlify(bits.to_bytes(24, "big"))  # three times as fast as `%x`
    request_id = digits[:32]
    own = Trace(request_id, b"00-%b-%b-01" % (request_id, digits[32:]))
    return _said_by_proxy(header, own) if header.peer.trusted else own


def _said_by_proxy(header: Header, own: Trace) -> Trace:
    request_id, parent = header.seen.get("x-request-id", b""), header.seen.get("traceparent", b"")
    return Trace(
        request_id if REQUEST_ID.fullmatch(request_id) else own.request_id,
        parent if TRACEPARENT.fullmatch(parent) else own.traceparent,
    )
