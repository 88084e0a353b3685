from gateway.ops.explain.request import Asked
from gateway.ops.explain.step import BAD, GOOD, NOTE
from tests.fakes.gateway import APP
from tests.ops.explain.conftest import HOST, explained, story

ROUTES = [
    {"name": "tenants", "path": "/x", "host": "*.tenants.example", "upstream": "api", "auth": "public"},
    {"name": "posts", "path": "/x", "methods": ["POST"], "upstream": "api", "auth": "public"},
    {"name": "odd", "path": "/odd/*", "allow_encoded": [";"], "upstream": "api", "auth": "public"},
    {"name": "rest", "path": "/x/*", "host": "gw.example.com", "methods": ["GET"], "upstream": "api", "auth": "public"},
    {"name": "never", "path": "/*", "upstream": "api", "auth": "public"},
]


def asked(method: str, target: str, *headers: str, origin: str | None = None) -> Asked:
    return Asked(method, target, origin=origin, headers=(HOST, *headers))


async def test_routes_are_told_up_to_the_one_that_is_taken_and_why_each_was_passed_over():
    told = await story(asked=asked("GET", "/%78"), routes=ROUTES)
    assert explained(told, "path") == [(NOTE, "/%78 is compared as /x")]
    assert explained(told, "route") == [
        (NOTE, '"tenants" is passed over: its host is *.tenants.example, the request\'s gw.example.com'),
        (NOTE, '"posts" is passed over: its methods are POST, the request\'s is GET'),
        (NOTE, '"odd" is passed over: its path is /odd/*'),
        (GOOD, '"rest": /x/* host gw.example.com GET to upstream api, auth: public'),
    ]


async def test_where_none_matches_all_are_told():
    told = await story(asked=asked("PUT", "/x"), routes=ROUTES[:-1])
    assert explained(told, "route")[-1] == (BAD, "none takes PUT /x on host gw.example.com (method_not_allowed)")
    assert len(explained(told, "route")) == 5
    assert told.verdict.fields == (("Allow", "GET, HEAD, POST"),)


async def test_a_path_that_is_ambiguous_says_how():
    told = await story(asked=asked("GET", "/a/%2e%2e/b"), routes=ROUTES)
    assert explained(told, "path") == [
        (BAD, "/a/%2e%2e/b can be read as another path by another server (path: dot segment)")
    ]


async def test_a_path_that_needs_consent_says_what_is_allowed():
    good = await story(asked=asked("GET", "/odd/a;b"), routes=ROUTES)
    assert explained(good, "allow_encoded") == [(GOOD, "the path has ;; allowed: ;")]
    bad = await story(asked=asked("GET", "/odd/a%2fb"), routes=ROUTES)
    assert explained(bad, "allow_encoded") == [(BAD, "the path has %2f; allowed: ; (path: the route allows no %2f)")]
    assert bad.verdict.remedy.startswith("Write the path plainly")


async def test_the_gateways_own_addresses_win_over_routes():
    told = await story(asked=asked("GET", "/readyz"), routes=ROUTES)
    assert explained(told, "own address") == [(GOOD, "the gateway itself answers here, whatever the routes say")]
    assert explained(told, "route") == []


async def test_a_page_that_may_not_read_the_answer_is_told_who_may():
    told = await story(asked=asked("GET", "/x", origin="https://evil.example"), routes=ROUTES)
    assert explained(told, "CORS") == [
        (
            BAD,
            f"a page of https://evil.example may not read the answer, which comes all the same; cors.origins (GATEWAY_CORS_ORIGINS): {APP}",
        )
    ]
    told = await story(asked=asked("GET", "/x", origin=APP), routes=ROUTES)
    assert explained(told, "CORS") == [(GOOD, f"a page of {APP} may read the answer")]


async def test_each_part_of_a_preflight_is_judged_by_itself():
    cors = {"origins": ["https://*.example.com"], "methods": ["GET"], "headers": ["X-Mine"]}
    lines = ("Access-Control-Request-Method: PUT", "Access-Control-Request-Headers: x-mine, x-other,")
    told = await story(asked=asked("OPTIONS", "/x", *lines, origin="https://evil.example"), routes=ROUTES, cors=cors)
    assert explained(told, "CORS") == [
        (BAD, "https://evil.example is not listed; cors.origins (GATEWAY_CORS_ORIGINS): https://*.example.com"),
        (BAD, "PUT may not be used; methods: GET"),
        (GOOD, "header x-mine may be sent; headers: X-Mine"),
        (BAD, "header x-other may not be sent; headers: X-Mine"),
    ]
    assert told.verdict.words == "the preflight is answered, nothing is granted"


async def test_without_cors_the_upstreams_own_passes():
    told = await story(asked=asked("GET", "/x", origin=APP), routes=ROUTES, cors=None)
    assert explained(told, "CORS") == [(NOTE, "off here: what the upstream says about it passes untouched")]
    line = "Access-Control-Request-Method: PUT"
    told = await story(asked=asked("OPTIONS", "/x", line, origin=APP), routes=ROUTES, cors=None)
    assert explained(told, "CORS") == [(NOTE, "off here: a preflight is an ordinary request")]


async def test_an_admin_key_for_convex_is_refused():
    upstreams = {"convex": {"url": "https://happy-animal-1.convex.cloud"}}
    routes = [{"name": "convex", "path": "/*", "upstream": "convex"}]
    told = await story(asked=asked("GET", "/api/query?adminKey=prod:x%7Cy"), upstreams=upstreams, routes=routes)
    assert explained(told, "convex") == [(BAD, "no admin key may pass (convex_admin)")]
    assert told.verdict.status == 403
