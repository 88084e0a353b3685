"""How the commands ask the running `gateway dev`; what strangers answer is in `test_token_request`."""

import re

import pytest
from aiohttp import web
from aiohttp.test_utils import unused_port

from gateway.ops.dev import DevError
from gateway.ops.dev.asking import NotRunning, ask, issuer_url


@pytest.fixture
async def issuer(aiohttp_server):
    async def echo(request):
        return web.json_response({"method": request.method, "body": (await request.read()).decode()})

    async def refuse(_):
        return web.json_response({"error": "not that"}, status=400)

    app = web.Application()
    app.router.add_route("*", "/echo", echo)
    app.router.add_get("/refuse", refuse)
    return str((await aiohttp_server(app)).make_url("/")).rstrip("/")


def test_issuer_is_one_port_above_the_gateway():
    assert issuer_url(8080) == "http://127.0.0.1:8081"


async def test_a_body_is_posted_and_nothing_is_got(issuer):
    assert await ask(issuer, "/echo") == {"method": "GET", "body": ""}
    assert await ask(issuer, "/echo", {"a": 1}) == {"method": "POST", "body": '{"a": 1}'}


async def test_a_refusal_is_told_in_its_words(issuer):
    with pytest.raises(DevError, match=r"^not that$"):
        await ask(issuer, "/refuse")


async def test_nothing_listening_is_told_from_something_else(issuer):
    with pytest.raises(NotRunning, match=re.escape("Start it with `gateway dev`, or name its port with --port")):
        await ask(f"http://127.0.0.1:{unused_port()}", "/echo")
    with pytest.raises(DevError, match="is not `gateway dev`") as refused:
        await ask(issuer, "/nowhere")
    assert not isinstance(refused.value, NotRunning)


async def test_no_proxy_of_the_environment_is_asked(issuer, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{unused_port()}")
    assert (await ask(issuer, "/echo"))["method"] == "GET"
