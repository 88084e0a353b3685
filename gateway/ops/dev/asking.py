"""How the commands beside `gateway dev` ask it: its local issuer, on loopback."""

from typing import Any

import aiohttp

from gateway.ops.dev import DevError

TIMEOUT_S = 30.0  # it is on this machine, and may wait for its gateway's store to open


class NotRunning(DevError):
    """Nothing listens where the local issuer would."""


def issuer_url(port: int) -> str:
    """Say where the issuer of the `gateway dev` on `port` is: one port above it."""
    return f"http://127.0.0.1:{port + 1}"


def stranger(issuer: str) -> DevError:
    """Make the error for what answers otherwise than a local issuer."""
    return DevError(f"what listens on {issuer} is not `gateway dev`: name its port with --port")


async def ask(issuer: str, path: str, body: object = None) -> Any:
    """Ask for what is at `path`, with a `body` by POST; give the JSON of the answer.

    Raises:
        NotRunning: nothing listens there.
        DevError: something else does, or it refuses; the text says which, in its words.
    """
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    method = "GET" if body is None else "POST"
    try:
        # No proxies from the environment: a token for this machine does not leave it.
        async with (
            aiohttp.ClientSession(timeout=timeout, trust_env=False) as session,
            session.request(method, issuer + path, json=body, allow_redirects=False) as response,
        ):
            answer = await response.json(content_type=None)
    except aiohttp.ClientConnectorError as error:
        where = issuer.removeprefix("http://")
        port = int(issuer.rpartition(":")[2]) - 1
        raise NotRunning(
            f"no `gateway dev` on port {port}: its local issuer would be on {where}, where nothing listens. "
            "Start it with `gateway dev`, or name its port with --port"
        ) from error
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise stranger(issuer) from error
    if isinstance(answer, dict) and isinstance(answer.get("error"), str):
        raise DevError(answer["error"])
    return answer
