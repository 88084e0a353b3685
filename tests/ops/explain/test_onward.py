from gateway.ops.explain.request import Asked
from gateway.ops.explain.step import NOTE
from tests.fakes.gateway import CLERK
from tests.ops.explain.conftest import NOW, explained, story

UPSTREAMS = {
    "api": {"targets": [{"url": "http://127.0.0.1:3000"}, {"url": "https://b.example"}], "host_header": "upstream"},
    "quiet": {"url": "http://127.0.0.1:3000", "identity": False},
}
ROUTES = [
    {"name": "quiet", "path": "/quiet", "upstream": "quiet"},
    {"name": "rest", "path": "/*", "upstream": "api", "rate_limit": "5/min"},
]
TOKEN = CLERK.session_token(NOW)


async def told(target: str = "/x", *headers: str, **overrides):
    given = {"upstreams": UPSTREAMS, "routes": ROUTES} | overrides
    return await story(asked=Asked("GET", target, TOKEN, headers=headers), **given)


async def test_what_stays_behind_says_why():
    lines = (
        "Host: gw.example.com", "X-User-Id: evil", "X_User_Email: evil", "X-Tier: evil", "X-Clerk-Auth: x",
        "X-Forwarded-For: 1.2.3.4", "Connection: keep-alive, X-Mine", "X-Mine: 1", "TE: trailers", "X-Request-Id: r",
        "traceparent: t", "Cookie: __session=x; a=b", "X-Kept: 1", "Accept: */*",
    )  # fmt: skip
    onward = (await told("/x?a=b", *lines, identity={"headers": {"X-Tier": "tier"}})).onward
    assert onward is not None
    assert onward.dropped == (
        ("Authorization", "Clerk's credential stays here (forward_token: false)"),
        ("Host", "replaced by the upstream's own (host_header: upstream)"),
        ("X-User-Id", "who is calling is not the client's to say"),
        ("X_User_Email", "who is calling is not the client's to say"),
        ("X-Tier", "who is calling is not the client's to say"),
        ("X-Clerk-Auth", "not the client's to say: somebody behind us would believe it"),
        ("X-Forwarded-For", "only trusted_proxies are believed"),
        ("Connection", "hop-by-hop (RFC 9110 §7.6.1)"),
        ("X-Mine", "named by Connection (RFC 9110 §7.6.1)"),
        ("TE", "hop-by-hop (RFC 9110 §7.6.1)"),
        ("X-Request-Id", "only a trusted proxy's is taken"),
        ("traceparent", "only a trusted proxy's is taken"),
        ("Cookie", "goes on without Clerk's (forward_token: false)"),
    )
    assert (onward.method, onward.target, onward.upstream) == ("GET", "/x?a=b", "api")
    assert onward.endpoints == ("http://127.0.0.1:3000", "https://b.example:443")
    assert ("X-Kept", "1") in onward.fields
    assert ("X-User-Id", "user_1") in onward.fields


async def test_all_cookies_may_be_clerks():
    onward = (await told("/x", "Cookie: __session=x")).onward
    assert onward is not None
    assert ("Cookie", "Clerk's stay here (forward_token: false)") in onward.dropped


async def test_what_bears_on_the_identity_is_told():
    assert explained(await told("/quiet"), "identity") == [
        (NOTE, "upstream quiet is told nothing of who is calling (identity: false)")
    ]
    assert explained(await told(identity={"headers": {"X-Fva": "fva", "X-Org": "o"}}), "identity") == []
    token = CLERK.session_token(NOW, o={"id": "org_1"})
    given = {"upstreams": UPSTREAMS, "routes": ROUTES, "identity": {"headers": {"X-Org": "o"}}}
    odd = await story(asked=Asked("GET", "/x", token), **given)
    assert explained(odd, "identity") == [(NOTE, "X-Org is left out: its claim is an object")]


async def test_rates_are_named_and_not_counted():
    found = await told(rate_limits={"by_ip": "100/s"})
    ((outcome, text),) = explained(found, "rate limits")
    assert outcome == NOTE
    assert text.startswith("by_ip 100")
    assert "by_caller 5" in text
    assert text.endswith("of the route: counted by the running gateway alone")
