from dataclasses import replace
from typing import Any

import pytest

from gateway.core.directory import Row, User, buried, claims_row, membership_row, user_row
from gateway.core.events import as_ms
from gateway.core.reconcile import (
    NOTHING,
    OVERLAP,
    RESUMED_MS,
    SETTLED_MS,
    TIED,
    Known,
    Place,
    Progress,
    Span,
    Step,
    Tally,
    differing,
    is_of,
    is_tie_forgotten,
    judge,
    lacking,
    may_be_gone,
    read_progress,
    settled_at,
    step,
    written,
)
from gateway.errors import ClerkApiDown
from tests.fakes.clerk_events import membership, user

ASKED = 1_000_000


def row(at: int = ASKED, **members: Any) -> Row:
    made = user_row(user(**members), at=at)
    assert made is not None
    return made


def known(at: int = 500, *, learnt: int = 0, **members: Any) -> Known:
    return Known(row(at, **members).version, learnt)


# --- one row ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("have", "verdict"),
    [
        pytest.param(None, "added", id="unknown"),
        pytest.param(known(), "same", id="heard-of-before"),
        pytest.param(known(ASKED * 2), "same", id="heard-of-later"),
        pytest.param(known(updated_at=1999, username="old"), "mended", id="older"),
        pytest.param(known(username="old"), "mended", id="of-the-same-time-but-heard-of-before"),
        pytest.param(known(updated_at=2001, username="new", learnt=ASKED), "newer", id="newer"),
        pytest.param(known(updated_at=2001, username="new", learnt=ASKED - SETTLED_MS), "newer", id="newer-just-before"),
        pytest.param(known(updated_at=2001, username="new", learnt=ASKED - SETTLED_MS - 1), "mended", id="newer-for-long"),
        pytest.param(known(ASKED + 1, username="new", learnt=ASKED), "newer", id="told-while-asked"),
        pytest.param(Known(buried(User("user_1"), at=3).version, 0), "erased", id="deleted"),
    ],
)  # fmt: skip
def test_a_row_is_judged(have: Known | None, verdict: str) -> None:
    found, judged = judge(have, row(), asked_at=ASKED)
    assert found == verdict
    assert replace(judged, version=b"") == replace(row(), version=b"")
    if verdict in ("added", "mended"):
        assert have is None or judged.version > have.version  # so that whoever folds by version takes it too


def test_what_is_right_about_the_past_is_found_right_again() -> None:
    _, mended = judge(known(updated_at=9000, username="wrong"), row(), asked_at=ASKED)
    assert judge(Known(mended.version, ASKED), row(ASKED * 2), asked_at=ASKED * 2)[0] == "same"
    later = row(updated_at=9001, username="later")
    assert later.version > mended.version


def recent(*, learnt: int) -> Known:
    return Known(row(updated_at=ASKED).version, learnt)


@pytest.mark.parametrize(
    ("have", "may"),
    [
        pytest.param(recent(learnt=ASKED - SETTLED_MS - 1), True, id="known-for-long"),
        pytest.param(recent(learnt=ASKED - SETTLED_MS), False, id="learnt-just-now"),
        pytest.param(known(learnt=ASKED), False, id="learnt-since-the-run-began"),
        pytest.param(known(learnt=ASKED - 1), True, id="learnt-late-of-somebody-old"),
        pytest.param(Known(buried(User("user_1"), at=3).version, 0), False, id="buried"),
    ],
)
def test_what_clerk_has_just_made_may_not_be_gone(have: Known, may: bool) -> None:
    """An answer may come from a copy that has not heard of it yet; who was there long ago is on every copy."""
    assert may_be_gone(have, asked_at=ASKED, started_at=ASKED) is may


def test_somebody_of_whom_only_a_token_tells_is_as_old_as_that() -> None:
    said = claims_row("user_1", {})
    assert said is not None
    assert settled_at(Known(said.version, ASKED)) == ASKED + SETTLED_MS


def test_differences_are_named() -> None:
    assert differing(row(username="other", updated_at=3), row()) == ("nickname", "updated_at")
    assert differing(row(5), row(6)) == ()
    assert "org_id" in differing(None, membership_row(membership(), at=0))  # type: ignore[arg-type]


# --- a list -----------------------------------------------------------------------------------------------------------


def page(*times: int, first: int = 0) -> list[dict[str, Any]]:
    return [{"id": f"u{number}", "created_at": time} for number, time in enumerate(times, first)]


def ids(told: Step) -> list[str]:
    return [each["id"] for each in told.fresh]


def test_by_time_the_next_page_begins_with_the_last_moment() -> None:
    told = step(Place(), page(10, 20, 30, 30), by_time=True, limit=4)
    assert ids(told) == ["u0", "u1", "u2", "u3"]
    assert told.span == Span(None, 30)
    assert told.next == Place(after=29, since=30, edge=("u2", "u3"), tied=("u2", "u3"), longest=4)
    again = step(told.next, page(30, 30, 40, first=2), by_time=True, limit=4)
    assert ids(again) == ["u4"]
    assert again.span == Span(30, 40)
    assert again.next == Place(after=39, since=40, edge=("u4",), tied=("u4",), longest=4)
    end = step(again.next, page(40, first=4), by_time=True, limit=4)
    assert end == Step((), Span(40, None), None)


