"""Explain and a running gateway say the same of the same bytes, and the first check that fails is the one that counts."""

import json
import re
from collections.abc import AsyncIterator, Callable
from email.utils import formatdate
from typing import Any

import pytest

from gateway.config.clerk import cookie_suffix
from gateway.ops.explain import run
from gateway.ops.explain.command import story_of
from gateway.ops.explain.request import Asked
from gateway.ops.explain.step import BAD, NOTE
from gateway.ops.explain.story import Story
from gateway.ops.explain.written import as_json, as_lines
from tests.fakes.clerk import M2M, FakeClerk, FakeIssuer
from tests.fakes.gateway import APP, CLERK, Running, gateway, settings
from tests.fakes.upstream import Echo, ScriptedUpstream
from tests.ops.explain.conftest import HOST, both, config_of, explained

OTHER = FakeClerk("https://clerk.other.example", kid="ins_other", key_name="other")
SUFFIX = cookie_suffix("pk_live_Y2xlcmsuZXhhbXBsZS5jb20k")
SECRET_KEY = "sk_live_abcdef0123456789"
ROUTES = [
    {"name": "public", "path": "/public/*", "upstream": "api", "auth": "public"},
    {"name": "optional", "path": "/optional/*", "upstream": "api", "auth": "optional"},
    {"name": "guarded", "path": "/guarded", "upstream": "api", "auth": "optional", "require": {"org": True}},
    {"name": "posts", "path": "/verbs", "upstream": "api", "methods": ["POST"]},
    {"name": "hosted", "path": "/hosted/*", "upstream": "api", "host": "*.tenants.example", "auth": "public"},
    {"name": "admin", "path": "/admin/*", "upstream": "api", "require": {"role": "org:admin"}},
    {"name": "perm", "path": "/perm", "upstream": "api", "require": {"permission": "org:teams:read"}},
    {"name": "org", "path": "/org", "upstream": "api", "require": {"org": "acme"}},
    {"name": "plan", "path": "/plan", "upstream": "api", "require": {"plan": "pro", "feature": "u:export"}},
    {"name": "claims", "path": "/claims", "upstream": "api", "require": {"claims": {"meta.tier": "gold"}}},
    {"name": "fresh", "path": "/fresh", "upstream": "api", "require": {"max_age_min": {"first": 60, "second": 5}}},
    {"name": "own", "path": "/own", "upstream": "api", "allow_impersonation": False},
    {"name": "template", "path": "/template", "upstream": "api", "token": ["template"], "audience": ["convex"]},
    {"name": "pending", "path": "/pending", "upstream": "api", "allow_pending": True},
    {"name": "odd", "path": "/odd/*", "upstream": "api", "auth": "public", "allow_encoded": ["%2f"]},
    {"name": "moved", "path": "/api/v1/*", "upstream": "base", "strip_prefix": "/api", "add_prefix": "/x"},
    {"name": "kept", "path": "/kept", "upstream": "base", "forward_token": True},
    {"name": "quiet", "path": "/quiet", "upstream": "quiet"},
    {"name": "small", "path": "/small", "upstream": "api", "auth": "public", "max_body_bytes": 10},
    {"name": "nocors", "path": "/nocors", "upstream": "api", "auth": "public", "cors": None},
    {"name": "rest", "path": "/rest/*", "upstream": "api"},
]  # fmt: skip

Make = Callable[[Running], str]
ADMIN = {"o": {"id": "org_1", "slg": "acme", "rol": "admin", "per": "read", "fpm": "1"}, "fea": "o:teams"}


def token(**claims: Any) -> Make:
    return lambda running: running.token(**claims)


def aged(seconds: int) -> Make:
    return lambda running: CLERK.session_token(running.clock() + seconds)


def minted(**parts: Any) -> Make:
    return lambda running: CLERK.mint(CLERK.session_claims(running.clock()), **parts)


def cookies(make: Make | None, uat: int | None = -50, suffix: str = "", more: str = "") -> Make:
    """Write a Cookie line; `uat` in seconds from now."""

    def line(running: Running) -> str:
        parts = [] if make is None else [f"__session{suffix}={make(running)}"]
        parts += [] if uat is None else [f"__client_uat{suffix}={int(running.clock()) + uat if uat else 0}"]
        return "Cookie: " + "; ".join([*parts, "theme=dark"]) + more

    return line


