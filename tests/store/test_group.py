import asyncio
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from gateway.errors import StoreDown
from gateway.store.group import HELD_BYTES, MOST, GroupCommit


@pytest.fixture
def thread() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


class Ledger:
    """Keeps the groups it was given; waits for `gate` first."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.gate = threading.Event()
        self.gate.set()

    def commit(self, items: Sequence[int]) -> Sequence[int | Exception]:
        self.gate.wait(10)
        self.groups.append(list(items))
        return [StoreDown(detail="odd") if item == 13 else item * 2 for item in items]


async def test_what_comes_together_is_committed_together(thread: ThreadPoolExecutor) -> None:
    ledger = Ledger()
    group = GroupCommit(ledger.commit, thread)
    assert await asyncio.gather(*(group.add(item, size=1) for item in range(5))) == [0, 2, 4, 6, 8]
    assert ledger.groups == [[0, 1, 2, 3, 4]]
    assert await group.add(7, size=1) == 14
    assert ledger.groups[1:] == [[7]]


async def test_what_comes_during_a_commit_is_the_next_group(thread: ThreadPoolExecutor) -> None:
    ledger = Ledger()
    ledger.gate.clear()
    group = GroupCommit(ledger.commit, thread)
    first = asyncio.ensure_future(group.add(1, size=1))
    await asyncio.sleep(0)
    settling = asyncio.ensure_future(group.settle())
    while group._running is None or group._waiting:
        await asyncio.sleep(0)
    others = [asyncio.ensure_future(group.add(item, size=1)) for item in (2, 3)]
    await asyncio.sleep(0)
    ledger.gate.set()
    assert await asyncio.gather(first, *others) == [2, 4, 6]
    await settling
    assert ledger.groups == [[1], [2, 3]]


async def test_a_group_is_bounded(thread: ThreadPoolExecutor) -> None:
    ledger = Ledger()
    group = GroupCommit(ledger.commit, thread)
    await asyncio.gather(*(group.add(item, size=1) for item in range(100, 101 + MOST)))
    assert [len(each) for each in ledger.groups] == [MOST, 1]


async def test_an_item_that_fails_fails_alone(thread: ThreadPoolExecutor) -> None:
    group = GroupCommit(Ledger().commit, thread)
    results = await asyncio.gather(*(group.add(item, size=1) for item in (12, 13, 14)), return_exceptions=True)
    assert results[0] == 24
    assert isinstance(results[1], StoreDown)
    assert results[2] == 28


async def test_a_commit_that_fails_fails_for_all_and_the_next_one_goes_on(thread: ThreadPoolExecutor) -> None:
    faults: list[Exception] = [StoreDown(detail="gone")]

    def commit(items: Sequence[int]) -> Sequence[int | Exception]:
        if faults:
            raise faults.pop()
        return list(items)

    group: GroupCommit[int, int] = GroupCommit(commit, thread)
    results = await asyncio.gather(group.add(1, size=1), group.add(2, size=1), return_exceptions=True)
    assert [type(result) for result in results] == [StoreDown, StoreDown]
    assert await group.add(3, size=1) == 3


async def test_too_much_waiting_is_refused(thread: ThreadPoolExecutor) -> None:
    ledger = Ledger()
    ledger.gate.clear()
    group = GroupCommit(ledger.commit, thread)
    waiting = asyncio.ensure_future(group.add(1, size=HELD_BYTES))
    await asyncio.sleep(0)
    with pytest.raises(StoreDown):
        await group.add(2, size=1)
    ledger.gate.set()
    assert await waiting == 2
    assert await group.add(3, size=HELD_BYTES) == 6


async def test_who_stops_waiting_is_committed_all_the_same(thread: ThreadPoolExecutor) -> None:
    ledger = Ledger()
    group = GroupCommit(ledger.commit, thread)
    impatient = asyncio.ensure_future(group.add(1, size=1))
    await asyncio.sleep(0)
    impatient.cancel()
    await group.settle()
    assert ledger.groups == [[1]]
    await group.settle()
