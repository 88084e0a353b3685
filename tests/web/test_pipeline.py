"""The whole way of a request, over real sockets: who may pass, what the upstream sees, what the client is told."""

from collections.abc import AsyncIterator

import pytest

from tests.fakes.clerk import FakeClerk
from tests.fakes.gateway import APP, CLERK, Running, gateway
from tests.fakes.upstream import Echo, ScriptedUpstream

ADMIN = {"o": {"id": "org_1", "slg": "acme", "rol": "admin"}}
MEMBER = {"o": {"id": "org_1", "slg": "acme", "rol": "member"}}


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
async def running(echo: Echo) -> AsyncIterator[Running]:
    async with ScriptedUpstream(echo) as upstream, gateway(upstream.port) as started:
        yield started


async def test_verified_user_reaches_the_upstream_with_trusted_headers(running: Running, echo: Echo) -> None:
    answer = await running.get("/hello?q=1", token=running.token(sub="user_7", **ADMIN))
    assert answer.status == 200
    assert echo.last.target == "/hello?q=1"
    assert echo.last.value("X-User-Id") == "user_7"
    assert echo.last.value("X-User-Session-Id") == "sess_1"
    assert echo.last.value("X-User-Org-Role") == "org:admin"
    assert echo.last.value("Host") == "gw.example.com"
    assert echo.last.value("X-Forwarded-For") == "127.0.0.1"
    assert echo.last.value("X-Request-Id") == answer.value("x-request-id")
    assert echo.last.value("Authorization") is None


@pytest.mark.parametrize("route", ["public", "optional", "admin", "rest"])
@pytest.mark.parametrize(
    "name", ["X-User-Id", "x-user-id", "X_User_Id", "X.User.Id", "X-USER_Org-Role", "X-Clerk-Auth"]
)
async def test_nobody_says_who_he_is(running: Running, echo: Echo, route: str, name: str) -> None:
    await running.get(f"/{route}/x", token=running.token(**ADMIN), lines=(f"{name}: user_evil", f"{name}: user_evil"))
    assert all(value != "user_evil" for _, value in echo.last.fields)
    assert echo.last.values("X-User-Id") == ([] if route == "public" else ["user_1"])


@pytest.mark.parametrize(
    ("path", "credential", "status", "code", "reason"),
    [
        pytest.param("/public/x", None, 200, None, None, id="public-without"),
        pytest.param("/public/x", "nonsense", 200, None, None, id="public-reads-nothing"),
        pytest.param("/optional/x", None, 200, None, None, id="optional-without"),
        pytest.param("/optional/x", "nonsense", 401, "invalid_token", "token-invalid", id="optional-bad-token"),
        pytest.param("/x", None, 401, "missing_credential", "session-token-and-uat-missing", id="required-without"),
        pytest.param("/x", "nonsense", 401, "invalid_token", "token-invalid", id="required-nonsense"),
        pytest.param("/x", {"exp": -60}, 401, "invalid_token", "token-expired", id="expired"),
        pytest.param("/x", {"iss": "https://evil.example"}, 401, "invalid_token", "token-invalid-issuer", id="issuer"),
        pytest.param("/x", {"azp": "https://evil.example"}, 401, "invalid_token", "token-invalid-authorized-parties",
                     id="foreign-party"),
        pytest.param("/x", {"sts": "pending"}, 401, "invalid_token", "session-pending", id="pending"),
        pytest.param("/admin/x", MEMBER, 403, "forbidden", "role", id="member-of-admin-route"),
        pytest.param("/admin", ADMIN, 200, None, None, id="admin-at-the-prefix-itself"),
        pytest.param("/a/../admin", ADMIN, 400, "bad_request", "path", id="dot-segments"),
        pytest.param("/public/%2e%2e/admin", None, 400, "bad_request", "path", id="encoded-dot-segments"),
        pytest.param("/public/..%2fadmin", None, 400, "bad_request", "path", id="encoded-slash"),
        pytest.param("//admin", None, 400, "bad_request", "path", id="double-slash"),
        pytest.param("/public/x#/admin", None, 400, "bad_request", "target", id="fragment"),
    ],
)  # fmt: skip
async def test_who_may_pass(
    running: Running, echo: Echo, path: str, credential: dict[str, object] | str | None, status: int,
    code: str | None, reason: str | None,
) -> None:  # fmt: skip
    if isinstance(credential, dict):
        credential = {k: running.clock() + v if k == "exp" else v for k, v in credential.items()}  # type: ignore[operator]
        credential = running.token(**credential)
    answer = await running.get(path, token=credential)
    assert answer.status == status
    assert len(echo.requests) == (status == 200)
    if status != 200:
        assert answer.value("content-type") == "application/problem+json"
        assert answer.value("cache-control") == "no-store"
        assert (answer.json["code"], answer.json.get("reason")) == (code, reason)
        assert answer.json["request_id"] == answer.value("x-request-id")


