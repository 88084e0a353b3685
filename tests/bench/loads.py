"""What is put on a proxy: requests by wrk, whole bodies, idle connections. All of it says what came back."""

import json
import re
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench import BenchError
from tests.bench.process import find_program

CONNECTIONS = 64
SOURCES = 8  # addresses that very many clients come from: each has only so many ports
LONGEST_S = 120
ANSWER_S = 20
SHOWN_BYTES = 1024
BUFFER_BYTES = 1 << 20
_BUFFER = memoryview(bytearray(BUFFER_BYTES))  # one for all clients: they take turns
_DONE = """
function done(summary)
    local e = summary.errors
    io.write(string.format('{"requests": %d, "connect": %d, "read": %d, "write": %d, "timeout": %d, "status": %d}\\n',
        summary.requests, e.connect, e.read, e.write, e.timeout, e.status))
end
"""
# Each token in turn, again and again.
_CYCLE = """
local requests, at = {}, 0
function init()
    for line in io.lines(TOKENS) do
        wrk.headers["Authorization"] = "Bearer " .. line
        requests[#requests + 1] = wrk.format()
    end
end
function request() at = at % #requests + 1; return requests[at] end
"""
# Requests as they stand, in a file that has a NUL behind each.
_WHOLE = """
local requests, at = {}, 0
function init()
    local file = io.open(WHOLE, "rb")
    for each in file:read("*a"):gmatch("([^%z]+)%z") do requests[#requests + 1] = each end
end
"""
# Each token once. wrk tries `request` once before it begins; a connection that is given nothing to send rests.
_ONCE = """
local tried, answered = false, 0
function request()
    if not tried then tried = true; return requests[1] end
    at = at + 1
    return requests[at] or ""
end
function response()
    answered = answered + 1
    if answered == #requests then io.write("all answered\\n"); io.flush() end
end
"""


@dataclass(frozen=True)
class Request:
    """What a row sends; with `tokens`, each request has the next one of the file; `whole` is a file of requests."""

    fields: Mapping[str, str] = field(default_factory=dict)
    method: str = "GET"
    target: str = "/orders?page=2"
    body_bytes: int = 0
    tokens: Path | None = None
    whole: Path | None = None
    once: bool = False  # each token, or whole request, once, then it is over

    def script(self) -> str:
        """Write it as wrk's Lua; a JSON string of ASCII is a Lua string too."""
        lines = [f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}" for name, value in self.fields.items()]
        lines.append(f'wrk.method, wrk.path = "{self.method}", {json.dumps(self.target)}')
        if self.body_bytes:
            lines.append(f'wrk.body = string.rep("x", {self.body_bytes})')
        if self.tokens is not None:
            lines.append(f"local TOKENS = {json.dumps(str(self.tokens))}{_CYCLE}")
        if self.whole is not None:
            lines.append(f"local WHOLE = {json.dumps(str(self.whole))}{_WHOLE}")
        lines.append(_ONCE if self.once else "")
        return "\n".join(lines) + _DONE


@dataclass(frozen=True)
class Answered:
    """How many requests were answered, how many of them with a status of 400 or more, in how many seconds."""

    requests: int
    refused: int
    took_s: float


