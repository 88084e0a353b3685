"""Rows of the table: Clerk's cookies on requests that cannot be redirected (CLERK.md §§3.1–3.4)."""

from collections.abc import Iterator
from typing import Any

from tests.clients.authenticate.case import Case
from tests.clients.authenticate.setups import (
    APP,
    DEV,
    DEV_SFX,
    FETCH,
    LIVE,
    NOW,
    OTHER,
    PK_DEV,
    SFX,
    Fields,
    aged,
    bent,
    cookies,
    session,
)  # fmt: skip
from tests.fakes.clerk import M2M, SILENT, TEMPLATE, b64url

GOOD = session()
UAT = NOW - 60
OLD = aged(600)  # expired long ago
SAME: Fields = (("Origin", APP), ("Sec-Fetch-Site", "same-origin"))


def row(name: str, fields: Fields, *more: tuple[str, str], **rest: Any) -> Case:
    return Case(f"cookie-{name}", fields=(*fields, *more), **rest)


def written(name: str, value: str, *more: tuple[str, str], **rest: Any) -> Case:
    """The Cookie field as it stands."""
    return row(name, (("Cookie", value),), *more, **rest)


def rows() -> Iterator[Case]:
    """Give every row."""
    for part in (states, tokens, times, methods, suffixes, spellings, numbers, development):
        yield from part()


def states() -> Iterator[Case]:
    """The state table of §3.4, as a fetch sees it."""
    yield row("none", ())
    yield row("none-fetch", FETCH)
    yield written("others-only", "theme=dark; __Host-x=1")
    yield row("good", cookies(session=GOOD, uat=UAT))
    yield row("good-fetch", cookies(session=GOOD, uat=UAT), *FETCH)
    yield row("uat-missing", cookies(session=GOOD))
    yield row("uat-zero", cookies(session=GOOD, uat=0))
    yield row("session-missing", cookies(uat=UAT))
    yield row("session-empty", cookies(session="", uat=UAT))
    yield row("both-zero", cookies(session="", uat=0))
    yield row("uat-zero-alone", cookies(uat=0))
    yield row("minted-before-uat", cookies(session=aged(30), uat=NOW))
    yield row("minted-at-uat", cookies(session=aged(30), uat=NOW - 30))
    yield row("minted-before-uat-and-expired", cookies(session=OLD, uat=NOW - 60), handshake=True)
    yield row("minted-before-uat-and-forged", cookies(session=aged(30)[:-6] + "AAAAAA", uat=NOW), handshake=True)
    yield row("refresh-alone", cookies(refresh_s="rt_unknown"))


def tokens() -> Iterator[Case]:
    """What is wrong with the token itself."""
    head, body, signature = GOOD.split(".")
    for name, token in {
        "a-word": "undefined", "two-parts": f"{head}.{body}", "payload-not-json": f"{head}.{b64url(b'x')}.{signature}",
        "forged": GOOD[:-6] + "AAAAAA", "cat-template": bent({"cat": TEMPLATE}), "cat-machine": bent({"cat": M2M}),
        "cat-silent": bent({"cat": SILENT}), "cat-missing": bent(None, "cat"), "cat-unknown": bent({"cat": "x"}),
        "of-a-machine": session(sub="mch_1"), "typ-access-token": bent({"typ": "at+jwt"}), "typ-other": bent({"typ": "x"}),
        "alg-none": bent({"alg": "none"}), "kid-unknown": bent({"kid": "ins_unknown"}), "sub-missing": session(sub=...),
        "azp-missing": session(azp=...), "azp-other": session(azp="https://evil.example"), "pending": session(sts="pending"),
        "iat-missing": session(iat=...), "exp-missing": session(exp=...), "exp-text": session(exp="9999999999"),
    }.items():  # fmt: skip
        yield row(name, cookies(session=token, uat=UAT))
    yield row("iss-other", cookies(session=session(iss=OTHER.issuer), uat=UAT))
    yield row("iss-missing", cookies(session=session(iss=...), uat=UAT))
    yield row("of-another-instance", cookies(session=session(OTHER), uat=UAT))
    yield row("pending-allowed", cookies(session=session(sts="pending"), uat=UAT), accepts="pending")
    yield row("azp-missing-loose", cookies(session=session(azp=...), uat=UAT), setup="loose")
    yield row("keys-cannot-be-had", cookies(session=GOOD, uat=UAT), setup="keyless")
    yield row("expired-and-keys-cannot-be-had", cookies(session=OLD, uat=NOW - 700), setup="keyless")


def times() -> Iterator[Case]:
    """Verified, but not now; what it is called says whether it could be refreshed."""
    before = NOW - 700
    yield row("expired", cookies(session=OLD, uat=before))
    yield row("expired-fetch", cookies(session=OLD, uat=before), *FETCH)
    yield row("expired-with-plain-refresh", cookies(session=OLD, uat=before, refresh="rt_unknown"))
    yield row("nbf", cookies(session=session(nbf=NOW + 60), uat=UAT))
    yield row("iat", cookies(session=session(iat=NOW + 60), uat=UAT))
    yield row("nbf-with-refresh", cookies(session=session(nbf=NOW + 60), uat=UAT, refresh_s="rt_unknown"))
    yield row("expired-and-azp-other", cookies(session=aged(600, azp="https://evil.example"), uat=before))
    yield row("expired-by-5s", cookies(session=session(exp=NOW - 5), uat=UAT))
    yield row("expired-by-4s", cookies(session=session(exp=NOW - 4), uat=UAT))


