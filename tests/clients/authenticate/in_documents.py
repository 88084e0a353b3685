"""Rows of the table: documents, which Clerk sends through its handshake (CLERK.md §§3.4, 3.6), live and development."""

from collections.abc import Iterator
from typing import Any

from tests.clients.authenticate.case import Case
from tests.clients.authenticate.setups import (
    DEV,
    DOCUMENT,
    LIVE,
    NOW,
    OTHER,
    Fields,
    aged,
    bearer,
    bent,
    cookies,
    session,
)
from tests.fakes.clerk import TEMPLATE

GOOD = session()
UAT = NOW - 60
OLD = aged(600)
EXPIRED = cookies(session=OLD, uat=NOW - 700)
NO_SESSION = cookies(uat=UAT)


def row(name: str, fields: Fields, *more: tuple[str, str], **rest: Any) -> Case:
    return Case(f"document-{name}", fields=(*DOCUMENT, *fields, *more), **rest)


def kind(name: str, *fields: tuple[str, str], **rest: Any) -> Case:
    """A request whose token has expired; what it is asked for is all that differs."""
    return Case(f"document-{name}", fields=(*EXPIRED, *fields), **rest)


def rows() -> Iterator[Case]:
    """Give every row."""
    for part in (states, kinds, locations, loops, referrers, development, proxied):
        yield from part()


def states() -> Iterator[Case]:
    """The state table of §3.4."""
    yield row("nothing", ())
    yield row("good", cookies(session=GOOD, uat=UAT))
    yield row("uat-missing", cookies(session=GOOD))
    yield row("uat-zero", cookies(session=GOOD, uat=0))
    yield row("both-out", cookies(uat=0))
    yield row("session-missing", NO_SESSION)
    yield row("session-nonsense", cookies(session="nonsense", uat=UAT))
    yield row("session-template", cookies(session=bent({"cat": TEMPLATE}), uat=UAT))
    yield row("session-of-a-machine", cookies(session=session(sub="mch_1"), uat=UAT))
    yield row("minted-before-uat", cookies(session=aged(30), uat=NOW))
    yield row("minted-before-uat-and-expired", cookies(session=OLD, uat=NOW))
    yield row("minted-before-uat-expired-and-refreshable", cookies(session=OLD, uat=NOW, refresh_s="rt_unknown"))
    yield row("minted-before-uat-and-forged", cookies(session=aged(30)[:-6] + "AAAAAA", uat=NOW))
    yield row("minted-before-uat-and-template", cookies(session=bent({"cat": TEMPLATE}, iat=NOW - 30), uat=NOW))
    yield row("expired", EXPIRED)
    yield row("expired-and-forged", cookies(session=OLD[:-6] + "AAAAAA", uat=NOW - 700))
    yield row("expired-of-another-party", cookies(session=aged(600, azp="https://evil.example"), uat=NOW - 700))
    yield row("nbf", cookies(session=session(nbf=NOW + 60), uat=UAT))
    yield row("iat", cookies(session=session(iat=NOW + 60), uat=UAT))
    yield row("azp-missing", cookies(session=session(azp=...), uat=UAT))
    yield row("kid-unknown", cookies(session=bent({"kid": "ins_x"}), uat=UAT))
    yield row("suffixed-expired", cookies(session_s=OLD, uat_s=NOW - 700))
    yield row("suffixed-session-missing", cookies(uat_s=UAT))
    yield row(
        "suffixed-expired-plain-of-another", cookies(session=session(OTHER), uat=UAT, session_s=OLD, uat_s=NOW - 700)
    )
    yield row("plain-newer-but-expired", cookies(session=OLD, uat=NOW - 700, session_s=aged(900), uat_s=NOW - 1000))
    yield row("header-expired", bearer(OLD))
    yield row("header-expired-beside-cookies", (*bearer(OLD), *cookies(session=GOOD, uat=UAT)))
    yield row("header-good-beside-bad-cookies", (*bearer(GOOD), *NO_SESSION))
    yield row("header-nbf", bearer(session(nbf=NOW + 60)))
    yield row("pending", cookies(session=session(sts="pending"), uat=UAT))