CORS_PREFLIGHT = ("Access-Control-Request-Method: PUT",)
UPGRADE = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)
FORGED = (
    "X-User-Id: evil",
    "X_User_Id: evil",
    "X-Clerk-Auth: x",
    "X-Forwarded-For: 1.2.3.4",
    "Connection: X-Mine",
    "X-Mine: 1",
    "Keep-Alive: 1",
    "Forwarded: for=1.2.3.4",
    "X-Request-Id: mine",
    "X-Kept: yes",
)

# id: method, target, then of `Asked`: `token` and each of `headers` may be made for the running gateway.
CASES: dict[str, tuple[Any, ...]] = {
    "public": ("GET", "/public/x?q=1"),
    "public-with-token": ("GET", "/public/x", {"token": token()}),
    "public-two-tokens": ("GET", "/public/x", {"token": token(), "headers": ("Authorization: Bearer x",)}),
    "nothing-sent": ("GET", "/rest/x"),
    "good": ("GET", "/rest/x?a=%20b", {"token": token(email="a@b.c", name="Zoë", **ADMIN)}),
    "good-head": ("HEAD", "/rest/x", {"token": token()}),
    "good-origin": ("GET", "/rest/x", {"token": token(), "origin": APP}),
    "foreign-origin": ("GET", "/rest/x", {"token": token(), "origin": "https://evil.example"}),
    "cors-off": ("GET", "/nocors", {"origin": APP}),
    "without-scheme": ("GET", "/rest/x", {"headers": (lambda r: f"Authorization: {r.token()}",)}),
    "basic": ("GET", "/rest/x", {"headers": ("Authorization: Basic dXNlcjpwYXNz",)}),
    "basic-on-public": ("GET", "/public/x", {"headers": ("Authorization: Basic dXNlcjpwYXNz",)}),
    "nonsense": ("GET", "/rest/x", {"token": lambda _: "nonsense"}),
    "opaque": ("GET", "/rest/x", {"token": lambda _: "ak_0123456789abcdef"}),
    "expired": ("GET", "/rest/x", {"token": aged(-120)}),
    "not-yet": ("GET", "/rest/x", {"token": token(nbf=2**40)}),
    "from-the-future": ("GET", "/rest/x", {"token": aged(60)}),
    "foreign-key": ("GET", "/rest/x", {"token": minted(key=OTHER.key)}),
    "foreign-issuer": ("GET", "/rest/x", {"token": token(iss=OTHER.issuer)}),
    "azp": ("GET", "/rest/x", {"token": token(azp="https://evil.example")}),
    "azp-missing": ("GET", "/rest/x", {"token": token(azp=...)}),
    "sub-missing": ("GET", "/rest/x", {"token": token(sub=...)}),
    "exp-is-text": ("GET", "/rest/x", {"token": token(exp="soon")}),
    "alg-none": ("GET", "/rest/x", {"token": minted(header={"alg": "none"})}),
    "crit": ("GET", "/rest/x", {"token": minted(header={"crit": ["x"]})}),
    "m2m": ("GET", "/rest/x", {"token": minted(header={"cat": M2M})}),
    "features-unreadable": ("GET", "/rest/x", {"token": token(fea="x")}),
    "template-where-session": ("GET", "/rest/x", {"token": lambda r: CLERK.template_token(r.clock())}),
    "template": ("GET", "/template", {"token": lambda r: CLERK.template_token(r.clock(), aud="convex")}),
    "template-other-audience": ("GET", "/template", {"token": lambda r: CLERK.template_token(r.clock(), aud="x")}),
    "pending": ("GET", "/rest/x", {"token": token(sts="pending")}),
    "pending-allowed": ("GET", "/pending", {"token": token(sts="pending")}),
    "role": ("GET", "/admin/x", {"token": token(**ADMIN)}),
    "role-missing": ("GET", "/admin/x", {"token": token()}),
    "permission": ("GET", "/perm", {"token": token(**ADMIN)}),
    "permission-missing": ("GET", "/perm", {"token": token(o={"id": "org_1", "rol": "admin"})}),
    "org": ("GET", "/org", {"token": token(**ADMIN)}),
    "org-missing": ("GET", "/org", {"token": token(o={"id": "org_2", "slg": "other"})}),
    "plan-missing": ("GET", "/plan", {"token": token(pla="u:free")}),
    "feature-missing": ("GET", "/plan", {"token": token(pla="o:pro", fea="o:export")}),
    "plan-and-feature": ("GET", "/plan", {"token": token(pla="o:pro", fea="u:export")}),
    "claims": ("GET", "/claims", {"token": token(meta={"tier": "gold"})}),
    "claims-missing": ("GET", "/claims", {"token": token(meta={"tier": "tin"})}),
    "fresh": ("GET", "/fresh", {"token": token(fva=[0, 0])}),
    "stale": ("GET", "/fresh", {"token": token(fva=[60, 0])}),
    "no-second-factor": ("GET", "/fresh", {"token": token(fva=[0, -1])}),
    "impersonated": ("GET", "/rest/x", {"token": token(act={"sub": "user_support"})}),
    "impersonation": ("GET", "/own", {"token": token(act={"iss": "x"})}),
    "optional-anonymous": ("GET", "/optional/x"),
    "optional-bad-token": ("GET", "/optional/x", {"token": aged(-120)}),
    "optional-bad-cookie": ("GET", "/optional/x", {"headers": (cookies(aged(-120)),)}),
    "optional-requires": ("GET", "/guarded"),
    "optional-requires-of-a-bad-cookie": ("GET", "/guarded", {"headers": (cookies(aged(-120)),)}),
    "optional-requires-of-a-user": ("GET", "/guarded", {"token": token(**ADMIN)}),
    "cookie": ("GET", "/rest/x", {"headers": (cookies(token()),)}),
    "cookie-suffixed": ("GET", "/rest/x", {"headers": (cookies(token(), suffix=f"_{SUFFIX}"),)}),
    "cookie-and-header": ("GET", "/rest/x", {"token": aged(-120), "headers": (cookies(token()),)}),
    "cookie-expired": ("GET", "/rest/x", {"headers": (cookies(aged(-120), uat=-200),)}),
    "cookie-without-uat": ("GET", "/rest/x", {"headers": (cookies(token(), uat=None),)}),
    "cookie-signed-out": ("GET", "/rest/x", {"headers": (cookies(token(), uat=0),)}),
    "cookie-uat-alone": ("GET", "/rest/x", {"headers": (cookies(None),)}),
    "cookie-older-than-uat": ("GET", "/rest/x", {"headers": (cookies(token(), uat=20),)}),
    "cookie-post": ("POST", "/rest/x", {"headers": (cookies(token()), "Content-Length: 0")}),
    "cookie-post-listed": ("POST", "/rest/x", {"origin": APP, "headers": (cookies(token()), "Content-Length: 0")}),
    "cookie-post-foreign": ("POST", "/rest/x", {"origin": "https://evil.example", "headers": (cookies(token()),)}),
    "cookie-post-null": ("POST", "/rest/x", {"origin": "null", "headers": (cookies(token()),)}),
    "preflight": ("OPTIONS", "/rest/x", {"origin": APP, "headers": CORS_PREFLIGHT}),
    "preflight-origin": ("OPTIONS", "/rest/x", {"origin": "https://evil.example", "headers": CORS_PREFLIGHT}),
    "preflight-method": ("OPTIONS", "/rest/x", {"origin": APP, "headers": ("Access-Control-Request-Method: PURGE",)}),
    "preflight-header": ("OPTIONS", "/rest/x", {"origin": APP, "headers": (*CORS_PREFLIGHT, "Access-Control-Request-Headers: x-a")}),
    "preflight-cors-off": ("OPTIONS", "/nocors", {"origin": APP, "headers": CORS_PREFLIGHT}),
    "preflight-nowhere": ("OPTIONS", "/nowhere", {"origin": APP, "headers": CORS_PREFLIGHT}),
    "nowhere": ("GET", "/nowhere"),
    "method": ("GET", "/verbs", {"token": token()}),
    "host": ("GET", "/hosted/x", {"headers": ("Host: a.tenants.example",)}),
    "other-host": ("GET", "/hosted/x"),
    "absolute": ("GET", "http://a.tenants.example/hosted/x"),
    "dot-segment": ("GET", "/public/../admin"),
    "encoded-slash": ("GET", "/public/a%2fb"),
    "encoded-slash-allowed": ("GET", "/odd/a%2Fb"),
    "double-slash": ("GET", "/odd//b"),
    "fragment": ("GET", "/public/x#y"),
    "trace": ("TRACE", "/public/x"),
    "host-malformed": ("GET", "/public/x", {"headers": ("Host: a b",)}),
    "body-too-large": ("POST", "/small", {"headers": ("Content-Length: 11",)}),
    "expect": ("POST", "/public/x", {"headers": ("Expect: wonders", "Content-Length: 0")}),
    "headers-too-large": ("GET", "/public/x", {"headers": (f"X-Big: {'x' * 40_000}",)}),
    "forged": ("GET", "/public/x", {"headers": FORGED}),
    "prefixes": ("GET", "/api/v1/a%20b?c=d", {"token": token()}),
    "token-goes-on": ("GET", "/kept", {"token": token(), "headers": (cookies(token()),)}),
    "no-identity": ("GET", "/quiet", {"token": token()}),
    "socket-token": ("GET", "/rest/x", {"headers": (*UPGRADE, lambda r: f"Sec-WebSocket-Protocol: gateway.auth, gateway.bearer.{r.token()}, chat")}),
    "socket-two-tokens": ("GET", "/rest/x", {"token": token(), "headers": (*UPGRADE, lambda r: f"Sec-WebSocket-Protocol: gateway.bearer.{r.token()}")}),
    "socket-cookie": ("GET", "/rest/x", {"headers": (*UPGRADE, cookies(token()))}),
    "own-address": ("GET", "/healthz"),
    "frontend-api": ("POST", "/__clerk/v1/client?a=b", {"origin": APP, "token": token(), "headers": (*FORGED, cookies(token()), "Clerk-Secret-Key: x", "Content-Length: 0")}),
    "frontend-api-preflight": ("OPTIONS", "/__clerk/v1/client", {"origin": APP, "headers": CORS_PREFLIGHT}),
    "frontend-api-odd-path": ("GET", "/__clerk/v1/a%2fb"),
}  # fmt: skip
ANSWERED_HERE = {"own-address"}