def methods() -> Iterator[Case]:
    """Other methods are never refreshed nor redirected; the gateway asks them where they come from (CONTRACT §4)."""
    before = NOW - 700
    for method in ("POST", "PUT", "DELETE", "HEAD", "OPTIONS"):
        yield row(f"{method}-good", cookies(session=GOOD, uat=UAT), *SAME, method=method)
        yield row(f"{method}-expired", cookies(session=OLD, uat=before, refresh_s="rt_1"), *SAME, method=method)
    yield row("POST-document", cookies(session=GOOD), *SAME, ("Sec-Fetch-Dest", "document"), method="POST")
    yield row("POST-from-elsewhere", cookies(session=GOOD, uat=UAT), ("Origin", "https://evil.example"), method="POST")
    yield row("POST-from-nowhere", cookies(session=GOOD, uat=UAT), method="POST")


def suffixes() -> Iterator[Case]:
    """The eight rules of §3.3; the users say which cookie it was."""
    own, plain = session(sub="user_suffixed"), session(sub="user_plain")
    newer, older = aged(-2, sub="user_plain"), aged(20, sub="user_suffixed")
    theirs = session(OTHER, sub="user_other")
    yield row("suffixed", cookies(session_s=own, uat_s=UAT))
    yield row("both", cookies(session=plain, uat=UAT, session_s=own, uat_s=UAT))
    yield row("rule-1-plain-without-iss", cookies(session=session(iss=...), uat=UAT, session_s=own, uat_s=UAT))
    yield row("rule-1-plain-undecodable", cookies(session="nonsense", uat=UAT, session_s=own, uat_s=UAT))
    yield row("rule-2-plain-of-another", cookies(session=theirs, uat=UAT, session_s=own, uat_s=UAT))
    yield row("rule-2-plain-of-another-alone", cookies(session=theirs, uat=UAT))
    yield row("rule-2-plain-of-another-and-out", cookies(session=theirs, uat=UAT, uat_s=0))
    yield row("rule-2-iss-a-number", cookies(session=session(iss=7), uat=UAT, session_s=own, uat_s=UAT))
    yield row(
        "rule-2-iss-http", cookies(session=session(iss="http://clerk.example.com"), uat=UAT, session_s=own, uat_s=UAT)
    )
    yield row(
        "rule-2-iss-in-capitals",
        cookies(session=session(iss="HTTPS://clerk.example.com"), uat=UAT, session_s=own, uat_s=UAT),
    )
    yield row("rule-3-plain-alone", cookies(session=plain, uat=UAT))
    yield row("rule-4-plain-newer", cookies(session=newer, uat=UAT, session_s=older, uat_s=UAT))
    yield row("rule-4-plain-older", cookies(session=aged(30, sub="user_plain"), uat=UAT, session_s=own, uat_s=UAT))
    yield row("rule-4-uats-missing", cookies(session=newer, session_s=older))
    yield row("rule-4-suffixed-undecodable", cookies(session=plain, uat=UAT, session_s="nonsense", uat_s=UAT))
    yield row("rule-5-suffixed-out", cookies(session=plain, uat=UAT, session_s=own, uat_s=0))
    yield row("rule-5-suffixed-out-plain-missing", cookies(uat_s=0, session_s=own))
    yield row("rule-5-both-out", cookies(session=plain, uat=0, session_s=own, uat_s=0))
    yield row("rule-6-is-for-development", cookies(uat=0, session_s=aged(600, sub="user_suffixed"), uat_s=NOW - 700))
    yield row("rule-7-suffixed-uat-missing", cookies(session=plain, uat=UAT, session_s=own))
    yield row("rule-7-suffixed-session-alone", cookies(session_s=own))
    yield row("rule-8-plain-out", cookies(session="", uat=0, session_s=own, uat_s=UAT))
    yield row("suffixed-uat-alone", cookies(uat_s=UAT))
    yield row("suffix-of-another", (("Cookie", f"__session_AAAAAAAA={own}; __client_uat_AAAAAAAA={UAT}"),))
    yield row("two-applications", (("Cookie", f"__session_AAAAAAAA={theirs}; __client_uat_AAAAAAAA={UAT}; "
              f"__session={theirs}; __client_uat={UAT}; __session_{SFX}={own}; __client_uat_{SFX}={UAT}"),))  # fmt: skip
    yield row(
        "suffix-in-another-case",
        (("Cookie", f"__session_{SFX.swapcase()}={own}; __client_uat_{SFX.swapcase()}={UAT}"),),
    )
    yield row("name-that-only-begins-so", (("Cookie", f"__session_hijack={GOOD}; __client_uat={UAT}"),))


