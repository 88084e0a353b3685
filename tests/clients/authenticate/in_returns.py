"""Rows of the table: coming back from the handshake, and sessions refreshed without one (CLERK.md §3.6)."""

from collections.abc import Iterator, Mapping
from typing import Any

from tests.clients.authenticate.case import Case
from tests.clients.authenticate.setups import (
    DEV,
    DEV_SFX,
    DOCUMENT,
    FETCH,
    LIVE,
    NOW,
    OTHER,
    SFX,
    Fields,
    aged,
    bent,
    cookies,
    session,
)  # fmt: skip
from tests.fakes.clerk import M2M, SILENT, TEMPLATE, FakeClerk

UAT = NOW - 60
MORE = f"__client_uat={UAT}; Path=/; Domain=example.com; Max-Age=315360000; Secure; SameSite=None"
ERROR = {"errors": [{"code": "session_not_found", "message": "gone", "long_message": "gone"}]}


def set_session(token: str, name: str = "__session") -> str:
    """Write the directive that sets a session cookie."""
    return f"{name}={token}; Path=/; Max-Age=315360000; Secure; SameSite=Lax"


def handshake_token(directives: Any, clerk: FakeClerk = LIVE, *drop: str, **header: Any) -> str:
    """Sign a handshake's token."""
    return clerk.mint({"handshake": directives}, header=header, drop_header=drop)


def rows() -> Iterator[Case]:
    """Give every row."""
    for part in (nonces, tokens, collisions, development, refreshes, refused_refreshes):
        yield from part()


def nonce(
    name: str, answer: Mapping[str, Any] | list[str], *, status: int = 200, beside: str = "", **rest: Any
) -> Case:
    """A document that comes back with a nonce in a cookie, as an instance in production sends it."""
    body = {"directives": answer} if isinstance(answer, list) else answer
    key = f"nonce_{name}"
    cookie = ("Cookie", f"__clerk_handshake_nonce={key}{beside}")
    return Case(
        f"nonce-{name}", fields=(*DOCUMENT, cookie), query="a=1", api={key: (status, body)}, handshake=True, **rest
    )


def nonces() -> Iterator[Case]:
    """A nonce, which Clerk's API exchanges for cookies."""
    good = session()
    beside = f"; __session={good}; __client_uat={UAT}"
    yield nonce("good", [set_session(good), MORE])
    yield nonce("good-suffixed", [set_session(good, f"__session_{SFX}"), f"__client_uat_{SFX}={UAT}; Path=/"])
    yield nonce("good-both", [set_session(session(sub="user_2")), set_session(good, f"__session_{SFX}"), MORE])
    yield nonce("signed-out", ["__session=; Path=/; Max-Age=0", "__client_uat=0; Path=/"])
    yield nonce("no-session", [MORE])
    yield nonce("nothing", [])
    yield nonce("session-expired", [set_session(aged(600)), MORE])
    yield nonce("session-of-another", [set_session(session(OTHER)), MORE])
    yield nonce("session-of-another-beside-good-cookies", [set_session(session(OTHER)), MORE], beside=beside)
    yield nonce("session-a-template", [set_session(bent({"cat": TEMPLATE})), MORE])
    yield nonce("unknown", ERROR, status=404)
    yield nonce("api-down", ERROR, status=500)
    yield nonce("beside-good-cookies", [set_session(session(sub="user_2")), MORE], beside=beside)
    yield nonce("unknown-beside-good-cookies", ERROR, status=404, beside=beside)
    yield nonce("pending", [set_session(session(sts="pending")), MORE])
    more = {"api": {"nonce_more": (200, {"directives": [set_session(session(sub="user_2"))]})}, "handshake": True}
    held = cookies(nonce="nonce_more")
    yield Case("nonce-in-the-query", fields=DOCUMENT, query="__clerk_handshake_nonce=nonce_more&a=1", **more)
    yield Case("nonce-fetched", fields=(*FETCH, *held), **more)
    yield Case("nonce-posted", fields=(*DOCUMENT, ("Origin", "https://app.example.com"), *held), method="POST", **more)
    yield Case("nonce-beside-a-header-token", fields=(*DOCUMENT, ("Authorization", f"Bearer {good}"), *held), **more)