@pytest.fixture(scope="module")
def echo() -> Echo:
    return Echo()


@pytest.fixture
async def running(echo: Echo) -> AsyncIterator[Running]:
    async with ScriptedUpstream(echo) as upstream:
        url = f"http://127.0.0.1:{upstream.port}"
        upstreams = {
            "api": {"url": url},
            "base": {"url": f"{url}/base", "host_header": "upstream"},
            "quiet": {"url": url, "identity": False},
        }
        extra = {"headers": {"X-Tier": "meta.tier", "X-Seats": "o"}}
        clerk = settings(1)["clerk"] | {
            "secret_key": SECRET_KEY, "proxy_path": "/__clerk", "proxy_url": "https://gw.example.com/__clerk",
            "frontend_api_url": url,
        }  # fmt: skip
        given = {"upstreams": upstreams, "routes": ROUTES, "identity": extra, "clerk": clerk}
        async with gateway(upstream.port, **given) as started:
            yield started


def asked(case: tuple[Any, ...], running: Running) -> tuple[str, str, dict[str, Any]]:
    method, target, more = (*case, {})[:3]
    headers = tuple(line(running) if callable(line) else line for line in more.get("headers", ()))
    made = {"token": more["token"](running)} if "token" in more else {}
    return method, target, more | made | {"headers": headers}