def load(request: Request, port: int, *, seconds: float, folder: Path) -> Answered:
    """Send a request over and over on 64 connections: for some seconds, or until each was sent once.

    Raises:
        BenchError: connections broke.
    """
    script = folder / "wrk.lua"
    script.write_text(request.script())
    limits = (f"-c{CONNECTIONS}", f"-d{LONGEST_S}s", "--timeout", f"{ANSWER_S}s")
    command = [find_program("wrk") or "wrk", "-t1", *limits, "-s", str(script)]
    began = time.monotonic()
    with subprocess.Popen(
        [*command, f"http://127.0.0.1:{port}{request.target}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as wrk:
        assert wrk.stdout is not None
        if request.once:
            next((line for line in wrk.stdout if line.startswith("all answered")), None)
        else:
            time.sleep(seconds)
        took = time.monotonic() - began
        wrk.send_signal(signal.SIGINT)  # it stops and gives its summary
        said = wrk.stdout.read()
    return _understood(said, took)


def _understood(said: str, took_s: float) -> Answered:
    try:
        counts = json.loads(said.strip().splitlines()[-1])
    except (IndexError, ValueError):
        raise BenchError(f"wrk gave no summary: {said.strip()[-300:]}") from None
    broken = {name: counts[name] for name in ("connect", "read", "write", "timeout") if counts[name]}
    if broken:
        raise BenchError(f"wrk counted {counts['requests']} answers and these errors: {broken}")
    return Answered(counts["requests"], counts["status"], took_s)


def end_at_once(client: socket.socket) -> None:
    """Close without TIME-WAIT: ten thousand of them would hold their ports against the next round."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


class Client:
    """One connection, for whole bodies and for resting."""

    def __init__(self, port: int, source: str = "127.0.0.1") -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=ANSWER_S, source_address=(source, 0))
        self._host = f"127.0.0.1:{port}"

    def _send_head(self, method: str, target: str, fields: Mapping[str, str]) -> None:
        lines = [f"{method} {target} HTTP/1.1", f"Host: {self._host}", *(f"{n}: {v}" for n, v in fields.items())]
        self._socket.sendall("\r\n".join(lines).encode() + b"\r\n\r\n")

    def _read_answer(self) -> tuple[int, int, bytes]:
        head = b""
        while b"\r\n\r\n" not in head:
            got = self._socket.recv(4096)
            if not got:
                raise BenchError("the connection ended before the answer")
            head += got
        head, _, begun = head.partition(b"\r\n\r\n")
        length = re.search(rb"(?im)^content-length: *(\d+)\r?$", head)
        if length is None:
            raise BenchError(f"an answer without Content-Length: {head.decode(errors='replace')}")
        return int(head.split(b" ")[1]), int(length[1]) - len(begun), begun

    def get(self, target: str, fields: Mapping[str, str]) -> tuple[int, int, bytes]:
        """Ask for something; give status, bytes and the beginning of the body."""
        self._send_head("GET", target, fields)
        return self._finish()

    def post(self, target: str, fields: Mapping[str, str], size: int) -> tuple[int, int, bytes]:
        """Send a body of this size."""
        self._send_head("POST", target, {**fields, "Content-Length": str(size)})
        left = size
        while left:
            left -= self._socket.send(_BUFFER[: min(left, BUFFER_BYTES)])
        return self._finish()

    def _finish(self) -> tuple[int, int, bytes]:
        status, left, begun = self._read_answer()
        size = len(begun) + left
        while left > 0:
            got = self._socket.recv_into(_BUFFER, min(left, BUFFER_BYTES))
            if not got:
                raise BenchError(f"the answer was cut {left} bytes before its end")
            if len(begun) < SHOWN_BYTES:
                begun += bytes(_BUFFER[: min(got, SHOWN_BYTES)])
            left -= got
        return status, size, begun

    def is_open(self) -> bool:
        """Say whether the other side still keeps it."""
        self._socket.setblocking(False)
        try:
            return bool(self._socket.recv(1, socket.MSG_PEEK))
        except BlockingIOError:
            return True
        except OSError:
            return False
        finally:
            self._socket.settimeout(ANSWER_S)

    def close(self) -> None:
        """End it at once."""
        end_at_once(self._socket)


@contextmanager
def idle_connections(
    port: int, count: int, fields: Mapping[str, str], *, target: str = "/"
) -> Iterator[Sequence[Client]]:
    """Open as many connections, let each have one answer, and keep them."""
    clients: list[Client] = []
    try:
        for number in range(count):
            clients.append(Client(port, f"127.0.0.{2 + number % SOURCES}"))
            status, _, _ = clients[-1].get(target, fields)
            if status != 200:
                raise BenchError(f"connection {len(clients)} of {count} was answered {status}")
        yield clients
    finally:
        for client in clients:
            client.close()
