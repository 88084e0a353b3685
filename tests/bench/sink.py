"""A server that reads a whole body, throws it away and says how long it was: `python -m tests.bench.sink PORT`.

nginx cannot: where it does not keep a body, it answers before it has read it.
"""

import re
import socketserver
import sys

BUFFER_BYTES = 1 << 20


class Sink(socketserver.BaseRequestHandler):
    """One connection."""

    def handle(self) -> None:
        buffer = bytearray(BUFFER_BYTES)
        while True:
            head = b""
            while b"\r\n\r\n" not in head:
                got = self.request.recv(BUFFER_BYTES)
                if not got:
                    return
                head += got
            head, _, begun = head.partition(b"\r\n\r\n")
            length = re.search(rb"(?im)^content-length: *(\d+)\r?$", head)
            left = wanted = int(length[1]) if length else 0
            left -= len(begun)
            while left > 0:
                got = self.request.recv_into(buffer, min(left, BUFFER_BYTES))
                if not got:
                    return
                left -= got
            answer = b'{"received": %d}' % wanted
            self.request.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(answer), answer))


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


if __name__ == "__main__":
    with Server(("127.0.0.1", int(sys.argv[1])), Sink) as server:
        server.serve_forever()