async def test_foreign_and_tampered_tokens_are_refused(running: Running) -> None:
    foreign = FakeClerk(key_name="other").session_token(running.clock())
    head, body, signature = running.token().split(".")
    for token in (foreign, f"{head}.{body}.{signature[:-6]}AAAAAA"):
        answer = await running.get("/x", token=token)
        assert (answer.status, answer.json["reason"]) == (401, "token-invalid-signature")
        assert answer.value("www-authenticate") == (
            'Bearer error="invalid_token", error_description="token-invalid-signature"'
        )


async def test_no_credential_is_told_without_an_error_code(running: Running) -> None:
    assert (await running.get("/x")).value("www-authenticate") == "Bearer"


async def test_two_authorization_fields_are_refused(running: Running) -> None:
    line = f"Authorization: Bearer {running.token()}"
    answer = await running.get("/x", lines=(line, line))
    assert (answer.status, answer.json["reason"]) == (400, "two-credentials")


async def test_a_token_is_good_until_its_end_and_not_longer(running: Running) -> None:
    token = running.token()
    running.clock.seconds += 60 + 4.9  # its end and the tolerance: remembered or not, it still counts
    assert (await running.get("/x", token=token)).status == 200
    running.clock.seconds += 0.2
    answer = await running.get("/x", token=token)
    assert (answer.status, answer.json["reason"]) == (401, "token-expired")


async def test_a_remembered_token_meets_each_routes_own_rules(running: Running) -> None:
    token = running.token(**MEMBER)
    assert [(await running.get(path, token=token)).status for path in ("/x", "/admin/x", "/x")] == [200, 403, 200]


# --- cookies ---------------------------------------------------------------------------------------------------------


def cookies(running: Running, **overrides: object) -> str:
    return f"theme=dark; __session={running.token(**overrides)}; __client_uat={int(running.clock())}; lang=de"


async def test_clerks_cookies_are_a_credential_and_stay_at_the_gateway(running: Running, echo: Echo) -> None:
    answer = await running.get("/x", fields={"Cookie": cookies(running)})
    assert answer.status == 200
    assert echo.last.value("X-User-Id") == "user_1"
    assert echo.last.value("Cookie") == "theme=dark; lang=de"


async def test_a_bad_header_token_is_not_rescued_by_a_good_cookie(running: Running) -> None:
    assert (await running.get("/x", token="nonsense", fields={"Cookie": cookies(running)})).status == 401


async def test_a_signed_out_browser_is_signed_out_at_once(running: Running) -> None:
    signed_out = f"__session={running.token()}; __client_uat=0"
    answer = await running.get("/x", fields={"Cookie": signed_out})
    assert (answer.status, answer.json["reason"]) == (401, "session-token-but-no-client-uat")


async def test_a_token_from_before_the_last_sign_in_is_refused(running: Running) -> None:
    newer = f"__session={running.token()}; __client_uat={int(running.clock()) + 1}"
    answer = await running.get("/x", fields={"Cookie": newer})
    assert (answer.status, answer.json["reason"]) == (401, "session-token-iat-before-client-uat")
    assert (await running.get("/optional/x", fields={"Cookie": newer})).status == 200


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        pytest.param({}, 403, id="no-origin"),
        pytest.param({"Origin": "https://evil.example"}, 403, id="foreign-origin"),
        pytest.param({"Origin": "null"}, 403, id="null-origin"),
        pytest.param({"Origin": APP}, 200, id="listed-origin"),
        pytest.param({"Origin": "http://gw.example.com"}, 200, id="own-origin"),
        pytest.param({"Sec-Fetch-Site": "same-origin"}, 200, id="same-origin-without-origin"),
        pytest.param({"Sec-Fetch-Site": "same-site"}, 403, id="sibling-subdomain"),
    ],
)
@pytest.mark.parametrize("path", ["/x", "/optional/x"])
async def test_a_cookie_changes_nothing_from_another_site(
    running: Running, path: str, fields: dict[str, str], status: int
) -> None:
    answer = await running.ask("POST", path, fields={"Cookie": cookies(running), **fields}, body=b"x")
    assert answer.status == status
    if status == 403:
        assert answer.json["reason"] == "origin"


