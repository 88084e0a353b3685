"""Rows of the table: API keys, machine-to-machine and OAuth tokens, opaque and JWT, and every `acceptsToken` (CLERK.md §4)."""

from collections.abc import Iterator, Mapping
from typing import Any

from tests.clients.authenticate.case import ACCEPTS, Case
from tests.clients.authenticate.setups import DOCUMENT, LIVE, NOW, OTHER, Fields, aged, bearer, cookies, session
from tests.fakes.clerk import M2M, SESSION, SILENT, TEMPLATE

UAT = NOW - 60
MS = NOW * 1000
ERROR = {"errors": [{"code": "token-invalid", "message": "no"}]}
PREFIX = {"api_key": "ak_", "m2m": "mt_", "oauth": "oat_"}


def api_key(**changes: Any) -> dict[str, Any]:
    """What Clerk's API says of a good API key."""
    return {
        "object": "api_key", "id": "ak_2", "type": "api_key", "name": "key", "subject": "user_1", "scopes": ["read", "write"],
        "claims": None, "revoked": False, "revocation_reason": None, "expired": False, "expiration": None,
        "created_by": "user_1", "description": None, "last_used_at": None, "created_at": MS, "updated_at": MS,
    } | changes  # fmt: skip


def m2m(**changes: Any) -> dict[str, Any]:
    """What it says of a good machine-to-machine token."""
    return {
        "object": "machine_to_machine_token", "id": "mt_2", "subject": "mch_1", "scopes": ["mch_2"], "claims": None,
        "revoked": False, "revocation_reason": None, "expired": False, "expiration": MS + 60_000, "created_at": MS,
        "updated_at": MS,
    } | changes  # fmt: skip


def oauth(**changes: Any) -> dict[str, Any]:
    """What it says of a good OAuth access token."""
    return {
        "object": "clerk_idp_oauth_access_token", "id": "oat_2", "client_id": "client_1", "type": "oauth:access_token",
        "subject": "user_1", "scopes": ["profile", "email"], "revoked": False, "revocation_reason": None, "expired": False,
        "expiration": NOW + 60, "created_at": NOW, "updated_at": NOW,
    } | changes  # fmt: skip


GOOD = {"api_key": api_key, "m2m": m2m, "oauth": oauth}


def m2m_jwt(header: Mapping[str, Any] | None = None, *drop: str, **claims: Any) -> str:
    """Sign a machine-to-machine token."""
    body = {
        "iss": LIVE.issuer,
        "sub": "mch_1",
        "iat": NOW,
        "nbf": NOW - 10,
        "exp": NOW + 60,
        "jti": "mt_3",
        "scopes": "mch_2 mch_3",
    }
    said = {name: value for name, value in (body | claims).items() if value is not ...}
    return LIVE.mint(said, header={"cat": M2M} | dict(header or {}), drop_header=drop)


def oauth_jwt(header: Mapping[str, Any] | None = None, *drop: str, **claims: Any) -> str:
    """Sign an OAuth access token."""
    body = {"iss": LIVE.issuer, "sub": "user_1", "client_id": "client_1", "iat": NOW, "nbf": NOW - 10, "exp": NOW + 60,
            "jti": "oat_3", "scope": "profile email"}  # fmt: skip
    said = {name: value for name, value in (body | claims).items() if value is not ...}
    return LIVE.mint(said, header={"typ": "at+jwt"} | dict(header or {}), drop_header=(*drop, "cat"))


def rows() -> Iterator[Case]:
    """Give every row."""
    for part in (accepted, opaque, m2m_jwts, oauth_jwts, spellings):
        yield from part()


