"""What can still be read from a connection that broke."""

import asyncio
import socket

import pytest

from gateway.net.salvage import last_words


class Transport(asyncio.BaseTransport):
    """A transport over this socket."""

    def __init__(self, underneath: socket.socket | None, tls: object = None) -> None:
        super().__init__({"socket": underneath, "ssl_object": tls})


@pytest.fixture
def ends() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        return near, server.accept()[0]


def test_what_waits_is_read_once_and_the_socket_stays_open(ends: tuple[socket.socket, socket.socket]) -> None:
    near, far = ends
    far.sendall(b"no")
    assert last_words(Transport(near)) == b"no"
    assert last_words(Transport(near)) == b""
    assert near.fileno() > 0
    near.close()
    far.close()


def test_where_nothing_can_be_read_there_are_none(ends: tuple[socket.socket, socket.socket]) -> None:
    near, far = ends
    far.sendall(b"secret")
    assert last_words(Transport(near, tls=object())) == b""
    assert last_words(Transport(None)) == b""
    near.close()
    assert last_words(Transport(near)) == b""
    far.close()