@pytest.mark.parametrize("name", CASES)
async def test_explain_says_what_the_gateway_does(name: str, running: Running, echo: Echo) -> None:
    echo.requests.clear()
    method, target, more = asked(CASES[name], running)
    found = await both(running, method, target, **more)
    _check_checks(found.story)
    _check_masked(found.story, more)
    story, answer, verdict = found.story, found.answer, found.story.verdict
    assert bool(verdict.remedy) is (verdict.code is not None)
    if story.onward is not None:
        (request,) = echo.requests
        assert (story.onward.method, story.onward.target) == (request.method, request.target)
        assert _told(story.onward.fields) == _told(request.fields)
        return
    assert echo.requests == []
    if name in ANSWERED_HERE:
        assert (verdict.status, verdict.code, answer.status) == (None, None, 200)
    elif verdict.status == 204:
        granted = answer.value("access-control-allow-origin") is not None
        assert (answer.status, granted) == (204, "granted" in verdict.words and "nothing" not in verdict.words)
    else:
        if method != "HEAD":
            told = answer.json
            assert (verdict.code, verdict.reason) == (told["code"], told.get("reason"))
        assert verdict.status == answer.status
        assert {(have.lower(), value) for have, value in verdict.fields} <= set(answer.fields)


def _told(fields: Any) -> list[tuple[str, str]]:
    """Leave out what is another for each request, and the framing."""
    ours = ("x-request-id", "traceparent", "content-length", "x-user-assertion")
    return [(have, value) for have, value in fields if have.lower() not in ours]


