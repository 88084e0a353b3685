"""Who may speak to the admin listener: from where, and with which token (CONTRACT §7).

Browsers are the danger on loopback: a page can make its own name lead to 127.0.0.1 (DNS rebinding), and any page may
send a request it cannot read the answer of. The first shows in `Host`, the second in `Origin`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from hmac import compare_digest

from gateway.errors import Forbidden, InvalidToken, MissingCredential

# Names that lead nowhere but to this machine. On any port: behind `ssh -L` or a container's mapping it is another one,
# and it is the name that an attacker has to make up.
LOOPBACK = re.compile(r"(?:localhost|127(?:\.[0-9]{1,3}){3}|\[::1\])(?::[0-9]{1,5})?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class AdminPolicy:
    """Where the admin listener is and whom it answers."""

    host: str
    port: int  # 0: any free one
    loopback: bool  # whether `host` is this machine alone
    token: bytes | None = field(default=None, repr=False)  # None: nobody gets past it


def check_site(policy: AdminPolicy, *, host: str, origins: Sequence[str]) -> None:
    """Check that a request is meant for the admin listener; `host` is the Host field, "" without one.

    Raises:
        Forbidden: reason `host` for a name that is not loopback's, `origin` for another site's page.
    """
    if policy.loopback and not LOOPBACK.fullmatch(host):
        raise Forbidden("host")
    own = host.lower()
    for origin in origins:
        # Either scheme: off loopback TLS may end in front of it, and the port tells other sites of this host apart.
        if origin.lower() not in (f"http://{own}", f"https://{own}"):
            raise Forbidden("origin")


def check_token(policy: AdminPolicy, authorization: Sequence[str]) -> None:
    """Check the `Authorization` fields as aiohttp decodes them, in a time that says nothing about the token.

    Raises:
        MissingCredential: there is no one bearer token.
        InvalidToken: there is, but not the configured one; nobody's is while none is configured.
    """
    scheme, _, sent = (authorization[0] if len(authorization) == 1 else "").partition(" ")
    if scheme.lower() != "bearer":
        raise MissingCredential
    # Bytes: of text outside ASCII compare_digest would raise. surrogateescape gives back whatever came over the wire.
    came = sent.strip(" \t").encode("utf-8", "surrogateescape")
    if not compare_digest(came, policy.token or b"") or not policy.token:
        raise InvalidToken("token-invalid")
