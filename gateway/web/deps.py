"""What the stages need, built once by `web/app.py` and handed down."""

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from gateway.core.cors import CorsPolicy
from gateway.core.forwarding import Network
from gateway.core.frontend_api import FrontendApiProxies
from gateway.core.headers import FieldRules
from gateway.core.identity import IdentityPolicy
from gateway.core.model import Identified, Principal
from gateway.core.revocation import fits
from gateway.core.routing import RouteTable
from gateway.net.upstreams import Balancer
from gateway.web.assertions import Signer
from gateway.web.issuers import Issuers
from gateway.web.people import People
from gateway.web.rates import Rates

T = TypeVar("T")


class Events(Protocol):
    """Where what happens is told (`telemetry.Log`)."""

    def event(self, event: str, *, level: str = "info", **fields: Any) -> None:
        """Log that something happened."""


class Revoked(Protocol):
    """What is revoked (`web.revocations`)."""

    def is_revoked(self, principal: Principal) -> bool:
        """Say whether a token is refused although it is good in itself."""


class VerifiedTokens:
    """Verdicts on tokens, by hash: bounded, and forgotten with the keys that they were reached with.

    A verdict depends on the keys, the configuration and what is known of the user; what a route asks for is checked
    every time.
    """

    __slots__ = ("__weakref__", "_generation", "_good", "_most", "_of", "_refused")
    LIFE_S = 300.0
    REFUSED_LIFE_S = 60.0

    def __init__(self, most: int = 10_000) -> None:
        self._good: dict[bytes, tuple[float, Identified]] = {}
        self._of: dict[str, set[bytes]] = {}  # keys by the ids of the user, the session and the organisation
        self._refused: dict[bytes, tuple[float, str]] = {}
        self._generation = -1
        self._most = most

    def get(self, key: bytes, generation: int, now: float) -> Identified | None:
        """Give what is known of a token that is still good at `now` under these keys."""
        if generation != self._generation:
            self._good.clear()
            self._of.clear()
            self._refused.clear()
            self._generation = generation
            return None
        entry = self._good.get(key)
        return entry[1] if entry is not None and now < entry[0] else None

    def refusal(self, key: bytes, now: float) -> str | None:
        """Give the reason why a token that `get` does not know was refused a moment ago."""
        entry = self._refused.get(key)
        return entry[1] if entry is not None and now < entry[0] else None

    def put(self, key: bytes, identified: Identified, *, good_until: float, now: float) -> None:
        """Remember a verified token until it ends, `LIFE_S` at most; the oldest makes room."""
        self._drop(key)
        if len(self._good) >= self._most:
            self._drop(next(iter(self._good)))
        self._good[key] = (min(good_until, now + self.LIFE_S), identified)
        for name in _names(identified.principal):
            self._of.setdefault(name, set()).add(key)

    def refuse(self, key: bytes, reason: str, *, now: float) -> None:
        """Remember a token that no time will make good. Apart, so that made-up ones push out no good one."""
        _remember(self._refused, key, (now + self.REFUSED_LIFE_S, reason), self._most // 4)

    def forget(self, *, user: str | None = None, session: str | None = None, org: str | None = None) -> None:
        """Forget the good verdicts of whoever fits everything that is given: they are to be reached anew."""
        # By the narrowest: of an organisation's deletion not every verdict there is may have to be looked at.
        name = session or user or org
        keys = self._good if name is None else self._of.get(name, ())
        for key in [key for key in keys if fits(self._good[key][1].principal, user=user, session=session, org=org)]:
            self._drop(key)

    def _drop(self, key: bytes) -> None:
        entry = self._good.pop(key, None)
        for name in _names(entry[1].principal) if entry is not None else ():
            those = self._of.get(name)
            if those is not None:
                those.discard(key)
                if not those:
                    del self._of[name]

    def __len__(self) -> int:
        return len(self._good)


def _names(principal: Principal) -> list[str]:
    return [name for name in (principal.user_id, principal.session_id, principal.org_id) if name is not None]


def _remember(entries: dict[bytes, T], key: bytes, entry: T, most: int) -> None:
    entries.pop(key, None)
    if len(entries) >= most:
        del entries[next(iter(entries))]
    entries[key] = entry


@dataclass(frozen=True, slots=True)
class Deps:
    """One configuration's worth of everything a request needs."""

    routes: RouteTable
    fields: FieldRules
    cors: CorsPolicy | None  # for answers without a route
    issuers: Issuers | None  # None: every route is public
    identity: IdentityPolicy
    assertions: Signer | None  # None: nothing is signed
    verified: VerifiedTokens
    revoked: Revoked
    people: People | None  # None: there is no directory
    upstreams: Mapping[str, Balancer]  # by name
    rates: Rates | None  # None: nothing is limited
    own_paths: Container[str]
    frontend_apis: FrontendApiProxies | None  # None: Clerk's Frontend API is not here
    trusted_proxies: tuple[Network, ...]
    log: Events
    now: Callable[[], float]  # Unix seconds
    random_bits: Callable[[int], int]
