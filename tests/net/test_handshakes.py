"""What is asked of Clerk for a document: one attempt, one question for all who want the same, a definite answer."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from gateway.core.model import BackendAddress
from gateway.errors import ClerkApiDown, ClerkApiRefused
from gateway.net import handshakes
from gateway.net.clerk_client import open_session
from gateway.net.handshakes import Handshakes, Refreshed, Stale
from tests.fakes.clerk_api import Canned, FakeBackendApi, World, errors
from tests.fakes.gateway import Clock

COOKIES = ["__session=a.b.c; Path=/", "__client_uat=5"]
STALE = Stale("sess_1", "old.old.old", "r1", True, "https://app.example.com", {"user-agent": "x"})


class Asked:
    """The API, and who asks it."""

    def __init__(self, api: FakeBackendApi, asking: Handshakes, clock: Clock, told: list[tuple[str, Any]]) -> None:
        self.api, self.asking, self.clock, self.told = api, asking, clock, told


@pytest.fixture
async def asked() -> AsyncIterator[Asked]:
    told: list[tuple[str, Any]] = []
    session, clock = open_session(), Clock()
    async with FakeBackendApi(World()) as api:
        address = BackendAddress(api.url, api.secret_key)
        asking = Handshakes(
            "one", address, session, on_event=lambda event, **more: told.append((event, more)), now=clock
        )
        yield Asked(api, asking, clock, told)
        await asking.close()
        await session.close()


async def test_a_nonce_stands_for_cookies_once(asked: Asked) -> None:
    asked.api.nonces["n1"] = [*COOKIES, "sid=1", "__session=a\r\nX: y", 7]
    assert await asked.asking.payload("n1") == tuple(COOKIES)
    assert await asked.asking.payload("n1") == ()
    assert asked.api.requests[0] == "GET /v1/clients/handshake_payload?nonce=n1"
    assert asked.api.last_headers["Authorization"] == f"Bearer {asked.api.secret_key}"


async def test_a_nonce_is_a_parameter_whatever_it_holds(asked: Asked) -> None:
    assert await asked.asking.payload("../a?b&nonce=n2#") == ()
    assert asked.api.requests == ["GET /v1/clients/handshake_payload?nonce=../a?b%26nonce%3Dn2%23"]


@pytest.mark.parametrize(
    "canned",
    [
        pytest.param(Canned(500, b"oops"), id="500"),
        pytest.param(Canned(503, errors("maintenance")), id="503"),
        pytest.param(Canned(429, errors("too_many_requests"), {"Retry-After": "30"}), id="429"),
        pytest.param(Canned(404, b"<html>"), id="404-of-somebody-else"),
        pytest.param(Canned(200, b"<html>"), id="html"),
        pytest.param(Canned(200, b"[]"), id="a-list"),
        pytest.param(Canned(200, b'{"directives": "__session=a"}'), id="no-list"),
        pytest.param(Canned(200, b'{"directives": null}'), id="null"),
        pytest.param(Canned(302, b"", {"Location": "http://127.0.0.1:1/"}), id="a-redirect"),
        pytest.param(Canned(200, b" " * 300_000), id="too-large"),
    ],
)
async def test_what_is_no_answer_is_asked_once(asked: Asked, canned: Canned) -> None:
    asked.api.canned.extend([canned] * 2)
    with pytest.raises(ClerkApiDown):
        await asked.asking.payload("n1")
    asked.api.canned.appendleft(canned)
    refreshed = await asked.asking.refresh(STALE)
    assert refreshed.directives == ()
    assert refreshed.why in ("fetch-error", "unexpected-sdk-error", "unexpected-bapi-error")
    assert len(asked.api.requests) == 2


async def test_a_key_that_is_not_taken_is_told_once_a_minute(asked: Asked) -> None:
    asked.api.secret_key = "sk_live_another0"
    for _ in range(2):
        with pytest.raises(ClerkApiRefused):
            await asked.asking.payload("n1")
    assert (await asked.asking.refresh(STALE)).why == "clerk_key_invalid"
    ((event, told),) = asked.told
    assert (event, told["issuer"], told["key"]) == ("clerk_key_refused", "one", "secret_key")
    assert told["remedy"].startswith("Put the secret_key of this instance")
    asked.clock.seconds += 61
    asked.api.canned.append(Canned(403, b"forbidden"))
    with pytest.raises(ClerkApiRefused):
        await asked.asking.payload("n1")
    assert len(asked.told) == 2
    assert "sk_live" not in str(asked.told)


async def test_a_session_is_refreshed_as_clerks_sdk_does(asked: Asked) -> None:
    asked.api.refreshes["r1"] = COOKIES
    assert await asked.asking.refresh(STALE) == Refreshed(tuple(COOKIES))
    assert asked.api.requests == ["POST /v1/sessions/sess_1/refresh?suffixed_cookies=true"]
    assert orjson.loads(asked.api.last_body) == {
        "format": "cookie", "expired_token": "old.old.old", "refresh_token": "r1",
        "request_origin": "https://app.example.com", "request_headers": {"user-agent": ["x"]},
    }  # fmt: skip
    await asked.asking.refresh(STALE._replace(suffixed=False))
    assert asked.api.requests[1] == "POST /v1/sessions/sess_1/refresh"


@pytest.mark.parametrize(
    ("canned", "why"),
    [
        pytest.param(Canned(401, errors("refresh_token_revoked")), "refresh_token_revoked", id="clerks-word"),
        pytest.param(Canned(422, errors("unexpected_error")), "fetch-error", id="unexpected-error"),
        pytest.param(Canned(400, b"no"), "unexpected-bapi-error", id="no-word"),
        pytest.param(Canned(400, errors('a"b')), "unexpected-bapi-error", id="a-quote"),
        pytest.param(Canned(400, errors("A b")), "unexpected-bapi-error", id="no-word-of-clerks"),
        pytest.param(Canned(403, b"no"), "unexpected-bapi-error", id="forbidden"),
        pytest.param(Canned(200, b'{"cookies": []}'), "unexpected-sdk-error", id="no-cookies"),
        pytest.param(Canned(200, b'{"cookies": ["sid=1"]}'), "unexpected-sdk-error", id="no-cookies-of-clerks"),
    ],
)
async def test_why_there_is_no_refresh_is_clerks_word(asked: Asked, canned: Canned, why: str) -> None:
    asked.api.canned.append(canned)
    assert await asked.asking.refresh(STALE) == Refreshed(why=why)


async def test_the_other_requests_of_a_page_get_the_same_session(asked: Asked) -> None:
    asked.api.refreshes["r1"] = COOKIES
    asked.api.hold = asyncio.Event()
    waiting = [asyncio.create_task(asked.asking.refresh(STALE)) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()  # who asked first has left
    asked.api.hold.set()
    assert await asyncio.gather(*waiting[1:]) == [Refreshed(tuple(COOKIES))] * 2
    asked.clock.seconds += 9
    await asked.asking.refresh(STALE)
    assert len(asked.api.requests) == 1
    asked.clock.seconds += 2
    await asked.asking.refresh(STALE)
    assert len(asked.api.requests) == 2


async def test_who_left_meanwhile_finds_the_same_session_when_coming_again(asked: Asked) -> None:
    asked.api.refreshes["r1"] = COOKIES
    asked.api.hold = asyncio.Event()
    left = asyncio.create_task(asked.asking.refresh(STALE))
    await asyncio.sleep(0)
    left.cancel()
    asked.api.hold.set()
    await asyncio.wait(tuple(asked.asking._asking.values()))
    assert await asked.asking.refresh(STALE) == Refreshed(tuple(COOKIES))
    assert len(asked.api.requests) == 1


async def test_a_refresh_that_failed_is_tried_again_soon_and_others_at_once(asked: Asked) -> None:
    for _ in range(2):
        assert (await asked.asking.refresh(STALE)).why == "refresh_token_invalid"
    await asked.asking.refresh(STALE._replace(expired_token="x.y.z"))
    assert len(asked.api.requests) == 2
    asked.clock.seconds += 3
    await asked.asking.refresh(STALE)
    assert len(asked.api.requests) == 3


async def test_only_so_much_is_remembered(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handshakes, "MOST", 2)
    for number in (1, 2, 3, 1):
        await asked.asking.refresh(STALE._replace(expired_token=f"{number}.b.c"))
    assert len(asked.api.requests) == 4


async def test_who_does_not_answer_in_time_is_not_waited_for(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handshakes, "WAIT_S", 0.01)
    asked.api.hold = asyncio.Event()
    with pytest.raises(ClerkApiDown):
        await asked.asking.payload("n1")
    assert (await asked.asking.refresh(STALE)).why == "fetch-error"


async def test_only_so_many_ask_at_once(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handshakes, "AT_ONCE", 2)
    asked.api.hold = asyncio.Event()
    first = asyncio.create_task(asked.asking.payload("n1", address=b"1"))
    await asyncio.sleep(0)
    with pytest.raises(ClerkApiDown):
        await asked.asking.payload("n2", address=b"2")
    asked.api.hold.set()
    assert await first == ()
    assert await asked.asking.payload("n2", address=b"2") == ()


async def test_made_up_nonces_take_no_places_from_refreshes(asked: Asked) -> None:
    asked.api.refreshes["r1"] = COOKIES
    asked.api.hold = asyncio.Event()
    flood = [asyncio.create_task(asked.asking.payload(f"n{n}", address=b"%d" % n)) for n in range(100)]
    await asyncio.sleep(0)
    refreshed = asyncio.create_task(asked.asking.refresh(STALE._replace(address=b"1")))
    await asyncio.sleep(0)
    asked.api.hold.set()
    assert (await refreshed).directives == tuple(COOKIES)
    outcomes = await asyncio.gather(*flood, return_exceptions=True)
    assert outcomes.count(()) == handshakes.AT_ONCE // 2


async def test_one_address_does_not_take_every_place(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handshakes, "EACH", 2)
    asked.api.nonces["mine"] = COOKIES
    asked.api.hold = asyncio.Event()
    flood = [asyncio.create_task(asked.asking.payload(f"n{n}", address=b"1")) for n in range(50)]
    await asyncio.sleep(0)
    mine = asyncio.create_task(asked.asking.payload("mine", address=b"2"))
    await asyncio.sleep(0)
    asked.api.hold.set()
    assert await mine == tuple(COOKIES)
    assert (await asyncio.gather(*flood, return_exceptions=True)).count(()) == 2
    assert await asked.asking.payload("n51", address=b"1") == ()  # its places are free again


async def test_who_waits_when_the_gateway_stops_is_answered(asked: Asked) -> None:
    asked.api.hold = asyncio.Event()
    waiting = asyncio.create_task(asked.asking.payload("n1"))
    await asyncio.sleep(0)
    await asked.asking.close()
    with pytest.raises(ClerkApiDown):
        await waiting
