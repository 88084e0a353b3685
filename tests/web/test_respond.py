"""Answers as bytes: framing made anew, refusals in the contract's form."""

import json
from dataclasses import dataclass, field

import pytest

from gateway.errors import (
    BadRequest,
    Forbidden,
    GatewayError,
    InvalidToken,
    KeysUnavailable,
    MethodNotAllowed,
    MissingCredential,
    RateLimited,
    Redirect,
    SignInRedirect,
    StepUpNeeded,
)
from gateway.web import respond


@dataclass
class Given:
    status: int = 200
    length: int | None = None
    body: bytes = b""
    complete: bool = False
    reason: bytes = b"OK"
    head: list[bytes] = field(default_factory=list)
    cors: list[bytes] = field(default_factory=list)


answer = Given


@pytest.mark.parametrize(
    ("given", "is_head", "http_10", "framing"),
    [
        pytest.param(answer(body=b"hi", complete=True), False, False, b"\r\nContent-Length: 2", id="whole"),
        pytest.param(answer(length=9), False, False, b"\r\nContent-Length: 9", id="length"),
        pytest.param(answer(), False, False, respond.CHUNKED, id="unknown"),
        pytest.param(answer(), False, True, None, id="unknown-for-1.0"),
        pytest.param(answer(length=9, complete=True), True, False, b"\r\nContent-Length: 9", id="head"),
        pytest.param(answer(complete=True), True, False, b"", id="head-unknown"),
        pytest.param(answer(status=204, complete=True), False, False, b"", id="204"),
        pytest.param(answer(status=304, length=9, complete=True), False, False, b"\r\nContent-Length: 9", id="304"),
    ],
)
def test_framing(given: Given, is_head: bool, http_10: bool, framing: bytes | None) -> None:
    assert respond.framing(given, len(given.body), is_head=is_head, http_10=http_10) == framing


def kinds() -> list[type[GatewayError]]:
    refusals = set(GatewayError.__subclasses__()) - {Redirect}
    return sorted(refusals, key=lambda kind: kind.__name__)


@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.__name__)
def test_every_refusal_is_a_whole_answer(kind: type[GatewayError]) -> None:
    data = respond.refusal(kind(), request_id=b"r1", cors=b"\r\nVary: Origin", connection=respond.CLOSE)
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    told = json.loads(body)
    assert lines[0] == f"HTTP/1.1 {kind.status} {kind.title}"
    assert f"Content-Length: {len(body)}" in lines
    assert {"Content-Type: application/problem+json", "Cache-Control: no-store", "X-Request-Id: r1", "Vary: Origin",
            "Connection: close"} <= set(lines)  # fmt: skip
    assert (told["status"], told["code"], told["request_id"], told["type"]) == (
        kind.status,
        kind.code,
        "r1",
        "about:blank",
    )


def test_statuses_and_codes_are_the_contracts() -> None:
    assert {(kind.status, kind.code) for kind in kinds()} == {
        (400, "bad_request"), (401, "missing_credential"), (401, "invalid_token"), (403, "forbidden"),
        (404, "no_route"), (404, "not_found"), (405, "method_not_allowed"), (408, "request_timeout"), (413, "body_too_large"),
        (417, "expectation_failed"), (429, "rate_limited"), (431, "headers_too_large"), (500, "internal_error"),
        (502, "upstream_unreachable"), (502, "bad_upstream_response"), (503, "keys_unavailable"), (503, "overloaded"),
        (503, "draining"), (503, "no_healthy_endpoint"), (503, "store_unavailable"), (503, "webhooks_not_configured"), (503, "clerk_unavailable"),
        (504, "upstream_timeout"),
    }  # fmt: skip


def test_what_a_status_asks_for_is_there() -> None:
    assert respond.refusal_fields(MissingCredential()) == [b"\r\nWWW-Authenticate: Bearer"]
    assert respond.refusal_fields(InvalidToken("token-expired")) == [
        b'\r\nWWW-Authenticate: Bearer error="invalid_token", error_description="token-expired"'
    ]
    assert respond.refusal_fields(MethodNotAllowed(("GET", "HEAD"))) == [b"\r\nAllow: GET, HEAD"]
    assert respond.refusal_fields(KeysUnavailable()) == [b"\r\nRetry-After: 5"]
    limited = RateLimited("ip", limit=100, remaining=2, reset_s=60, retry_after_s=7)
    assert b"".join(respond.refusal_fields(limited)) == (
        b"\r\nRetry-After: 7\r\nRateLimit-Limit: 100\r\nRateLimit-Remaining: 2\r\nRateLimit-Reset: 60"
    )


