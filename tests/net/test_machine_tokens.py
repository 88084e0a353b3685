"""What Clerk is asked about opaque tokens, how often, and what its answers come to."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest

from gateway.core.machine import MachinePolicy
from gateway.core.model import BackendAddress
from gateway.errors import ClerkApiBusy, ClerkApiDown, ClerkApiRefused, GatewayError, InvalidToken, Overloaded
from gateway.net import machine_tokens
from gateway.net.clerk_client import open_session
from gateway.net.machine_tokens import KNOWN_LIFE_S, PATIENCE, REFUSED_LIFE_S, MachineTokens, Question, Window
from tests.fakes.clerk_api import Canned, FakeBackendApi, World, errors
from tests.fakes.gateway import Clock
from tests.fakes.machine_tokens import api_key, m2m_token, oauth_token

BACK = 30.0  # seconds that a test waits for what must come


class House:
    """One verifier, the API that it asks, and its clocks."""

    def __init__(self, api: FakeBackendApi, policy: MachinePolicy, session: Any, **more: Any) -> None:
        self.api, self.now, self.clock = api, Clock(1000.0), Clock(1_700_000_000.0)
        self.events: list[dict[str, Any]] = []
        self.tokens = MachineTokens(
            "clerk", policy, session, on_event=self._tell, now=self.now, clock=self.clock, **more
        )  # fmt: skip

    def _tell(self, event: str, *, level: str = "info", **fields: Any) -> None:
        self.events.append({"event": event, "level": level} | fields)

    @property
    def asked(self) -> list[str]:
        return [token for _, token, _ in self.api.machines.asked]

    async def verify(self, token: str, kind: str = "api_key") -> Any:
        raw = token.encode()
        return await asyncio.wait_for(self.tokens.verify(kind, raw, sha256(raw).digest()), BACK)

    async def refusal(self, token: str, kind: str = "api_key") -> tuple[type, str | None]:
        with pytest.raises(GatewayError) as refused:
            await self.verify(token, kind)
        return type(refused.value), refused.value.reason

    def pass_time(self, seconds: float) -> None:
        self.now.seconds += seconds
        self.tokens.pump()

    def begin(self, *tokens: str) -> list[asyncio.Task[Any]]:
        return [asyncio.create_task(self.verify(token)) for token in tokens]

    async def settle(self) -> None:
        """Let everything begin that can."""
        for _ in range(20):
            await asyncio.sleep(0)


@asynccontextmanager
async def house(
    *, per_s: float = 20.0, own: str | None = None, without_secret: bool = False, **more: Any
) -> AsyncIterator[House]:
    async with FakeBackendApi(World()) as api, open_session() as session:
        keyed = None if without_secret else BackendAddress(api.url, api.secret_key)
        machine = BackendAddress(api.url, own) if own else keyed
        built = House(api, MachinePolicy(keyed, machine, per_s), session, **more)
        try:
            yield built
        finally:
            await built.tokens.close()


def made_up(count: int) -> list[str]:
    return [f"ak_{number:032d}" for number in range(count)]


# --- what is asked ---------------------------------------------------------------------------------------------------


async def test_each_kind_is_asked_about_at_its_own_address() -> None:
    async with house() as built:
        machines, secret_key = built.api.machines, built.api.secret_key
        made = {"api_key": api_key(), "m2m": m2m_token(), "oauth": oauth_token()}
        secrets = {kind: machines.add(each) for kind, each in made.items()}
        for kind, secret in secrets.items():
            assert (await built.verify(secret, kind)).subject == made[kind]["subject"]
        assert machines.asked == [
            ("/api_keys/verify", secrets["api_key"], secret_key), ("/m2m_tokens/verify", secrets["m2m"], secret_key),
            ("/oauth_applications/access_tokens/verify", secrets["oauth"], secret_key),
        ]  # fmt: skip
        assert built.api.last_headers["Clerk-API-Version"] == "2026-05-12"


async def test_m2m_tokens_are_asked_about_with_the_machines_own_key() -> None:
    async with house(own="ak_own") as built:
        built.api.machines.machine_keys = {"ak_own"}
        for kind, made in (("m2m", m2m_token()), ("api_key", api_key())):
            await built.verify(built.api.machines.add(made), kind)
        assert [bearer for _, _, bearer in built.api.machines.asked] == ["ak_own", built.api.secret_key]


async def test_without_a_key_nobody_is_asked() -> None:
    async with house(without_secret=True, own="ak_own") as built:
        built.api.machines.machine_keys = {"ak_own"}
        await built.verify(built.api.machines.add(m2m_token()), "m2m")
        assert await built.refusal(built.api.machines.add(api_key())) == (ClerkApiDown, None)
        assert len(built.asked) == 1


async def test_what_cannot_be_a_token_is_not_asked_about() -> None:
    async with house() as built:
        for raw in ("ak_" + "a" * 16_000, "ak_a.b.c", "ak_a b", "ak_"):
            assert await built.refusal(raw) == (InvalidToken, "token-invalid")
        assert built.asked == []


def test_a_question_does_not_show_the_token() -> None:
    assert "secret" not in repr(Question("api_key", b"ak_secret", b""))


# --- answers -----------------------------------------------------------------------------------------------------------


async def test_what_clerk_does_not_take_is_remembered_for_a_moment() -> None:
    async with house() as built:
        for _ in range(3):
            assert await built.refusal("ak_unknown") == (InvalidToken, "token-invalid")
        assert built.asked == ["ak_unknown"]
        secret = built.api.machines.add(api_key(), "ak_unknown")
        built.pass_time(REFUSED_LIFE_S)
        assert (await built.verify(secret)).user_id == "user_1"
        assert built.asked == ["ak_unknown"] * 2


@pytest.mark.parametrize(("members", "reason"), [
    ({"revoked": True}, "token-invalid"), ({"expired": True}, "token-expired"), ({"expiration": 1}, "token-expired"),
], ids=str)  # fmt: skip
async def test_what_is_over(members: dict[str, Any], reason: str) -> None:
    async with house() as built:
        secret = built.api.machines.add(api_key(**members))
        for _ in range(2):
            assert await built.refusal(secret) == (InvalidToken, reason)
        assert built.asked == [secret]


HTML = b"<html>no such page</html>"


@pytest.mark.parametrize(("canned", "kind"), [
    pytest.param(Canned(404, errors("resource_not_found")), InvalidToken, id="404"),
    pytest.param(Canned(400, errors("token_malformed")), InvalidToken, id="400"),
    pytest.param(Canned(422, errors("form_param_format_invalid")), InvalidToken, id="422"),
    pytest.param(Canned(404, HTML), ClerkApiDown, id="404-of-somebody-else"),
    pytest.param(Canned(400, b""), ClerkApiDown, id="400-of-somebody-else"),
    pytest.param(Canned(200, HTML), ClerkApiDown, id="html"),
    pytest.param(Canned(200, b""), ClerkApiDown, id="empty"),
    pytest.param(Canned(200, b"null"), ClerkApiDown, id="null"),
    pytest.param(Canned(200, b"[]"), ClerkApiDown, id="list"),
    pytest.param(Canned(200, b'{"id": "ak_1", "subject": "user_1"}'), ClerkApiDown, id="half"),
    pytest.param(Canned(200, b'{"revoked": false, "expired": false'), ClerkApiDown, id="cut"),
    pytest.param(Canned(200, b"[" * 100_000), ClerkApiDown, id="nested"),
    pytest.param(Canned(200, b" " * 300_000), ClerkApiDown, id="too-large"),
    pytest.param(Canned(204), ClerkApiDown, id="204"),
    pytest.param(Canned(302, headers={"Location": "/"}), ClerkApiDown, id="redirect"),
    pytest.param(Canned(401, errors("clerk_key_invalid")), ClerkApiRefused, id="401"),
    pytest.param(Canned(403, HTML), ClerkApiRefused, id="403"),
])  # fmt: skip
async def test_what_answers_come_to(canned: Canned, kind: type) -> None:
    async with house() as built:
        secret = built.api.machines.add(api_key())
        built.api.canned.extend([canned] * 2)  # a call that fails at once is tried once more
        refused, reason = await built.refusal(secret)
        assert (refused, reason) == (kind, "token-invalid" if kind is InvalidToken else None)
        built.api.canned.clear()
        if kind is not InvalidToken:  # which says nothing about the token
            assert (await built.verify(secret)).user_id == "user_1"


@pytest.mark.parametrize("canned", [Canned(500), Canned(503, HTML), Canned(599)], ids=str)
async def test_one_failure_is_tried_once_more_and_two_are_told(canned: Canned) -> None:
    async with house() as built:
        secret = built.api.machines.add(api_key())
        built.api.canned.append(canned)
        assert (await built.verify(secret)).user_id == "user_1"
        built.api.canned.extend([canned] * 2)
        assert await built.refusal(secret) == (ClerkApiDown, None)
        assert len(built.api.requests) == 4


async def test_what_is_tried_once_more_is_counted_once_more() -> None:
    async with house(per_s=2) as built:
        secret = built.api.machines.add(api_key())
        built.api.canned.append(Canned(500))
        await built.verify(secret)
        (waiting,) = built.begin("ak_other")
        await asyncio.wait((waiting,), timeout=0.1)
        assert len(built.api.requests) == 2
        built.pass_time(1)
        await first_answer(waiting)
        built.api.canned.append(Canned(500))
        assert await built.refusal("ak_another") == (ClerkApiDown, None)  # there is no turn left to try again
        assert len(built.api.requests) == 4


async def test_nobody_there() -> None:
    async with house() as built:
        await built.api.stop()
        assert await built.refusal("ak_any") == (ClerkApiDown, None)


async def test_a_slow_answer_is_not_waited_for_and_not_asked_for_again() -> None:
    async with house(patience=replace(PATIENCE, total_s=0.05)) as built:
        built.api.hold, built.api.before = asyncio.Event(), lambda _path: built.pass_time(2)
        assert await built.refusal("ak_any") == (ClerkApiDown, None)
        assert len(built.api.requests) == 1


async def test_a_pause_that_clerk_asks_for_is_kept() -> None:
    async with house() as built:
        built.api.canned.append(Canned(429, headers={"Retry-After": "7"}))
        one, two = (built.api.machines.add(api_key(key)) for key in ("ak_1", "ak_2"))
        for secret in (one, two):
            with pytest.raises(ClerkApiBusy) as refused:
                await built.verify(secret)
            assert refused.value.retry_after_s == 7
        assert len(built.api.requests) == 1
        built.pass_time(7)
        assert (await built.verify(one)).user_id == "user_1"


async def test_a_pause_that_clerk_asks_for_at_the_second_try_is_kept_too() -> None:
    async with house() as built:
        built.api.canned.extend([Canned(500), Canned(429, headers={"Retry-After": "7"})])
        for token in ("ak_1", "ak_2"):
            assert await built.refusal(token) == (ClerkApiBusy, None)
        assert len(built.api.requests) == 2


async def test_no_pause_is_longer_than_a_minute() -> None:
    async with house() as built:
        built.api.canned.append(Canned(429, headers={"Retry-After": "999999"}))
        assert await built.refusal("ak_1") == (ClerkApiBusy, None)
        built.pass_time(60)
        assert await built.refusal("ak_1") == (InvalidToken, "token-invalid")


async def test_whoever_waits_while_clerk_asks_for_a_pause_is_told() -> None:
    async with house(per_s=1) as built:
        built.api.hold = asyncio.Event()
        first, second = built.begin("ak_1", "ak_2")
        await built.settle()
        built.api.canned.append(Canned(429, headers={"Retry-After": "7"}))
        built.api.hold.set()
        with pytest.raises(ClerkApiBusy):
            await first
        built.pass_time(1)
        with pytest.raises(ClerkApiBusy):
            await second
        assert len(built.api.requests) == 1


# --- how often ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("per_s", "most", "span_s"), [(20, 20, 1.0), (0.5, 1, 2.0), (2.5, 2, 0.8), (1, 1, 1.0)])
def test_a_window_lets_so_many_start_in_any_stretch_of_time(per_s: float, most: int, span_s: float) -> None:
    window, starts, now = Window(per_s), list[float](), 0.0
    while now < 6 * span_s:
        while not window.wait_s(now):
            window.start(now)
            starts.append(now)
        now += span_s / 16
    for start in starts:
        assert len([each for each in starts if start <= each < start + span_s - 1e-9]) <= most
    assert len(starts) == 6 * most
    assert window.wait_s(now - span_s / 16 - span_s) > 0


async def test_one_call_for_all_who_ask_at_the_same_time() -> None:
    async with house() as built:
        built.api.hold = asyncio.Event()
        secret = built.api.machines.add(api_key())
        asking = built.begin(*[secret] * 50)
        await built.settle()
        built.api.hold.set()
        assert {(await each).user_id for each in asking} == {"user_1"}
        assert built.asked == [secret]
        unknown = built.begin(*["ak_unknown"] * 50)
        assert {type(each) for each in await asyncio.gather(*unknown, return_exceptions=True)} == {InvalidToken}
        assert built.asked == [secret, "ak_unknown"]


async def flood(built: House, count: int) -> list[asyncio.Task[Any]]:
    asking = built.begin(*made_up(count))
    await built.settle()
    return asking


async def test_a_flood_costs_so_many_calls_and_the_rest_is_turned_away() -> None:
    async with house(per_s=20) as built:
        asking = await flood(built, 2000)
        turned_away = [each for each in asking if each.done() and isinstance(each.exception(), Overloaded)]
        assert len(turned_away) == 1970  # 20 are asked about, 10 wait
        for _ in range(3):
            await asyncio.wait([each for each in asking if not each.done()], timeout=0.1)
        assert len(built.asked) == 20  # however much real time passes: the clock stands still
        built.pass_time(1)
        answers = await asyncio.gather(*asking, return_exceptions=True)
        assert len(built.asked) == 30
        assert {type(each) for each in answers} == {Overloaded, InvalidToken}


async def test_a_token_that_was_good_goes_before_strangers() -> None:
    async with house(per_s=1) as built:
        secret = built.api.machines.add(api_key())
        await built.verify(secret)
        built.pass_time(60)
        asking = await flood(built, 200)
        (known,) = built.begin(secret)
        await built.settle()
        assert not known.done()
        assert sum(isinstance(each.exception(), Overloaded) for each in asking if each.done()) == 190  # one gave way
        built.pass_time(1)
        assert (await known).user_id == "user_1"
        assert built.asked == [secret, made_up(1)[0], secret]
        built.pass_time(9)
        await built.tokens.close()
        await asyncio.gather(*asking, return_exceptions=True)


async def test_a_token_that_was_good_long_ago_or_is_not_any_more_is_a_stranger() -> None:
    async with house(per_s=20) as built:
        late, over = (built.api.machines.add(api_key(key)) for key in ("ak_1", "ak_2"))
        await built.verify(late)
        built.pass_time(KNOWN_LIFE_S - 1)
        await built.verify(over)
        built.api.machines.known[over]["revoked"] = True
        assert await built.refusal(over) == (InvalidToken, "token-invalid")
        built.pass_time(REFUSED_LIFE_S)
        asking = await flood(built, 30)
        for secret in (late, over):
            assert await built.refusal(secret) == (Overloaded, None)
        built.pass_time(1)
        await asyncio.gather(*asking, return_exceptions=True)


async def test_where_all_who_wait_were_good_there_is_no_more_room() -> None:
    async with house(per_s=20) as built:
        secrets = [built.api.machines.add(api_key(f"ak_{number}")) for number in range(11)]
        for secret in secrets:
            await built.verify(secret)
        built.pass_time(60)
        asking = await flood(built, 20)
        known = built.begin(*secrets[:10])
        await built.settle()
        assert await built.refusal(secrets[10]) == (Overloaded, None)
        built.pass_time(1)
        assert [(await each).user_id for each in known] == ["user_1"] * 10
        await asyncio.gather(*asking, return_exceptions=True)


async def test_whoever_leaves_gives_up_his_place_and_his_call() -> None:
    async with house(per_s=1) as built:
        first, second, third, fourth = built.begin("ak_1", "ak_2", "ak_3", "ak_3")
        await first_answer(first)
        for each in (second, third):
            each.cancel()
        await built.settle()
        built.pass_time(1)
        with pytest.raises(InvalidToken):
            await fourth  # who wanted the same as somebody who left
        assert built.asked == ["ak_1", "ak_3"]


async def first_answer(task: asyncio.Task[Any]) -> None:
    with pytest.raises(InvalidToken):
        await task


async def test_a_call_under_way_goes_on_when_whoever_asked_leaves() -> None:
    async with house() as built:
        built.api.hold = asyncio.Event()
        (asking,) = built.begin("ak_unknown")
        while not built.api.requests:
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait((asking,))
        built.api.hold.set()
        assert await built.refusal("ak_unknown") == (InvalidToken, "token-invalid")
        assert built.asked == ["ak_unknown"]


async def test_closing_tells_whoever_waits() -> None:
    async with house(per_s=1) as built:
        built.api.hold = asyncio.Event()
        asking = built.begin("ak_1", "ak_2")
        while not built.api.requests:
            await asyncio.sleep(0)
        await built.tokens.close()
        answers = await asyncio.gather(*asking, return_exceptions=True)
        assert [type(each) for each in answers] == [ClerkApiDown] * 2


async def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_tokens, "MOST_REFUSED", 3)
    async with house() as built:
        for token in made_up(4):
            await built.refusal(token)
        await built.refusal(made_up(4)[3])
        assert len(built.asked) == 4
        await built.refusal(made_up(4)[0])
        assert len(built.asked) == 5


# --- what is told ---------------------------------------------------------------------------------------------------------


async def test_a_key_that_clerk_does_not_take_is_told_once_and_never_shown() -> None:
    async with house(own="ak_own_secret") as built:
        built.api.secret_key = "sk_live_another"
        for number in range(3):
            assert await built.refusal(f"ak_{number}") == (ClerkApiRefused, None)
        (told,) = built.events
        assert (told["event"], told["level"], told["key"]) == ("clerk_key_refused", "error", "secret_key")
        assert "clerk_key_invalid" in told["why"]
        await built.refusal("mt_x", "m2m")
        assert "secret" not in str(built.events).replace("secret_key", "")


async def test_the_machines_own_key_is_named() -> None:
    async with house(own="ak_own_secret") as built:
        await built.refusal("mt_x", "m2m")
        assert [told["key"] for told in built.events] == ["machine_secret_key"]


async def test_that_clerk_is_down_and_that_it_is_back_are_told_once_each() -> None:
    async with house() as built:
        built.api.canned.extend([Canned(500)] * 4)
        for token in ("ak_1", "ak_2", "ak_3", "ak_4"):
            await built.refusal(token)
        assert [told["event"] for told in built.events] == [
            "machine_tokens_unverified", "machine_tokens_verified_again",
        ]  # fmt: skip
        assert "ak_1" not in str(built.events)
