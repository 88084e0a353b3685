"""An upstream in Node behind the gateway: Clerk's own SDK takes the token that is forwarded, `jose` the assertion."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.clients.conftest import HERE, LONG_S
from tests.fakes.gateway import APP, CLERK, gateway

ISSUER = "https://api.example.com"


@asynccontextmanager
async def upstream() -> AsyncIterator[int]:
    """Start it, and give its port."""
    if shutil.which("node") is None or not (HERE / "node_modules" / "jose").exists():
        pytest.skip("Node or its packages are not installed: apt-get install nodejs npm; npm ci --prefix tests/clients")
    environ = os.environ | {"JWT_KEY": CLERK.pem(), "PARTY": APP, "GATEWAY": ISSUER}
    pipes = {"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE}
    process = await asyncio.create_subprocess_exec("node", str(HERE / "upstream.mjs"), env=environ, **pipes)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        async with asyncio.timeout(LONG_S):
            port = int(await process.stdout.readline())
        yield port
    finally:
        process.stdin.close()
        await process.wait()


async def test_the_forwarded_token_and_the_assertion_say_the_same(tmp_path: Path) -> None:
    assertion = {"enabled": True, "issuer": ISSUER, "keys_dir": str(tmp_path / "keys")}
    async with upstream() as port:
        upstreams = {"api": {"url": f"http://127.0.0.1:{port}", "forward_token": True}}
        async with gateway(port, upstreams=upstreams, identity={"assertion": assertion}) as running:
            keys = {"X-Keys": f"http://127.0.0.1:{running.port}/.well-known/gateway/jwks.json"}
            answer = await running.get("/x", token=running.token(sub="user_7", sid="sess_7"), fields=keys)
            who = ["user_7", "sess_7"]
            assert (answer.status, answer.json) == (200, {"id": "user_7", "token": who, "assertion": who})
            forged = keys | {"X-User-Assertion": "e.y.J", "X_User_Assertion": "e.y.J", "X-User-Id": "user_mallory"}
            answer = await running.get("/x", token=running.token(sub="user_7", sid="sess_7"), fields=forged)
            assert answer.json == {"id": "user_7", "token": who, "assertion": who}


async def test_it_takes_nothing_that_did_not_come_through_the_gateway() -> None:
    async with upstream() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = "GET /x HTTP/1.1\r\nHost: x\r\nX-User-Id: user_7\r\nX-Keys: http://127.0.0.1:1/\r\nConnection: close\r\n"
        token = CLERK.mint(CLERK.session_claims(1), header={"alg": "none"})
        writer.write(f"{head}Authorization: Bearer {token}\r\n\r\n".encode())
        assert (await reader.read()).startswith(b"HTTP/1.1 401")
        writer.close()
