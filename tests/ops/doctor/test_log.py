import json

import pytest

from gateway.ops.doctor.log import log
from tests.ops.doctor.world import configured, levels, said


def line(event="request", **fields):
    return json.dumps({"event": event, "level": "info"} | fields).encode() + b"\n"


def refused(reason, path="/x", code="invalid_token"):
    return line(path=path, status=401, code=code, reason=reason)


@pytest.mark.parametrize(
    ("lines", "level", "words"),
    [
        pytest.param([refused("signature", "/webhooks/clerk", "bad_request")], "error", "Copy the signing secret of this very endpoint", id="webhook-secret"),
        pytest.param([refused("signature", "/clerk-webhook", "bad_request")], "error", "1 × webhooks whose signature", id="webhook-alias"),
        pytest.param([refused("timestamp", "/webhooks/clerk")], "error", "five minutes", id="webhook-time"),
        pytest.param([refused("instance", "/webhooks/clerk")], "error", "another Clerk instance", id="webhook-instance"),
        pytest.param([refused(None, "/webhooks/clerk", "webhooks_not_configured")], "error", "CLERK_WEBHOOK_SIGNING_SECRET", id="webhooks-off"),
        pytest.param([refused("token-invalid-authorized-parties")] * 3, "error", "3 × tokens of pages that are not listed", id="azp"),
        pytest.param([refused("token-invalid-issuer")], "error", "another issuer", id="issuer"),
        pytest.param([refused("jwk-kid-mismatch")], "error", "does not publish", id="kid"),
        pytest.param([refused("token-iat-in-the-future")], "error", "timedatectl", id="clock"),
        pytest.param([refused("session-token-expired-refresh-missing-api-client")], "warning", "expired tokens", id="expired-cookie"),
        pytest.param([refused("origin", code="forbidden")], "warning", "cors.origins", id="origin"),
        pytest.param([refused(None, code="no_route")], "warning", "no route takes", id="no-route"),
        pytest.param([line("jwks_failed", cause="timeout")], "warning", "could not be fetched", id="keys"),
        pytest.param([line("store_down")], "warning", "the store was away", id="store"),
        pytest.param([line(), line("listening")], "ok", "2 lines, and nothing", id="nothing"),
        pytest.param([b"plain text\n", b"{broken\n", b"[]\n", b'{"event": 5}\n', b""], "skipped", "logs.format: json", id="another-log"),
        pytest.param([b"gateway-1  | " + refused("token-invalid-issuer")], "error", "another issuer", id="behind-a-prefix"),
        pytest.param([b'{"event": "' + b"x" * 70_000 + b'"}'], "skipped", "no line", id="endless-line"),
    ],
)  # fmt: skip
def test_lines_are_counted_by_what_they_come_from(lines, level, words):
    found = log(lines, configured())
    assert levels(found) == [level]
    assert words in said(found)


def test_the_most_frequent_comes_first():
    found = log([refused("session-pending"), *[refused("jwk-kid-mismatch")] * 2], configured())
    assert levels(found) == ["error", "warning"]