def test_more_of_one_moment_than_a_page_takes() -> None:
    told = step(Place(), page(30, 30, 30, 30), by_time=True, limit=4)
    assert told.next is not None
    same = step(told.next, page(30, 30, 30, 30), by_time=True, limit=4)
    assert same.fresh == ()
    assert same.span == NOTHING
    assert same.next is not None
    assert (same.next.after, same.next.offset) == (29, 2)
    more = step(same.next, page(30, 30, 30, 50, first=2), by_time=True, limit=4)
    assert ids(more) == ["u4", "u5"]
    assert more.next == Place(after=49, since=50, edge=("u5",), tied=("u5",), longest=4)
    within = step(same.next, page(30, 30, 30, 30, first=2), by_time=True, limit=4)
    assert within.span == Span(30, 30)
    assert within.span.is_empty
    assert within.next is not None
    assert (within.next.after, within.next.offset) == (29, 4)
    # What was created then is known from page to page, so that nothing of it is taken for gone or new again.
    assert within.next.tied == ("u0", "u1", "u2", "u3", "u4", "u5")
    mixed = step(within.next, page(30, 30, 30, 30, first=4), by_time=True, limit=4)
    assert ids(mixed) == ["u6", "u7"]
    assert ids(step(within.next, [*page(30, 30), *page(30, 30, first=5)], by_time=True, limit=4)) == ["u6"]


def test_of_one_moment_only_so_many_are_remembered() -> None:
    many = page(*[30] * (TIED + 1))
    told = step(Place(), many, by_time=True, limit=TIED + 1)
    assert told.next is not None
    assert len(told.next.tied) == TIED
    assert is_tie_forgotten(many[-1], told.next)
    assert not is_tie_forgotten({"id": "u", "created_at": 31}, told.next)
    assert not is_tie_forgotten(many[-1], replace(told.next, tied=("u1",)))
    assert not is_tie_forgotten({"id": "u"}, replace(told.next, since=None))


def test_a_page_that_was_gone_back_to_is_not_read_twice() -> None:
    """Deletions moved the list: what is before the end of the page before was on it, or on one before that."""
    place = Place(offset=75, since=99, edge=("u98", "u99"), tied=("u99",), longest=4)
    told = step(replace(place, offset=3), page(*range(96, 100), first=96), by_time=False, limit=4)
    assert told.fresh == ()
    assert told.next == replace(place, offset=5, edge=("u96", "u97", "u98", "u99"), first="u96")
    on = step(replace(place, offset=3), page(97, 98, 99, 99, 100, first=97), by_time=False, limit=5)
    assert ids(on) == ["u100", "u101"]


@pytest.mark.parametrize(
    ("created", "span", "belongs"),
    [
        (5, Span(5, 9), True), (4, Span(5, 9), False), (9, Span(5, 9), False), (8, Span(5, 9), True),
        (4, Span(None, 9), True), (9, Span(5, None), True), (None, Span(5, 9), True), (4, Span(None, None), True),
    ],
)  # fmt: skip
def test_what_was_asked_for_is_of_this_page_or_another(created: int | None, span: Span, belongs: bool) -> None:
    assert is_of({"id": "u1", "created_at": created}, span) is belongs


def test_at_the_beginning_of_time() -> None:
    told = step(Place(), page(0, 0), by_time=True, limit=2)
    assert told.next is not None
    assert (told.next.after, told.next.offset) == (None, 1)


def test_counted_off_pages_overlap() -> None:
    whole = page(*range(100))
    told = step(Place(), whole, by_time=False, limit=100)
    assert told.next == Place(
        offset=100 - OVERLAP,
        since=99,
        edge=tuple(f"u{n}" for n in range(75, 100)),
        tied=("u99",),
        first="u0",
        longest=100,
    )
    again = step(told.next, page(*range(75, 130), first=75), by_time=False, limit=100)
    assert ids(again) == [f"u{n}" for n in range(100, 130)]
    assert again.span == Span(99, 129)
    assert again.next is not None
    end = step(again.next, page(*range(105, 130), first=105), by_time=False, limit=100)
    assert end == Step((), Span(129, None), None)


@pytest.mark.parametrize("rest", [page(200, 201, first=200), []], ids=["others", "none"])
def test_a_page_without_what_should_come_again_is_gone_back_from(rest: list[dict[str, Any]]) -> None:
    place = Place(offset=75, since=99, edge=("u98", "u99"), longest=100)
    told = step(place, rest, by_time=False, limit=100)
    assert told == Step((), NOTHING, replace(place, offset=25))
    assert told.next is not None
    assert step(told.next, rest, by_time=False, limit=100).next == replace(place, offset=0)
    assert step(
        replace(place, offset=0), page(100, 101), by_time=False, limit=100
    ).fresh  # from the beginning once more