def accepted() -> Iterator[Case]:
    """Every kind of credential at every kind of route."""
    credentials: dict[str, Fields] = {
        "session": bearer(session()), "session-cookie": cookies(session=session(), uat=UAT), "nothing": (),
        "m2m-jwt": bearer(m2m_jwt()), "oauth-jwt": bearer(oauth_jwt()), "nonsense": bearer("nonsense"),
        "expired-session": bearer(aged(600)), "template": bearer(LIVE.template_token(NOW)),
    }  # fmt: skip
    for accepts in ACCEPTS:
        if accepts == "pending":
            continue
        for name, fields in credentials.items():
            if accepts != "session" or name.endswith("-jwt"):  # else `in_headers` and `in_cookies` have it
                yield Case(f"{accepts}-route-{name}", accepts, fields=fields, machine=True)
        for name, fields in {
            "expired-cookie": cookies(session=aged(600), uat=NOW - 700), "session-missing": cookies(uat=UAT),
            "returning": cookies(nonce="nonce_machine"), "expired-header": bearer(aged(600)),
        }.items():  # fmt: skip
            if accepts != "session":
                yield Case(f"{accepts}-route-document-{name}", accepts, fields=(*DOCUMENT, *fields), handshake=True)
        for kind, prefix in PREFIX.items():
            token = f"{prefix}{accepts}_{kind}"
            yield Case(
                f"{accepts}-route-{kind}", accepts, fields=bearer(token), api={token: (200, GOOD[kind]())}, machine=True
            )


def opaque() -> Iterator[Case]:
    """What Clerk's API may say of an opaque token."""
    for kind, prefix in PREFIX.items():
        good = GOOD[kind]
        for name, answer in {
            "unknown": (404, ERROR), "bad-request": (400, ERROR), "unprocessable": (422, ERROR), "forbidden": (403, ERROR),
            "secret-refused": (401, {"errors": [{"code": "clerk_key_invalid", "message": "no"}]}),
            "api-down": (500, ERROR), "api-away": (503, {}), "too-many": (429, ERROR), "nonsense": (200, ["nonsense"]),
            "revoked": (200, good(revoked=True, revocation_reason="lost")), "expired": (200, good(expired=True)),
            "no-scopes": (200, good(scopes=[])),
        }.items():  # fmt: skip
            token = f"{prefix}{name}_{kind}"
            yield Case(f"{kind}-{name}", kind, fields=bearer(token), api={token: answer})
    for name, key in {
        "of-an-organisation": api_key(subject="org_1"), "of-nobody": api_key(subject=""), "odd-scopes": api_key(scopes=["a b", "c,d"]),
        "with-claims": api_key(claims={"tier": "gold"}),
    }.items():  # fmt: skip
        yield Case(f"api_key-{name}", "api_key", fields=bearer(f"ak_{name}"), api={f"ak_{name}": (200, key)})
    yield Case("api_key-on-a-document", "api_key", fields=(*bearer("ak_doc"), *DOCUMENT), api={"ak_doc": (404, ERROR)})
    yield Case("api_key-posted", "api_key", method="POST", fields=bearer("ak_post"), api={"ak_post": (200, api_key())})
    yield Case("m2m-machine-key", "m2m", "machine_key", fields=bearer("mt_mk"), api={"mt_mk": (200, m2m())})
    yield Case("api_key-machine-key", "api_key", "machine_key", fields=bearer("ak_mk"), api={"ak_mk": (200, api_key())})


def m2m_jwts() -> Iterator[Case]:
    """Machine-to-machine tokens that verify without a call."""
    for name, token in {
        "good": m2m_jwt(), "cat-missing": m2m_jwt(None, "cat"), "cat-session": m2m_jwt({"cat": SESSION}),
        "cat-template": m2m_jwt({"cat": TEMPLATE}), "cat-silent": m2m_jwt({"cat": SILENT}), "expired": m2m_jwt(exp=NOW - 60),
        "exp-missing": m2m_jwt(exp=...), "nbf": m2m_jwt(nbf=NOW + 60), "iat": m2m_jwt(iat=NOW + 60), "forged": m2m_jwt()[:-6] + "AAAAAA",
        "kid-unknown": m2m_jwt({"kid": "ins_x"}), "alg-none": m2m_jwt({"alg": "none"}), "typ-access-token": m2m_jwt({"typ": "at+jwt"}),
        "scopes-missing": m2m_jwt(scopes=...), "aud-for-scopes": m2m_jwt(scopes=..., aud=["mch_2", "mch_3"]),
        "scopes-empty": m2m_jwt(scopes=""), "azp-other": m2m_jwt(azp="https://evil.example"), "iss-missing": m2m_jwt(iss=...),
        "iss-other": m2m_jwt(iss="https://clerk.other.example"), "jti-missing": m2m_jwt(jti=...), "sub-short": m2m_jwt(sub="mch_"),
        "session-claims": m2m_jwt(sid="sess_1", org_id="org_1"),
    }.items():  # fmt: skip
        yield Case(f"m2m-jwt-{name}", "m2m", fields=bearer(token))
    yield Case(
        "m2m-jwt-of-another",
        "m2m",
        fields=bearer(OTHER.mint({"sub": "mch_1", "exp": NOW + 60, "iat": NOW}, header={"cat": M2M})),
    )
    yield Case("m2m-jwt-pem", "m2m", "pem", fields=bearer(m2m_jwt({"kid": "whatever"})))
    yield Case("m2m-jwt-keys-cannot-be-had", "m2m", "keyless", fields=bearer(m2m_jwt()))
    yield Case("m2m-jwt-in-a-cookie", "m2m", fields=cookies(session=m2m_jwt(), uat=UAT))


