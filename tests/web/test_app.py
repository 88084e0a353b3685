"""Start and stop of the whole: keys first, then the listener; unready without keys; what runs may finish."""

import asyncio
from typing import Any

import pytest

from gateway.config import load_text
from gateway.web.app import Gateway
from tests.fakes.clerk import FakeClerk, FakeIssuer
from tests.fakes.gateway import gateway
from tests.fakes.upstream import Echo, ScriptedUpstream, read_request, response


def clerk_at(issuer: FakeIssuer, clerk: FakeClerk) -> dict[str, Any]:
    return {"issuer": clerk.issuer, "jwks_url": issuer.jwks_url}


async def test_listens_only_once_the_keys_are_there() -> None:
    clerk = FakeClerk()
    async with FakeIssuer(clerk) as issuer, ScriptedUpstream(Echo()) as upstream:
        issuer.hold = asyncio.Event()
        starting = gateway(upstream.port, clerk=clerk_at(issuer, clerk))
        entering = asyncio.ensure_future(starting.__aenter__())
        await issuer.arrived.wait()
        assert not entering.done()
        issuer.hold.set()
        running = await entering
        assert (await running.get("/x", token=running.token())).status == 200
        await starting.__aexit__(None, None, None)


async def test_without_keys_it_is_unready_and_serves_public_routes_until_they_come() -> None:
    clerk, echo = FakeClerk(), Echo()
    issuer = FakeIssuer(clerk)
    await issuer.start()
    await issuer.stop()
    async with (
        ScriptedUpstream(echo) as upstream,
        gateway(upstream.port, clerk=clerk_at(issuer, clerk), first_keys_s=0) as running,
    ):
        unready = await running.get("/readyz")
        assert (unready.status, unready.json["code"]) == (503, "keys_unavailable")
        assert (await running.get("/healthz")).status == 200
        assert (await running.get("/public/x")).status == 200
        for path in ("/x", "/optional/x"):
            refused = await running.get(path, token=running.token())
            assert (refused.status, refused.json["code"], refused.value("retry-after")) == (
                503,
                "keys_unavailable",
                "5",
            )
        assert (await running.get("/x")).status == 401  # needs no key to be refused
        await issuer.start()
        running.monotonic.seconds += 60
        assert (await running.get("/x", token=running.token())).status == 200
        assert (await running.get("/readyz")).json == {"status": "ok"}
    await issuer.stop()


async def test_a_key_that_is_withdrawn_takes_its_tokens_with_it() -> None:
    clerk, other = FakeClerk(), FakeClerk(kid="ins_2", key_name="other")
    async with FakeIssuer(clerk) as issuer, ScriptedUpstream(Echo()) as upstream:
        async with gateway(upstream.port, clerk=clerk_at(issuer, clerk)) as running:
            token, newer = running.token(), other.session_token(running.clock())
            assert (await running.get("/x", token=token)).status == 200
            issuer.clerks = [other]
            assert (await running.get("/x", token=newer)).status == 200  # its kid made the gateway look
            refused = await running.get("/x", token=token)
    assert (refused.status, refused.json["reason"]) == (401, "jwk-kid-mismatch")


async def test_stop_lets_a_request_finish_and_takes_no_new_one() -> None:
    arrived, release = asyncio.Event(), asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        arrived.set()
        await release.wait()
        writer.write(response(body=b"done"))

    async with ScriptedUpstream(slow) as upstream:
        starting = gateway(upstream.port)
        running = await starting.__aenter__()
        asking = asyncio.ensure_future(running.get("/public/x"))
        await arrived.wait()
        stopping = asyncio.ensure_future(starting.__aexit__(None, None, None))
        while not running.app.listener.draining:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        with pytest.raises(ConnectionRefusedError):
            await running.connect()
        release.set()
        answer = await asking
        await stopping
    assert (answer.body, answer.value("connection")) == (b"done", "close")


async def test_stop_cuts_what_does_not_finish_in_time() -> None:
    arrived = asyncio.Event()

    async def never(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        arrived.set()
        await asyncio.Event().wait()

    async with ScriptedUpstream(never) as upstream:
        async with gateway(upstream.port, drain_s=0) as running:
            asking = asyncio.ensure_future(running.get("/public/x"))
            await arrived.wait()
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await asking


async def test_a_start_that_cannot_listen_says_so_and_leaves_nothing_open() -> None:
    async with ScriptedUpstream(Echo()) as upstream:
        text = f"""
            listen: {{host: 127.0.0.1, port: {upstream.port}}}
            admin: {{port: null}}
            upstreams: {{api: {{url: "http://127.0.0.1:{upstream.port}"}}}}
            routes: [{{name: all, path: /*, upstream: api, auth: public}}]
            logs: {{level: error}}
        """
        app = Gateway(load_text(text, {}, name="test.yaml"))
        with pytest.raises(OSError, match=r"Address already in use.*GATEWAY_PORT"):
            await app.start()
        await app.close()


async def test_the_start_says_what_is_unsafe() -> None:
    async with ScriptedUpstream(Echo()) as upstream:
        clerk = {"issuer": FakeClerk().issuer, "jwt_key": FakeClerk().pem()}
        async with gateway(upstream.port, clerk=clerk) as running:
            told = [line["finding"] for line in await running.logged() if line["event"] == "configuration"]
    assert any("authorized_parties" in finding for finding in told)
