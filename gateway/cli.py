"""The commands, their arguments and exit codes (CONTRACT §1). Each imports what it needs when it runs."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import click

from gateway import __version__
from gateway.ops.dev.commands import dev, token
from gateway.ops.loop import run_on_best_loop

if TYPE_CHECKING:
    from gateway.config import Config
    from gateway.errors import ConfigError
    from gateway.web.app import Gateway

EXIT_BAD_CONFIGURATION = 2
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
        _refuse(error)
    return config


def _refuse(error: "ConfigError") -> NoReturn:
    for finding in error.findings:
        click.echo(finding, err=True)
    click.echo("gateway: not started. `gateway check` explains every problem.", err=True)
    sys.exit(EXIT_BAD_CONFIGURATION)


def _serve(config: "Config", reread: "Callable[[], Config]", hangups: Sequence[int]) -> None:
    from gateway.errors import ConfigError
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
        except ConfigError as error:
            await gateway.close()
            _refuse(error)
        return await gateway.wait_stopped()

    run_on_best_loop(serve())


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


def _fail(message: str) -> NoReturn:
    click.echo(f"gateway: {message}", err=True)
    sys.exit(EXIT_BAD_CONFIGURATION)


@main.command(short_help="Judge a configuration without starting.")
@config_option
@click.option("--strict", is_flag=True, help="Also fail on choices that work but are not safe.")
@click.option("--json", "as_json", is_flag=True, help="Findings as JSON.")
def check(path: str | None, *, strict: bool, as_json: bool) -> None:
    """Judge a configuration without starting: every problem with file, line, key and remedy."""
    from gateway.ops.check import check as judge

    sys.exit(judge(path, os.environ, strict=strict, as_json=as_json, write=click.echo))


@main.command(short_help="Name what is wrong, and its remedy.")
@config_option
@click.option("--json", "as_json", is_flag=True, help="As JSON, a list.")
@click.option(
    "--token", metavar="T|-", help="A token that was refused, or that should pass; - reads it from standard input."
)
@click.option("--origin", metavar="O", help="The origin of the page that calls, such as https://app.example.com.")
@click.option("--cookie", metavar="C", help="The Cookie header that the browser sent.")
@click.option("--header", "headers", metavar="H", multiple=True, help='Another header of the request: "Name: value".')
@click.option("--url", metavar="U", help="What was called. It is not called again.")
@click.option("--log", metavar="FILE|-", type=click.File("rb"), help="The gateway's log, in JSON.")
def doctor(path: str | None, *, as_json: bool, **request: Any) -> None:
    """Ask all that the gateway depends on; say what is wrong, and what to do about it. Changes nothing.

    Given something of a request that went wrong, says why. Exits with 1 where anything is wrong.
    """
    from gateway.ops.doctor.evidence import Unusable, read_evidence
    from gateway.ops.doctor.run import doctor as examine

    try:
        evidence = read_evidence(**request)
    except Unusable as error:
        raise click.UsageError(str(error)) from error
    sys.exit(examine(path, os.environ, evidence, as_json=as_json, terminal=sys.stdout.isatty(), write=click.echo))


@main.command(short_help="Say what would become of a request.")
@config_option
@click.argument("method")
@click.argument("target", metavar="PATH")
@click.option("--token", metavar="T", help="Sent as Authorization: Bearer T; - reads it from standard input.")
@click.option("--origin", metavar="O", help="Sent as Origin, as a browser does: https://app.example.com")
@click.option("--header", "headers", metavar="H", multiple=True, help="'Name: value'; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def explain(path: str | None, method: str, target: str, token: str | None, origin: str | None,
            headers: tuple[str, ...], *, as_json: bool) -> None:  # fmt: skip
    """Say what would become of a request: its route, each check, what would be sent on or why not. Sends nothing.

    PATH may have a query, or be a whole URL. Tokens, cookies and keys are masked in what is written.
    """
    from gateway.ops.explain import explain as tell
    from gateway.ops.explain.request import Asked

    if token == "-":  # noqa: S105
        token = sys.stdin.read().strip()
    try:
        asked = Asked(method.upper(), target, token, origin, headers)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    sys.exit(tell(path, os.environ, asked, as_json=as_json, write=click.echo))


@main.command(name="reload", short_help="Take up the configuration file.")
@config_option
def reload_running(path: str | None) -> None:
    """Let the running gateway take up its configuration file; print what is wrong with it."""
    from gateway.ops.reload import reload

    sys.exit(reload(path, os.environ, write=click.echo))


@main.command(short_help="Bring the store up to date.")
@config_option
def migrate(path: str | None) -> None:
    """Bring the store's schema up to date; a SQLite store's is brought by `run` itself."""
    from gateway.ops.migrate import migrate as bring_up_to_date

    sys.exit(bring_up_to_date(path, os.environ, write=click.echo))


@main.command(short_help="Fill and mend the user directory.")
@config_option
@click.option("--dry-run", is_flag=True, help="Only compare; write nothing, and name the first differences.")
@click.option("--restart", is_flag=True, help="Begin anew where an earlier run was broken off.")
def sync(path: str | None, *, dry_run: bool, restart: bool) -> None:
    """Bring the user directory into step with Clerk: add what is missing, mend what differs, mark what is gone."""
    from gateway.ops.sync import sync as bring_into_step

    terminal = sys.stdout.isatty()
    sys.exit(bring_into_step(path, os.environ, dry_run=dry_run, restart=restart, write=click.echo, terminal=terminal))


@main.group()
def keys() -> None:
    """The keys that sign the assertion."""


@keys.command()
@config_option
@click.option("--now", "at_once", is_flag=True,
              help="A key has leaked: the new one signs at once, all others are withdrawn.")  # fmt: skip
def rotate(path: str | None, *, at_once: bool) -> None:
    """Make the next signing key: published now, signing in 24 hours. The gateways may run or not."""
    from gateway.ops.keys import rotate as make_next

    sys.exit(make_next(path, os.environ, at_once=at_once, now=time.time(), write=click.echo))


@main.group(short_help="Stored webhooks and their deliveries.")
def webhooks() -> None:
    """Look at stored webhooks and their deliveries, and have them delivered again; the gateway may run or not."""


limit_option = click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="At most.")
json_option = click.option("--json", "as_json", is_flag=True, help="As JSON, a line for each.")


@webhooks.command("list")
@config_option
@click.option("--type", "kind", metavar="T", help="Of this type: exact, or user.* for all that begin so.")
@limit_option
@json_option
def list_webhooks(path: str | None, **options: Any) -> None:
    """List the newest."""
    from gateway.ops.webhooks import list_webhooks as listing

    sys.exit(listing(path, os.environ, write=click.echo, **options))


@webhooks.command("show")
@config_option
@click.option("--no-payload", is_flag=True, help="Without what Clerk says of the user.")
@click.argument("svix_id", metavar="ID")
def show_webhook(path: str | None, svix_id: str, *, no_payload: bool) -> None:
    """Show one, with its deliveries and its payload."""
    from gateway.ops.webhooks import show_webhook as show

    sys.exit(show(path, os.environ, svix_id, write=click.echo, with_payload=not no_payload))


@webhooks.command("replay")
@config_option
@click.option("--upstream", metavar="NAME", help="To this upstream alone. Default: to all that want its type.")
@click.option("--dead", "all_dead", is_flag=True, help="Everything that died, instead of one.")
@click.argument("svix_id", metavar="ID", required=False)
def replay_webhooks(path: str | None, svix_id: str | None, upstream: str | None, *, all_dead: bool) -> None:
    """Have one, or everything that died, delivered again."""
    from gateway.ops.webhooks import replay_dead, replay_webhook

    if all_dead is (svix_id is not None):
        raise click.UsageError("Name a webhook by its id, or say --dead.")
    if svix_id is None:
        sys.exit(replay_dead(path, os.environ, upstream, write=click.echo))
    sys.exit(replay_webhook(path, os.environ, svix_id, upstream, write=click.echo))


@webhooks.command("dead")
@config_option
@limit_option
@json_option
def dead_deliveries(path: str | None, **options: Any) -> None:
    """List what could not be delivered within three days, and why."""
    from gateway.ops.webhooks import list_dead

    sys.exit(list_dead(path, os.environ, write=click.echo, **options))


main.add_command(dev)
main.add_command(token)