def _check_checks(story: Story) -> None:
    """The first check that is said to fail is the one that decides, and none fails where the request passes."""
    failed = [step for step in story.steps if step.outcome == BAD and step.stage != "CORS"]
    reason = story.verdict.reason or story.verdict.code
    if any("nobody's" in step.text for step in story.steps):
        return  # a bad cookie on a route that takes anonymous clients: it fails, and does not decide
    assert bool(failed) is (reason is not None), story.steps
    assert reason is None or reason.partition("-refresh-")[0].removeprefix("session-") in failed[0].text


def _check_masked(story: Story, more: dict[str, Any]) -> None:
    """No token, whole or in parts that would do, and no value of a cookie is written."""
    text = "\n".join([*as_lines(story), as_json(story)])
    secrets = [more.get("token", ""), *(line.partition(": ")[2] for line in more["headers"])]
    parts = {part for secret in secrets for part in re.split(r"[.;=, ]", secret) if len(part) > 30}
    assert not [part for part in parts if part in text]
    assert "dark" not in text
    assert SECRET_KEY not in text
    assert "dXNlcjpwYXNz" not in text
    json.loads(as_json(story))


async def test_keys_that_cannot_be_had_are_told(echo: Echo) -> None:
    async with FakeIssuer() as issuer:
        clerk = {"issuer": CLERK.issuer, "jwks_url": issuer.jwks_url, "authorized_parties": [APP]}
        issuer.status = 500
        async with ScriptedUpstream(echo) as upstream, gateway(upstream.port, clerk=clerk, first_keys_s=0.1) as running:
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(run, "FIRST_KEYS_S", 0.1)
                found = await both(running, "GET", "/x", token=running.token())
    verdict = found.story.verdict
    assert (
        (verdict.status, verdict.code) == (found.answer.status, found.answer.json["code"]) == (503, "keys_unavailable")
    )
    assert verdict.remedy.startswith("Make clerk.jwks_url reachable")
    (key,) = [step for step in found.story.steps if step.stage == "key"]
    assert (key.outcome, key.text) == (BAD, f"{issuer.jwks_url} cannot be had: status 500")
    exp = next(step for step in found.story.steps if step.stage == "exp")
    assert exp.outcome == NOTE
    assert exp.text.endswith("not proved by a signature")


async def test_of_several_instances_the_chosen_one_is_told_and_why(echo: Echo) -> None:
    async with FakeIssuer(CLERK) as one, FakeIssuer(OTHER) as two:
        issuers = [
            {"name": name, "issuer": clerk.issuer, "jwks_url": issuer.jwks_url, "authorized_parties": [APP]}
            for name, clerk, issuer in (("one", CLERK, one), ("two", OTHER, two))
        ]
        routes = [{"name": "two", "path": "/two", "upstream": "api", "issuer": "two"},
                  {"name": "rest", "path": "/*", "upstream": "api"}]  # fmt: skip
        async with ScriptedUpstream(echo) as upstream:
            async with gateway(upstream.port, clerk={}, issuers=issuers, routes=routes) as running:
                other = OTHER.session_token(running.clock())
                good = await both(running, "GET", "/x", token=other)
                bad = await both(running, "GET", "/two", token=running.token())
    assert any(step.text == '"two": kid ins_other is one of its keys' for step in good.story.steps)
    assert any(step.text == f"kid ins_other, from {two.jwks_url}" for step in good.story.steps)
    assert good.story.onward is not None
    assert bad.story.verdict.reason == bad.answer.json["reason"] == "token-invalid-issuer"
    _check_checks(bad.story)
    assert [step.text for step in bad.story.steps if step.stage == "issuer"] == [
        f'kid ins_test and iss {CLERK.issuer} are not those of "two", as the route or the cookie asks '
        "(token-invalid-issuer)"
    ]