def test_an_empty_list_speaks_for_everything() -> None:
    assert step(Place(), [], by_time=True, limit=500) == Step((), Span(None, None), None)


@pytest.mark.parametrize("size", [100, 10])
def test_pages_that_repeat_are_refused(size: int) -> None:
    """A server or cache that heeds no offset would be read for ever."""
    same = page(*range(size))
    told = step(Place(), same, by_time=False, limit=100)
    assert told.next is not None
    with pytest.raises(ClerkApiDown) as caught:
        step(told.next, same, by_time=False, limit=100)
    assert "repeat" in str(caught.value.detail)


def test_a_list_of_one_ends() -> None:
    told = step(Place(), page(7), by_time=False, limit=500)
    assert told.next == Place(since=7, edge=("u0",), tied=("u0",), longest=1)
    assert step(told.next, page(7), by_time=False, limit=500) == Step((), Span(7, None), None)


@pytest.mark.parametrize(
    ("place", "bad", "detail"),
    [
        (Place(), [{"id": "u1"}], "a list holds something without an id or without created_at"),
        (Place(), [{"id": "", "created_at": 1}], "a list holds something without an id or without created_at"),
        (Place(), [{"id": "u1", "created_at": True}], "a list holds something without an id or without created_at"),
        (Place(), page(2, 1), "a list does not come by created_at"),
        (Place(after=9), page(8), "created_at_after was not heeded"),
    ],
)
def test_nonsense_is_not_read(place: Place, bad: list[dict[str, Any]], detail: str) -> None:
    with pytest.raises(ClerkApiDown) as refused:
        step(place, bad, by_time=True, limit=500)
    assert refused.value.detail == detail
    assert as_ms(True) is None


# --- a run ------------------------------------------------------------------------------------------------------------


def test_stages_follow_each_other() -> None:
    progress = Progress(5)
    assert progress.at("users", Place(offset=3)).place == Place(offset=3)
    second = progress.at("users", None)
    assert (second.stage, second.place) == ("organizations", Place())
    assert second.at("organizations", None).at("memberships", None).stage is None


def test_counts_add_up() -> None:
    progress = Progress(5).counting("users", Tally(added=1, gone=2)).counting("users", Tally(added=3, same=1, erased=1))
    progress = progress.counting("memberships", Tally(mended=1, newer=1))
    assert progress.of("users") == Tally(added=4, gone=2, same=1, erased=1)
    assert progress.of("organizations") == Tally()
    assert progress.total == Tally(added=4, gone=2, same=1, erased=1, mended=1, newer=1)
    assert progress.total.seen == 8


@pytest.mark.parametrize(
    ("seen", "counts", "expected"),
    [
        pytest.param(3, [3, 3], 0, id="all"),
        pytest.param(0, [], 0, id="never-counted"),
        pytest.param(3, [5, 5], 2, id="short"),
        pytest.param(3, [3, 5], 0, id="signed-up-meanwhile"),
        pytest.param(3, [5, 3], 0, id="deleted-meanwhile"),
        pytest.param(5, [3, 3], 0, id="deleted-after-they-were-seen"),
        pytest.param(3, [9, 8, 4], 1, id="counted-again"),
        pytest.param(5000, [5005, 5006], 0, id="one-in-a-thousand"),
        pytest.param(5000, [5006, 5006], 6, id="more-than-that"),
    ],
)
def test_a_list_is_compared_with_what_clerk_counts(seen: int, counts: list[int], expected: int) -> None:
    assert lacking(seen, counts) == expected


PROGRESS = replace(
    Progress(1000, "organizations", Place(None, 3, 5, ("a", "b"), ("b",), "a", 7), missing=3),
    tallies={"users": Tally(added=4)},
)  # fmt: skip


def test_what_was_written_is_read() -> None:
    assert read_progress(written(PROGRESS), now=2000) == PROGRESS


@pytest.mark.parametrize(
    ("kept", "now"),
    [
        pytest.param(None, 2000, id="nothing"),
        pytest.param({}, 2000, id="empty"),
        pytest.param(written(replace(PROGRESS, stage=None)), 2000, id="done"),
        pytest.param(written(PROGRESS) | {"stage": "sessions"}, 2000, id="other-stage"),
        pytest.param(written(PROGRESS), 1000 + RESUMED_MS, id="too-old"),
        pytest.param(written(PROGRESS), 999, id="from-the-future"),
        pytest.param(written(PROGRESS) | {"place": {"edge": [], "cursor": 1}}, 2000, id="other-place"),
        pytest.param(written(PROGRESS) | {"place": 7}, 2000, id="no-place"),
        pytest.param(written(PROGRESS) | {"started_at": "x"}, 2000, id="no-time"),
    ],
)
def test_what_cannot_be_gone_on_with_is_begun_anew(kept: dict[str, Any] | None, now: int) -> None:
    assert read_progress(kept, now=now) is None