# --- CORS ------------------------------------------------------------------------------------------------------------


async def test_a_preflight_is_answered_here(running: Running, echo: Echo) -> None:
    asked = {"Origin": APP, "Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "authorization"}
    answer = await running.ask("OPTIONS", "/admin/x", fields=asked)
    assert answer.status == 204
    assert answer.value("access-control-allow-origin") == APP
    assert "PUT" in (answer.value("access-control-allow-methods") or "")
    assert echo.requests == []


async def test_a_refused_preflight_grants_nothing(running: Running) -> None:
    asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "PUT"}
    answer = await running.ask("OPTIONS", "/x", fields=asked)
    assert answer.status == 204
    assert not [name for name, _ in answer.fields if name.startswith("access-control-")]
    assert answer.value("vary") == "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/public/x", 200), ("GET", "/x", 401), ("GET", "/admin/x", 403), ("GET", "//x", 400),
        ("TRACE", "/x", 405), ("POST", "/public/x", 413), ("GET", "/down/x", 502),
    ],
)  # fmt: skip
async def test_a_page_can_read_every_answer(echo: Echo, method: str, path: str, status: int) -> None:
    routes = [
        {"name": "down", "path": "/down/*", "upstream": "down", "auth": "public"},
        {"name": "public", "path": "/public/*", "upstream": "api", "auth": "public", "max_body_bytes": 5},
        {"name": "admin", "path": "/admin/*", "upstream": "api", "require": {"role": "admin"}},
        {"name": "rest", "path": "/*", "upstream": "api"},
    ]
    async with ScriptedUpstream(echo) as upstream:
        places = {"api": {"url": f"http://127.0.0.1:{upstream.port}"}, "down": {"url": "http://127.0.0.1:1"}}
        async with gateway(upstream.port, routes=routes, upstreams=places) as running:
            token = running.token() if status == 403 else None
            body = b"123456" if status == 413 else b""
            answer = await running.ask(method, path, token=token, fields={"Origin": APP}, body=body)
    assert answer.status == status
    assert answer.values("access-control-allow-origin") == [APP]
    assert answer.value("access-control-allow-credentials") == "true"
    assert "Origin" in ", ".join(answer.values("vary"))


@pytest.mark.parametrize(
    ("target", "lines", "status"),
    [
        pytest.param("/own/a;b", (), 400, id="ambiguous-path"),
        pytest.param("/own/a", ("Expect: a-miracle",), 417, id="expectation"),
        pytest.param("/own/a", tuple(f"X-{n}: {'x' * 7000}" for n in range(6)), 431, id="head-too-large"),
    ],
)
async def test_what_is_refused_before_it_is_read_still_has_its_routes_cors_and_an_id(
    target: str, lines: tuple[str, ...], status: int
) -> None:
    routes = [{"name": "own", "path": "/own/*", "upstream": "api", "auth": "public", "cors": {"origins": [APP]}}]
    async with ScriptedUpstream(Echo()) as upstream, gateway(upstream.port, routes=routes, cors=None) as running:
        answer = await running.get(target, fields={"Origin": APP}, lines=lines)
        logged = [line["request_id"] for line in await running.logged() if line["event"] == "request"]
    assert (answer.status, answer.values("access-control-allow-origin")) == (status, [APP])
    assert len(answer.json["request_id"]) == 32
    assert logged == [answer.value("x-request-id")]


async def test_the_assertion_header_is_nobodys_to_send_whatever_the_prefix_is(echo: Echo) -> None:
    identity = {"prefix": "X-Auth-", "assertion": {"header": "X-Signed"}}
    async with ScriptedUpstream(echo) as upstream, gateway(upstream.port, identity=identity) as running:
        for path in ("/public/x", "/x"):
            await running.get(path, token=running.token(), lines=("X-Signed: forged", "x_signed: forged"))
            assert not [value for _, value in echo.last.fields if value == "forged"]
    assert echo.last.value("X-Auth-Id") == "user_1"