def returned(name: str, token: str, fields: Fields = (), **rest: Any) -> Case:
    """A document that comes back with a handshake token in its cookie."""
    pairs = ("Cookie", f"__clerk_handshake={token}" + "".join(f"; {value}" for _, value in fields))
    return Case(f"handshake-{name}", fields=(*DOCUMENT, pairs), query="a=1", handshake=True, **rest)


def tokens() -> Iterator[Case]:
    """A signed token, which carries the cookies itself."""
    good = [set_session(session()), MORE]
    yield returned("good", handshake_token(good))
    yield returned("good-pem", handshake_token(good), setup="pem")
    yield returned("cat-missing", handshake_token(good, LIVE, "cat"))
    yield returned("cat-silent", handshake_token(good, cat=SILENT))
    yield returned("signed-out", handshake_token(["__session=; Path=/; Max-Age=0", "__client_uat=0; Path=/"]))
    yield returned("session-expired", handshake_token([set_session(aged(600)), MORE]))
    yield returned("no-list", handshake_token("nonsense"))
    yield returned("query-wins", handshake_token([set_session(session(sub="user_cookie"))]))
    yield Case(
        "handshake-in-the-query",
        fields=DOCUMENT,
        query=f"__clerk_handshake={handshake_token(good)}&a=1",
        handshake=True,
    )
    yield returned(
        "beside-good-cookies",
        handshake_token([set_session(session(sub="user_2")), MORE]),
        cookies(session=session(), uat=UAT),
    )


def collisions() -> Iterator[Case]:
    """A token that is none of ours: the flow goes on, so that another handshake may follow."""
    good = [set_session(session(sub="user_evil"))]
    for name, token in {
        "of-another": handshake_token(good, OTHER), "of-another-same-kid": handshake_token(good, OTHER, kid="ins_live"),
        "nonsense": "nonsense", "template": handshake_token(good, cat=TEMPLATE), "machine": handshake_token(good, cat=M2M),
        "forged": handshake_token(good)[:-6] + "AAAAAA", "alg-none": handshake_token(good, alg="none"),
        "typ-other": handshake_token(good, typ="at+jwt"), "kid-unknown": handshake_token(good, kid="ins_x"),
    }.items():  # fmt: skip
        yield returned(f"{name}", token)
        yield returned(f"{name}-beside-good-cookies", token, cookies(session=session(), uat=UAT))
        yield returned(f"{name}-beside-expired-cookies", token, cookies(session=aged(600), uat=NOW - 700))
    yield returned("of-another-loop-3", handshake_token(good, OTHER), cookies(uat=UAT, count=3))


def development() -> Iterator[Case]:
    """A development instance: everything is in the query, which is cleaned by one more redirect."""
    good = [
        set_session(session(DEV), f"__session_{DEV_SFX}"),
        f"__client_uat_{DEV_SFX}={UAT}; Path=/",
        "__clerk_db_jwt=dvb_1; Path=/",
    ]
    dev: dict[str, Any] = {"setup": "dev", "handshake": True}
    for name, directives in {
        "good": good, "signed-out": ["__session=; Path=/", "__client_uat=0; Path=/"],
        "session-ahead": [set_session(session(DEV, iat=NOW + 600, nbf=NOW + 600, exp=NOW + 660))],
        "session-expired": [set_session(aged(600, DEV))],
        "session-of-another": [set_session(session(OTHER))],
    }.items():  # fmt: skip
        key = f"nonce_dev-{name}"
        query = f"__clerk_handshake_nonce={key}&__clerk_help=1&__clerk_db_jwt=dvb_1&a=1&b=two%20words"
        yield Case(
            f"nonce-dev-{name}", fields=DOCUMENT, query=query, api={key: (200, {"directives": directives})}, **dev
        )
        token = handshake_token(directives, DEV)
        yield Case(
            f"handshake-dev-{name}", fields=DOCUMENT, query=f"a=1&__clerk_handshake={token}&__clerk_help=1", **dev
        )
    for name, token in {"of-another": handshake_token(good, OTHER, kid="ins_dev"), "nonsense": "nonsense",
                        "template": handshake_token(good, DEV, cat=TEMPLATE)}.items():  # fmt: skip
        yield Case(
            f"handshake-dev-{name}",
            fields=(*DOCUMENT, *cookies(browser="dvb_1")),
            query=f"__clerk_handshake={token}",
            **dev,
        )
    yield Case(
        "nonce-dev-unknown",
        fields=(*DOCUMENT, *cookies(browser="dvb_1")),
        query="__clerk_handshake_nonce=nonce_x&a=1",
        **dev,
    )


