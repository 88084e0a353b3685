"""The door: listening sockets of our own, through which only as many clients come in as there are places for.

An event loop's own server accepts whoever comes and cannot be paused. Here the rest waits in the kernel's queue. How
many places there are is `web.listener`'s business; certificates are `net.tls`'.
"""

import asyncio
import errno
import socket
from collections import Counter
from typing import Any, Final

from gateway.net.tls import Reread
from gateway.telemetry import Log
from gateway.web.backlog import SETTLE_S, seal
from gateway.web.listener import BRIEF_S, SPARE_PLACES, Listener

BACKLOG: Final = 4096
MOST_AT_ONCE: Final = 64
TLS_END_S: Final = 2.0  # for a client's answer to the end of TLS; what it asked for has been sent
CLOSING_S: Final = 1.0  # for those in the doorway when it closes
NOT_HERE: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})  # such as localhost's ::1 where IPv6 is off
# accept(2): this client is gone already, or a firewall will not have it. Everything else is the machine's own trouble.
ONE_CLIENTS: Final = frozenset({errno.ECONNABORTED, errno.EPERM, errno.EPROTO})


class CannotListen(OSError):
    """An address cannot be listened on; the text says which, why, and what to change."""


async def listen(host: str, port: int, remedy: str) -> list[socket.socket]:
    """Listen on every address of `host` that this machine has, on the same port; 0 takes a free one.

    Raises:
        CannotListen: with the remedy.
    """
    try:
        return await _listen(host, port)
    except OSError as error:
        raise CannotListen(f"cannot listen on {host}:{port}: {error.strerror or error}. {remedy}") from error


async def _listen(host: str, port: int) -> list[socket.socket]:
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets, missing = list[socket.socket](), list[OSError]()
    for family, _, _, _, address in dict.fromkeys(found):
        taken = sockets[0].getsockname()[1] if sockets else port
        try:
            sockets.append(_listening(family, (address[0], taken, *address[2:]), both=host == "::"))
        except OSError as error:
            missing.append(error)
    fatal = [error for error in missing if not sockets or error.errno not in NOT_HERE]
    if fatal:
        for each in sockets:
            each.close()
        raise fatal[0]
    return sockets


def _listening(family: int, address: tuple[Any, ...], *, both: bool) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if both else 1)
        made.bind(address)
        made.listen(BACKLOG)
    except OSError:
        made.close()
        raise
    return made


class Acceptor:
    """Takes clients in while there are places; `tls` may be exchanged, and is then the next client's."""

    def __init__(self, listener: Listener, sockets: list[socket.socket], *, tls: Reread | None, log: Log) -> None:
        self.tls = tls
        self._listener, self._sockets, self._log = listener, sockets, log
        self._loop = asyncio.get_running_loop()
        # Accepted, but not yet the listener's, and from where: handshakes above all.
        self._arriving: dict[asyncio.Task[Any], str] = {}
        self._arriving_from: Counter[str] = Counter()
        self._at_once = 1
        self._is_open = False
        self._resting = self._rested = False  # the machine has no room; it had none since the last sweep
        self._failed, self._why = 0, ""

    @property
    def port(self) -> int:
        """The port listened on."""
        return int(self._sockets[0].getsockname()[1])

    def open(self) -> None:
        """Take clients in, from now on or again."""
        self._listener.when_free = None
        if not self._is_open and not self._resting:
            self._is_open = True
            for each in self._sockets:
                self._loop.add_reader(each, self._ready, each)

    def pause(self) -> None:
        """Take nobody in for now."""
        if self._is_open:
            self._is_open = False
            for each in self._sockets:
                self._loop.remove_reader(each)

    def _ready(self, listening: socket.socket) -> None:
        places = self._listener.places - len(self._arriving)
        if places <= 0:
            self.pause()
            self._listener.when_free = self.open
            return
        # Where clients come singly, asking for a second one would only cost the system's no.
        if self._take(listening, min(self._at_once, places)):
            self._at_once = min(MOST_AT_ONCE, 2 * self._at_once)
        else:
            self._at_once = 1

    def _take(self, listening: socket.socket, most: int) -> bool:
        """Take so many of those who wait; say whether there were as many."""
        for _ in range(most):
            try:
                client, address = listening.accept()
            except BlockingIOError:
                return False
            except OSError as error:
                if error.errno not in ONE_CLIENTS:
                    self._rest(error)
                    return False
            else:
                self._admit(client, str(address[0]))
        return True

    def _admit(self, client: socket.socket, address: str) -> None:
        connect: Any = self._loop.connect_accepted_socket
        listener, tls = self._listener, self.tls
        if tls is not None and 0 < listener.limits.connections_per_ip <= self._arriving_from.get(address, 0):
            return client.close()  # it has so many handshakes under way, and before one nothing can be said to it
        if tls is None:
            arriving = self._loop.create_task(connect(listener, client))
        else:
            within_s = listener.limits.header_read_s
            if listener.places - len(self._arriving) <= SPARE_PLACES:
                within_s = min(within_s, BRIEF_S)
            arriving = self._loop.create_task(
                connect(listener, client, ssl=tls.context, ssl_handshake_timeout=within_s,
                        ssl_shutdown_timeout=TLS_END_S)
            )  # fmt: skip
        self._arriving[arriving] = address
        self._arriving_from[address] += 1
        return arriving.add_done_callback(self._arrived)

    def _arrived(self, arriving: "asyncio.Task[Any]") -> None:
        address = self._arriving.pop(arriving)
        self._arriving_from[address] -= 1
        if not self._arriving_from[address]:
            del self._arriving_from[address]
        if self._listener.when_free is not None:
            self._listener.when_free()
        if not arriving.cancelled() and (error := arriving.exception()) is not None:
            self._failed += 1
            self._why = (
                getattr(error, "reason", None) or type(error).__name__
            )  # OpenSSL's word; no byte of the client's

    def _rest(self, error: OSError) -> None:
        """Stop until the next sweep: with no descriptor left, accepting would fail again at once, and again."""
        self.pause()
        if not self._rested:
            self._log.event(
                "accept_paused", level="warning", error=error.strerror or str(error),
                remedy="Raise the limit of open files (ulimit -n, LimitNOFILE=), or lower limits.connections",
            )  # fmt: skip
        self._resting = self._rested = True

    def sweep(self) -> None:
        """Look whether the machine has room again, and tell of those who did not get through the door."""
        if self._resting:
            self._resting = False
            self.open()
        else:
            self._rested = False
        if self._failed:
            self._log.event("connections_not_made", count=self._failed, last=self._why)
            self._failed = 0

    async def close(self) -> None:
        """Let nobody in any more, but for those who had connected by now: they may have sent a request already."""
        self.pause()
        sockets, self._sockets = self._sockets, []
        self._listener.when_free = None
        if sum(map(seal, sockets)):
            await asyncio.sleep(SETTLE_S)
        for each in sockets:
            self._take(each, max(0, self._listener.places - len(self._arriving)))
            each.close()
        if self._arriving:
            await asyncio.wait(self._arriving, timeout=CLOSING_S)
        for arriving in tuple(self._arriving):
            arriving.cancel()
        await asyncio.gather(*self._arriving, return_exceptions=True)
