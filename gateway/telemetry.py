"""Logs: structured events, and access lines made straight into a batch. A blocked stdout never blocks forwarding.

structlog serves events; at 11 µs a line it would cost a fifth of a forwarded request, so access lines go by orjson into
a buffer that a writer thread empties. Both formats escape controls, so no client writes lines of its own.
"""

import json
import logging
import os
import select
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import orjson
import structlog

BATCH_BYTES: Final = 524_288  # each handover to the thread costs a change of threads, there and back
HELD_BYTES: Final = 8_388_608  # beyond this, lines are dropped and counted
LEVELS: Final = ("debug", "info", "warning", "error")


class LineWriter:
    """Writes lines to a file descriptor from a thread of its own; at most `HELD_BYTES` wait."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._batch = bytearray()
        self._waiting: deque[bytes] = deque()
        self._held = 0
        self._wake = threading.Condition()
        self._closed = False
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    def line(self, line: bytes) -> None:
        """Add one line, its end included."""
        self._batch += line
        if len(self._batch) >= BATCH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Hand what has gathered to the thread. Never waits."""
        if not self._batch:
            return
        batch, self._batch = bytes(self._batch), bytearray()
        with self._wake:
            if self._held + len(batch) > HELD_BYTES:
                self.dropped += batch.count(b"\n")
                return
            self._held += len(batch)
            self._waiting.append(batch)
            self._wake.notify()

    def settle(self, within_s: float = 2.0) -> bool:
        """Wait until all that was handed over is written; say whether it was in time."""
        with self._wake:
            return self._wake.wait_for(lambda: not self._held, within_s)

    def close(self, within_s: float = 2.0) -> None:
        """Write out what is left, as far as that takes no longer than this."""
        self.flush()
        with self._wake:
            self._closed = True
            self._wake.notify()
        self._thread.join(within_s)

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._waiting and not self._closed:
                    self._wake.wait()
                if not self._waiting:
                    return
                batch = self._waiting.popleft()
            self._write(batch)
            with self._wake:
                self._held -= len(batch)
                self._wake.notify_all()

    def _write(self, batch: bytes) -> None:
        view = memoryview(batch)
        while view:
            try:
                view = view[os.write(self._descriptor, view) :]
            except BlockingIOError:  # whoever gave us this stdout made it so; this thread may wait
                select.select((), (self._descriptor,), ())
            except OSError:
                self.dropped += bytes(view).count(b"\n")
                return  # nobody reads the log any more; serving goes on


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def _console(_logger: object, _name: str, event: Mapping[str, Any]) -> bytes:
    """Give one readable line: time, level, event, then the rest as key=value, and a trace below it."""
    rest = " ".join(f"{key}={_printable(str(value))}" for key, value in event.items() if key not in _LEADING)
    line = f"{event['ts'][11:19]} {event['level']:7} {_printable(str(event['event']))} {rest}".rstrip()
    trace = "".join(f"\n    {_printable(at)}" for at in event.get("trace", "").splitlines())
    return (line + trace).encode()


_LEADING: Final = ("ts", "level", "event", "trace")


def console_access(line: bytes) -> bytes:
    """Give an access line's JSON for a person: time, status, method, path and who."""
    fields = orjson.loads(line)
    why = " ".join(part for part in (fields["code"], fields["reason"]) if part)
    took = f"{fields['duration_s'] * 1000:.1f}ms"
    # A request that could not be read has neither method nor path.
    told = (
        fields["status"],
        fields["method"] or "-",
        fields["path"] or "-",
        fields["route"] or "-",
        fields["user"] or "-",
    )
    return _printable(f"{fields['ts'][11:19]} {' '.join(str(part) for part in told)} {took} {why}").rstrip().encode()


def json_line(line: Mapping[str, Any]) -> bytes:
    """Give one line of JSON, all of it printable ASCII."""
    return printable(orjson.dumps(line, default=str))


def printable(line: bytes) -> bytes:
    """Give a line of JSON all in printable ASCII.

    orjson escapes what JSON must; DEL and the C1 controls, of which U+009B begins a terminal's escapes, it leaves.
    """
    if line.isascii() and b"\x7f" not in line:
        return line
    return json.dumps(orjson.loads(line), separators=(",", ":")).replace("\x7f", "\\u007f").encode()


def _json(_logger: object, _name: str, event: Mapping[str, Any]) -> bytes:
    return json_line({key: event[key] for key in (*_LEADING, *event) if key in event})


def _trace(_logger: object, _name: str, event: Any) -> Any:
    """Tell an exception by its type and where it came from; its own words may quote a client's secrets."""
    error = event.pop("exc_info", None)
    if error is not None:
        event["error"] = type(error).__name__
        event["trace"] = "".join(traceback.format_tb(error.__traceback__))
    return event


def _stamp(_logger: object, _name: str, event: Any) -> Any:
    event["ts"] = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return event


class Log:
    """What the gateway says of itself. `event` for what happens, `access` for one line per request."""

    def __init__(self, writer: LineWriter, *, form: str = "json", level: str = "info", access: bool = True) -> None:
        self._writer = writer
        self._dropped = 0
        self._second, self._prefix = -1, b""
        self._stamped, self._stamp = -1, b""
        self.configure(form=form, level=level, access=access)

    def configure(self, *, form: str, level: str, access: bool) -> None:
        """Write in another form, or other lines, from now on; whoever holds this log need not know."""
        self.wants_access = access
        # Log one request: a line of JSON with CONTRACT §9's fields, in printable ASCII and with its end.
        self.access: Callable[[bytes], None] = self._writer.line if form == "json" else self._console
        self._events = structlog.wrap_logger(
            _Lines(self._writer),
            processors=[structlog.processors.add_log_level, _trace, _stamp, _json if form == "json" else _console],
            wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
            cache_logger_on_first_use=True,
        )

    def stamp(self) -> bytes:
        """Give the time for an access line. Its text is made once for each millisecond, the seconds' once for each."""
        milliseconds = int(time.time() * 1000)
        if milliseconds != self._stamped:
            second, self._stamped = milliseconds // 1000, milliseconds
            if second != self._second:
                text = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
                self._second, self._prefix = second, text.encode()
            self._stamp = b"%b.%03dZ" % (self._prefix, milliseconds % 1000)
        return self._stamp

    def event(self, event: str, *, level: str = "info", **fields: Any) -> None:
        """Log that something happened."""
        getattr(self._events, level)(event, **fields)

    def _console(self, line: bytes) -> None:
        self._writer.line(console_access(line) + b"\n")

    def flush(self) -> None:
        """Hand over what has gathered, and tell of lines that were lost since the last time."""
        self._writer.flush()
        dropped = self._writer.dropped
        if dropped != self._dropped:
            self.event("log_lines_dropped", level="warning", in_all=dropped)
            self._dropped = self._writer.dropped  # this one may have been lost too: no news

    def settle(self) -> bool:
        """Wait until what was handed over is written. Blocks: not for the event loop."""
        return self._writer.settle()

    def close(self) -> None:
        """Write out the rest."""
        self.flush()
        self._writer.close()


class _Lines:
    """The end of structlog's chain: events leave at once, in order with the access lines."""

    def __init__(self, writer: LineWriter) -> None:
        self._writer = writer

    def msg(self, line: bytes) -> None:
        self._writer.line(line + b"\n")
        self._writer.flush()

    debug = info = warning = error = msg


def standard_output() -> LineWriter:
    """Give the writer of this process's stdout."""
    return LineWriter(sys.stdout.fileno())
