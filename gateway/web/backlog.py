"""The end of listening: who connected in time is served, who comes later is refused, and nobody is in between.

A connection whose handshake the kernel has finished is "established" to its client, who may have sent a request
already; closing the listening socket resets those that nobody has accepted yet.
"""

import array
import socket
import struct
import sys
from typing import Final

SETTLE_S: Final = 0.05  # for handshakes under way when the door was closed: a round trip, as far as clients are near
SO_ATTACH_FILTER: Final = 26  # Linux, asm-generic/socket.h; Python has no name for it
# Classic BPF over the TCP header: drop what begins a connection (SYN without ACK), let everything else through.
DROP_SYN: Final = b"".join(
    struct.pack("HBBI", *step)
    for step in (
        (0x30, 0, 0, 13),  # load the byte with the flags
        (0x54, 0, 0, 0x12),  # leave ACK and SYN of them
        (0x15, 0, 1, 0x02),  # SYN alone?
        (0x06, 0, 0, 0),  # yes: keep 0 bytes of it
        (0x06, 0, 0, 0xFFFFFFFF),  # no: all
    )
)


def seal(listening: socket.socket) -> bool:
    """Let no further connection begin; say whether this system can do that.

    Clients send their SYN again, and are refused once the socket is closed. Without it one could be established between
    the last `accept` and the `close`. The socket must be this process's alone: who shares it is sealed too.
    """
    if sys.platform != "linux":
        return False
    code = array.array("B", DROP_SYN)
    address, size = code.buffer_info()
    try:
        listening.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", size // 8, address))
    except OSError:
        return False
    return True
