"""Requests nobody may be let in with, as many as one likes and the same ones every time; and good ones among them.

Two kinds: bad tokens (`hostile_forgeries`, `hostile_contents`) in every place a token may stand, and good tokens where they must not count.
"""

from base64 import b64encode
from collections.abc import Callable, Iterator
from random import Random
from typing import NamedTuple

from tests.core import hostile_contents, hostile_forgeries
from tests.core.forge import Forge, Kind

SEED = 20_260_101
TOKENS = (*hostile_forgeries.KINDS, *hostile_contents.KINDS)
GOOD_EVERY = 40
HOST = b"app.example.com"
APP = "https://app.example.com"
SOCKET = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)
SPOOFS = (
    "X-User-Id: user_admin",
    "x_user_id: user_admin",
    "X.User.Id: user_admin",
    "X-User-Org-Role: org:admin",
    "X-Clerk-Auth-Status: signed-in",
)


class Attempt(NamedTuple):
    """A request as it goes over the wire, which kind it is, and whom it signs in: nobody, if it is hostile."""

    kind: str
    head: bytes
    user: str | None = None


class Place(NamedTuple):
    """Where good and bad tokens are put together: the forge, and the suffix of the instance's cookies."""

    forge: Forge
    suffix: str

    @property
    def uat(self) -> str:
        """A client that has been signed in for a minute."""
        return f"__client_uat={self.forge.now - 60}"

    def loot(self, rng: Random) -> str:
        """A good token."""
        return rng.choice(self.forge.loot)

    def evil(self, rng: Random) -> str:
        """A bad one, of the plainest kind."""
        return rng.choice(self.forge.fakes)


class Lines(NamedTuple):
    """Field lines of a request, and what else it has."""

    lines: tuple[str | bytes, ...]
    method: str = "GET"
    query: str = ""


Maker = Callable[[Place, Random], Lines]


