"""Start all of `gateway dev` on loopback and stop it again: issuer, sample upstream, and the gateway in front."""

import asyncio
import os
import shutil
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web

from gateway.errors import ConfigError, StoreDown
from gateway.ops.dev import DevError, settings
from gateway.ops.dev.backend_api import backend_routes
from gateway.ops.dev.console import console_routes
from gateway.ops.dev.frontend_api import frontend_routes
from gateway.ops.dev.guide import DEFAULT_PORT, Addresses, command_name, dev_command, guide, token_command
from gateway.ops.dev.issuer import LocalIssuer, issuer_app
from gateway.ops.dev.machines_api import machine_routes
from gateway.ops.dev.outbox import Outbox
from gateway.ops.dev.sample import sample_app
from gateway.ops.dev.sessions import session_routes
from gateway.ops.dev.shapes import LIFE_S

if TYPE_CHECKING:
    from gateway.config import Config

HOST = "127.0.0.1"
LAST_PORT = 65_535
DRAIN_S = 0.5  # Ctrl-C means now: production's half minute is for clients that somebody else waits for


async def run_dev(
    port: int = DEFAULT_PORT,
    issuer_port: int | None = None,
    upstream_port: int | None = None,
    admin_port: int | None = None,
    *,
    keep: str | None = None,
    store: str | None = None,
    production: bool = False,
    cookie_life_s: int = LIFE_S,
    write: Callable[[str], object] = print,
    ready: Callable[[Addresses], object] | None = None,
    environ: Mapping[str, str] | None = None,
) -> None:
    """Serve until cancelled or until the gateway stops by itself.

    The issuer takes the port after the gateway's, the upstream and the admin listener the next two, unless given; 0 is
    any free one. `keep` is a folder for the store, which else goes with this run, `store` the URL of another one. The
    issuer plays a development instance or one in `production`, whose tokens in cookies live `cookie_life_s`.
    `write` gets the text for people, `ready` the addresses once all answer; `environ` says how the CLI is called.

    Raises:
        DevError: a port is taken, or there can be no store; the text names it and the option.
    """
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(settings.folder(keep))
        where, issuer_socket, upstream_socket = _take_ports(stack, port, issuer_port, upstream_port, admin_port)
        command = _command(os.environ if environ is None else environ)
        token = token_command(command, where)
        issuer = LocalIssuer(
            where.issuer, gateway_origin=where.gateway, development=not production, cookie_life_s=cookie_life_s
        )
        known = settings.Secrets(issuer.played)
        config, file = _configuration(where, known, folder, store)
        await _prepare_store(config)
        await stack.enter_async_context(_serve(await _issuer(stack, issuer, where, known), issuer_socket))
        await stack.enter_async_context(_serve(sample_app(issuer=where.issuer, token_command=token), upstream_socket))
        async with _gateway(config) as wait_stopped:
            write(guide(where, known, token=token, dev=dev_command(command, where), command=command, file=str(file)))
            if ready is not None:
                ready(where)
            await wait_stopped()


async def _issuer(
    stack: AsyncExitStack, issuer: LocalIssuer, where: Addresses, known: settings.Secrets
) -> web.Application:
    """Build the issuer with all that belongs to it: its webhooks, its Backend API, its page."""
    outbox = Outbox(f"{where.gateway}/webhooks/clerk", known.webhook_secret, instance=issuer.instance)
    outbox.start()
    stack.push_async_callback(outbox.close)
    issuer.tell = outbox.post
    return issuer_app(
        issuer,
        routes=[
            *console_routes(issuer.world, outbox, gateway=where.gateway),
            *backend_routes(issuer, outbox.post, known.secret_key),
            *session_routes(issuer, known.secret_key),
            *machine_routes(issuer.machines, known.secret_key),
            *frontend_routes(issuer, home=f"{where.gateway}/app"),
        ],
    )


def _configuration(where: Addresses, known: settings.Secrets, folder: Path, store: str | None) -> "tuple[Config, Path]":
    """Read the gateway's configuration; write it down, for the commands that want a file."""
    from gateway import config

    url = f"sqlite:///{folder / settings.STORE}" if store is None else store
    environ = settings.variables(where, known, store=url, keys=str(folder / settings.KEYS))
    text = config.builtin("dev.yaml")
    try:
        loaded = config.load_text(text, environ, name="config/dev.yaml")
    except ConfigError as error:
        raise DevError("\n".join(map(str, error.findings))) from error
    file = folder / settings.FILE
    settings.write_file(file, settings.written_out(text, environ))
    return replace(loaded, drain_s=DRAIN_S, warnings=()), file  # what is unsafe here is so on purpose


async def _prepare_store(config: "Config") -> None:
    """Bring the store's schema up to date, whatever it is; and find out early that there is none."""
    assert config.store is not None
    url = config.store.url

    def prepare() -> None:
        from gateway.store.database import Database

        Database(url, migrating=True).close()

    try:
        await asyncio.to_thread(prepare)
    except StoreDown as error:
        raise DevError(f"the store cannot be opened: {error.detail}. See --store and --keep") from error


@asynccontextmanager
async def _gateway(config: "Config") -> AsyncIterator[Callable[[], Awaitable[None]]]:
    from gateway.web.app import Gateway  # here: `gateway token` and the tests of the two servers do without

    app = Gateway(config)
    try:
        await app.start()
    except ConfigError as error:  # of the files beside it: see --keep
        await app.close()
        raise DevError("\n".join(map(str, error.findings))) from error
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
    stack: AsyncExitStack, port: int, *others: int | None
) -> tuple[Addresses, socket.socket, socket.socket]:
    """Find all ports; give the listeners of the issuer and the upstream. `others` are issuer, upstream and admin."""
    if not 0 <= port <= LAST_PORT - len(others):
        raise DevError(f"--port is a number from 0 to {LAST_PORT - len(others)}: the three after it are taken as well")
    beside = [(port and port + after) if given is None else given for after, given in enumerate(others, start=1)]
    # The gateway opens its own two; holding their ports until all are chosen tells early and by name if one is taken.
    with _listen(port, "the gateway") as held, _listen(beside[2], "the admin listener") as admin:
        issuer = stack.enter_context(_listen(beside[0], "the local issuer"))
        upstream = stack.enter_context(_listen(beside[1], "the upstream"))
        return Addresses(_url(held), _url(issuer), _url(upstream), _url(admin)), issuer, upstream


def _listen(port: int, what: str) -> socket.socket:
    try:
        return socket.create_server((HOST, port))
    except OSError as error:
        raise DevError(
            f"cannot listen on {HOST}:{port} for {what}: {error.strerror}. Is another `gateway dev` running? "
            "Take another port with --port (it and the three after it are used)"
        ) from error


def _url(listener: socket.socket) -> str:
    return f"http://{HOST}:{listener.getsockname()[1]}"


def _command(environ: Mapping[str, str]) -> str:
    on_path = shutil.which("gateway") is not None
    return command_name(environ, executable=sys.executable, on_path=on_path, cwd=os.getcwd())
