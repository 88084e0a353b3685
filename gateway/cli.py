"""The commands, their arguments and exit codes (CONTRACT §1). Each imports what it needs when it runs."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import click

from gateway import __version__

if TYPE_CHECKING:
    from gateway.config import Config
    from gateway.web.app import Gateway

EXIT_BAD_CONFIGURATION = 2
DEV_PORT = 8080
config_option = click.option(
    "-c", "--config", "path", metavar="FILE",
    help="Configuration file. Default: $GATEWAY_CONFIG, then config/gateway.yaml, then the built-in one, which takes "
    "everything from the environment.",
)  # fmt: skip


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="gateway")
def main() -> None:
    """The edge gateway for Clerk: verifies tokens, adds trusted X-User-* headers, forwards."""


@main.command()
@config_option
@click.option("--workers", type=int, help="Number of processes. This version serves with one.")
def run(path: str | None, workers: int | None) -> None:
    """Serve. TERM and INT let what runs finish, then stop; HUP reloads the configuration."""
    hangups: list[int] = []
    # Until the event loop takes over: a HUP would end the process, and the file may change once it has been read.
    signal.signal(signal.SIGHUP, lambda number, _: hangups.append(number))
    from gateway.config import load_located, locate, reload

    if workers not in (None, 1):
        _fail("--workers: more than one process is not available yet. Leave it out, or start several gateways.")
    environ = dict(os.environ)
    name = locate(path, environ)
    _serve(_loaded(lambda: load_located(name, environ)), lambda: reload(name, environ), hangups)


def _loaded(load: Any) -> "Config":
    from gateway.errors import ConfigError

    try:
        config: Config = load()
    except ConfigError as error:
        for finding in error.findings:
            click.echo(finding, err=True)
        click.echo("gateway: not started. `gateway check` explains every problem.", err=True)
        sys.exit(EXIT_BAD_CONFIGURATION)
    return config


def _serve(config: "Config", reread: "Callable[[], Config]", hangups: Sequence[int]) -> None:
    from gateway.ops.descriptors import make_room
    from gateway.ops.memory import keep_buffers
    from gateway.web.accept import CannotListen
    from gateway.web.app import Gateway

    async def serve() -> None:
        keep_buffers()
        gateway = Gateway(config, reread=reread)
        make_room(config.limits.connections, gateway.log.event)
        starting = asyncio.ensure_future(gateway.start())
        _stop_on_signals(gateway, starting)
        if hangups:
            gateway.reload_soon()
        try:
            await starting
        except asyncio.CancelledError:
            return await gateway.close()
        except CannotListen as error:
            await gateway.close()
            _fail(str(error))
        return await gateway.wait_stopped()

    _run(serve())


def _stop_on_signals(gateway: "Gateway", starting: "asyncio.Future[None]") -> None:
    """Stop on the first TERM or INT; a second one ends at once, as people expect of Ctrl-C."""
    loop = asyncio.get_running_loop()
    stopping: list[asyncio.Task[None]] = []

    def stop() -> None:
        if not starting.done():
            starting.cancel()
            return
        if stopping:
            gateway.log.event("stopped", level="warning", all_finished=False, why="told twice")
            gateway.log.settle()  # at most two seconds, where nobody reads the log
            os._exit(1)
        stopping.append(loop.create_task(gateway.stop()))

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    loop.add_signal_handler(signal.SIGHUP, gateway.reload_soon)


def _run(main_coroutine: Coroutine[Any, Any, None]) -> None:
    """Run on uvloop where it is installed: a third cheaper per request than asyncio's own loop."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(main_coroutine)
    else:
        uvloop.run(main_coroutine)


def _fail(message: str) -> NoReturn:
    click.echo(f"gateway: {message}", err=True)
    sys.exit(EXIT_BAD_CONFIGURATION)


@main.command()
@config_option
@click.option("--strict", is_flag=True, help="Also fail on choices that work but are not safe.")
@click.option("--json", "as_json", is_flag=True, help="Findings as JSON.")
def check(path: str | None, *, strict: bool, as_json: bool) -> None:
    """Judge a configuration without starting: every problem with file, line, key and remedy."""
    from gateway.ops.check import check as judge

    sys.exit(judge(path, os.environ, strict=strict, as_json=as_json, write=click.echo))


@main.command(name="reload")
@config_option
def reload_running(path: str | None) -> None:
    """Let the running gateway take up its configuration file; print what is wrong with it."""
    from gateway.ops.reload import reload

    sys.exit(reload(path, os.environ, write=click.echo))


@main.command()
@config_option
def migrate(path: str | None) -> None:
    """Bring the store's schema up to date; a SQLite store's is brought by `run` itself."""
    from gateway.ops.migrate import migrate as bring_up_to_date

    sys.exit(bring_up_to_date(path, os.environ, write=click.echo))


@main.command()
@config_option
@click.option("--dry-run", is_flag=True, help="Only compare; write nothing, and name the first differences.")
@click.option("--restart", is_flag=True, help="Begin anew where an earlier run was broken off.")
def sync(path: str | None, *, dry_run: bool, restart: bool) -> None:
    """Bring the user directory into step with Clerk: add what is missing, mend what differs, mark what is gone."""
    from gateway.ops.sync import sync as bring_into_step

    terminal = sys.stdout.isatty()
    sys.exit(bring_into_step(path, os.environ, dry_run=dry_run, restart=restart, write=click.echo, terminal=terminal))


@main.command()
@click.option("--port", default=DEV_PORT, show_default=True, help="The gateway's; issuer and sample take the next two.")
@click.option("--issuer-port", type=int, help="The local issuer's. Default: the gateway's + 1.")
@click.option("--upstream-port", type=int, help="The sample upstream's. Default: the gateway's + 2.")
def dev(port: int, issuer_port: int | None, upstream_port: int | None) -> None:
    """Try it all on this machine: a local issuer, a sample upstream, the gateway in front. Ctrl-C ends it."""
    from gateway.ops.dev import DevError
    from gateway.ops.dev.run import run_dev

    async def serve() -> None:
        running = asyncio.ensure_future(run_dev(port, issuer_port, upstream_port, write=click.echo))
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, running.cancel)
        try:
            await running
        except asyncio.CancelledError:
            click.echo("stopped")

    try:
        _run(serve())
    except DevError as error:
        raise click.ClickException(str(error)) from error


@main.command()
@click.option("--user", metavar="ID", help="user_alice (default), user_bob, … or any other.")
@click.option("--org", metavar="ORG", help='Organisation, by id or slug; "none" for none.')
@click.option("--role", metavar="R", help="Role in it, with or without org:.")
@click.option("--permission", "permissions", metavar="P", multiple=True, help="Permission in it; may be repeated.")
@click.option("--template", metavar="NAME", help="A JWT template's token instead of a session's, such as convex.")
@click.option("--expires-in", metavar="S", default=3600, show_default=True, help="Seconds; negative: already expired.")
@click.option("--foreign", is_flag=True, help="Another issuer's.")
@click.option("--v1", is_flag=True, help="In the older form of session tokens.")
@click.option("--pending", is_flag=True, help="Of a session with tasks still open.")
@click.option("--port", default=DEV_PORT, show_default=True, help="The port `gateway dev` was given.")
def token(port: int, **options: Any) -> None:
    """Print a token from the running `gateway dev`."""
    from gateway.ops.dev import DevError
    from gateway.ops.dev.token_request import TokenOptions, fetch_token, issuer_url

    try:
        click.echo(asyncio.run(fetch_token(issuer_url(port), TokenOptions(**options))))
    except DevError as error:
        raise click.ClickException(str(error)) from error
