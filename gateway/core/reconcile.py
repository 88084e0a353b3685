"""How Clerk's own lists and the directory are compared: page by page, while webhooks come in and users come and go.

A list is read by creation, oldest first. Each page speaks for a span of creation times: what the directory has of that
span and the page has not may be gone, and is asked for by its id before it counts as gone. Nothing has to be kept of
earlier pages, so that a million users take no memory, and a run goes on where another ended.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Final, Literal, NamedTuple

from gateway.core.directory import Row, has_content, is_buried, outranking, updated_at
from gateway.core.events import as_ms, as_name
from gateway.errors import ClerkApiDown

Stage = Literal["users", "organizations", "memberships"]
STAGES: Final[tuple[Stage, ...]] = ("users", "organizations", "memberships")
# What we learnt so shortly before we asked, an answer need not know: it may come from a copy that lags behind.
SETTLED_MS: Final = 10_000
OVERLAP: Final = 25  # entries of a page that the next one repeats, where pages are counted off and deletions move them
TIED: Final = 5_000  # of one moment that are remembered while it is read
ALLOWED: Final = 1_000  # one in so many may be missing at the end: both counts and lists may come from copies
RESUMED_MS: Final = 86_400_000  # a run that was broken off goes on for so long after it began


@dataclass(frozen=True, slots=True)
class SyncPolicy:
    """When the running gateway reconciles by itself."""

    every_h: float = 0.0  # 0: never


# --- one row ----------------------------------------------------------------------------------------------------------


class Known(NamedTuple):
    """What the directory has of a row: its version, and when that was learnt (ms)."""

    version: bytes
    changed_at: int


Verdict = Literal["added", "mended", "same", "newer", "erased"]


def judge(known: Known | None, row: Row, *, asked_at: int) -> tuple[Verdict, Row]:
    """Compare a row of Clerk's, asked for at `asked_at` (ms), with what is known; give the row to store, too.

    Only `added` and `mended` are to be stored. `newer`: a webhook has told more while the answer was under way.
    `erased`: the directory knows it as deleted. That stands: Clerk gives no id twice, and who was erased stays erased.
    """
    if known is None:
        return "added", row
    if is_buried(known.version):
        return "erased", row
    if has_content(row, known.version):
        return "same", row
    if row.version > known.version:
        return "mended", row
    if known.changed_at >= asked_at - SETTLED_MS:
        return "newer", row
    # Known for long, and Clerk says otherwise: whatever made it (a clock, a hand), Clerk is right about its own users.
    return "mended", outranking(row, known.version)


def settled_at(known: Known) -> int:
    """Say from when (ms) on an answer without this row means that it is gone: every copy has heard of it then."""
    said_at = updated_at(known.version)
    return (known.changed_at if said_at == 0 else min(known.changed_at, said_at)) + SETTLED_MS


def may_be_gone(known: Known, *, asked_at: int, started_at: int) -> bool:
    """Say whether a row that Clerk did not have at `asked_at` (ms) is gone: not what was learnt since the run began."""
    return not is_buried(known.version) and known.changed_at < started_at and settled_at(known) < asked_at


def differing(known: Row | None, row: Row) -> tuple[str, ...]:
    """Name the fields in which two rows differ."""
    names = [each.name for each in fields(row) if each.name != "version"]
    return tuple(name for name in names if known is None or getattr(known, name) != getattr(row, name))


# --- a list, page by page ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Place:
    """How far a list has been read."""

    after: int | None = None  # ask for what was created after this (ms), where the list can be asked so
    offset: int = 0
    since: int | None = None  # the next page speaks for what was created from here on
    edge: tuple[str, ...] = ()  # ids at the end of the page before, which come again
    tied: tuple[str, ...] = ()  # ids created at `since` that were read so far, `TIED` of them at most
    first: str = ""  # id of the page before, which is behind us
    longest: int = 0  # page so far: Clerk may give fewer than it is asked for, and the last page is a shorter one


class Span(NamedTuple):
    """What was created from `since` to before `until` (ms); None: from ever, for ever."""

    since: int | None
    until: int | None

    @property
    def is_empty(self) -> bool:
        """Whether nothing can be in it."""
        return self.since is not None and self.since == self.until


class Step(NamedTuple):
    """What a page says."""

    fresh: tuple[Mapping[str, Any], ...]  # what was on no page before
    span: Span  # what was created then and was on no page may be gone
    next: Place | None  # where the next page is; None: there is none


NOTHING: Final = Span(0, 0)


def step(place: Place, page: Sequence[Mapping[str, Any]], *, by_time: bool, limit: int) -> Step:
    """Say what a page is worth, and where to go on; `by_time`: whether the list can be asked by creation time.

    `limit` is how many were asked for, two at least.

    Raises:
        ClerkApiDown: the page is not what was asked for.
    """
    times = _times(place, page)
    if place.offset and len(page) > 1 and page[0]["id"] == place.first:
        # Whoever heeds no offset (a cache, a proxy) would be read for ever.
        raise ClerkApiDown(detail="a list does not go on: its pages repeat")
    overlap, behind = set(place.edge), {*place.edge, *place.tied}
    # Lists come by creation, so what is from before `since` was on an earlier page.
    fresh = tuple(each for each in page if each["id"] not in behind and not _is_before(each, place.since))
    if place.offset and overlap.isdisjoint(each["id"] for each in page):
        # Nothing of what should have come again: more was deleted before this page than it overlaps with.
        back = replace(place, offset=max(0, place.offset - max(1, limit // 2)), first="")
        return Step((), NOTHING, back)
    longest = max(place.longest, len(page))
    on = len(page) - min(OVERLAP, (len(page) + 1) // 2)
    if fresh:
        span = Span(place.since, times[-1])
        return Step(fresh, span, _behind(place, page, on=on, longest=longest, by_time=by_time))
    if on == 0 or len(page) < longest:
        return Step((), Span(place.since, None), None)
    # All of one moment, and as many as a page takes: more of that moment may follow.
    return Step((), NOTHING, _further(place, page, on=on, longest=longest))


def is_of(each: Mapping[str, Any], span: Span) -> bool:
    """Say whether an entry that was asked for by its id is of a page's span.

    Others have a page of their own, behind or to come: whoever is known from a token alone, without a date, say.
    """
    return not _is_before(each, span.since) and (span.until is None or not _is_from(each, span.until))


def is_tie_forgotten(each: Mapping[str, Any], place: Place) -> bool:
    """Say whether an entry may have been on a page although it is not remembered."""
    return len(place.tied) >= TIED and place.since is not None and each.get("created_at") == place.since


def _is_before(each: Mapping[str, Any], time: int | None) -> bool:
    created = as_ms(each.get("created_at"))
    return time is not None and created is not None and created < time


def _is_from(each: Mapping[str, Any], time: int) -> bool:
    created = as_ms(each.get("created_at"))
    return created is not None and created >= time


def _behind(place: Place, page: Sequence[Mapping[str, Any]], *, on: int, longest: int, by_time: bool) -> Place:
    last = page[-1]["created_at"]
    tied = _tied(place, page)
    if by_time and last - 1 > (-1 if place.after is None else place.after):
        # Those of the very last moment come again: more of that moment may be on the next page.
        edge = tuple(each["id"] for each in page if each["created_at"] == last)
        return Place(after=last - 1, since=last, edge=edge, tied=tied, longest=longest)
    return replace(_further(place, page, on=on, longest=longest), since=last, tied=tied)


def _further(place: Place, page: Sequence[Mapping[str, Any]], *, on: int, longest: int) -> Place:
    edge = tuple(each["id"] for each in page[-OVERLAP:])
    first = page[0]["id"] if on else ""
    return replace(place, offset=place.offset + on, edge=edge, first=first, longest=longest)


def _tied(place: Place, page: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    last = page[-1]["created_at"]
    before = place.tied if last == place.since else ()
    return tuple(dict.fromkeys((*before, *(each["id"] for each in page if each["created_at"] == last))))[:TIED]


def _times(place: Place, page: Sequence[Mapping[str, Any]]) -> list[int]:
    times = [as_ms(each.get("created_at")) for each in page]
    known = [time for time in times if time is not None]
    if len(known) != len(times) or any(as_name(each.get("id")) is None for each in page):
        raise ClerkApiDown(detail="a list holds something without an id or without created_at")
    if known != sorted(known):
        raise ClerkApiDown(detail="a list does not come by created_at")
    if known and place.after is not None and known[0] < place.after:
        raise ClerkApiDown(detail="created_at_after was not heeded")
    return known


# --- a run ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tally:
    """How many rows of a kind were found how."""

    added: int = 0
    mended: int = 0
    gone: int = 0
    same: int = 0
    newer: int = 0
    erased: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        mine, others = asdict(self), asdict(other)
        return Tally(**{name: mine[name] + others[name] for name in mine})

    @property
    def seen(self) -> int:
        """How many of Clerk's were looked at."""
        return self.added + self.mended + self.same + self.newer + self.erased


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run has come; all of it in the store after each page, so that another process can go on."""

    started_at: int  # ms
    stage: Stage | None = "users"  # None: done
    place: Place = Place()
    tallies: Mapping[Stage, Tally] = field(default_factory=dict)
    missing: int = 0  # users that Clerk counts and does not list

    def of(self, stage: Stage) -> Tally:
        """Give a stage's counts."""
        return self.tallies.get(stage, Tally())

    def counting(self, stage: Stage, tally: Tally) -> "Progress":
        """Add to a stage's counts."""
        return replace(self, tallies={**self.tallies, stage: self.of(stage) + tally})

    def at(self, stage: Stage, place: Place | None) -> "Progress":
        """Go to a place in a stage, or behind its end."""
        if place is not None:
            return replace(self, stage=stage, place=place)
        behind = STAGES[STAGES.index(stage) + 1 :]
        return replace(self, stage=behind[0] if behind else None, place=Place())

    @property
    def total(self) -> Tally:
        """The counts of all stages together."""
        return sum(self.tallies.values(), Tally())


