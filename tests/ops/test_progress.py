from typing import Any

import pytest

from gateway.core.directory import User, buried
from gateway.core.reconcile import Progress, Tally
from gateway.net.sync import Page
from gateway.ops.progress import SHOWN, Report, counted


class Screen:
    """What a person sees, and a clock."""

    def __init__(self) -> None:
        self.text, self.seconds = "", 0.0

    def write(self, message: str, *, nl: bool = True) -> None:
        self.text += message + ("\n" if nl else "")

    def now(self) -> float:
        return self.seconds


def report(screen: Screen, *, terminal: bool = False, dry_run: bool = False) -> Report:
    made = Report(screen.write, terminal=terminal, dry_run=dry_run, now=screen.now)
    made.expect(1000)
    return made


def seen(count: int, stage: Any = "users", changed: Any = ()) -> Page:
    return Page(Progress(0, stage).counting(stage or "users", Tally(same=count)), changed)


def test_without_a_terminal_a_line_comes_now_and_then() -> None:
    screen = Screen()
    showing = report(screen)
    for count in range(0, 1000, 100):
        showing.page(seen(count))
        screen.seconds += 2
    showing.page(seen(7, "memberships"))
    showing.end_line()
    assert screen.text.splitlines() == [
        f"still at it: compared {count} of 1,000 users so far" for count in (300, 600, 900)
    ]


def test_other_stages_are_counted_without_an_end() -> None:
    screen = Screen()
    showing = report(screen)
    screen.seconds = 6
    showing.page(seen(1234, "memberships"))
    assert screen.text == "still at it: compared 0 of 1,000 users, 1,234 memberships so far\n"


def test_where_all_is_done_the_result_is_all_there_is_to_say() -> None:
    screen = Screen()
    showing = report(screen)
    screen.seconds = 60
    showing.page(seen(1000, None))
    assert screen.text == ""


def test_a_terminal_has_one_line_that_changes() -> None:
    screen = Screen()
    showing = report(screen, terminal=True)
    showing.page(seen(0))
    screen.seconds = 60
    showing.page(seen(250))
    screen.seconds = 60.05
    showing.page(seen(251))  # too soon
    screen.seconds = 61
    showing.page(seen(3, "organizations"))
    showing.end_line()
    showing.end_line()
    bar = "users [#######.......................]  25%  250 of 1,000  3:00 left"
    assert screen.text == f"\r{bar}\r{'organizations: 3'.ljust(len(bar))}\n"


def test_more_users_than_there_were() -> None:
    screen = Screen()
    showing = report(screen, terminal=True)
    screen.seconds = 10
    showing.page(seen(1500))
    assert "100%  1,500 of 1,000" in screen.text


def test_what_a_run_before_did_does_not_make_this_one_fast() -> None:
    screen = Screen()
    showing = report(screen, terminal=True)
    showing.page(seen(900))
    screen.seconds = 10
    showing.page(seen(910))
    assert "1:30 left" in screen.text


def test_a_dry_run_names_ids_and_fields_and_never_values() -> None:
    screen = Screen()
    showing = report(screen, dry_run=True)
    old, new = User("user_1", email="ada@example.com"), User("user_1", email="lovelace@example.com", banned=True)
    changed = [
        (old, new),
        (None, User("user_2")),
        (new, buried(new, at=1)),
        *((None, User(f"u{n}")) for n in range(SHOWN)),
    ]
    showing.page(seen(0, changed=changed))
    lines = screen.text.splitlines()
    assert lines[:3] == ["user_1: differs in email, banned", "user_2: missing", "user_1: gone"]
    assert lines[-1] == "…"
    assert len(lines) == SHOWN + 1
    assert "example.com" not in screen.text


@pytest.mark.parametrize(
    ("tally", "line"),
    [
        (Tally(added=12, mended=3, gone=1, same=9984), "added 12, mended 3, gone 1, same 9,984"),
        (Tally(newer=2, erased=1), "added 0, mended 0, gone 0, same 0, newer here 2, deleted here but not at Clerk 1"),
    ],
)
def test_counts(tally: Tally, line: str) -> None:
    progress = Progress(0).counting("users", tally)
    assert counted(progress, dry_run=False) == [f"users: {line}", line]
    assert counted(progress, dry_run=True)[-1] == f"nothing was written; it would be: {line}"
