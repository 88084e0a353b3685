"""URLs in the configuration: which the gateway may call, and what of them is used.

Raises `ValueError` with what is wrong; never with the URL's password.
"""

import re
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

DEFAULT_PORTS = {"http": 80, "https": 443}

_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]{0,62})(\.[a-z0-9_][a-z0-9_-]{0,62})*")
# A host that ends in a number is an IPv4 address to a resolver, in spellings such as 2130706433 or 0x7f.1 too
# (WHATWG URL, "ends in a number"); only the dotted form is told apart here, so only that one is taken.
_NUMERIC = re.compile(r"(.*\.)?(\d+|0x[0-9a-f]*)")


class Url(NamedTuple):
    """An http or https URL, taken apart."""

    scheme: str
    host: str  # lower case, without brackets
    port: int
    path: str  # without a trailing slash

    @property
    def authority(self) -> str:
        """`host[:port]` as a Host field has it: without the scheme's own port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def text(self) -> str:
        """The URL again, in one spelling."""
        return f"{self.scheme}://{self.authority}{self.path}"


def read_url(value: str, *, query: bool = False) -> Url:
    """Take an http or https URL apart. Raises ValueError."""
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        raise ValueError("is not a URL: write https://host or https://host:port/path") from None
    _check_parts(value, parts, query=query)
    host = read_host(parts.hostname or "")
    if port == 0:
        raise ValueError("names port 0, where nothing listens")
    return Url(parts.scheme, host, port or DEFAULT_PORTS[parts.scheme], parts.path.rstrip("/"))


def _check_parts(value: str, parts: SplitResult, *, query: bool) -> None:
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
        raise ValueError("must begin with http:// or https:// and name a host")
    if "@" in parts.netloc:
        raise ValueError("must not carry a user or password")
    if "#" in value or ("?" in value and not query):
        raise ValueError("must not have a query or fragment")
    # urlsplit drops tabs and line ends silently; what is left of the URL would not be what was written.
    if any(char <= " " or char == "\x7f" or char == "\\" for char in value):
        raise ValueError("must not contain blanks, control characters or backslashes")


def read_host(text: str) -> str:
    """Read a host name or address into lower case, without brackets. Raises ValueError."""
    host = text.lower()
    if address_of(host) is not None:
        return host
    try:
        host = host if host.isascii() else host.encode("idna").decode()
    except UnicodeError:
        raise ValueError("names a host that is not one") from None
    if not _NAME.fullmatch(host) or _NUMERIC.fullmatch(host):
        raise ValueError("names a host that is neither a host name nor a plain IP address")
    return host


def address_of(host: str) -> IPv4Address | IPv6Address | None:
    """Read an IP address; one that is IPv4 in IPv6 clothes is the IPv4 it is. None for names."""
    try:
        address = ip_address(host)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def is_loopback(host: str) -> bool:
    """Say whether a host is this machine."""
    address = address_of(host)
    return host == "localhost" if address is None else address.is_loopback


def read_upstream(value: str) -> Url:
    """Read an upstream's URL: anywhere but link-local, where clouds keep their credentials. Raises ValueError."""
    url = read_url(value)
    address = address_of(url.host)
    if address is not None and (address.is_link_local or address.is_multicast):
        raise ValueError("is a link-local or multicast address, which the gateway never calls")
    return url


def read_keys_url(value: str) -> Url:
    """Read a URL the gateway itself asks, which may have a query. Raises ValueError."""
    return read_outbound(value, query=True)


def read_outbound(value: str, *, query: bool = False) -> Url:
    """Read a URL the gateway itself asks: https, or http on loopback (CONTRACT §2). Raises ValueError."""
    url = read_url(value, query=query)
    address = address_of(url.host)
    if address is not None and address.is_link_local:
        raise ValueError("is a link-local address, which the gateway never calls")
    if url.scheme == "http" and not is_loopback(url.host):
        raise ValueError("must be https: what comes back decides who may pass")
    return url
