"""The text `gateway dev` prints: where everything is, and commands to paste. Words only."""

import os.path
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

DEFAULT_PORT = 8080


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a running `gateway dev` listens (URLs without a trailing slash)."""

    gateway: str
    issuer: str
    upstream: str
    admin: str


class Known(Protocol):
    """The secrets of this run that people need (`settings.Secrets`)."""

    @property
    def admin_token(self) -> str:
        """What opens the admin listener."""

    @property
    def publishable_key(self) -> str:
        """What names the Clerk instance."""

    @property
    def secret_key(self) -> str:
        """What opens the Backend API."""

    @property
    def webhook_secret(self) -> str:
        """What webhooks are signed with."""


def command_name(environ: Mapping[str, str], *, executable: str, on_path: bool, cwd: str) -> str:
    """Say how the CLI is called from another terminal, as short as works.

    `executable` is the running Python, `on_path` whether `gateway` is found by name.
    """
    # `uv run` puts the virtual environment on the PATH of what it runs, not on that of the terminal beside it.
    if uv := environ.get("UV"):
        return f"{_short(uv, cwd) if _inside(uv, cwd) else 'uv'} run gateway"
    return "gateway" if on_path else f"{_short(executable, cwd)} -m gateway"


def _inside(path: str, folder: str) -> bool:
    return path.startswith(folder.rstrip("/") + "/")


def _short(path: str, cwd: str) -> str:
    return os.path.relpath(path, cwd) if _inside(path, cwd) else path


def token_command(command: str, where: Addresses) -> str:
    """Say how a token is had; `command` calls the CLI, which looks for the issuer one port above `--port`."""
    return f"{command} token{_port_option(where)}"


def dev_command(command: str, where: Addresses) -> str:
    """Say how the commands beside `gateway dev` begin."""
    return f"{command} dev{_port_option(where)}"


def _port_option(where: Addresses) -> str:
    port = int(where.issuer.rpartition(":")[2]) - 1
    return "" if port == DEFAULT_PORT else f" --port {port}"


def guide(where: Addresses, known: Known, *, token: str, dev: str, command: str, file: str) -> str:
    """Write what is running and what to try; `token` is the command that prints a token, `dev` begins the others.

    `file` is the configuration, for what `command` wants one for.
    """
    url = where.gateway
    bearer = f'curl -H "Authorization: Bearer $({token}'
    return f"""
Open {url} in a browser, or paste into another terminal, in this folder:

  Refused, with the reason
    curl {url}/hello

  Public: no token is looked at
    curl {url}/public/hello

  Signed in: the upstream is told who it is
    {bearer})" {url}/hello

  The same by cookie, as a browser sends it
    curl -b "__session=$({token}); __client_uat=1; __clerk_db_jwt=dvb_1" {url}/hello

  A page that wants a session, for your browser: sign in as somebody, load it again after a minute, sign out
    {url}/app

  For machines: an API key, and one that lacks the scope; a signed M2M token; one that is taken back
    {bearer} --type api_key --scope reports:read)" {url}/reports
    {bearer} --type api_key)" {url}/reports
    {bearer} --type m2m --jwt)" {url}/machines/hello
    KEY=$({token} --type api_key)
    curl -H "Authorization: Bearer $KEY" {url}/machines/hello
    {dev} revoke "$KEY"     # the gateway asks anew within a minute

  For admins only: Alice may, Bob may not
    {bearer})" {url}/admin/hello
    {bearer} --user user_bob)" {url}/admin/hello

  Expired, and signed by someone else
    {bearer} --expires-in -60)" {url}/hello
    {bearer} --foreign)" {url}/hello

  Claiming to be someone else changes nothing
    {bearer})" -H "X-User-Id: user_mallory" {url}/hello

  Change a user at the issuer: a webhook tells the gateway, and the header follows
    {dev} event user.updated --user user_bob --set first_name=Robert
    {bearer} --user user_bob)" {url}/hello

  Ask the directory; fill it from the issuer's Backend API
    curl -H "Authorization: Bearer {known.admin_token}" {where.admin}/v1/users/user_bob
    {command} sync -c {shlex.quote(file)}

  Any event of anyone: a ban, one that comes twice, a forged one, one at your own handler (event --help says more)
    {dev} event user.updated --user user_bob --set banned=true
    {dev} event session.revoked --user user_alice --twice
    {dev} event user.deleted --user user_alice --bad-signature
    {command} dev event user.created --url http://127.0.0.1:3000/webhooks --secret whsec_...

  gateway   {where.gateway}
  issuer    {where.issuer}   (open it: users, organisations, the webhooks sent)
  upstream  {where.upstream}   (answers with what it received)
  admin     {where.admin}   (token {known.admin_token})
  webhooks  {url}/webhooks/clerk   ({known.webhook_secret})
  Clerk's   CLERK_API_URL={where.issuer} CLERK_SECRET_KEY={known.secret_key}
            CLERK_PUBLISHABLE_KEY={known.publishable_key}
  file      {file}   (what is running, for -c)

Ctrl-C stops it all. Nothing but this run accepts these keys, tokens and secrets.
"""
