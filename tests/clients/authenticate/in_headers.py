"""Rows of the table: a token in `Authorization` (CLERK.md §§1, 2, 3.1, 3.5). Every reason a token can be refused for."""

from collections.abc import Iterator
from typing import Any

from tests.clients.authenticate.case import Case
from tests.clients.authenticate.setups import (
    DOCUMENT,
    FETCH,
    LIVE,
    NOW,
    OTHER,
    aged,
    bearer,
    bent,
    cookies,
    session,
)  # fmt: skip
from tests.fakes.clerk import M2M, SILENT, TEMPLATE, b64url, rsa_key

GOOD = session()
OUT = cookies(session=session(sub="user_cookie"), uat=NOW - 60)  # a good cookie, which is somebody else's
HEAD, BODY, SIGNATURE = GOOD.split(".")


def row(name: str, token: str, *more: tuple[str, str], **rest: Any) -> Case:
    return Case(f"header-{name}", fields=(*bearer(token), *more), **rest)


def written(name: str, value: str, *more: tuple[str, str], **rest: Any) -> Case:
    """`Authorization` as it stands."""
    return Case(f"header-{name}", fields=(("Authorization", value), *more), **rest)


def rows() -> Iterator[Case]:
    """Give every row."""
    for part in (spellings, shapes, headers, subjects, parties, times, organisations, requests, keys):
        yield from part()


def spellings() -> Iterator[Case]:
    """Where a token stands and how it is announced."""
    yield row("good", GOOD)
    yield written("without-scheme", GOOD)
    yield written("bearer-in-lower-case", f"bearer {GOOD}")
    yield written("bearer-in-capitals", f"BEARER {GOOD}")
    yield written("basic", "Basic dXNlcjpwYXNz")
    yield written("basic-beside-a-good-cookie", "Basic dXNlcjpwYXNz", *OUT)
    yield written("digest-with-a-token", f"Digest {GOOD}")
    yield written("token-scheme-beside-a-good-cookie", f"Token {GOOD}", *OUT)
    yield written("bearer-alone", "Bearer")
    yield written("bearer-alone-beside-a-good-cookie", "Bearer ", *OUT)
    yield written("two-blanks", f"Bearer  {GOOD}")
    yield written("something-behind", f"Bearer {GOOD} more")
    yield written("tab", f"Bearer\t{GOOD}")
    yield written("a-word", "undefined")
    yield written("a-word-beside-a-good-cookie", "undefined", *OUT)
    yield row("null", "null")
    yield row("undefined-beside-a-good-cookie", "undefined", *OUT)
    yield row("quoted", f'"{GOOD}"')
    yield row("comma", f"{GOOD},")
    yield row("good-beside-another-cookie", GOOD, *OUT)
    yield row("bad-beside-a-good-cookie", session(OTHER), *OUT)
    yield written("twice", f"Bearer {GOOD}", *bearer(GOOD))
    yield Case("query-is-never-read", query=f"__session={GOOD}&token={GOOD}")
    yield Case("other-field-is-never-read", fields=(("X-Authorization", f"Bearer {GOOD}"), ("Clerk-Auth", GOOD)))
    yield Case(
        "internal-fields-say-nothing", fields=(("x-clerk-auth-status", "signed-in"), ("x-clerk-auth-token", GOOD))
    )


def shapes() -> Iterator[Case]:
    """Forms of a JWS."""
    yield row("one-part", "abc")
    yield row("two-parts", f"{HEAD}.{BODY}")
    yield row("four-parts", f"{GOOD}.{SIGNATURE}")
    yield row("five-parts", f"{GOOD}.{SIGNATURE}.{SIGNATURE}")
    yield row("empty-parts", "..")
    yield row("signature-empty", f"{HEAD}.{BODY}.")
    yield row("not-base64", f"{HEAD}.!!!.{SIGNATURE}")
    yield row("header-not-json", f"{b64url(b'header')}.{BODY}.{SIGNATURE}")
    yield row("payload-not-json", LIVE.sign(b'{"alg":"RS256","typ":"JWT","kid":"ins_live"}', b"payload"))
    yield row("payload-an-array", LIVE.sign(b'{"alg":"RS256","typ":"JWT","kid":"ins_live"}', b"[1]"))
    yield row("payload-padded", f"{HEAD}.{BODY}=.{SIGNATURE}")
    yield row("signature-padded", f"{GOOD}==")
    yield row("signature-of-another-token", f"{HEAD}.{BODY}.{session(sub='user_2').split('.')[2]}")
    yield row("signature-cut", GOOD[:-4])
    yield row("payload-of-another-token", f"{HEAD}.{session(sub='user_2').split('.')[1]}.{SIGNATURE}")
    twice = b'{"sub":"user_1","sub":"user_2","iss":"https://clerk.example.com","azp":"https://app.example.com",'
    times = f'"sid":"sess_1","iat":{NOW},"exp":{NOW + 60}}}'.encode()
    yield row("member-twice", LIVE.sign(b'{"alg":"RS256","typ":"JWT","kid":"ins_live"}', twice + times))


