"""Who is signed in with which browser, as Clerk's Frontend API keeps it; and what is on its way to an application.

Kept in memory for one run, the last of everything. Sessions are the `world`'s: one that ended there has ended here.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gateway.ops.dev.objects import Session
from gateway.ops.dev.world import World

MOST = 1000
NONCE_LIFE_S = 60.0  # long for a redirect


def _new(prefix: str) -> Callable[[], str]:
    return lambda: prefix + secrets.token_urlsafe(24)


@dataclass(slots=True, eq=False)
class Client:
    """One browser, with what it shows to be known by; `changed_at` in Unix seconds."""

    secret: str = field(default_factory=_new("client_"))  # its cookie at the Frontend API
    browser: str = field(default_factory=_new("dvb_"))  # `__clerk_db_jwt`, where that cookie does not come along
    refresh: str = field(default_factory=_new("rt_"))  # `__refresh_…`; another one with each sign-in
    session_id: str | None = None
    org: str | None = None  # the active organisation; "none" for none, None for the user's own
    changed_at: int = 0


class Clients:
    """All browsers, by the clock of the `world`."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._known: dict[str, Client] = {}  # by secret, oldest first
        self._payloads: dict[str, tuple[float, list[str]]] = {}

    def make(self) -> Client:
        """Begin to know a browser."""
        made = Client()
        self._known[made.secret] = made
        _keep_last(self._known)
        return made

    def find(self, *, secret: str | None = None, browser: str | None = None) -> Client | None:
        """Find a browser by its `__clerk_db_jwt`, else by its cookie."""
        for client in self._known.values():
            if browser is not None and client.browser == browser:
                return client
        return None if secret is None else self._known.get(secret)

    def session(self, client: Client) -> Session | None:
        """Give the open session of a browser."""
        return None if client.session_id is None else self._world.session_by_id(client.session_id)

    def holding(self, session: Session) -> Client:
        """Give a browser with this session, the first there is."""
        for client in self._known.values():
            if client.session_id == session.id:
                return client
        made = self.make()
        self.sign_in(made, session)
        return made

    def refreshed_by(self, session_id: str, refresh: str) -> Client | None:
        """Find the browser that has this refresh token for this session, while that is open."""
        for client in self._known.values():
            if (client.session_id, client.refresh) == (session_id, refresh) and self.session(client) is not None:
                return client
        return None

    def sign_in(self, client: Client, session: Session) -> None:
        """Put a session into a browser."""
        client.session_id, client.org, client.changed_at = session.id, None, int(self._now_s())
        client.refresh = Client().refresh

    def sign_out(self, client: Client) -> None:
        """Take it out again."""
        client.session_id = None

    # --- payloads of handshakes --------------------------------------------------------------------------------------

    def put_payload(self, directives: list[str]) -> str:
        """Keep a payload for the application that comes for it; give the nonce."""
        nonce = secrets.token_urlsafe(24)
        self._payloads[nonce] = (self._now_s() + NONCE_LIFE_S, directives)
        _keep_last(self._payloads)
        return nonce

    def take_payload(self, nonce: str) -> list[str] | None:
        """Give a payload, once."""
        until, directives = self._payloads.pop(nonce, (0.0, []))
        return directives if self._now_s() < until else None

    def _now_s(self) -> float:
        return self._world.now_ms() / 1000


def _keep_last(kept: dict[str, Any]) -> None:
    while len(kept) > MOST:
        del kept[next(iter(kept))]
