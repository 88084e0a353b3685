"""Whose streams are open, and when they end. From head to end they are in `tests/wire/test_streams.py`."""

import pytest

from gateway.core.model import Principal
from gateway.net.deadlines import SWEEP_S, Deadlines
from gateway.web.streams import FEW, GOING_AWAY, PARTING_S, REVOKED, SPREAD_S, TOO_OLD, Ending, Stream, Streams
from tests.fakes.gateway import Clock

MANY = FEW + 1


def principal(user: str, session: str | None = None, org: str | None = None) -> Principal:
    return Principal(user, "session", {}, frozenset(), 0, 60, user_id=user, session_id=session, org_id=org)


class Kept:
    """A socket or an answer that only says what was done to it."""

    def __init__(self, house: "House", *, endless: bool = True) -> None:
        self._house, self.endless = house, endless
        self.ended: Ending | None = None
        self.ended_at = 0.0
        self.was_cut = False
        self.presented = None

    def break_off(self, ending: Ending) -> None:
        assert self.ended is None
        self.ended, self.ended_at = ending, self._house.clock()

    def cut(self, ending: Ending) -> None:
        self.was_cut = True
        assert ending is GOING_AWAY


class House:
    """A registry, its clock and its chance: at each throw `chance` goes on by a seventeenth."""

    def __init__(self) -> None:
        self.clock = Clock(1000.0)
        self.deadlines = Deadlines(self.clock)
        self.revoked: set[str | None] = set()
        self.streams = Streams(self.deadlines, self._bits, lambda who: who.user_id in self.revoked)
        self.thrown = 0

    def _bits(self, bits: int) -> int:
        self.thrown += 1
        return self.thrown * 2**bits // 17 % 2**bits

    def open(
        self, who: Principal | None = None, *, max_age_s: float = 0.0, endless: bool = True
    ) -> tuple[Kept, Stream]:
        kept = Kept(self, endless=endless)
        return kept, self.streams.open(kept, who, max_age_s=max_age_s)

    def pass_time(self, seconds: float) -> None:
        for _ in range(round(seconds / SWEEP_S)):
            self.clock.seconds += SWEEP_S
            self.deadlines.sweep()


@pytest.fixture
def house() -> House:
    return House()


@pytest.mark.parametrize(
    ("whose", "ended"),
    [
        ({"user": "user_1"}, {"one", "two"}),
        ({"session": "sess_3"}, {"three"}),
        ({"org": "org_1"}, {"one", "three"}),
        ({"user": "user_1", "org": "org_1"}, {"one"}),
        ({"user": "user_1", "session": "sess_3"}, set()),
        ({"user": "user_9"}, set()),
        ({"user": ""}, set()),
        ({}, set()),
    ],
    ids=["user", "session", "organisation", "both", "both-must-fit", "nobody", "no-name", "nothing-said"],
)
def test_revoking_ends_whoever_fits(house: House, whose: dict[str, str], ended: set[str]) -> None:
    people = {
        "one": principal("user_1", "sess_1", "org_1"), "two": principal("user_1", "sess_2"),
        "three": principal("user_2", "sess_3", "org_1"), "machine": principal("mch_1"), "nobody": None,
    }  # fmt: skip
    kept = {name: house.open(who)[0] for name, who in people.items()}
    assert house.streams.revoke(**whose) == len(ended)
    assert {name for name, each in kept.items() if each.ended is REVOKED} == ended
    assert {name for name, each in kept.items() if each.ended} == ended
    assert house.streams.revoke(**whose) == 0  # they are on their way out


def test_an_answer_that_would_end_by_itself_is_revoked_too(house: House) -> None:
    kept, _ = house.open(principal("user_1"), endless=False)
    assert house.streams.revoke(user="user_1") == 1
    assert kept.ended is REVOKED


def test_a_stream_that_was_closed_is_forgotten(house: House) -> None:
    kept, stream = house.open(principal("user_1"), max_age_s=5)
    house.streams.close(stream)
    house.streams.close(stream)
    assert (len(house.streams), house.deadlines._watched) == (0, set())
    assert house.streams.revoke(user="user_1") == 0
    house.pass_time(10)
    assert kept.ended is None


def test_a_stream_may_learn_later_who_is_behind_it_and_end_for_a_reason_of_its_own(house: House) -> None:
    kept, stream = house.open()
    house.streams.bind(stream, principal("user_1"))
    own = Ending(4403, b"admin", "forbidden")
    stream.end(own)
    assert house.streams.revoke(user="user_1") == 0
    assert kept.ended is own


def test_whoever_is_revoked_opens_none_and_becomes_none(house: House) -> None:
    house.revoked.add("user_1")
    kept, _ = house.open(principal("user_1"))
    other, stream = house.open(principal("user_2"))
    assert (kept.ended, other.ended) == (REVOKED, None)
    house.streams.bind(stream, principal("user_1"))
    assert other.ended is REVOKED