def kinds() -> Iterator[Case]:
    """Which requests are documents."""
    for dest in ("document", "iframe", "frame", "embed", "object", "image", "empty", "Document", "worker"):
        yield kind(f"dest-{dest}", ("Sec-Fetch-Dest", dest))
    for name, accept in {
        "html": "text/html", "html-first": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8", "html-later": "*/*,text/html",
        "html-with-q": "text/html;q=0.1", "capitals": "TEXT/HTML", "htmlx": "text/htmlx", "any": "*/*", "blank": " text/html",
    }.items():  # fmt: skip
        yield kind(f"accept-{name}", ("Accept", accept))
    yield kind("accept-html-but-dest-empty", ("Accept", "text/html"), ("Sec-Fetch-Dest", "empty"))
    yield kind("no-hint")
    for method in ("POST", "HEAD", "PUT"):
        same = (("Origin", "https://app.example.com"), ("Sec-Fetch-Site", "same-origin"))
        yield kind(f"method-{method}", ("Sec-Fetch-Dest", "document"), *same, method=method)
    yield kind("two-accepts", ("Accept", "application/json"), ("Accept", "text/html"))


def locations() -> Iterator[Case]:
    """What becomes of the address in the redirect."""
    for name, query in {
        "query": "a=1&b=two%20words&c=%C3%BC", "query-of-blanks": "a=one+two&b", "query-empty-parts": "&&a=&=b",
        "query-of-urls": "next=https%3A%2F%2Fother.example%2F%3Fx%3D1%26y%3D2", "query-twice": "a=1&a=2",
        "query-odd": "a='b'&c=~d*e", "query-browser": "__clerk_db_jwt=dvb_1&a=1", "query-legacy-browser": "__dev_session=x&a=1",
        "query-synced": "__clerk_synced=false&a=1", "query-percent": "a=%zz&b=%25", "query-marks": "a=b?c=d/e:f@g",
        "query-redirect": "__clerk_redirect_url=https%3A%2F%2Fother.example",
    }.items():  # fmt: skip
        yield row(f"to-{name}", NO_SESSION, query=query)
    yield row("to-token-of-the-header", bearer(OLD), query="a=1")
    yield row("to-token-of-the-cookie", EXPIRED, query="a=1")
    yield row("to-forwarded-fields", NO_SESSION, ("X-Forwarded-Port", "8443"), ("X-Forwarded-For", "203.0.113.7"))
    yield row("to-forwarded-host", NO_SESSION, ("X-Forwarded-Host", "evil.example"))
    yield row("to-forwarded-proto", NO_SESSION, ("X-Forwarded-Proto", "http"))


def loops() -> Iterator[Case]:
    """The guard against redirects without end."""
    for count in ("0", "1", "2", "3", "4", "9", "abc", "-1", "1.5", ""):
        shown = count or "empty"
        yield row(f"loop-{shown}", cookies(uat=UAT, count=count))
    yield Case("loop-3-of-a-fetch", fields=cookies(session=OLD, uat=NOW - 700, count=3))


def referrers() -> Iterator[Case]:
    """A good session that comes from another domain of the same application (§3.4 row 10)."""
    good = cookies(session=GOOD, uat=UAT)
    for name, value in {
        "own": "https://app.example.com/from", "other": "https://satellite.example.net/from", "no-url": "elsewhere",
        "other-scheme": "http://app.example.com/", "other-port": "https://app.example.com:8443/", "empty": "",
        "frontend-api": "https://clerk.example.com/v1/x", "accounts": "https://accounts.example.com/sign-in",
        "accounts-of-another": "https://accounts.evil.example/", "dev-accounts": "https://clean-mayfly-1.accounts.dev/",
        "sibling": "https://www.example.com/", "about": "about:blank", "android": "android-app://com.example/",
        "with-default-port": "https://app.example.com:443/", "in-capitals": "https://APP.example.com/",
        "frontend-api-other-port": "https://clerk.example.com:8443/", "accounts-over-http": "http://accounts.example.com/",
    }.items():  # fmt: skip
        yield row(f"from-{name}", good, ("Referer", value))
    yield row(
        "from-other-second-time", cookies(session=GOOD, uat=UAT, count=1), ("Referer", "https://satellite.example.net/")
    )
    yield row("from-other-with-header-token", bearer(GOOD), ("Referer", "https://satellite.example.net/"))
    elsewhere = ("Referer", "https://satellite.example.net/")
    yield Case("iframe-from-other", fields=(*good, ("Sec-Fetch-Dest", "iframe"), elsewhere))
    yield Case("fetch-from-other", fields=(*good, ("Sec-Fetch-Dest", "empty"), elsewhere))
    yield Case("html-from-other-without-dest", fields=(*good, ("Accept", "text/html"), elsewhere))
    yield row("from-other-and-pending", cookies(session=session(sts="pending"), uat=UAT), elsewhere)


