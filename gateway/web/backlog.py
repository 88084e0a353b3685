"""Begin to listen, and end it: who connected in time is served, who comes later is refused.

A connection whose handshake the kernel has finished is "established" to its client, who may have sent a request
already; closing the listening socket resets those that nobody has accepted yet.
"""

import array
import asyncio
import os
import socket
import struct
import sys
from contextlib import suppress

from gateway.web.listener import Listener

SO_ATTACH_FILTER, SO_DETACH_FILTER = 26, 27  # Linux, asm-generic/socket.h; Python has no names for them
BACKLOG = 4096
DROP_ALL = struct.pack("HBBI", 0x06, 0, 0, 0)  # classic BPF: return 0 bytes


class CannotListen(OSError):
    """An address cannot be listened on; the text says which, why, and what to change."""


async def listen(listener: Listener, host: str, port: int, remedy: str) -> asyncio.Server:
    """Let a listener have the connections to an address. Raises CannotListen, with the remedy."""
    loop = asyncio.get_running_loop()
    try:
        server = await loop.create_server(listener, host, port, backlog=BACKLOG)
    except OSError as error:
        raise CannotListen(f"cannot listen on {host}:{port}: {error.strerror or error}. {remedy}") from error
    listener.port = server.sockets[0].getsockname()[1]
    return server


async def stop_listening(server: asyncio.Server, listener: Listener) -> None:
    """Refuse new connections; those that the system has taken already are served like the others."""
    rest = [connection for listening in server.sockets for connection in _accept_rest(listening.fileno())]
    server.close()
    connect = asyncio.get_running_loop().connect_accepted_socket
    await asyncio.gather(*(connect(listener, each) for each in rest), return_exceptions=True)


def _accept_rest(descriptor: int) -> list[socket.socket]:
    # The event loop's own sockets do not accept.
    with socket.socket(fileno=os.dup(descriptor)) as listening:
        return accept_rest(listening)


def accept_rest(listening: socket.socket) -> list[socket.socket]:
    """Accept every connection that waits, and see to it that no other is begun. The socket is to be closed then."""
    sealed = seal(listening)
    listening.setblocking(False)
    accepted: list[socket.socket] = []
    while True:
        try:
            connection, _ = listening.accept()
        except ConnectionError:  # gone already
            continue
        except OSError:  # none left, or no descriptor for it
            return accepted
        if sealed:
            with suppress(FileNotFoundError):  # one that was established in this very moment has inherited it
                connection.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)
        connection.setblocking(False)
        accepted.append(connection)


def seal(listening: socket.socket) -> bool:
    """Drop what comes for new connections: clients send again, and are refused once the socket is closed.

    Without it one could be established between the last `accept` and the `close`.
    """
    if sys.platform != "linux":
        return False
    code = array.array("B", DROP_ALL)
    address, _ = code.buffer_info()
    try:
        listening.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", 1, address))
    except OSError:
        return False
    return True
