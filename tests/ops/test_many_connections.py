"""Ten thousand connections that rest and a thousand requests under way, at once, through the program as it is started."""

import asyncio
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from tests.bench.process import free_port
from tests.fakes.gateway import read_answer
from tests.fakes.upstream import ScriptedUpstream, read_request, response

IDLE, BUSY, CAP = 10_000, 1_000, 12_000
FILES = IDLE + 2 * BUSY + 500  # here; the gateway needs no more
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
PAGE = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"
PATIENCE_S = 60

pytestmark = pytest.mark.skipif(
    resource.getrlimit(resource.RLIMIT_NOFILE)[1] < FILES, reason=f"needs {FILES} open files (ulimit -Hn)"
)


@pytest.fixture(autouse=True)
def files() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@contextmanager
def program(folder: Path, upstream_port: int) -> Iterator[int]:
    """Run the gateway with a soft limit that is far too low, and give its port."""
    port = free_port()
    settings = {
        "listen": {"host": "127.0.0.1", "port": port},
        "upstreams": {"api": {"url": f"http://127.0.0.1:{upstream_port}"}},
        "routes": [{"name": "all", "path": "/*", "upstream": "api", "auth": "public"}],
        "limits": {"connections": CAP, "keepalive_s": 600},
        "logs": {"access": False},
        "drain_s": 0,
    }
    file = folder / "gateway.yaml"
    file.write_text(yaml.safe_dump(settings))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    lowered = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))  # noqa: E731
    command = [sys.executable, "-m", "gateway", "run", "-c", str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, preexec_fn=lowered) as running:
        try:
            assert running.stdout is not None
            while b'"listening"' not in (line := running.stdout.readline()):
                assert line
            yield port
        finally:
            running.terminate()


def rest(port: int, number: int) -> socket.socket:
    """Open a connection that rests after one request."""
    client = socket.create_connection(("127.0.0.1", port), PATIENCE_S, (f"127.0.0.{2 + number % 8}", 0))
    client.sendall(HEALTH)
    assert client.recv(1000).startswith(b"HTTP/1.1 200")
    return client


async def test_ten_thousand_rest_while_a_thousand_work(tmp_path: Path) -> None:
    arrived, release = 0, asyncio.Event()

    async def waits(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal arrived
        while await read_request(reader) is not None:
            arrived += 1
            await release.wait()
            writer.write(response(body=b"done"))

    async def works(port: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(PAGE)
        answer = await read_answer(reader)
        writer.close()
        return answer.body

    async with ScriptedUpstream(waits) as upstream:
        with program(tmp_path, upstream.port) as port:
            resting = [rest(port, number) for number in range(IDLE)]
            working = [asyncio.ensure_future(works(port)) for _ in range(BUSY)]
            async with asyncio.timeout(PATIENCE_S):
                while arrived < BUSY // 2:  # an upstream's own cap may keep the others waiting
                    await asyncio.sleep(0.01)
                release.set()
                assert set(await asyncio.gather(*working)) == {b"done"}
            for client in resting:
                client.sendall(HEALTH)
                assert client.recv(1000).startswith(b"HTTP/1.1 200")
                client.close()
