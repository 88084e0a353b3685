"""The text `gateway dev` prints: where everything is, and commands to paste. Words only."""

import os.path
from collections.abc import Mapping
from dataclasses import dataclass

DEFAULT_PORT = 8080


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a running `gateway dev` listens (URLs without a trailing slash)."""

    gateway: str
    issuer: str
    upstream: str


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
    port = int(where.issuer.rpartition(":")[2]) - 1
    return f"{command} token" + ("" if port == DEFAULT_PORT else f" --port {port}")


def guide(where: Addresses, *, token: str) -> str:
    """Write what is running and what to try; `token` is the command that prints a token."""
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
    curl -b "__session=$({token}); __client_uat=1" {url}/hello

  For admins only: Alice may, Bob may not
    {bearer})" {url}/admin/hello
    {bearer} --user user_bob)" {url}/admin/hello

  Expired, and signed by someone else
    {bearer} --expires-in -60)" {url}/hello
    {bearer} --foreign)" {url}/hello

  Claiming to be someone else changes nothing
    {bearer})" -H "X-User-Id: user_mallory" {url}/hello

  gateway   {where.gateway}
  issuer    {where.issuer}   (its key is new at each start; nothing but this accepts it)
  upstream  {where.upstream}   (answers with what it received)

Ctrl-C stops all three.
"""
