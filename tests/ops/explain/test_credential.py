from gateway.ops.explain.request import Asked
from gateway.ops.explain.step import BAD, GOOD, NOTE
from tests.fakes.gateway import CLERK
from tests.ops.explain.conftest import NOW, explained, story

TOKEN = CLERK.session_token(NOW)
STUMP = f"eyJhbG… ({len(TOKEN)} characters)"
UPGRADE = (
    "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)  # fmt: skip


async def told(*headers: str, target: str = "/x", token: str | None = None):
    return await story(asked=Asked("GET", target, token, headers=headers))


async def test_a_header_token_keeps_cookies_from_being_read():
    steps = explained(await told("Cookie: __session=x", token=TOKEN), "credential")
    assert steps == [
        (GOOD, f"Authorization: {STUMP}"),
        (NOTE, "cookies are not looked at: a token in the header always comes first"),
    ]


async def test_a_sockets_token_is_found_among_its_sub_protocols():
    steps = explained(await told(*UPGRADE, f"Sec-WebSocket-Protocol: gateway.bearer.{TOKEN}"), "credential")
    assert steps == [(GOOD, f"the WebSocket's sub-protocol gateway.bearer.…: {STUMP}")]


async def test_which_cookies_count_is_told():
    found = await told(f"Cookie: a=b; __session={TOKEN}; __client_uat={int(NOW)}; __client_uat_naoXFJnI=0")
    assert explained(found, "cookies") == [
        (NOTE, "read: __client_uat, __client_uat_naoXFJnI, __session"),
        (NOTE, "this instance (a production instance; suffix naoXFJnI): its own are __client_uat_naoXFJnI; "
               "session there, client_uat there, db_jwt missing"),
    ]  # fmt: skip
    assert explained(found, "credential") == [(GOOD, f"session cookie: {STUMP}")]


async def test_another_scheme_is_no_credential():
    found = await told("Authorization: Basic dXNlcjpwYXNz")
    assert explained(found, "credential") == [
        (NOTE, "Authorization (Basic) is no credential of Clerk's, so cookies are looked at"),
        (BAD, "nothing was sent (session-token-and-uat-missing)"),
    ]
    odd = explained(await told("Authorization: 0123456789abcdef"), "credential")
    assert odd[0] == (NOTE, "Authorization (without a scheme) is no credential of Clerk's, so cookies are looked at")


async def test_two_are_none():
    twice = explained(await told("Authorization: Bearer x", token=TOKEN), "credential")
    assert twice == [(BAD, "two Authorization fields: two servers would read two different ones (two-credentials)")]
    both = await told(*UPGRADE, "Sec-WebSocket-Protocol: gateway.bearer.x", token=TOKEN)
    assert explained(both, "credential") == [
        (BAD, "a token in Authorization and in the list of sub-protocols (two-credentials)")
    ]


async def test_nobody_may_come_where_the_route_says_so():
    assert explained(await told(target="/public/x", token=TOKEN), "credential") == [
        (NOTE, "the route is public, so none is read")
    ]
    assert explained(await told(target="/optional/x"), "credential") == [
        (NOTE, "nothing was sent (session-token-and-uat-missing): anonymous, which the route allows")
    ]
    assert explained(await told("Cookie: __client_uat=5", target="/optional/x"), "credential") == [
        (NOTE, "the cookies do not amount to signed in (client-uat-but-no-session-token): anonymous, which the route "
               "allows")
    ]  # fmt: skip
