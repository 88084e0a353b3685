"""Names to addresses, with a resolver that says what a test wants."""

import asyncio
import socket
from collections.abc import Callable

import pytest

from gateway.net.resolve import LIFE_S, Addresses, is_address
from tests.fakes.gateway import Clock


class Resolver:
    """Stands in for the system's."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answers: tuple[str, ...] | OSError = ("10.0.0.1",)
        self.asked = 0
        self.told: list[frozenset[str]] = []
        self.clock = Clock(0.0)
        self.name = Addresses("api.internal", 80, now=self.clock, on_change=self.told.append)
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", self.getaddrinfo, raising=False)

    async def getaddrinfo(self, _host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        self.asked += 1
        await asyncio.sleep(0)
        if isinstance(self.answers, OSError):
            raise self.answers
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in self.answers]

    async def settle(self) -> None:
        while self.name._lookup is not None and not self.name._lookup.done():
            await asyncio.sleep(0)


@pytest.fixture
async def resolver(monkeypatch: pytest.MonkeyPatch) -> Resolver:
    return Resolver(monkeypatch)


async def test_an_address_is_its_own_and_never_looked_up() -> None:
    def refuse(_: frozenset[str]) -> None:
        raise AssertionError

    for host in ("127.0.0.1", "::1", "fe80::1%eth0"):
        assert is_address(host)
        own = Addresses(host, 80, now=lambda: 1e9, on_change=refuse)
        assert await own.get() == (host,)
        assert own._lookup is None


async def test_a_name_is_looked_up_once_for_all_who_wait(resolver: Resolver) -> None:
    assert await asyncio.gather(*(resolver.name.get() for _ in range(10))) == [("10.0.0.1",)] * 10
    assert resolver.asked == 1


async def test_it_is_looked_up_again_in_the_background_after_a_while(resolver: Resolver) -> None:
    await resolver.name.get()
    resolver.answers = ("10.0.0.2", "10.0.0.3", "10.0.0.2")
    resolver.clock.seconds = LIFE_S - 0.1
    assert await resolver.name.get() == ("10.0.0.1",)
    resolver.clock.seconds = LIFE_S
    assert await resolver.name.get() == ("10.0.0.1",)  # nobody waits for it
    await resolver.settle()
    assert resolver.name.known == ("10.0.0.2", "10.0.0.3")
    assert resolver.told == [frozenset({"10.0.0.2", "10.0.0.3"})]
    assert resolver.asked == 2


async def test_the_same_addresses_in_another_order_are_no_news(resolver: Resolver) -> None:
    resolver.answers = ("10.0.0.1", "10.0.0.2")
    await resolver.name.get()
    resolver.answers = ("10.0.0.2", "10.0.0.1")
    resolver.clock.seconds = LIFE_S
    resolver.name.refresh()
    await resolver.settle()
    assert (resolver.told, resolver.name.known) == ([], ("10.0.0.1", "10.0.0.2"))


@pytest.mark.parametrize("answer", [OSError("no such host"), ()], ids=["failure", "nothing"])
async def test_the_last_good_answer_stays_through_an_outage(
    resolver: Resolver, answer: OSError | tuple[str, ...]
) -> None:
    await resolver.name.get()
    resolver.answers = answer
    resolver.clock.seconds = LIFE_S
    resolver.name.refresh()
    await resolver.settle()
    assert (resolver.name.known, resolver.told) == (("10.0.0.1",), [])


async def test_a_name_without_an_address_is_told_to_each_who_waits_and_asked_for_again(resolver: Resolver) -> None:
    resolver.answers = OSError("no such host")
    failures = await asyncio.gather(*(resolver.name.get() for _ in range(3)), return_exceptions=True)
    assert [str(failure) for failure in failures] == ["no such host"] * 3
    resolver.answers = ("10.0.0.1",)
    assert await resolver.name.get() == ("10.0.0.1",)


async def test_a_name_that_leads_nowhere_cannot_be_had(resolver: Resolver) -> None:
    resolver.answers = ()
    with pytest.raises(OSError, match="no address"):
        await resolver.name.get()


async def test_a_lookup_that_failed_is_told_though_the_next_has_begun(resolver: Resolver) -> None:
    resolver.answers = OSError("no such host")
    waiting = asyncio.ensure_future(resolver.name.get())
    await asyncio.sleep(0)
    first = resolver.name._lookup
    assert first is not None
    first.add_done_callback(lambda _: resolver.name.refresh())  # as whoever comes in this very moment
    with pytest.raises(OSError, match="no such host"):
        await waiting
    assert resolver.name._lookup is not first
    resolver.name.close()


async def test_closing_ends_a_lookup(resolver: Resolver) -> None:
    resolver.name.refresh()
    resolver.name.close()
    await resolver.settle()
    assert resolver.name.known == ()


def never(_: frozenset[str]) -> None: ...


NEVER: Callable[[frozenset[str]], None] = never


async def test_localhost_is_this_machine() -> None:
    assert set(await Addresses("localhost", 80, now=Clock(0.0), on_change=NEVER).get()) <= {"127.0.0.1", "::1"}
