"""The commands, their arguments and exit codes (CONTRACT §1). Each imports what it needs when it runs."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import click

from gateway import __version__

if TYPE_CHECKING:
    from gateway.config import Config
    from gateway.errors import ConfigError
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


@main.command()
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


@main.group()
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


@main.group(invoke_without_command=True)
@click.pass_context
@click.option("--port", default=DEV_PORT, show_default=True, help="The gateway's; the others take the next three.")
@click.option("--issuer-port", type=int, help="The local issuer's. Default: the gateway's + 1.")
@click.option("--upstream-port", type=int, help="The sample upstream's. Default: the gateway's + 2.")
@click.option("--admin-port", type=int, help="The admin listener's. Default: the gateway's + 3.")
@click.option("--keep", metavar="DIR", help="Keep the store there. Default: it goes with this run.")
@click.option("--store", metavar="URL", help="Another store, such as postgresql://…")
@click.option("--production", is_flag=True, help="The issuer plays a production instance. Default: a development one.")
@click.option("--cookie-life", "cookie_life_s", metavar="S", type=click.IntRange(1, 3600), default=60,
              help="Seconds a session token in a cookie lives. Default: 60, as Clerk's.")  # fmt: skip
def dev(
    context: click.Context, /, port: int, issuer_port: int | None, upstream_port: int | None, admin_port: int | None,
    **options: Any,
) -> None:  # fmt: skip
    """Try it all on this machine: a local issuer, a sample upstream, the gateway in front. Ctrl-C ends it."""
    if context.invoked_subcommand is not None:
        return
    from gateway.ops.dev import DevError
    from gateway.ops.dev.run import run_dev

    async def serve() -> None:
        running = asyncio.ensure_future(
            run_dev(port, issuer_port, upstream_port, admin_port, write=click.echo, **options)
        )
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


def _dev_issuer(context: click.Context, port: int | None) -> str:
    """Say where the running `gateway dev` is asked; `--port` may stand before the command or after it."""
    from gateway.ops.dev.asking import issuer_url

    assert context.parent is not None
    return issuer_url(context.parent.params["port"] if port is None else port)


def _asked(asking: Coroutine[Any, Any, Any]) -> Any:
    from gateway.ops.dev import DevError

    try:
        return asyncio.run(asking)
    except DevError as error:
        raise click.ClickException(str(error)) from error


@dev.command()
@click.pass_context
@click.argument("kind", metavar="[TYPE]", required=False)
@click.option("--user", metavar="ID", help="Whom it concerns: user_alice (default), bob, …")
@click.option("--org", metavar="ORG", help="Organisation, by id or slug.")
@click.option("--set", "changes", metavar="NAME=VALUE", multiple=True,
              help="What changes: first_name=Ada, banned=true, public_metadata.tier=gold, role=admin; may be repeated. "
              "data.NAME goes into the event as it stands.")  # fmt: skip
@click.option("--again", metavar="SVIX_ID", help="One that was sent before, instead of a type.")
@click.option("--twice", is_flag=True, help="Send it twice, under one svix-id.")
@click.option("--delay-order", "hold", is_flag=True, help="Hold it back until the next of its kind has gone first.")
@click.option("--old", "old_s", metavar="SECONDS", type=int, default=0, help="Signed as of so long ago.")
@click.option("--bad-signature", is_flag=True, help="Signed with another secret.")
@click.option("--url", help="Send it there instead of to the gateway; needs no `gateway dev`.")
@click.option("--secret", metavar="whsec_…", help="What --url verifies with. Default: $CLERK_WEBHOOK_SIGNING_SECRET.")
@click.option("--print", "only_print", is_flag=True, help="Print it, signed, instead of sending it.")
@click.option("--port", type=int, help="The port `gateway dev` was given.")
def event(
    context: click.Context, /, port: int | None, kind: str | None, changes: tuple[str, ...], url: str | None,
    secret: str | None, *, only_print: bool, **options: Any,
) -> None:  # fmt: skip
    """Let something happen at Clerk, as far as the gateway can tell: send the webhook TYPE, such as user.updated.

    Exits with 1 where it was not taken.
    """
    from gateway.ops.dev.event_request import EventOptions, read_changes
    from gateway.ops.dev.firing import fire_at_gateway, fire_at_url, print_event

    if secret is not None and not (url or only_print):
        raise click.UsageError("--secret is for --url and --print: the gateway of `gateway dev` has its own")
    try:
        wanted = EventOptions(type=kind, set=read_changes(changes), **options)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    issuer = _dev_issuer(context, port)
    if only_print:
        _asked(print_event(secret, issuer, wanted, write=click.echo))
        return
    secret = secret or os.environ.get("CLERK_WEBHOOK_SIGNING_SECRET")
    firing = fire_at_url(url, secret, issuer, wanted, write=click.echo) if url else None
    sys.exit(not _asked(firing or fire_at_gateway(issuer, wanted, write=click.echo)))


@dev.command()
@click.pass_context
@click.option("--port", type=int, help="The port `gateway dev` was given.")
def users(context: click.Context, port: int | None) -> None:
    """List who there is in the running `gateway dev`."""
    from gateway.ops.dev.firing import list_world

    _asked(list_world(_dev_issuer(context, port), write=click.echo))


@dev.command()
@click.pass_context
@click.argument("token", metavar="TOKEN|-")
@click.option("--port", type=int, help="The port `gateway dev` was given.")
def revoke(context: click.Context, token: str, port: int | None) -> None:
    """Take back an opaque machine token; the gateway may still take it for as long as it remembers it as good."""
    from gateway.ops.dev.token_request import revoke_token

    text = sys.stdin.readline() if token == "-" else token  # noqa: S105 - the word for: from standard input
    click.echo(_asked(revoke_token(_dev_issuer(context, port), text.strip())))


@main.command()
@click.option("--type", metavar="T", default="session", show_default=True, help="Or a machine's: api_key, m2m, oauth.")
@click.option("--user", metavar="ID", help="user_alice (default), user_bob, … or any other.")
@click.option("--org", metavar="ORG", help='Organisation, by id or slug; "none" for none.')
@click.option("--role", metavar="R", help="Role in it, with or without org:.")
@click.option("--permission", "permissions", metavar="P", multiple=True, help="Permission in it; may be repeated.")
@click.option("--template", metavar="NAME", help="A JWT template's token instead of a session's, such as convex.")
@click.option("--expires-in", metavar="S", default=3600, show_default=True, help="Seconds; negative: already expired.")
@click.option("--foreign", is_flag=True, help="Another issuer's.")
@click.option("--v1", is_flag=True, help="In the older form of session tokens.")
@click.option("--pending", is_flag=True, help="Of a session with tasks still open.")
@click.option("--scope", "scopes", metavar="S", multiple=True, help="Scope of a machine's token; may be repeated.")
@click.option("--audience", metavar="A", multiple=True, help="Audience of an m2m or oauth token; may be repeated.")
@click.option("--machine", metavar="ID", help="Whose an m2m token is: mch_reports (default) or any other.")
@click.option("--jwt", is_flag=True, help="A signed m2m or oauth token instead of an opaque one.")
@click.option("--port", default=DEV_PORT, show_default=True, help="The port `gateway dev` was given.")
def token(port: int, **options: Any) -> None:
    """Print a token from the running `gateway dev`."""
    from gateway.ops.dev.asking import issuer_url
    from gateway.ops.dev.token_request import TokenOptions, fetch_token

    click.echo(_asked(fetch_token(issuer_url(port), TokenOptions(**options))))