def headers() -> Iterator[Case]:
    """Members of the JOSE header (§1.1)."""
    for algorithm in ("none", "HS256", "RS384", "RS512", "PS256", "ES256", "rs256"):
        yield row(f"alg-{algorithm}", bent({"alg": algorithm}))
    yield row("alg-missing", bent(None, "alg"))
    yield row("typ-missing", bent(None, "typ"))
    yield row("typ-lower-case", bent({"typ": "jwt"}))
    yield row("typ-other", bent({"typ": "JOSE"}))
    yield row("typ-null", bent({"typ": None}))
    yield row("typ-access-token", bent({"typ": "at+jwt"}))
    yield row("typ-access-token-written-out", bent({"typ": "application/at+jwt"}))
    yield row("kid-unknown", bent({"kid": "ins_unknown"}))
    yield row("kid-missing", bent(None, "kid"))
    yield row("kid-a-number", bent({"kid": 7}))
    yield row("cat-missing", bent(None, "cat"))
    yield row("cat-silent", bent({"cat": SILENT}))
    yield row("cat-template", bent({"cat": TEMPLATE}))
    yield row("cat-machine", bent({"cat": M2M}))
    yield row("cat-unknown", bent({"cat": "cl_B7d4PD999AAA"}))
    yield row("cat-empty", bent({"cat": ""}))
    yield row("cat-null", bent({"cat": None}))
    yield row("oiat-and-others", bent({"oiat": NOW, "x": {"y": 1}}))
    yield row("crit", bent({"crit": ["exp"], "exp": NOW + 60}))
    yield row("crit-empty", bent({"crit": []}))
    yield row("b64-false", bent({"b64": False}))
    yield row("jku", bent({"jku": "https://evil.example/keys", "x5u": "https://evil.example/x5u"}))


def subjects() -> Iterator[Case]:
    """Who a token is about, and for whom it is meant."""
    yield row("sub-missing", session(sub=...))
    yield row("sub-number", session(sub=7))
    yield row("sub-null", session(sub=None))
    yield row("sub-empty", session(sub=""))
    yield row("sub-machine", session(sub="mch_1"))
    yield row("sub-odd", session(sub="ümläut 100%"))
    yield row("sub-with-control", session(sub="user_1\nX-User-Id: user_2"))
    yield row("sid-missing", session(sid=...))
    yield row("sid-missing-without-cat", LIVE.mint(LIVE.session_claims(NOW, sid=...), drop_header=("cat",)))
    yield row("aud-unasked", session(aud="whoever"))
    for name, aud in {
        "right": "api", "wrong": "other", "one-of-many": ["other", "web"], "none-of-many": ["other", "others"],
        "missing": ..., "empty": "", "empty-list": [], "mixed": ["other", 7], "number": 7,
    }.items():  # fmt: skip
        yield row(f"aud-{name}", session(aud=aud), setup="audience")


def parties() -> Iterator[Case]:
    """The claims azp and iss (§2.4, §2.5), with the SDK told of both and as it comes."""
    strange = {
        "azp-missing": {"azp": ...}, "azp-empty": {"azp": ""}, "azp-null": {"azp": None},
        "azp-other": {"azp": "https://evil.example"}, "azp-slash": {"azp": "https://app.example.com/"},
        "azp-capital": {"azp": "https://APP.example.com"}, "azp-http": {"azp": "http://app.example.com"},
        "azp-list": {"azp": ["https://app.example.com"]},
        "iss-other": {"iss": "https://clerk.other.example"}, "iss-missing": {"iss": ...},
        "iss-slash": {"iss": "https://clerk.example.com/"}, "iss-http": {"iss": "http://clerk.example.com"},
        "iss-list": {"iss": ["https://clerk.example.com"]},
    }  # fmt: skip
    for name, claims in strange.items():
        yield row(name, session(**claims))
    for name in ("azp-missing", "azp-other", "iss-other", "iss-missing"):
        yield row(f"{name}-loose", session(**strange[name]), setup="loose")