def refresh(
    name: str, answer: Any, status: int = 200, *, old: str | None = None, more: Fields = (), **rest: Any
) -> Case:
    """An expired session beside a refresh cookie."""
    key = f"rt_{name}"
    token = aged(600) if old is None else old
    fields = (*more, *cookies(session=token, uat=NOW - 700, refresh_s=key))
    return Case(f"refresh-{name}", fields=fields, api={key: (status, answer)}, handshake=True, **rest)


def refreshes() -> Iterator[Case]:
    """A refresh that Clerk's API grants: signed in at once, with cookies."""
    good = {"object": "cookies", "cookies": [set_session(session()), MORE]}
    yield refresh("good", good)
    yield refresh("good-document", good, more=DOCUMENT)
    yield refresh("good-fetch", good, more=FETCH)
    yield refresh(
        "suffixed-answer", {"object": "cookies", "cookies": [set_session(session(), f"__session_{SFX}"), MORE]}
    )
    yield refresh("posted", good, method="POST", more=(("Origin", "https://app.example.com"),))
    suffixed = cookies(session_s=aged(600), uat_s=NOW - 700, refresh_s="rt_suffixed")
    yield Case("refresh-suffixed", fields=suffixed, api={"rt_suffixed": (200, good)}, handshake=True)
    header = (("Authorization", f"Bearer {aged(600)}"), *cookies(refresh_s="rt_header"))
    yield Case("refresh-of-a-header-token", fields=header, api={"rt_header": (200, good)}, handshake=True)
    both = (
        ("Authorization", f"Bearer {aged(600)}"),
        *cookies(session=session(sub="user_2"), uat=UAT, refresh_s="rt_both"),
    )
    yield Case("refresh-of-a-header-token-beside-a-cookie", fields=both, api={"rt_both": (200, good)}, handshake=True)


def refused_refreshes() -> Iterator[Case]:
    """A refresh that does not come about: what the reason is called, and the handshake that follows for a document."""
    for kind, more in {"": (), "-document": DOCUMENT}.items():
        yield refresh(f"unknown{kind}", ERROR, 404, more=more)
        yield refresh(f"api-down{kind}", {"errors": [{"code": "unexpected_error", "message": "x"}]}, 500, more=more)
        yield refresh(f"api-without-errors{kind}", {}, 500, more=more)
        yield refresh(f"too-many{kind}", {"errors": [{"code": "too_many_requests", "message": "x"}]}, 429, more=more)
        yield refresh(f"no-cookies{kind}", {"object": "cookies", "cookies": []}, more=more)
        yield refresh(f"no-session{kind}", {"object": "cookies", "cookies": [MORE]}, more=more)
        expired = {"object": "cookies", "cookies": [set_session(aged(300))]}
        yield refresh(f"expired-again{kind}", expired, more=more)
        foreign = {"object": "cookies", "cookies": [set_session(session(OTHER))]}
        yield refresh(f"of-another{kind}", foreign, more=more)
        yield refresh(f"sid-missing{kind}", {}, old=aged(600, sid=...), more=more)
        yield refresh(f"forged{kind}", {}, old=aged(600)[:-6] + "AAAAAA", more=more)