async def test_the_clocks_difference_is_told(echo: Echo) -> None:
    async with FakeIssuer() as issuer:
        clerk = {"issuer": CLERK.issuer, "jwks_url": issuer.jwks_url, "authorized_parties": [APP]}
        async with ScriptedUpstream(echo) as upstream, gateway(upstream.port, clerk=clerk) as running:
            issuer.headers = {"Date": formatdate(running.clock() - 192, usegmt=True)}
            ahead = (await both(running, "GET", "/x", token=running.token())).story
            issuer.headers = {"Date": formatdate(running.clock() + 3, usegmt=True)}
            behind = (await both(running, "GET", "/x", token=running.token())).story
            issuer.headers = {"Date": "yesterday"}
            unknown = (await both(running, "GET", "/x", token=running.token())).story
    clocks = [
        [(step.outcome, step.text) for step in told.steps if step.stage == "clock"] for told in (ahead, behind, unknown)
    ]
    assert clocks == [
        [(BAD, "ours is 3 min 12 s ahead of the issuer's; up to 5 s are let pass")],
        [(NOTE, "ours is 3 s behind the issuer's; up to 5 s are let pass")],
        [],
    ]


DOCUMENT = ("Accept: text/html", "Sec-Fetch-Dest: document")
NOBODY = "http://127.0.0.1:9"  # the discard port: nobody listens there


@pytest.mark.parametrize("uat", [None, 20], ids=["no-uat", "older-than-uat"])
async def test_a_document_that_goes_through_the_handshake_is_told_where(echo: Echo, uat: int | None) -> None:
    clerk = settings(1)["clerk"] | {"secret_key": SECRET_KEY, "handshake": True, "api_url": NOBODY}
    async with ScriptedUpstream(echo) as upstream, gateway(upstream.port, clerk=clerk) as running:
        line = cookies(token(), uat=uat)(running)
        found = await both(running, "GET", "/x", headers=(*DOCUMENT, line))
    verdict = found.story.verdict
    assert (verdict.status, found.answer.status) == (307, 307)
    assert verdict.fields == (("Location", found.answer.value("location")),)
    text = "\n".join(as_lines(found.story))
    assert "=> 307: sent elsewhere first" in text
    assert line.split("=")[1].split(";")[0].split(".")[1] not in text


async def test_clerk_is_asked_for_no_session(echo: Echo) -> None:
    asked_for = Echo()
    async with ScriptedUpstream(echo) as upstream, ScriptedUpstream(asked_for) as api:
        clerk = settings(1)["clerk"] | {
            "secret_key": SECRET_KEY, "handshake": True, "api_url": f"http://127.0.0.1:{api.port}",
        }  # fmt: skip
        async with gateway(upstream.port, clerk=clerk) as running:
            line = cookies(aged(-120), uat=-200)(running) + f"; __refresh_{SUFFIX}=secret-refresh-token"
            config, now = config_of(running), running.clock
            refresh = await story_of(Asked("GET", "/x", headers=(HOST, *DOCUMENT, line)), config, now=now)
            form = await story_of(Asked("POST", "/x", headers=(HOST, f"Origin: {APP}", line)), config, now=now)
            api_call = await story_of(Asked("POST", "/x", running.token(), headers=(HOST, line)), config, now=now)
            nonce = Asked("GET", "/x?__clerk_handshake_nonce=abcdef0123456789", headers=(HOST, *DOCUMENT))
            returning = await story_of(nonce, config, now=now)
            plain = await story_of(Asked("GET", "/x", running.token(), headers=(HOST,)), config, now=now)
    assert asked_for.requests == []
    assert (refresh.verdict.status, refresh.verdict.reason) == (307, "session-token-expired-refresh-missing-api-client")
    assert returning.verdict.status == 401
    assert all(explained(told, "pages") for told in (refresh, returning, form))
    assert not any(explained(told, "pages") for told in (plain, api_call))  # nothing of that is at stake
    assert "secret-refresh" not in "\n".join(as_lines(refresh))


async def test_an_opaque_token_that_clerk_cannot_be_asked_about_is_no_bad_one(echo: Echo) -> None:
    clerk = settings(1)["clerk"] | {"secret_key": SECRET_KEY, "api_url": NOBODY}
    routes = [{"name": "rest", "path": "/*", "upstream": "api", "token": ["session", "api_key"]}]
    async with ScriptedUpstream(echo) as upstream, gateway(upstream.port, clerk=clerk, routes=routes) as running:
        found = await both(running, "GET", "/x", token="ak_0123456789abcdef0123456789abcdef")
    verdict = found.story.verdict
    assert (
        (verdict.status, verdict.code) == (found.answer.status, found.answer.json["code"]) == (503, "clerk_unavailable")
    )
    assert verdict.remedy.startswith("Make clerk.api_url reachable")
    (step,) = [step for step in found.story.steps if step.stage == "token"]
    assert (step.outcome, step.text.startswith("an opaque one (api_key), which Clerk alone can judge")) == (BAD, True)