def development() -> Iterator[Case]:
    """A development instance: the dev browser, in the query and in the cookie, and syncing between domains."""
    good, uat = session(DEV), UAT
    both = {"session": good, "uat": uat, "browser": "dvb_1"}
    for name, fields in {
        "nothing": (), "browser-missing": cookies(session=good, uat=uat), "good": cookies(**both),
        "browser-alone": cookies(browser="dvb_1"), "uat-missing": cookies(session=good, browser="dvb_1"),
        "session-missing": cookies(uat=uat, browser="dvb_1"), "suffixed": cookies(session_d=good, uat_d=uat, browser_d="dvb_2"),
        "suffixed-session-missing": cookies(uat_d=uat, browser_d="dvb_2"),
        "minted-before-uat": cookies(session=aged(30, DEV), uat=NOW, browser="dvb_1"),
        "expired": cookies(session=aged(600, DEV), uat=NOW - 700, browser="dvb_1"),
        "loop-3": cookies(count=3), "browser-missing-expired": cookies(session=aged(600, DEV), uat=NOW - 700),
    }.items():  # fmt: skip
        yield row(f"dev-{name}", fields, setup="dev")
    yield row("dev-browser-in-the-query", cookies(**both), setup="dev", query="__clerk_db_jwt=dvb_9&a=1")
    yield row("dev-browser-in-the-query-alone", (), setup="dev", query="__clerk_db_jwt=dvb_9")
    yield row("dev-browser-in-the-query-empty", cookies(**both), setup="dev", query="__clerk_db_jwt=")
    away = "__clerk_redirect_url=https%3A%2F%2Fsatellite.example.net%2Fpage%3F__clerk_synced%3Dfalse%26a%3D1"
    yield row("dev-syncing-a-satellite", cookies(**both), setup="dev", query=away, handshake=True)
    evil = "__clerk_redirect_url=https%3A%2F%2Fevil.example%2F"
    yield row("dev-syncing-elsewhere", cookies(**both), setup="dev", query=evil, handshake=True)
    yield row("dev-syncing-without-browser", (), setup="dev", query=away)
    yield row(
        "dev-syncing-to-no-url", cookies(**both), setup="dev", query="__clerk_redirect_url=nowhere", handshake=True
    )
    yield Case("fetch-dev-syncing", fields=cookies(**both), setup="dev", query=away, handshake=True)
    for name, value in {
        "accounts": "https://clean-mayfly-1.accounts.dev/", "legacy-accounts": "https://accounts.clean.mayfly-1.lcl.dev/",
        "other": "https://satellite.example.net/", "frontend-api": "https://clean-mayfly-1.clerk.accounts.dev/",
    }.items():  # fmt: skip
        yield row(f"dev-from-{name}", cookies(**both), ("Referer", value), setup="dev")
    yield row("dev-header-without-browser", bearer(session(DEV)), setup="dev")


def proxied() -> Iterator[Case]:
    """Where the Frontend API is reached through the application's own domain."""
    yield row("proxied-session-missing", NO_SESSION, setup="proxied")
    yield row("proxied-good", cookies(session=GOOD, uat=UAT), setup="proxied")
    yield row("proxied-expired-suffixed", cookies(session_s=OLD, uat_s=NOW - 700), setup="proxied")
    yield row(
        "proxied-from-accounts",
        cookies(session=GOOD, uat=UAT),
        ("Referer", "https://accounts.example.com/"),
        setup="proxied",
    )
    yield row(
        "proxied-iss-of-the-proxy",
        cookies(session=session(LIVE, iss="https://app.example.com/__clerk"), uat=UAT),
        setup="proxied",
    )
