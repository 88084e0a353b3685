"""A process that has come to the end of what the system grants it."""

import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_descriptors() -> Iterator[None]:
    """Let this process open nothing more."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    last = socket.socket()
    resource.setrlimit(resource.RLIMIT_NOFILE, (last.fileno() + 1, limits[1]))
    held = [last]
    try:
        while True:
            held.append(socket.socket())
    except OSError:
        pass
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for each in held:
            each.close()
