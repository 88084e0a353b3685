"""Rows of the table: a satellite domain, whose users sign in elsewhere (CLERK.md §3.4 row 1)."""

from collections.abc import Iterator
from typing import Any

from tests.clients.authenticate.case import Case
from tests.clients.authenticate.setups import (
    AWAY,
    DEV,
    DOCUMENT,
    FETCH,
    LIVE,
    NOW,
    Fields,
    aged,
    bearer,
    cookies,
    session,
)

UAT = NOW - 60


def row(name: str, fields: Fields, setup: str = "satellite", **rest: Any) -> Case:
    return Case(f"{setup.replace('_', '-')}-{name}", setup=setup, fields=fields, **rest)


def rows() -> Iterator[Case]:
    """Give every row, for both kinds of instance."""
    yield from satellite("satellite", session(AWAY), aged(600, AWAY), {})
    yield from satellite("dev_satellite", session(DEV), aged(600, DEV), {"browser": "dvb_1"})
    yield row("token-of-the-primary", (*DOCUMENT, *cookies(session=session(LIVE), uat=UAT)))
    yield row("token-of-the-primary-fetched", (*FETCH, *cookies(session=session(LIVE), uat=UAT)))
    yield row("suffixed-of-the-primary", (*FETCH, *cookies(session_s=session(LIVE), uat_s=UAT)))
    yield row("browser-missing", (*DOCUMENT, *cookies(session=session(DEV), uat=UAT)), "dev_satellite")
    yield row(
        "from-elsewhere", (*DOCUMENT, *cookies(session=session(AWAY), uat=UAT), ("Referer", "https://app.example.com/"))
    )
    yield row("redirect-url", (*DOCUMENT, *cookies(session=session(DEV), uat=UAT, browser="dvb_1")), "dev_satellite",
              query="__clerk_redirect_url=https%3A%2F%2Fapp.example.com")  # fmt: skip


def satellite(setup: str, good: str, old: str, more: dict[str, str]) -> Iterator[Case]:
    """Give the rows both kinds have."""
    signed_in, out = cookies(session=good, uat=UAT, **more), cookies(uat=0, **more)
    for name, query in {"": "", "-synced": "__clerk_synced=true", "-needs-sync": "__clerk_synced=false",
                        "-synced-oddly": "__clerk_synced=maybe", "-synced-twice": "__clerk_synced=true&__clerk_synced=false"}.items():  # fmt: skip
        yield row(f"nothing{name}", DOCUMENT, setup, query=query)
        yield row(f"good{name}", (*DOCUMENT, *signed_in), setup, query=query)
        yield row(f"out{name}", (*DOCUMENT, *out), setup, query=query)
        yield row(f"fetched{name}", (*FETCH, *signed_in), setup, query=query)
        yield row(f"fetched-nothing{name}", FETCH, setup, query=query)
    yield row("session-missing", (*DOCUMENT, *cookies(uat=UAT, **more)), setup)
    yield row("expired", (*DOCUMENT, *cookies(session=old, uat=NOW - 700, **more)), setup)
    yield row("iframe", (("Sec-Fetch-Dest", "iframe"),), setup, query="__clerk_synced=false")
    yield row("html-without-dest", (("Accept", "text/html"),), setup, query="__clerk_synced=false")
    yield row("posted", DOCUMENT, setup, query="__clerk_synced=false", method="POST")
    yield row("loop-3", (*DOCUMENT, *cookies(count=3)), setup, query="__clerk_synced=false")
    yield row("header", (*DOCUMENT, *bearer(good)), setup, query="__clerk_synced=false")
