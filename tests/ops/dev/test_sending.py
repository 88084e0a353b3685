"""Webhooks on their way: the `svix` library verifies what is signed here; handlers answer as they like."""

import asyncio
import base64
import time

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import unused_port
from hypothesis import given
from hypothesis import strategies as st
from svix.webhooks import Webhook, WebhookVerificationError

from gateway.ops.dev.sending import Answer, Manner, Message, gist, key_of, new_id, new_secret, send, signed_headers

NOW = 1_800_000_000.9


def verify(secret, headers, body):
    Webhook(secret).verify(body, headers)


@given(body=st.text().map(lambda text: text.encode("utf-8", "replace")))
def test_svix_takes_every_signature(body):
    secret = new_secret()
    verify(secret, signed_headers(Message(new_id(), "x", "", body), secret, Manner(), now=time.time()), body)


@pytest.mark.parametrize(
    ("manner", "says"),
    [
        pytest.param(Manner(bad_signature=True), "signature", id="bad-signature"),
        pytest.param(Manner(old_s=301), "too old", id="old"),
        pytest.param(Manner(old_s=-302), "too new", id="from-the-future"),
    ],
)
def test_svix_refuses_what_is_meant_to_be_refused(manner, says):
    secret = new_secret()
    headers = signed_headers(Message("msg_1", "x", "", b"{}"), secret, manner, now=time.time())
    with pytest.raises(WebhookVerificationError, match=says):
        verify(secret, headers, b"{}")


def test_fields_are_svixs():
    headers = signed_headers(Message("msg_1", "x", "", b"{}"), new_secret(), Manner(old_s=60), now=NOW)
    assert list(headers) == ["svix-id", "svix-timestamp", "svix-signature"]
    assert (headers["svix-id"], headers["svix-timestamp"]) == ("msg_1", "1799999940")
    assert headers["svix-signature"].startswith("v1,")


@pytest.mark.parametrize("secret", ["whsec_c2VjcmV0", "c2VjcmV0", " whsec_c2VjcmV0\n"])
def test_secret_is_read(secret):
    assert key_of(secret) == b"secret"


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_a", "whsec_geheim!", "whsec_ä"])
def test_what_is_no_secret_is_said_so_without_quoting_it(secret):
    with pytest.raises(ValueError, match="whsec_… and then base64") as refused:
        key_of(secret)
    assert secret in ("", "whsec_") or secret not in str(refused.value)


def test_secrets_and_ids_are_new_each_time():
    assert new_secret() != new_secret()
    assert len(base64.b64decode(new_secret().removeprefix("whsec_"))) == 24
    assert new_id() != new_id()


@pytest.fixture
async def handler(aiohttp_server):
    async def serve(answer):
        async def handle(request):
            return answer(request, await request.read())

        app = web.Application()
        app.router.add_post("/webhooks", handle)
        return str((await aiohttp_server(app)).make_url("/webhooks"))

    return serve


async def sent(url, body=b"{}"):
    async with aiohttp.ClientSession() as session:
        return await send(session, url, {"svix-id": "msg_1"}, body)


async def test_body_and_fields_arrive_as_they_are(handler):
    url = await handler(
        lambda request, body: web.json_response(
            {"status": f"{request.headers['svix-id']} {body!r} {request.content_type}"}
        )
    )
    assert await sent(url, b'{"a": 1}') == Answer(200, "msg_1 b'{\"a\": 1}' application/json")


async def test_a_redirect_is_an_answer_and_none_that_is_good(handler):
    url = await handler(lambda *_: web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"}))
    answer = await sent(url)
    assert (answer.status, answer.is_good) == (302, False)


@pytest.mark.parametrize(("status", "good"), [(200, True), (204, True), (299, True), (400, False), (500, False)])
def test_good_is_2xx(status, good):
    assert Answer(status, "").is_good is good
    assert not Answer(None, "").is_good


async def test_nobody_listening_is_said():
    assert await sent(f"http://127.0.0.1:{unused_port()}/") == Answer(None, "Connection refused")


@pytest.mark.parametrize("url", ["http://127.0.0.1:99999/", "http://[::1/", "http://a b/"])
async def test_an_address_there_cannot_be_is_said(url):
    answer = await sent(url)
    assert answer.status is None
    assert answer.text


async def test_what_breaks_off_is_said():
    async def rude(reader, writer):
        await reader.readline()
        writer.close()

    async with await asyncio.start_server(rude, "127.0.0.1", 0) as server:
        answer = await sent(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
    assert answer.status is None
    assert answer.text


@pytest.mark.parametrize(
    ("body", "text"),
    [
        pytest.param(b'{"status": "stored"}', "stored", id="gateway-took-it"),
        pytest.param(
            b'{"status": 400, "code": "bad_request", "reason": "signature"}', "bad_request, signature", id="refused-it"
        ),
        pytest.param(b'{"ok": true}', '{"ok": true}', id="other-json"),
        pytest.param(b"", "", id="nothing"),
        pytest.param(b"fine\n\x1b[31m\0 red", "fine [31m red", id="controls-do-not-reach-the-terminal"),
        pytest.param(b"\xff\xfe", "\ufffd\ufffd", id="not-utf-8"),
        pytest.param(b"x" * 999, "x" * 200, id="long"),
        pytest.param(b"[" * 9999, "[" * 200, id="nested"),
    ],
)
def test_gist(body, text):
    assert gist(body) == text
