import asyncio
import gzip
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.verify import MAX_JWKS_BYTES, KeySet
from gateway.errors import KeysUnavailable
from gateway.net.jwks import KeySchedule, KeySource, RefreshPolicy, RemoteKeys, StaticKeys, cause_of
from tests.fakes.clerk import FakeClerk, FakeIssuer, rsa_key

CLERK = FakeClerk()
PUBLIC = CLERK.key.public_key()
DAY = 24 * 3600.0


# --- the schedule: no server, no waiting ---


def schedule(**policy: Any) -> KeySchedule:
    return KeySchedule(RefreshPolicy(**policy))


def test_first_fetch_is_due_at_once():
    new = schedule()
    assert new.wait_s(0.0) == 0.0
    assert new.may_fetch(0.0)
    assert not new.is_in_force(0.0)


@pytest.mark.parametrize(("chance", "wait_s"), [(0.0, 432.0), (0.5, 480.0), (1.0, 528.0)])
def test_refresh_comes_at_four_fifths_of_the_life_give_or_take_a_tenth(chance, wait_s):
    one = schedule()
    one.succeeded(100.0, chance)
    assert one.wait_s(100.0) == pytest.approx(wait_s)
    assert one.wait_s(100.0 + wait_s + 1) == 0.0


def test_failures_wait_longer_each_time_up_to_a_minute_and_start_anew_after_success():
    one = schedule()
    assert [one.failed(0.0, 0.0) for _ in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert one.failed(0.0, 1.0) == 30.0
    one.succeeded(0.0, 0.5)
    assert one.failed(0.0, 0.0) == 1.0


def test_long_outage_overflows_nothing():
    one = schedule()
    for _ in range(2000):
        assert one.failed(0.0, 0.0) <= 60.0


def test_nothing_is_fetched_during_the_pause_after_a_failure():
    one = schedule()
    one.succeeded(0.0, 0.5)
    one.failed(10.0, 0.0)
    assert not one.may_fetch(10.9)
    assert not one.may_force("new", 10.9)
    assert one.wait_s(10.0) == 1.0
    assert one.may_fetch(11.0)
    assert one.may_force("new", 11.0)


def test_set_counts_for_a_day_after_its_last_good_fetch():
    one = schedule()
    one.succeeded(5.0, 0.5)
    one.failed(6.0, 0.5)
    assert one.is_in_force(5.0 + DAY)
    assert not one.is_in_force(5.0 + DAY + 0.001)


def test_unknown_kids_force_a_fetch_once_in_thirty_seconds_over_all_kids():
    one = schedule()
    one.succeeded(0.0, 0.5)
    assert one.may_force("a", 1.0)
    one.forced(1.0)
    assert not one.may_force("b", 30.9)
    assert one.may_force("b", 31.0)


def test_kid_that_was_missed_forces_nothing_for_five_minutes():
    one = schedule()
    one.missed("a", 0.0)
    assert one.is_unknown("a", 299.9)
    assert not one.may_force("a", 299.9)
    assert one.may_force("b", 299.9)
    assert not one.is_unknown("a", 300.0)
    assert one.may_force("a", 300.0)


def test_memory_of_missed_kids_forgets_the_oldest():
    one = schedule(unknown_kids=2)
    for kid in ("a", "b", "a", "c"):
        one.missed(kid, 0.0)
    assert [one.is_unknown(kid, 1.0) for kid in "abc"] == [True, False, True]


@given(st.lists(st.text(max_size=3)))
def test_memory_of_missed_kids_is_bounded(kids):
    one = schedule(unknown_kids=5)
    for kid in kids:
        one.missed(kid, 0.0)
    assert sum(one.is_unknown(kid, 1.0) for kid in set(kids)) <= 5


def test_stopped_schedule_allows_nothing():
    one = schedule()
    one.stop()
    assert not one.may_fetch(1e12)
    assert not one.may_force("a", 1e12)


# --- the deed: a real issuer on loopback, a clock that only the test moves ---


class Clock:
    """A monotonic clock; who sleeps on it wakes when the test moves it there."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.asleep = asyncio.Event()
        self._sleepers: list[tuple[float, asyncio.Event]] = []

    def now(self) -> float:
        return self.time

    async def sleep(self, delay: float) -> None:
        wake = asyncio.Event()
        self._sleepers.append((self.time + delay, wake))
        self.asleep.set()
        await wake.wait()

    def advance(self, seconds: float) -> None:
        self.time += seconds
        self.asleep.clear()
        for until, wake in self._sleepers:
            if until <= self.time:
                wake.set()
        self._sleepers = [(until, wake) for until, wake in self._sleepers if until > self.time]


class Bench:
    """An issuer, a clock, and keys to be fetched."""

    def __init__(
        self, issuer: FakeIssuer, session: aiohttp.ClientSession, url: str | None = None, **policy: Any
    ) -> None:
        self.issuer = issuer
        self.clock = Clock()
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.keys = RemoteKeys(
            url or issuer.jwks_url, session, RefreshPolicy(**policy), on_event=self.note, now=self.clock.now,
            rng=lambda: 0.5, sleep=self.clock.sleep,
        )  # fmt: skip

    def note(self, event: str, **fields: Any) -> None:
        self.events.append((event, fields))

    @property
    def causes(self) -> list[str]:
        return [fields["cause"] for event, fields in self.events if event == "jwks_failed"]

    async def have_first(self) -> None:
        assert await self.keys.fetch_for(CLERK.kid) == PUBLIC
        self.issuer.requests = 0


@pytest.fixture
async def make_bench() -> AsyncIterator[Callable[..., Bench]]:
    benches: list[Bench] = []
    async with FakeIssuer(CLERK) as issuer, aiohttp.ClientSession(trust_env=False) as session:

        def make(**options: Any) -> Bench:
            benches.append(Bench(issuer, session, **options))
            return benches[-1]

        yield make
        if issuer.hold is not None:
            issuer.hold.set()
        for bench in benches:
            await bench.keys.close()


@pytest.fixture
def bench(make_bench: Callable[..., Bench]) -> Bench:
    return make_bench()


async def test_static_keys_are_always_there_and_never_change():
    keys: KeySource = StaticKeys(KeySet({}, any_kid=PUBLIC))
    assert keys.ready
    assert keys.generation == StaticKeys(KeySet({"a": PUBLIC})).generation
    assert keys.find(None) == await keys.fetch_for("any") == PUBLIC
    assert keys.kids == frozenset()
    assert await StaticKeys(KeySet({"a": PUBLIC})).fetch_for("b") is None


async def test_first_request_fetches_the_set(bench):
    assert (bench.keys.ready, bench.keys.generation, bench.keys.find(CLERK.kid)) == (False, 0, None)
    assert bench.keys.kids == frozenset()
    assert await bench.keys.fetch_for(CLERK.kid) == PUBLIC
    assert (bench.keys.ready, bench.keys.generation, bench.keys.find(CLERK.kid)) == (True, 1, PUBLIC)
    assert bench.keys.kids == {CLERK.kid}
    assert bench.events == [("jwks_changed", {"url": bench.issuer.jwks_url, "keys": 1, "generation": 1})]


async def test_request_asks_for_plain_json(bench):
    await bench.have_first()
    assert bench.issuer.last_headers["Accept-Encoding"] == "identity"
    assert bench.issuer.last_headers["Accept"] == "application/json"


async def test_what_the_issuer_says_of_the_time_is_kept_whatever_its_answer(bench):
    assert bench.keys.date is None
    for status, date in ((200, "Wed, 25 Nov 2026 20:00:00 GMT"), (500, "Wed, 25 Nov 2026 20:00:01 GMT")):
        bench.issuer.status, bench.issuer.headers = status, {"Date": date}
        with suppress(KeysUnavailable):
            await bench.keys.fetch_for(CLERK.kid if status == 200 else "another")
        assert bench.keys.date == date
        bench.clock.advance(60)


async def test_token_without_kid_has_no_key_even_in_a_set_of_one(bench):
    assert await bench.keys.fetch_for(None) is None
    assert bench.keys.ready
    assert await bench.keys.fetch_for(None) is None
    assert bench.issuer.requests == 1


async def test_storm_of_unknown_kids_is_one_fetch(bench):
    await bench.have_first()
    answers = await asyncio.gather(*(bench.keys.fetch_for(f"ins_{number}") for number in range(1000)))
    assert answers == [None] * 1000
    assert bench.issuer.requests == 1
    assert await asyncio.gather(*(bench.keys.fetch_for(f"more_{number}") for number in range(1000))) == [None] * 1000
    assert bench.issuer.requests == 1


async def test_storm_goes_on_to_one_fetch_in_thirty_seconds(bench):
    await bench.have_first()
    for second in range(90):
        await bench.keys.fetch_for(f"ins_{second}")
        bench.clock.advance(1)
    assert bench.issuer.requests == 3


async def test_same_unknown_kid_is_not_asked_for_again_for_five_minutes(bench):
    await bench.have_first()
    assert await bench.keys.fetch_for("ins_x") is None
    bench.clock.advance(299)
    assert await bench.keys.fetch_for("ins_x") is None
    assert bench.issuer.requests == 1
    bench.clock.advance(1)
    assert await bench.keys.fetch_for("ins_x") is None
    assert bench.issuer.requests == 2


async def test_kid_that_was_missed_does_not_wait_for_a_fetch_under_way(bench):
    await bench.have_first()
    await bench.keys.fetch_for("ins_x")
    bench.clock.advance(30)
    bench.issuer.hold = asyncio.Event()
    bench.issuer.arrived.clear()
    other = asyncio.create_task(bench.keys.fetch_for("ins_y"))
    await bench.issuer.arrived.wait()
    assert await bench.keys.fetch_for("ins_x") is None
    assert not other.done()
    bench.issuer.hold.set()
    assert await other is None


async def test_failed_fetch_is_no_proof_against_a_kid(bench):
    await bench.have_first()
    bench.issuer.status = 500
    with pytest.raises(KeysUnavailable):
        await bench.keys.fetch_for("ins_2")
    bench.issuer.status = 200
    bench.issuer.clerks.append(FakeClerk(kid="ins_2", key_name="second"))
    bench.clock.advance(30)
    assert await bench.keys.fetch_for("ins_2") == rsa_key("second").public_key()


async def test_rotation_is_found_on_the_first_token_of_the_new_key(bench):
    await bench.have_first()
    bench.issuer.clerks = [FakeClerk(kid="ins_2", key_name="second")]
    assert await bench.keys.fetch_for("ins_2") == rsa_key("second").public_key()
    assert bench.keys.find(CLERK.kid) is None
    assert bench.keys.generation == 2


async def test_generation_stays_where_the_content_does(bench):
    await bench.have_first()
    bench.issuer.body = json.dumps({"keys": [CLERK.jwk(x5t="new")]}).encode()
    await bench.keys.fetch_for("ins_x")
    assert (bench.issuer.requests, bench.keys.generation) == (1, 1)


async def test_background_refreshes_before_the_life_is_over(bench):
    bench.keys.start()
    assert await bench.keys.first(5)
    await bench.clock.asleep.wait()
    bench.clock.advance(479)
    assert bench.issuer.requests == 1
    bench.issuer.clerks = [FakeClerk(kid="ins_2", key_name="second")]
    bench.clock.advance(1)
    await bench.clock.asleep.wait()
    assert (bench.issuer.requests, bench.keys.generation) == (2, 2)
    assert bench.keys.find("ins_2") == rsa_key("second").public_key()


async def test_refresher_sleeps_on_after_a_fetch_for_someones_sake(bench):
    bench.keys.start()
    assert await bench.keys.first(5)
    await bench.clock.asleep.wait()
    bench.clock.advance(400)
    await bench.keys.fetch_for("ins_x")
    bench.clock.advance(80)  # the old appointment; the new one is at 880
    await bench.clock.asleep.wait()
    assert bench.issuer.requests == 2


async def test_background_and_requests_share_one_fetch(bench):
    bench.issuer.hold = asyncio.Event()
    bench.keys.start()
    await bench.issuer.arrived.wait()
    waiting = [asyncio.create_task(bench.keys.fetch_for(CLERK.kid)) for _ in range(100)]
    await asyncio.sleep(0)
    bench.issuer.hold.set()
    assert await asyncio.gather(*waiting) == [PUBLIC] * 100
    assert bench.issuer.requests == 1


async def test_cancelled_request_leaves_the_fetch_to_the_others(bench):
    bench.issuer.hold = asyncio.Event()
    first = asyncio.create_task(bench.keys.fetch_for(CLERK.kid))
    second = asyncio.create_task(bench.keys.fetch_for(CLERK.kid))
    await bench.issuer.arrived.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    bench.issuer.hold.set()
    assert await second == PUBLIC
    assert bench.issuer.requests == 1


async def test_outage_keeps_the_old_set(bench):
    await bench.have_first()
    await bench.issuer.stop()
    bench.clock.advance(DAY)
    with pytest.raises(KeysUnavailable):
        await bench.keys.fetch_for("ins_x")
    assert bench.causes == ["connection refused"]
    assert (bench.keys.ready, bench.keys.find(CLERK.kid)) == (True, PUBLIC)


async def test_outage_of_more_than_a_day_leaves_no_keys(bench):
    await bench.have_first()
    await bench.issuer.stop()
    bench.clock.advance(DAY + 1)
    assert (bench.keys.ready, bench.keys.find(CLERK.kid)) == (False, None)
    with pytest.raises(KeysUnavailable):
        await bench.keys.fetch_for(CLERK.kid)
    await bench.issuer.start()
    bench.clock.advance(1)
    assert await bench.keys.fetch_for(CLERK.kid) == PUBLIC
    assert bench.keys.generation == 1


async def test_issuer_that_starts_late_is_found_and_not_flooded_before(bench):
    await bench.issuer.stop()
    bench.keys.start()
    for _ in range(20):
        with pytest.raises(KeysUnavailable):
            await bench.keys.fetch_for(CLERK.kid)
    await bench.clock.asleep.wait()
    assert bench.causes == ["connection refused"]
    assert not await bench.keys.first(0)
    await bench.issuer.start()
    bench.clock.advance(1)
    assert await bench.keys.first(5)
    assert bench.keys.find(CLERK.kid) == PUBLIC


async def test_slow_issuer_is_given_up(make_bench):
    bench = make_bench(total_s=0.05)
    bench.issuer.hold = asyncio.Event()
    with pytest.raises(KeysUnavailable):
        await bench.keys.fetch_for(CLERK.kid)
    assert bench.causes == ["timeout"]


@pytest.mark.parametrize(("answer", "cause"), [
    pytest.param({"status": 500}, "status 500", id="server-error"),
    pytest.param({"status": 404}, "status 404", id="not-found"),
    pytest.param({"status": 204, "body": b""}, "status 204", id="no-content"),
    pytest.param({"body": b"<!doctype html>"}, "not JSON", id="html"),
    pytest.param({"body": b'{"keys": []}'}, "no usable key: the set is empty", id="empty-set"),
    pytest.param({"body": b" " * (MAX_JWKS_BYTES + 1)}, "too large: more than 262144 bytes", id="too-large"),
])  # fmt: skip
async def test_bad_answer_is_refused_and_named(bench, answer, cause):
    for name, value in answer.items():
        setattr(bench.issuer, name, value)
    with pytest.raises(KeysUnavailable):
        await bench.keys.fetch_for(CLERK.kid)
    told = {"level": "warning", "url": bench.issuer.jwks_url, "cause": cause, "retry_in_s": 0.8}
    assert bench.events == [("jwks_failed", told)]


async def test_endless_answer_is_cut_off_at_the_limit(make_bench):
    gone = asyncio.Event()

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + b" " * (MAX_JWKS_BYTES + 1))  # and no end
        await gone.wait()
        writer.close()

    async with await asyncio.start_server(pour, "127.0.0.1", 0) as server:
        bench = make_bench(url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
        with pytest.raises(KeysUnavailable):
            await bench.keys.fetch_for(CLERK.kid)
        gone.set()
    assert bench.causes == ["too large: more than 262144 bytes"]


async def test_redirects_are_not_followed(bench):
    bench.issuer.status, bench.issuer.headers = 302, {"Location": f"{bench.issuer.url}/elsewhere"}
    with pytest.raises(KeysUnavailable):
        await bench.keys.fetch_for(CLERK.kid)
    assert (bench.causes, bench.issuer.requests) == (["status 302"], 1)


async def test_compressed_answers_are_not_unpacked(bench):
    bench.issuer.headers = {"Content-Encoding": "gzip"}
    bench.issuer.body = gzip.compress(json.dumps(CLERK.jwks()).encode())
    with pytest.raises(KeysUnavailable):
        await bench.keys.fetch_for(CLERK.kid)
    assert bench.causes == ["not JSON"]


async def test_event_names_the_address_without_what_may_be_secret(make_bench):
    bench = make_bench(url="http://user:secret@127.0.0.1:1/keys?token=secret")
    with pytest.raises(KeysUnavailable):
        await bench.keys.fetch_for(CLERK.kid)
    assert bench.events[0][1]["url"] == "http://127.0.0.1:1/keys"


async def test_close_ends_the_fetch_and_its_waiters(bench):
    bench.issuer.hold = asyncio.Event()
    bench.keys.start()
    waiting = asyncio.create_task(bench.keys.fetch_for(CLERK.kid))
    await bench.issuer.arrived.wait()
    await bench.keys.close()
    with pytest.raises(KeysUnavailable):
        await waiting


async def test_retired_keys_still_serve_who_waits_and_fetch_no_more(bench):
    bench.issuer.hold = asyncio.Event()
    bench.keys.start()
    waiting = asyncio.create_task(bench.keys.fetch_for(CLERK.kid))
    await bench.issuer.arrived.wait()
    retiring = asyncio.create_task(bench.keys.retire())
    await asyncio.sleep(0)
    bench.issuer.hold.set()
    assert await waiting == PUBLIC
    await retiring
    assert await bench.keys.fetch_for("ins_x") is None
    assert bench.issuer.requests == 1


async def test_closed_keys_fetch_no_more(bench):
    await bench.have_first()
    await bench.keys.close()
    assert await bench.keys.fetch_for("ins_x") is None
    assert bench.issuer.requests == 0
    assert bench.keys.find(CLERK.kid) == PUBLIC


async def test_session_closed_under_our_hands_is_a_failed_fetch(make_bench):
    issuer = FakeIssuer(CLERK)
    session = aiohttp.ClientSession()
    await session.close()
    bench = Bench(issuer, session)
    with pytest.raises(KeysUnavailable):
        await bench.keys.fetch_for(CLERK.kid)
    assert bench.causes == ["RuntimeError"]


def connector_error(kind: type[aiohttp.ClientConnectorError], error: OSError) -> aiohttp.ClientConnectorError:
    key = aiohttp.client_reqrep.ConnectionKey("clerk.example.com", 443, True, True, None, None, None)
    return kind(key, error)


@pytest.mark.parametrize(("error", "cause"), [
    (lambda: connector_error(aiohttp.ClientConnectorDNSError, OSError(-2, "x")),
     "DNS: clerk.example.com cannot be resolved"),
    (lambda: connector_error(aiohttp.ClientConnectorSSLError, ssl.SSLError(1, "x")), "TLS: ClientConnectorSSLError"),
    (lambda: aiohttp.ServerTimeoutError("x"), "timeout"),
    (lambda: TimeoutError(), "timeout"),
    (lambda: connector_error(aiohttp.ClientConnectorError, ConnectionRefusedError(111, "x")), "connection refused"),
    (lambda: connector_error(aiohttp.ClientConnectorError, OSError(113, "x")), "ClientConnectorError"),
    (lambda: aiohttp.ClientPayloadError("secret"), "ClientPayloadError"),
    (lambda: aiohttp.InvalidURL("http://user:secret@"), "InvalidURL"),
    (lambda: ValueError("not JSON"), "not JSON"),
], ids=["dns", "tls", "aiohttp-timeout", "timeout", "refused", "no-route", "payload", "url", "parse"])  # fmt: skip
def test_cause_is_named_without_content(error, cause):
    assert cause_of(error()) == cause


async def test_certificate_error_is_tls():
    key = aiohttp.client_reqrep.ConnectionKey("clerk.example.com", 443, True, True, None, None, None)
    error = aiohttp.ClientConnectorCertificateError(key, ssl.SSLCertVerificationError("self-signed"))
    assert cause_of(error) == "TLS: ClientConnectorCertificateError"


async def test_close_before_start_does_nothing(bench):
    await bench.keys.close()
    assert bench.issuer.requests == 0
