"""`gateway dev`, its commands, and `gateway token`: their arguments. Each imports what it needs when it runs."""

import asyncio
import os
import signal
import sys
from collections.abc import Coroutine
from typing import Any

import click

from gateway.ops.loop import run_on_best_loop

DEV_PORT = 8080


@click.group(invoke_without_command=True, short_help="Try it all on this machine.")
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
        run_on_best_loop(serve())
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


@click.command(short_help="Print a token from `gateway dev`.")
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
