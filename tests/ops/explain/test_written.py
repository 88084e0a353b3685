import json

from gateway.ops.explain.request import Asked
from gateway.ops.explain.written import as_json, as_lines
from tests.fakes.gateway import APP, CLERK
from tests.ops.explain.conftest import HOST, NOW, story

TOKEN = CLERK.session_token(NOW, email="ada@example.com")


async def test_a_request_that_passes():
    told = await story(
        asked=Asked("GET", f"/public/x?token={TOKEN}", headers=(HOST, "Keep-Alive: 1", "X-Api-Key: abc"))
    )
    lines = list(as_lines(told))
    assert lines[:8] == [
        "GET /public/x?token=…",
        "",
        "  --  request                  GET for http://gw.example.com, as if from 127.0.0.1",
        "  --  path                     /public/x, compared as it came",
        '  ok  route                    "public": /public/* to upstream api, auth: public',
        "  --  credential               the route is public, so none is read",
        "",
        "=> passes, and is sent on",
    ]
    assert lines[8:13] == [
        "   To upstream api: http://127.0.0.1:3000", "", "  GET /public/x?token=… HTTP/1.1", "  Host: gw.example.com",
        "  X-Api-Key: … (3 characters)",
    ]  # fmt: skip
    assert lines[-3:] == ["", "  Not sent on, or not as it came:", "  Keep-Alive: hop-by-hop (RFC 9110 §7.6.1)"]


async def test_a_refusal():
    told = await story(asked=Asked("GET", "/x", "nonsense"))
    assert list(as_lines(told))[-4:] == [
        "=> 401 invalid_token, reason token-invalid",
        "   Seen: not three parts",
        "   To change that: Send the token whole, as getToken() gives it",
        '   WWW-Authenticate: Bearer error="invalid_token", error_description="token-invalid"',
    ]


async def test_an_end_of_another_kind():
    headers = (HOST, "Access-Control-Request-Method: GET")
    told = await story(asked=Asked("OPTIONS", "/x", origin=APP, headers=headers))
    assert list(as_lines(told))[-1] == "=> 204: the preflight is answered, granted"
    assert json.loads(as_json(told))["verdict"] == {"status": 204, "words": "the preflight is answered, granted"}


async def test_json_has_all_of_it():
    told = json.loads(as_json(await story(asked=Asked("GET", "/x", TOKEN, headers=(HOST, "Cookie: a=b")))))
    assert told["request"] == {"method": "GET", "target": "/x"}
    assert told["steps"][0] == {
        "stage": "request", "outcome": "note", "text": "GET for http://gw.example.com, as if from 127.0.0.1",
    }  # fmt: skip
    assert told["verdict"] == {"words": "passes, and is sent on"}
    onward = told["onward"]
    assert (onward["upstream"], onward["endpoints"], onward["target"]) == ("api", ["http://127.0.0.1:3000"], "/x")
    assert ["Cookie", "a=…"] in onward["fields"]
    assert ["X-User-Email", "ada@example.com"] in onward["fields"]
    refused = json.loads(as_json(await story()))
    assert "onward" not in refused
    assert refused["verdict"] == {
        "status": 401, "code": "missing_credential", "reason": "session-token-and-uat-missing",
        "remedy": 'Send Authorization: Bearer <token of getToken()>, or set auth: public for route "rest"',
        "fields": [["WWW-Authenticate", "Bearer"]],
    }  # fmt: skip


async def test_what_a_token_says_cannot_move_the_cursor():
    token = CLERK.session_token(NOW, azp="\x1b[2J\nok")
    text = "\n".join(as_lines(await story(asked=Asked("GET", "/x", token))))
    assert "\x1b" not in text
    assert "?[2J?ok" in text