def test_step_up_says_in_clerks_form_what_to_prove_again() -> None:
    data = respond.refusal(StepUpNeeded("second_factor", after_min=5), request_id=b"r", cors=b"", connection=b"")
    head, _, body = data.partition(b"\r\n\r\n")
    told = json.loads(body)
    assert head.startswith(b"HTTP/1.1 403 Forbidden\r\nContent-Type: application/problem+json")
    assert (told["code"], told["reason"], told["type"]) == ("forbidden", "max_age", "about:blank")
    assert told["clerk_error"] == {
        "type": "forbidden",
        "reason": "reverification-error",
        "metadata": {"reverification": {"level": "second_factor", "afterMinutes": 5}},
    }
    assert b"clerk_error" not in respond.problem(Forbidden("role"), b"r")


def test_details_are_for_the_log_alone() -> None:
    data = respond.refusal(BadRequest("path", detail="inside"), request_id=b"r", cors=b"", connection=b"")
    assert b"inside" not in data
    assert b'"reason":"path"' in data


def test_a_refusal_of_head_has_no_body() -> None:
    data = respond.refusal(BadRequest(), request_id=b"r", cors=b"", connection=b"", is_head=True)
    assert data.endswith(b"\r\n\r\n")


AUTH = "X-Clerk-Auth-"


def lines_of(error: GatewayError) -> list[str]:
    data = respond.refusal(error, request_id=b"r1", cors=b"\r\nVary: Origin", connection=b"")
    head, _, body = data.partition(b"\r\n\r\n")
    assert isinstance(error, Redirect) is not bool(body)
    return head.decode().split("\r\n")


def test_a_redirect_is_a_whole_answer_that_nobody_keeps() -> None:
    error = Redirect("https://c/h", "session-token-nbf", auth_status="handshake", fields=b"\r\nSet-Cookie: a=1")
    assert lines_of(error) == [
        "HTTP/1.1 307 Temporary Redirect", "Location: https://c/h", "Content-Length: 0", "Cache-Control: no-store",
        "X-Request-Id: r1", "Set-Cookie: a=1", f"{AUTH}Status: handshake", f"{AUTH}Reason: session-token-nbf",
        "Vary: Origin",
    ]  # fmt: skip
    assert lines_of(SignInRedirect("https://c/s"))[:2] == ["HTTP/1.1 302 Found", "Location: https://c/s"]


def test_who_is_not_signed_in_is_told_as_clerks_sdk_does() -> None:
    told = [line for line in lines_of(InvalidToken("token-expired", carrier="cookie")) if line.startswith(AUTH)]
    assert told == [
        f"{AUTH}Status: signed-out", f"{AUTH}Reason: token-expired",
        f"{AUTH}Message: JWT is expired. (reason=token-expired, token-carrier=cookie)",
    ]  # fmt: skip
    told = [line for line in lines_of(MissingCredential("session-token-and-uat-missing")) if line.startswith(AUTH)]
    assert told == [f"{AUTH}Status: signed-out", f"{AUTH}Reason: session-token-and-uat-missing"]
    assert not [line for line in lines_of(KeysUnavailable()) if line.startswith(AUTH)]


def test_an_answer_with_somebodys_cookies_is_kept_by_nobody() -> None:
    given = answer(head=[b"\r\nCache-Control: public, max-age=60", b"\r\nETag: x"])
    respond.private(given)
    assert given.head == [b"\r\nETag: x", b"\r\nCache-Control: no-store"]


@pytest.mark.parametrize(
    "name", ["CDN-Cache-Control", "cloudflare-cdn-cache-control", "Surrogate-Control", "X-Accel-Expires"]
)
def test_nor_by_a_cache_with_a_field_of_its_own(name: str) -> None:
    given = answer(head=[b"\r\n%b: max-age=60" % name.encode(), b"\r\nX-Cache-Control-Of: x"])
    respond.private(given)
    assert given.head == [b"\r\nX-Cache-Control-Of: x", b"\r\nCache-Control: no-store"]
