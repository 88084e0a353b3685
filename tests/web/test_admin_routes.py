"""The routes in force and their exchange, asked over the admin listener."""

from collections.abc import AsyncIterator

import pytest

from tests.fakes.gateway import APP, CLERK
from tests.fakes.operator import ADMIN, BEARER, Operator, is_problem, operated


@pytest.fixture
async def operator() -> AsyncIterator[Operator]:
    async with operated() as started:
        yield started


ROUTES = [
    {
        "name": "admin", "path": "/admin/*", "host": "*.example.com", "methods": ["POST", "GET"], "upstream": "api",
        "token": ["session", "template"], "audience": ["convex"], "strip_prefix": "/admin", "add_prefix": "/v2",
        "require": {"role": "admin", "permission": "org:a:b", "org": "acme", "plan": "pro", "feature": "u:export",
                    "claims": {"a.b": 1}, "max_age_min": {"first": 5}},
        "timeouts": {"response_s": 3}, "max_body_bytes": 7, "allow_encoded": ["%2f"], "allow_pending": True,
        "allow_impersonation": False, "forward_token": True, "cors": None,
        "rate_limit": "20/min", "stream_max_age_s": 60,
    },
    {"name": "rest", "path": "/*", "upstream": "api", "auth": "optional", "require": {"org": True}},
]  # fmt: skip
SHOWN_ADMIN = {
    "name": "admin", "host": "*.example.com", "path": "/admin/*", "methods": ["GET", "POST"], "auth": "required",
    "token": ["session", "template"], "audience": ["convex"], "issuer": None,
    "require": {"role": ["org:admin"], "permission": ["org:a:b"], "org": ["acme"], "plan": ["o:pro", "u:pro"],
                "feature": ["u:export"], "claims": {"a.b": 1}, "max_age_min": {"first": 5}},
    "allow_pending": True, "allow_impersonation": False, "upstream": "api", "endpoints": [{"address": "127.0.0.1:1", "weight": 1, "up": True, "live": 0}],
    "identity": True, "forward_token": True, "host_header": "preserve", "strip_prefix": "/admin", "add_prefix": "/v2",
    "timeouts": {"connect_s": 5.0, "response_s": 3.0, "idle_s": 300.0}, "max_body_bytes": 7, "allow_encoded": ["%2f"],
    "rate_limit": {"by_caller": "20/min burst 20"}, "stream_max_age_s": 60.0, "cors": None,
}  # fmt: skip
CORS = {"origins": [APP, "https://*.a.example.com"], "credentials": False}


async def test_routes_are_shown_in_order_and_in_the_words_of_the_file() -> None:
    async with operated(routes=ROUTES, cors=CORS) as operator:
        answer = (await operator.ask("GET", "/v1/routes", BEARER)).json
    admin, rest = answer["data"]
    assert answer["next_cursor"] is None
    assert admin == SHOWN_ADMIN
    assert (rest["name"], rest["path"], rest["methods"], rest["auth"]) == ("rest", "/*", [], "optional")
    assert rest["require"] == {"org": True}
    assert rest["cors"]["origins"] == CORS["origins"]
    assert rest["cors"]["credentials"] is False


async def test_a_route_shows_whose_tokens_it_takes() -> None:
    issuers = [{"name": "staff", "issuer": CLERK.issuer, "jwt_key": CLERK.pem()}]
    routes = [{"path": "/staff/*", "upstream": "api", "issuer": "staff"}, {"path": "/*", "upstream": "api"}]
    async with operated(clerk={}, issuers=issuers, routes=routes) as operator:
        shown = (await operator.ask("GET", "/v1/routes", BEARER)).json["data"]
    assert [route["issuer"] for route in shown] == ["staff", None]


async def test_a_public_route_requires_nothing(operator: Operator) -> None:
    public, *_ = (await operator.ask("GET", "/v1/routes", BEARER)).json["data"]
    assert (public["auth"], public["require"]) == ("public", {})


async def test_reload_tells_what_changed_and_shows_it(operator: Operator) -> None:
    operator.running.file.write(1, admin=ADMIN, routes=ROUTES)
    answer = await operator.ask("POST", "/v1/reload", BEARER)
    assert (answer.status, answer.json) == (200, {"status": "ok", "changed": ["routes"]})
    shown = (await operator.ask("GET", "/v1/routes", BEARER)).json["data"]
    assert [route["name"] for route in shown] == ["admin", "rest"]


async def test_reload_of_a_broken_file_says_every_problem_and_changes_nothing(operator: Operator) -> None:
    operator.running.file.write(1, admin=ADMIN, listn={}, routes=[{"path": "/*", "upstream": "nowhere"}])
    answer = await operator.ask("POST", "/v1/reload", BEARER)
    assert is_problem(answer, 400, "bad_request", "configuration")
    findings = {finding["key"]: finding for finding in answer.json["findings"]}
    assert findings["listn"]["remedy"] == 'Did you mean "listen"?'
    assert findings["routes[0].upstream"]["file"] == "test.yaml"
    assert isinstance(findings["routes[0].upstream"]["line"], int)
    shown = (await operator.ask("GET", "/v1/routes", BEARER)).json["data"]
    assert [route["name"] for route in shown] == ["public", "optional", "admin", "rest"]
    logged = [line.get("finding", "") for line in await operator.running.logged()]
    assert any("listn" in finding for finding in logged)
