"""What a WebSocket message costs, beside nginx: `python -m tests.bench.websocket [ROUNDS]`.

Sixty-four sockets send a message of 100 bytes and wait until it is back: two messages through the proxy. Proxy on one
core, upstream and loader on the other, as in the other rows.
"""

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import uvloop

from tests.bench import BenchError
from tests.bench.accounting import cores, cpu_s
from tests.bench.process import Process, find_program, free_port
from tests.fakes.websocket import SWITCHED, handshake

SOCKETS, WARM_UP_S, SECONDS = 64, 0.5, 2.0
UP = b"\x82\xe4\x01\x02\x03\x04" + b"x" * 100  # a frame as a client sends it, and as a server does
DOWN = b"\x82\x64" + b"x" * 100
NGINX = """daemon off; master_process off; worker_processes 1; pid {folder}/pid; error_log {folder}/errors warn;
events {{ worker_connections 4096; }}
http {{ access_log off; {temporary}
server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://127.0.0.1:{upstream}; proxy_http_version 1.1;
proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade; }} }} }}
"""


class Echo(asyncio.Protocol):
    """The upstream: 101 to an upgrade, then a frame for each frame; anything else is 200."""

    def __init__(self) -> None:
        self._open = False
        self._got = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        write: Callable[[bytes], None] = self._transport.write  # type: ignore[attr-defined]
        self._got += data
        if not self._open:
            head, end, self._got = self._got.partition(b"\r\n\r\n")
            if not end:
                self._got = head
            elif b"websocket" in head:
                self._open = True
                write(SWITCHED)
            else:
                write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            return
        whole = len(self._got) // len(UP)
        self._got = self._got[whole * len(UP) :]
        if whole:
            write(DOWN * whole)


class Loader(asyncio.Protocol):
    """One socket of a client."""

    answered = 0  # by all of them

    def __init__(self) -> None:
        self._head, self._got = b"", 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._write: Callable[[bytes], None] = transport.write  # type: ignore[attr-defined]
        self._write(handshake("/"))

    def data_received(self, data: bytes) -> None:
        if not self._head.endswith(b"\r\n\r\n"):
            self._head += data
            if not self._head.startswith(b"HTTP/1.1 101"[: len(self._head)]):
                raise BenchError(f"not accepted: {self._head!r}")
            if self._head.endswith(b"\r\n\r\n"):
                self._write(UP)
            return
        self._got += len(data)
        while self._got >= len(DOWN):
            self._got -= len(DOWN)
            Loader.answered += 1
            self._write(UP)


async def serve(port: int) -> None:
    """Be the upstream."""
    server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", port)
    await server.serve_forever()


async def measure(proxy: Process) -> float:
    """Give the µs of CPU that the proxy spends on a message there and back."""
    loop = asyncio.get_running_loop()
    made = [await loop.create_connection(Loader, "127.0.0.1", proxy.port) for _ in range(SOCKETS)]
    await asyncio.sleep(WARM_UP_S)
    spent, answered = cpu_s(proxy.pid), Loader.answered
    await asyncio.sleep(SECONDS)
    spent, answered = cpu_s(proxy.pid) - spent, Loader.answered - answered
    for transport, _ in made:
        transport.abort()
    if not answered:
        raise BenchError("nothing came back")
    return 1e6 * spent / answered


def start(name: str, folder: Path, upstream: int, core: int) -> Process:
    """Start a proxy in front of the upstream."""
    port, config = free_port(), folder / f"{name}.conf"
    if name == "nginx":
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        temporary = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
        config.write_text(NGINX.format(folder=folder, port=port, upstream=upstream, temporary=temporary))
        command = [find_program("nginx") or "nginx", "-p", str(folder), "-e", str(folder / "errors"), "-c", str(config)]
    else:
        routes = [{"name": "all", "path": "/*", "upstream": "api", "auth": "public"}]
        settings = {"listen": {"host": "127.0.0.1", "port": port}, "admin": {"port": None}, "routes": routes}
        config.write_text(json.dumps(settings | {"upstreams": {"api": {"url": f"http://127.0.0.1:{upstream}"}}}))
        command = [sys.executable, "-m", "gateway", "run", "-c", str(config)]
    return Process(name, command, port=port, core=core, folder=folder, log=folder / f"{name}.log")


def main(rounds: int) -> None:
    """Measure in turn, so that a noisy second hits both; print the best of each."""
    near, far = cores()
    port = free_port()
    with tempfile.TemporaryDirectory() as name, ExitStack() as until:
        folder = Path(name)
        upstream = [sys.executable, "-m", "tests.bench.websocket", "upstream", str(port)]
        log = folder / "upstream.log"
        until.callback(Process("the upstream", upstream, port=port, core=far, folder=folder, log=log).stop)
        proxies = [start(each, folder, port, near) for each in ("gateway", "nginx")]
        for proxy in proxies:
            until.callback(proxy.stop)
        os.sched_setaffinity(0, {far})
        costs = [[uvloop.run(measure(proxy)) for proxy in proxies] for _ in range(rounds)]
    best = {proxy.name: min(row[at] for row in costs) for at, proxy in enumerate(proxies)}
    ratio = best["gateway"] / best["nginx"]
    print(", ".join(f"{who} {cost:.1f} µs" for who, cost in best.items()) + f" per echo: {ratio:.2f} × nginx")


if __name__ == "__main__":
    if sys.argv[1:2] == ["upstream"]:
        uvloop.run(serve(int(sys.argv[2])))
    else:
        main(int(sys.argv[1]) if sys.argv[1:] else 3)