def attempts(place: Place, count: int, *, routes: tuple[str, ...] = ("rest", "optional")) -> Iterator[Attempt]:
    """Give so many hostile requests, every kind in turn, and a good one after every `GOOD_EVERY`th."""
    rng = Random(SEED)
    kinds = [*((kind, _carried(kind)) for kind in TOKENS), *((maker, maker) for maker in MAKERS)]
    for number in range(count):
        kind, maker = kinds[number % len(kinds)]
        made = maker(place, rng)
        spoof = (rng.choice(SPOOFS),) if rng.random() < 0.1 else ()
        # A machine's token is good where any is.
        may_ask = [route for route in routes if route != "any" or kind is not hostile_contents.of_a_machine]
        yield Attempt(kind.__name__, written(made, rng.choice(may_ask), spoof))
        if number % GOOD_EVERY == GOOD_EVERY - 1:
            yield control(place, rng, number // GOOD_EVERY)


def written(made: Lines, route: str, more: tuple[str, ...] = ()) -> bytes:
    """Write a request's head."""
    first = f"{made.method} /{route}/page{made.query} HTTP/1.1".encode()
    fields = [
        line if isinstance(line, bytes) else line.encode("utf-8", "surrogatepass") for line in (*made.lines, *more)
    ]
    return b"\r\n".join([first, b"Host: " + HOST, *fields]) + b"\r\n\r\n"


def control(place: Place, rng: Random, number: int) -> Attempt:
    """Make a request that is good, in one of the ways there are."""
    user = f"user_control{number}"
    token = place.forge.clerk.session_token(place.forge.now, sub=user)
    suffixed = f"__session_{place.suffix}={token}; __client_uat_{place.suffix}={place.forge.now - 60}"
    line = rng.choice([
        f"Authorization: Bearer {token}", f"Authorization: bearer {token}", f"authorization:{token}", f"AUTHORIZATION:  Bearer \t{token} ",
        f"Cookie: __session={token}; {place.uat}", f"Cookie: {suffixed}", f"Cookie: a=b; __session_AAAAAAAA=x; {suffixed};",
        f"Cookie: __session={token}; {place.uat}; __session={place.evil(rng)}",
    ])  # fmt: skip
    return Attempt("control", written(Lines((line,)), "rest"), user)


# --- bad tokens, wherever one may stand -------------------------------------------------------------------------------


def _carried(kind: Kind) -> Maker:
    def maker(place: Place, rng: Random) -> Lines:
        return carried(place, rng, kind(place.forge, rng))

    return maker


def carried(place: Place, rng: Random, token: str) -> Lines:
    """Put a token where a token may stand."""
    # In a cookie a percent sign would be decoded, and what was bent made straight again.
    carrier = rng.randrange(10) if "%" not in token and len(token) < 4000 else 0
    if carrier == 9:
        suffix = place.suffix
        return Lines((f"Cookie: __session_{suffix}={token}; __client_uat_{suffix}={place.forge.now - 60}",))
    if carrier in (7, 8):
        return Lines((f"Cookie: __session={token}; {place.uat}",))
    if carrier == 6:
        return Lines((f"Authorization: {token}",))
    if carrier == 5:
        return Lines((f"Authorization: Bearer {token}", f"Cookie: __session={place.loot(rng)}; {place.uat}"))
    return Lines((f"Authorization: {rng.choice(['Bearer', 'bearer', 'BEARER'])} {token}",))


# --- good tokens that must not count ----------------------------------------------------------------------------------


def odd_authorization(place: Place, rng: Random) -> Lines:
    """A good token that is not announced as one."""
    good = place.loot(rng)
    return Lines((b"Authorization: " + rng.choice([
        f"Bearer {good} x", f"Bearer {good},{good}", f"Bearer {good}, Basic eDp5", f"Bearer Bearer {good}", f"Bearer={good}", f"Bearer:{good}", f"Bearer{good}",
        f"Token {good}", f"JWT {good}", f"Digest {good}", f"DPoP {good}", f'Bearer "{good}"', f"Bearer <{good}>", f"Bearer token={good}", f"Bearer {good};",
        f"{good} Bearer", f"Basic {b64encode(good.encode()).decode()}", f"Bearer {b64encode(good.encode()).decode()}", f"Bearer '{good}'", f"Bearer\xa0{good}",
        f"Bearer {good}\xa0", f"Bearer \ufeff{good}", f"Bearer {good}\u200b", f"Ｂearer {good}", f"Bearer {good}\\n", f"Bearer {good[:50]} {good[50:]}",
        f"Bearer {good}%00", f"Bearer {good}#", f"Bearer {good}?x=1", f"Bearer {good}&x=1", f"Bearer, {good}", f"undefined {good}", f"Bearer null.{good}",
    ]).encode(),))  # fmt: skip


def control_characters(place: Place, rng: Random) -> Lines:
    """Characters that no field may have (RFC 9110 §5.5), in and around a good token."""
    good, byte = (
        place.loot(rng).encode(),
        rng.choice([b"\0", b"\x01", b"\x08", b"\x0b", b"\x0c", b"\x1b", b"\x7f", b"\r", b"\n", b"\r\n "]),
    )
    at = rng.randrange(1, len(good) - 1)
    return Lines((rng.choice([
        b"Authorization: Bearer " + good[:at] + byte + good[at:], b"Authorization: Bearer" + byte + good, b"Authorization" + byte + b": Bearer " + good,
        b"Authorization: Bearer " + byte + good[:-1], b"Cookie: __session=" + good[:at] + byte + good[at:] + b"; " + place.uat.encode(),
    ]),))  # fmt: skip


def odd_field_name(place: Place, rng: Random) -> Lines:
    """A good token in a field that is not read."""
    good = place.loot(rng)
    name = rng.choice([
        "Authorization ", "Authorization\t", "Authorisation", "Proxy-Authorization", "X-Authorization", "X-Forwarded-Authorization", "Authorization_", "_Authorization",
        "X-Original-Authorization", "Clerk-Auth", "X-Clerk-Auth-Token", "X-Access-Token", "Token", "X-Amz-Security-Token", "Set-Cookie", "Cookie2", "Authentication",
        "Sec-WebSocket-Protocol",
    ])  # fmt: skip
    return Lines((f"{name}: {rng.choice(['Bearer ', '', '__session='])}{good}",))


def in_the_query(place: Place, rng: Random) -> Lines:
    """A good token in the query, which is never read."""
    name = rng.choice(
        ["access_token", "token", "__session", "jwt", "authorization", "bearer", "id_token", "__clerk_session"]
    )
    return Lines((), query=f"?{name}={place.loot(rng)}&{place.uat}")


def odd_cookie_name(place: Place, rng: Random) -> Lines:
    """A good token under a name that is not the session cookie's."""
    name = rng.choice([
        "__Session", "__SESSION", "_session", "session", "__session_", "__session2", "__session_AAAAAAAA", f"__session{place.suffix}", f"__session_{place.suffix.swapcase()}x",
        f"__session_{place.suffix}x", f"__session_{place.suffix[:-1]}", "x__session", "$__session", "__session[]", "__session.0", "__Host-__session", "__Secure-__session",
        "__session%00", "%5F_session", "__refresh", "__client", "__clerk_handshake", "__clerk_db_jwt", "__session-", "__session_hijack", "__sessıon", '"__session"',
    ])  # fmt: skip
    return Lines((f"Cookie: {name}={place.loot(rng)}; {place.uat}",))


def odd_cookie(place: Place, rng: Random) -> Lines:
    """A session cookie written so that it is another value, or another cookie."""
    good, uat = place.loot(rng), place.uat
    evil = place.evil(rng)
    copies = "; ".join([f"__session={evil}", *[f"__session={good}"] * 9])
    return Lines(("Cookie: " + rng.choice([
        f"{copies}; {uat}", f"__session=; __session={good}; {uat}", f'__session="{good}"; {uat}', f"__session='{good}'; {uat}", f"a=1%3B__session%3D{good}%3B{uat}",
        f"a=1%3B __session={good}%3B {uat}", f"a=b,__session={good}, {uat}", f"__session%3D{good}; {uat}", f"__session={good}%20x; {uat}", f"__session={good}%00; {uat}",
        f"__session={good}.; {uat}", f"__session=={good}; {uat}", f"__session={good}=; {uat}", f"__session:{good}; {uat}", f"__session {good}; {uat}",
        f"__session={good}%0A; {uat}", f"__session=%22{good}%22; {uat}", f"__session=Bearer {good}; {uat}", f"__session=%ff{good}; {uat}", f"a=b&__session={good}&{uat}",
        f"__session={good[:-1]}%; {uat}", f"__session={good}%2E; {uat}",
    ]),))  # fmt: skip


def signed_out(place: Place, rng: Random) -> Lines:
    """A good token beside a cookie that says its user is gone."""
    good, soon, suffix = place.loot(rng), place.forge.now + rng.choice([1, 60, 10**6]), place.suffix
    return Lines(("Cookie: " + rng.choice([
        f"__session={good}", f"__session={good}; __client_uat=0", f"__session={good}; __client_uat=",
        f"__session={good}; __client_uat=abc", f"__session={good}; __client_uat={soon}", f"__session={good}; __client_uat=0; {place.uat}",
        f"__session_{suffix}={good}; __client_uat_{suffix}=0", f"__session_{suffix}={good}; {place.uat}", f"__session={good}; __client_uat_{suffix}={soon}",
        f"__session={good}; __client_uat=" + "9" * 400, f"__session={good}; __client_uat=+0", f"__session={good}; __Client_Uat={place.forge.now}",
    ]),))  # fmt: skip


def two_places(place: Place, rng: Random) -> Lines:
    """Two credentials at once, good or bad: which counts must not be a matter of who reads."""
    good, evil = place.loot(rng), place.evil(rng)
    cookie = f"Cookie: __session={good}; {place.uat}"
    authorization = f"Authorization: Bearer {good}"
    return rng.choice([
        Lines((authorization, authorization)), Lines((authorization, f"authorization: Bearer {evil}")), Lines((f"Authorization: Bearer {evil}", authorization)),
        Lines((f"Authorization: {evil}", cookie)), Lines(("Authorization: Bearer", cookie)), Lines(("Authorization: Bearer undefined", cookie)),
        Lines((*SOCKET, f"Sec-WebSocket-Protocol: gateway.auth, gateway.bearer.{good}", authorization)),
        Lines((*SOCKET, f"Sec-WebSocket-Protocol: gateway.auth, gateway.bearer.{evil}", cookie)),
        Lines((*SOCKET, f"Sec-WebSocket-Protocol: gateway.auth, gateway.bearer.{good}, gateway.bearer.{evil}")),
        Lines((*SOCKET, f"Sec-WebSocket-Protocol: gateway.bearer.{evil}")),
        Lines((f"Cookie: __session={evil}; {place.uat}", f"Cookie: __session={good}")),
    ])  # fmt: skip


def from_elsewhere(place: Place, rng: Random) -> Lines:
    """A good cookie, sent by a page that is not ours."""
    cookie = f"Cookie: __session={place.loot(rng)}; {place.uat}"
    origin = rng.choice([
        (), ("Origin: null",), ("Origin: https://evil.example",), ("Origin: https://app.example.com.evil.example",), ("Origin: https://app.example.com:444",),
        (f"Origin: {APP}", f"Origin: {APP}"), (f"Origin: {APP}/",), (f"Origin: {APP}, https://evil.example",), ("Sec-Fetch-Site: same-site",),
        ("Origin: https://evil.example", "Sec-Fetch-Site: same-origin"), (f"Referer: {APP}/",), ("Origin: ",), ("Origin: https://APP.example.com@evil.example",),
        ("Sec-Fetch-Site: same-origin", "Sec-Fetch-Site: same-origin"),
    ])  # fmt: skip
    lines = (cookie, *origin)
    return rng.choice([Lines(lines, method=rng.choice(["POST", "PUT", "PATCH", "DELETE"])), Lines((*lines, *SOCKET))])


def opaque(place: Place, rng: Random) -> Lines:
    """Something with the form of a machine's token."""
    key = (
        rng.choice(["ak_", "mt_", "oat_", "m2m_", "AK_", "ak-", "sk_live_", "pk_live_", "uat_", "dvb_"])
        + rng.randbytes(rng.choice([0, 8, 32, 200])).hex()
    )
    return carried(place, rng, rng.choice([key, key, f"{key}.{place.loot(rng)}", f"{place.loot(rng)}.{key}"]))


def too_much(place: Place, rng: Random) -> Lines:
    """More than the limits take."""
    good, length = place.loot(rng), rng.choice([33_000, 40_000])
    return rng.choice([
        Lines((f"Authorization: Bearer {good}", f"X-Filling: {'x' * length}")), Lines((f"Authorization: Bearer {'A' * length}",)),
        Lines((f"Authorization: Bearer {good}", *[f"X-{number}: x" for number in range(140)])), Lines((f"Cookie: {'a=b; ' * (length // 5)}__session={good}; {place.uat}",)),
    ])  # fmt: skip


MAKERS: tuple[Maker, ...] = (
    odd_authorization, control_characters, odd_field_name, in_the_query, odd_cookie_name, odd_cookie, signed_out, two_places, from_elsewhere, opaque, too_much,
)  # fmt: skip