def spellings() -> Iterator[Case]:
    """How a Cookie field may be written."""
    uat = f"__client_uat={UAT}"
    other = session(sub="user_2")
    encoded = "".join(f"%{ord(each):02X}" for each in GOOD[:20]) + GOOD[20:]
    yield written("no-blank", f"__session={GOOD};{uat}")
    yield written("blanks-around", f"  __session = {GOOD} ;  {uat} ")
    yield written("tabs-around", f"__session\t=\t{GOOD}\t;\t{uat}")
    yield written("quoted", f'__session="{GOOD}"; {uat}')
    yield written("percent-encoded", f"__session={encoded}; {uat}")
    yield written("percent-broken", f"__session=%E0%A4%A; {uat}")
    yield written("percent-encoded-separator", f"a=1%3B __session={GOOD}%3B; {uat}")
    yield written("separator-in-a-value-is-no-cookie", f"a=b%3B__session={GOOD}; {uat}")
    yield written("name-percent-encoded", f"%5F_session={GOOD}; {uat}")
    yield written("first-wins", f"__session={GOOD}; __session={other}; {uat}")
    yield written("first-wins-even-empty", f"__session=; __session={other}; {uat}")
    yield written(
        "first-wins-of-ten", "; ".join(f"__session={session(sub=f'user_{n}')}" for n in range(10)) + f"; {uat}"
    )
    yield written("first-uat-wins", f"__session={GOOD}; {uat}; __client_uat=0")
    yield written("first-uat-wins-at-zero", f"__session={GOOD}; __client_uat=0; {uat}")
    yield written("name-in-capitals", f"__SESSION={GOOD}; {uat}")
    yield written("comma-between", f"__session={GOOD}, {uat}")
    yield written("attributes", f"$Version=1; __session={GOOD}; $Path=/; {uat}")
    yield written("two-fields", f"__session={GOOD}", ("Cookie", uat))
    yield written("no-name", f"={GOOD}; __session={GOOD}; {uat}")
    yield written("no-value", f"__session; {uat}")
    yield written("equals-behind", f"__session={GOOD}=; {uat}")


def numbers() -> Iterator[Case]:
    """`__client_uat` is read as parseInt reads it."""
    for name, value in {
        "text": "abc", "negative": "-1", "signed": f"+{UAT}", "fraction": f"{UAT}.9", "followed": f"{UAT}abc", "nan": "NaN",
        "hexadecimal": "0x10", "exponent": "1e3", "blank-first": f"%20{UAT}", "zeros-first": f"000{UAT}", "null": "null",
        "infinite": "Infinity", "huge": "9" * 30, "in-the-future": str(NOW + 60), "quoted": f'"{UAT}"', "true": "true",
    }.items():  # fmt: skip
        yield row(f"uat-{name}", cookies(session=GOOD, uat=value))


def development() -> Iterator[Case]:
    """A development instance takes no cookies without `__clerk_db_jwt`."""
    good, old = session(DEV), aged(600, DEV)
    assert PK_DEV.startswith("pk_test_")
    for name, fields in {
        "browser-missing": cookies(session=good, uat=UAT),
        "browser-empty": cookies(session=good, uat=UAT, browser=""),
        "browser": cookies(session=good, uat=UAT, browser="dvb_1"),
        "browser-suffixed-only": cookies(session=good, uat=UAT, browser_d="dvb_1"),
        "suffixed": cookies(session_d=good, uat_d=UAT, browser_d="dvb_1"),
        "suffixed-browser-plain-only": cookies(session_d=good, uat_d=UAT, browser="dvb_1"),
        "nothing": (),
        "browser-alone": cookies(browser="dvb_1"),
        "uat-missing": cookies(session=good, browser="dvb_1"),
        "session-missing": cookies(uat=UAT, browser="dvb_1"),
        "minted-before-uat": cookies(session=aged(30, DEV), uat=NOW, browser="dvb_1"),
        "expired": cookies(session=old, uat=NOW - 700, browser="dvb_1"),
        "rule-6-suffixed-expired": cookies(session_d=old, uat_d=NOW - 700, browser_d="dvb_1", uat=0, browser="dvb_2"),
        "rule-6-expired-within-skew": cookies(
            session_d=session(DEV, exp=NOW - 2), uat_d=UAT, browser_d="dvb_1", uat=0, browser="dvb_2"
        ),
        "rule-6-not-expired": cookies(session_d=good, uat_d=UAT, browser_d="dvb_1", uat=0, browser="dvb_2"),
        "of-the-live-instance": cookies(session=session(LIVE), uat=UAT, browser="dvb_1"),
    }.items():
        yield row(f"dev-{name}", fields, setup="dev")
    yield row("dev-browser-in-the-query", cookies(session=good, uat=UAT), setup="dev", query="__clerk_db_jwt=dvb_1")
    yield Case("header-dev-browser-missing", fields=(("Authorization", f"Bearer {good}"),), setup="dev")
    yield row(
        "dev-suffix-of-its-own",
        (("Cookie", f"__session_{DEV_SFX}={good}; __clerk_db_jwt_{DEV_SFX}=dvb_1"),),
        setup="dev",
    )