def lacking(seen: int, counts: Sequence[int]) -> int:
    """Say how many users a list lacks that has come to its end, by what Clerk counted before and after; 0: it is whole.

    Who signs up or is deleted meanwhile makes one of the two counts larger: the smaller one is of those who were there
    all the time, and hardly more.
    """
    less = min(counts, default=0) - seen
    return less if less > seen // ALLOWED else 0


def written(progress: Progress) -> dict[str, Any]:
    """Write how far a run has come, as JSON takes it."""
    return asdict(progress)


def read_progress(kept: Mapping[str, Any] | None, *, now: int) -> Progress | None:
    """Read what `written` wrote; None where there is nothing to go on with: done, too old, or of another version."""
    try:
        progress = _read(kept or {})
    except (LookupError, TypeError, ValueError):
        return None
    resumable = progress.stage in STAGES and now - RESUMED_MS < progress.started_at <= now
    return progress if resumable else None


def _read(kept: Mapping[str, Any]) -> Progress:
    place = dict(kept["place"])
    tallies: dict[Stage, Tally] = {
        stage: Tally(**kept["tallies"][stage]) for stage in STAGES if stage in kept["tallies"]
    }
    return Progress(
        started_at=int(kept["started_at"]),
        stage=kept["stage"],
        place=Place(**place | {"edge": tuple(place["edge"]), "tied": tuple(place["tied"])}),
        tallies=tallies,
        missing=int(kept["missing"]),
    )