async def test_the_upstreams_own_cors_is_replaced_where_the_route_has_cors(echo: Echo) -> None:
    echo.fields = ("Access-Control-Allow-Origin: *", "Access-Control-Expose-Headers: X-Own", "Vary: Accept")
    async with ScriptedUpstream(echo) as upstream, gateway(upstream.port) as running:
        answer = await running.get("/public/x", fields={"Origin": APP})
    assert answer.values("access-control-allow-origin") == [APP]
    assert answer.values("access-control-expose-headers") == []
    assert answer.values("vary") == ["Accept", "Origin"]


async def test_without_cors_options_and_the_upstreams_cors_pass(echo: Echo) -> None:
    echo.fields = ("Access-Control-Allow-Origin: *",)
    async with ScriptedUpstream(echo) as upstream, gateway(upstream.port, cors=None) as running:
        asked = {"Origin": APP, "Access-Control-Request-Method": "PUT"}
        answer = await running.ask("OPTIONS", "/public/x", fields=asked)
    assert answer.status == 200
    assert answer.values("access-control-allow-origin") == ["*"]
    assert echo.last.method == "OPTIONS"


# --- routes ----------------------------------------------------------------------------------------------------------


async def test_an_unknown_path_is_404_and_another_method_405(echo: Echo) -> None:
    routes = [{"name": "only", "path": "/only", "upstream": "api", "auth": "public", "methods": ["GET"]}]
    async with ScriptedUpstream(echo) as upstream, gateway(upstream.port, routes=routes) as running:
        missing = await running.get("/other")
        other = await running.ask("POST", "/only")
        head = await running.ask("HEAD", "/only")
    assert (missing.status, missing.json["code"]) == (404, "no_route")
    assert (other.status, other.json["code"]) == (405, "method_not_allowed")
    assert "GET" in (other.value("allow") or "")
    assert head.status == 200


async def test_prefixes_change_the_path_and_nothing_else(echo: Echo) -> None:
    route = {"name": "v1", "path": "/api/v1/*", "upstream": "api", "auth": "public", "strip_prefix": "/api/v1",
             "add_prefix": "/inner"}  # fmt: skip
    async with ScriptedUpstream(echo) as upstream:
        place = {"api": {"url": f"http://127.0.0.1:{upstream.port}/base"}}
        async with gateway(upstream.port, routes=[route], upstreams=place) as running:
            targets = ["/api/v1/a%20b/~c?x=%2F&y", "/api/v1", "/api/v1/?", "/%61pi/v1/z"]
            for target in targets:
                assert (await running.get(target)).status == 200
    assert [request.target for request in echo.requests] == [
        "/base/inner/a%20b/~c?x=%2F&y", "/base/inner/", "/base/inner/?", "/base/inner/z",
    ]  # fmt: skip
    assert echo.last.value("X-Forwarded-Prefix") == "/api/v1"


async def test_while_draining_only_new_upgrades_are_refused(running: Running, echo: Echo) -> None:
    lines = ("Connection: keep-alive, Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
             "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==")  # fmt: skip
    running.app.listener.draining = True
    answer = await running.get("/x", token=running.token(), lines=lines)
    assert (answer.status, answer.json["code"], answer.value("connection")) == (503, "draining", "close")
    assert answer.value("retry-after") == "1"
    assert echo.requests == []
    assert (await running.get("/x", token=running.token())).status == 200


async def test_template_tokens_pass_only_where_their_audience_is_asked_for(echo: Echo) -> None:
    routes = [
        {"name": "t", "path": "/t/*", "upstream": "api", "token": "template", "audience": ["convex"]},
        {"name": "rest", "path": "/*", "upstream": "api"},
    ]
    async with ScriptedUpstream(echo) as upstream, gateway(upstream.port, routes=routes) as running:
        token = CLERK.template_token(running.clock(), aud="convex", email="a@example.com", azp=APP)
        other = CLERK.template_token(running.clock(), aud="other", azp=APP)
        assert (await running.get("/t/x", token=token)).status == 200
        assert echo.last.value("X-User-Email") == "a@example.com"
        assert echo.last.value("X-User-Token-Type") == "template"
        assert (await running.get("/x", token=token)).json["reason"] == "token-type-mismatch"
        assert (await running.get("/t/x", token=other)).json["reason"] == "token-verification-failed"
        assert (await running.get("/t/x", token=running.token())).json["reason"] == "token-type-mismatch"