def times() -> Iterator[Case]:
    """The claims exp, nbf and iat: absent, of another kind, and at the edge of the five seconds."""
    for claim, values in {
        "exp": {"missing": ..., "text": str(NOW + 60), "null": None, "true": True, "far": 2**60, "negative": -1,
                "fraction": NOW + 0.5, "5s-ago": NOW - 5, "4s-ago": NOW - 4, "list": [NOW + 60]},
        "nbf": {"missing": ..., "text": str(NOW), "null": None, "true": True, "in-5s": NOW + 5, "in-6s": NOW + 6,
                "negative": -1, "far": 2**60},
        "iat": {"missing": ..., "text": str(NOW), "null": None, "in-5s": NOW + 5, "in-6s": NOW + 6, "negative": -1},
    }.items():  # fmt: skip
        for name, value in values.items():
            yield row(f"{claim}-{name}", session(**{claim: value}))
    yield row("exp-now-punctual", session(exp=NOW), setup="punctual")
    yield row("exp-in-1s-punctual", session(exp=NOW + 1), setup="punctual")
    yield row("nbf-in-1s-punctual", session(nbf=NOW + 1), setup="punctual")
    yield row("expired-and-of-another-issuer", aged(600, iss="https://clerk.other.example"))
    yield row("expired-and-forged", aged(600)[:-6] + "AAAAAA")


def organisations() -> Iterator[Case]:
    """What a token says about its user (§§1.2–1.4)."""
    two = {"o": {"id": "org_1", "slg": "acme", "rol": "admin", "per": "manage,read", "fpm": "3,2"}}
    yield row("v2-organisation", session(**two, fea="o:dashboard,o:teams"))
    yield row("v2-user-features-have-no-bits", session(**two, fea="u:own,o:dashboard,u:more,o:teams"))
    yield row("v2-features-of-both", session(**two, fea="ou:dashboard,uo:teams"))
    yield row("v2-features-with-blanks", session(**two, fea=" o:dashboard , o:teams "))
    yield row("v2-feature-without-scope", session(**two, fea="dashboard"))
    yield row("v2-no-permissions", session(o={"id": "org_1", "slg": "acme", "rol": "member"}))
    yield row("v2-more-bits-than-names", session(o=two["o"] | {"fpm": "255"}, fea="o:dashboard"))
    yield row("v2-huge-map", session(o=two["o"] | {"fpm": str(2**80 + 1)}, fea="o:dashboard"))
    yield row("v2-map-of-words", session(o=two["o"] | {"fpm": "x,2"}, fea="o:dashboard,o:teams"))
    smuggled = {"org_id": "org_9", "org_role": "org:admin", "org_slug": "evil", "org_permissions": ["org:all:all"]}
    yield row("v2-with-claims-of-v1", session(**smuggled))
    v1 = {
        "v": ...,
        "org_id": "org_1",
        "org_slug": "acme",
        "org_role": "org:admin",
        "org_permissions": ["org:a:b", "org:c:d"],
    }
    yield row("v1-organisation", session(**v1))
    yield row("v1-without-permissions", session(**(v1 | {"org_permissions": ...})))
    yield row("v1-role-without-prefix", session(**(v1 | {"org_role": "admin"})))
    yield row("v1-with-claims-of-v2", session(**(v1 | two)))
    yield row("v-is-text", session(v="2", **two))
    yield row("impersonated", session(act={"sub": "user_admin", "iss": "https://dashboard.clerk.com", "sid": "sess_9"}))
    yield row("pending", session(sts="pending"))
    yield row("pending-allowed", session(sts="pending"), accepts="pending")
    yield row("sts-other", session(sts="anything"))


def requests() -> Iterator[Case]:
    """What a request's kind changes: an expired header token on a document is sent through the handshake (§3.5)."""
    old, early, ahead = aged(600), session(nbf=NOW + 60), session(iat=NOW + 60)
    for name, kind in {"fetch": FETCH, "document": DOCUMENT}.items():
        yield row(f"{name}-good", GOOD, *kind)
        yield row(f"{name}-expired", old, *kind)
        yield row(f"{name}-nbf", early, *kind)
        yield row(f"{name}-iat", ahead, *kind)
        yield row(f"{name}-forged", GOOD[:-6] + "AAAAAA", *kind)
        yield row(f"{name}-template", bent({"cat": TEMPLATE}), *kind)
    for method in ("POST", "DELETE", "HEAD", "OPTIONS"):
        yield row(f"{method}-good", GOOD, method=method)
        yield row(f"{method}-expired", old, method=method)
    yield row("expired-beside-a-refresh-cookie", old, *cookies(refresh="rt_unknown"))
    yield row("expired-beside-cookies", old, *OUT)


def keys() -> Iterator[Case]:
    """Where the keys come from (§§2.2, 2.3)."""
    yield row("pem-good", GOOD, setup="pem")
    yield row("pem-kid-is-not-looked-at", bent({"kid": "ins_whatever"}), setup="pem")
    yield row("pem-kid-missing", bent(None, "kid"), setup="pem")
    yield row("pem-other-key", session(OTHER), setup="pem")
    yield row("other-key-same-kid", LIVE.mint(LIVE.session_claims(NOW), key=rsa_key("other")))
    yield row("keys-cannot-be-had", GOOD, setup="keyless")
    yield row("keys-refused", GOOD, setup="key_refused")
    yield row("no-token-and-no-keys", "x", setup="keyless")
