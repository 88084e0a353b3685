"""What an endpoint said before it broke the connection off, which an event loop whose next write fails never reads."""

import asyncio
import os
import socket

MOST = 65_536  # bytes: a refusal's head and its few words


def last_words(transport: asyncio.BaseTransport) -> bytes:
    """Give what still waits to be read on a transport that is being lost; under TLS nobody can."""
    underneath = transport.get_extra_info("socket")
    if underneath is None or transport.get_extra_info("ssl_object") is not None:
        return b""
    try:
        with socket.socket(fileno=os.dup(underneath.fileno())) as waiting:
            return waiting.recv(MOST, socket.MSG_DONTWAIT)
    except OSError:
        return b""
