"""Start all of `gateway dev` on loopback and stop it again: issuer, sample upstream, and the gateway in front."""

import os
import shutil
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

from aiohttp import web

from gateway.ops.dev import DevError
from gateway.ops.dev.guide import DEFAULT_PORT, Addresses, command_name, guide, token_command
from gateway.ops.dev.issuer import LocalIssuer, issuer_app
from gateway.ops.dev.sample import sample_app

HOST = "127.0.0.1"
LAST_PORT = 65_535
DRAIN_S = 0.5  # Ctrl-C means now: production's half minute is for clients that somebody else waits for


async def run_dev(
    port: int = DEFAULT_PORT,
    issuer_port: int | None = None,
    upstream_port: int | None = None,
    *,
    write: Callable[[str], object] = print,
    ready: Callable[[Addresses], object] | None = None,
    environ: Mapping[str, str] | None = None,
) -> None:
    """Serve until cancelled or until the gateway stops by itself.

    The issuer takes the port after the gateway's and the upstream the one after that, unless given; 0 is any free one.
    `write` gets the text for people, `ready` the addresses once all three answer; `environ` says how the CLI is called.

    Raises:
        DevError: a port is taken; the text names it and the option.
    """
    async with AsyncExitStack() as stack:
        port, issuer_socket, upstream_socket = _take_ports(stack, port, issuer_port, upstream_port)
        where = Addresses(f"http://{HOST}:{port}", _url(issuer_socket), _url(upstream_socket))
        token = token_command(_command(os.environ if environ is None else environ), where)
        issuer = LocalIssuer(where.issuer, gateway_origin=where.gateway)
        await stack.enter_async_context(_serve(issuer_app(issuer), issuer_socket))
        await stack.enter_async_context(_serve(sample_app(issuer=where.issuer, token_command=token), upstream_socket))
        async with _gateway(where, port) as wait_stopped:
            write(guide(where, token=token))
            if ready is not None:
                ready(where)
            await wait_stopped()


@asynccontextmanager
async def _gateway(where: Addresses, port: int) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    # Imported here: `gateway token` and the tests of the two servers need neither.
    from gateway import config
    from gateway.web.app import Gateway

    settings = {"GATEWAY_DEV_ISSUER": where.issuer, "GATEWAY_DEV_UPSTREAM": where.upstream, "GATEWAY_PORT": str(port)}
    loaded = config.load_text(config.builtin("dev.yaml"), settings, name="config/dev.yaml")
    app = Gateway(replace(loaded, drain_s=DRAIN_S, warnings=()))  # what is unsafe here is so on purpose
    await app.start()
    try:
        yield app.wait_stopped
    finally:
        await app.stop()


@asynccontextmanager
async def _serve(app: web.Application, listener: socket.socket) -> AsyncIterator[None]:
    # Nobody is waited for at the end: what is still streaming is a sample.
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.SockSite(runner, listener).start()
        yield
    finally:
        await runner.cleanup()


def _take_ports(
    stack: AsyncExitStack, port: int, issuer_port: int | None, upstream_port: int | None
) -> tuple[int, socket.socket, socket.socket]:
    if not 0 <= port <= LAST_PORT - 2:
        raise DevError(f"--port is a number from 0 to {LAST_PORT - 2}: the two after it are taken as well")
    # The gateway opens its own listener; holding its port until all are chosen tells early and by name if it is taken.
    with _listen(port, "the gateway") as held:
        beside = (port + 1, port + 2) if port else (0, 0)
        issuer = stack.enter_context(_listen(beside[0] if issuer_port is None else issuer_port, "the local issuer"))
        upstream = stack.enter_context(_listen(beside[1] if upstream_port is None else upstream_port, "the upstream"))
        return held.getsockname()[1], issuer, upstream


def _listen(port: int, what: str) -> socket.socket:
    try:
        return socket.create_server((HOST, port))
    except OSError as error:
        raise DevError(
            f"cannot listen on {HOST}:{port} for {what}: {error.strerror}. Is another `gateway dev` running? "
            "Take another port with --port (it and the two after it are used)"
        ) from error


def _url(listener: socket.socket) -> str:
    return f"http://{HOST}:{listener.getsockname()[1]}"


def _command(environ: Mapping[str, str]) -> str:
    on_path = shutil.which("gateway") is not None
    return command_name(environ, executable=sys.executable, on_path=on_path, cwd=os.getcwd())