def test_a_stream_is_found_under_whom_it_belongs_to_now(house: House) -> None:
    kept, stream = house.open(principal("user_1", "sess_1"))
    house.streams.bind(stream, principal("user_2", "sess_2"))
    assert house.streams.revoke(user="user_1") == house.streams.revoke(session="sess_1") == 0
    house.streams.bind(stream, None)
    assert house.streams.revoke(user="user_2") == 0
    house.streams.bind(stream, principal("user_3"))
    assert house.streams.revoke(user="user_3") == 1
    assert kept.ended is REVOKED
    house.streams.close(stream)
    house.streams.bind(stream, principal("user_3"))  # its verification took longer than it lived
    assert not house.streams._of


def test_only_tokens_up_to_a_moment_are_revoked(house: House) -> None:
    old, new = (principal("user_1")._replace(issued_at=issued_at) for issued_at in (1000, 1001))
    kept = [house.open(who)[0] for who in (old, new)]
    assert house.streams.revoke(user="user_1", before=1_000_500) == 1
    assert [each.ended for each in kept] == [REVOKED, None]


# At an age


def test_a_stream_ends_at_its_age_and_never_before(house: House) -> None:
    kept, _ = house.open(max_age_s=60)
    for_ever, _ = house.open()
    house.pass_time(60)
    assert kept.ended is None
    house.pass_time(2 * SWEEP_S)
    assert kept.ended is TOO_OLD
    house.pass_time(1000)  # said once
    assert for_ever.ended is None


def test_no_age_makes_nobody_look_at_a_stream(house: House) -> None:
    house.open()
    assert house.deadlines._watched == set()


# Many at once


def test_a_few_end_at_once_and_many_are_spread_over_some_seconds(house: House) -> None:
    few = [house.open(principal("user_1"))[0] for _ in range(FEW)]
    many = [house.open(principal("user_2"))[0] for _ in range(MANY)]
    assert house.streams.revoke(user="user_1") == FEW
    assert all(kept.ended is REVOKED for kept in few)
    assert house.streams.revoke(user="user_2") == MANY
    assert [kept.ended for kept in many] == [None] * MANY
    assert house.streams.revoke(user="user_2") == 0  # counted, though not yet ended
    house.pass_time(SPREAD_S + SWEEP_S)
    assert all(kept.ended is REVOKED for kept in many)
    times = [kept.ended_at for kept in many]
    assert len(set(times)) > 4
    assert max(times) - 1000 <= SPREAD_S + SWEEP_S


def test_whoever_waits_for_its_end_is_still_found_by_nobody_else_and_ends_by_its_age_if_that_is_sooner(
    house: House,
) -> None:
    waiting = [house.open(principal("user_1"), max_age_s=0.4)[0] for _ in range(MANY)]
    house.streams.revoke(user="user_1")
    house.pass_time(2 * SWEEP_S)
    assert {kept.ended for kept in waiting} == {REVOKED}


def test_a_revoked_stream_stays_one_when_the_gateway_stops(house: House) -> None:
    waiting = [house.open(principal("user_1"))[0] for _ in range(MANY)]
    house.streams.revoke(user="user_1")
    house.streams.drain(0)
    assert {kept.ended for kept in waiting} == {REVOKED}


# The gateway stops


def test_stopping_spreads_many_with_time_left_for_their_close(house: House) -> None:
    within_s = PARTING_S + 2
    many = [house.open()[0] for _ in range(MANY)]
    house.streams.drain(within_s)
    house.pass_time(2 + SWEEP_S)
    assert {kept.ended for kept in many} == {GOING_AWAY}
    assert len({kept.ended_at for kept in many}) > 2


@pytest.mark.parametrize("within_s", [0, 1, PARTING_S])
def test_without_time_all_are_ended_at_once(house: House, within_s: float) -> None:
    many = [house.open()[0] for _ in range(MANY)]
    house.streams.drain(within_s)
    assert {kept.ended for kept in many} == {GOING_AWAY}


def test_an_answer_that_ends_by_itself_may_finish(house: House) -> None:
    download, _ = house.open(endless=False)
    house.streams.drain(30)
    later, _ = house.open(endless=False)
    house.pass_time(30)
    assert (download.ended, later.ended) == (None, None)
    house.streams.cut_all()
    assert (download.was_cut, later.was_cut) == (True, True)


def test_what_opens_while_stopping_is_ended_at_once(house: House) -> None:
    house.streams.drain(30)
    kept, _ = house.open()
    assert kept.ended is GOING_AWAY


def test_what_was_cut_is_not_ended_once_more(house: House) -> None:
    kept, stream = house.open(principal("user_1"), max_age_s=1)
    house.streams.cut_all()
    assert house.streams.revoke(user="user_1") == 0
    house.pass_time(5)
    stream.end(REVOKED)
    assert (kept.was_cut, kept.ended) == (True, None)