def oauth_jwts() -> Iterator[Case]:
    """OAuth access tokens that verify without a call."""
    for name, token in {
        "good": oauth_jwt(), "typ-written-out": oauth_jwt({"typ": "application/at+jwt"}), "typ-capitals": oauth_jwt({"typ": "AT+JWT"}),
        "expired": oauth_jwt(exp=NOW - 60), "exp-missing": oauth_jwt(exp=...), "nbf": oauth_jwt(nbf=NOW + 60),
        "iat": oauth_jwt(iat=NOW + 60), "forged": oauth_jwt()[:-6] + "AAAAAA", "kid-unknown": oauth_jwt({"kid": "ins_x"}),
        "alg-none": oauth_jwt({"alg": "none"}), "scp": oauth_jwt(scope=..., scp=["a", "b"]), "scp-over-scope": oauth_jwt(scp=["a"]),
        "scope-missing": oauth_jwt(scope=...), "client-missing": oauth_jwt(client_id=...), "iss-missing": oauth_jwt(iss=...),
        "iss-other": oauth_jwt(iss="https://clerk.other.example"), "sub-machine": oauth_jwt(sub="mch_1"),
        "azp-other": oauth_jwt(azp="https://evil.example"), "sub-missing": oauth_jwt(sub=...), "with-actor": oauth_jwt(act={"sub": "mch_9"}),
    }.items():  # fmt: skip
        yield Case(f"oauth-jwt-{name}", "oauth", fields=bearer(token))
    for name, aud in {
        "right": "api",
        "one-of-many": ["x", "web"],
        "wrong": "x",
        "missing": ...,
        "mixed": ["api", 7],
        "empty": "",
    }.items():
        yield Case(f"oauth-jwt-aud-{name}", "oauth", "audience", fields=bearer(oauth_jwt(aud=aud)))
    for name, aud in {"right": ["api"], "wrong": ["x"], "missing": None}.items():
        token, more = f"oat_aud_{name}", {} if aud is None else {"aud": aud}
        yield Case(f"oauth-aud-{name}", "oauth", "audience", fields=bearer(token), api={token: (200, oauth(**more))})


def spellings() -> Iterator[Case]:
    """How machine tokens may be announced."""
    good = {"ak_spelt": (200, api_key())}
    for name, value in {
        "without-scheme": "ak_spelt", "basic": "Basic ak_spelt", "capitals": "Bearer AK_spelt", "prefix-alone": "Bearer ak_",
        "prefix-inside": "Bearer xak_spelt", "old-m2m-prefix": "Bearer m2m_spelt", "odd-characters": "Bearer ak_sp%20elt/..",
        "quoted": 'Bearer "ak_spelt"',
    }.items():  # fmt: skip
        yield Case(f"machine-{name}", "any", fields=(("Authorization", value),), api=good)
    yield Case(
        "machine-beside-good-cookies", "any", fields=(*bearer("ak_unknown"), *cookies(session=session(), uat=UAT))
    )
    yield Case("machine-in-a-cookie", "any", fields=cookies(session="ak_spelt", uat=UAT), api=good)
    yield Case("machine-in-a-jwt-shape", "any", fields=bearer("ak_x.yyyy.zzzz"))
