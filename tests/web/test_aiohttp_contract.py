"""Each private thing of aiohttp that `web/connection.py` relies on. A version that lacks one fails here first."""

import ast
import asyncio
import inspect
from pathlib import Path

import pytest
from aiohttp import web, web_protocol
from aiohttp.http_exceptions import LineTooLong
from aiohttp.http_parser import HttpRequestParser
from aiohttp.http_writer import StreamWriter
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import RequestHandler, _ErrInfo

from gateway.web import connection

FIELDS = (
    "_messages", "_waiter", "_parser", "_loop", "_manager", "_task_handler", "_close", "_force_close", "_upgraded",
    "_message_tail", "_buffer_paused", "_reading_paused", "_paused", "_msg_queue_resume_size",
)  # fmt: skip
METHODS = ("_handle_request", "_resume_reading_if_drained", "_drain_helper")


async def handler() -> RequestHandler:
    async def nobody(_request: web.BaseRequest) -> web.StreamResponse:
        raise NotImplementedError

    return RequestHandler(web.Server(nobody), loop=asyncio.get_running_loop(), auto_decompress=False)


@pytest.mark.parametrize("name", FIELDS)
async def test_field_is_there(name: str) -> None:
    assert hasattr(await handler(), name)


@pytest.mark.parametrize("name", METHODS)
def test_method_is_there(name: str) -> None:
    assert callable(getattr(RequestHandler, name))


def test_connection_touches_no_other_private_name() -> None:
    tree = ast.parse(Path(connection.__file__).read_text())
    touched = {
        node.attr for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__")
    }  # fmt: skip
    own = {name for name in vars(connection.Connection) if name.startswith("_")} | {"_replace"}
    assert touched - own <= set(FIELDS) | set(METHODS)
    assert not own & (set(FIELDS) | set(METHODS)), "a name of aiohttp's is overridden unawares"


async def test_parser_says_when_a_message_was_taken() -> None:
    made = await handler()
    assert isinstance(made._parser, HttpRequestParser)
    assert callable(made._parser.message_consumed)


def test_the_parser_is_llhttp() -> None:
    """The pure-Python one refuses other things; what is malformed was tried against this one."""
    assert HttpRequestParser.__module__ == "aiohttp._http_parser"


async def test_a_trailer_still_leaks_into_the_next_head() -> None:
    """Should this fail, `Connection._serve` need no longer close behind chunks."""
    made = await handler()
    made.data_received(
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Evil: 1\r\n\r\n"
        b"GET / HTTP/1.1\r\nHost: b\r\n\r\n"
    )
    message, _ = made._messages[-1]
    assert message.raw_headers == ((b"X-Evil", b"1"), (b"Host", b"b"))


async def test_a_message_can_be_told_to_end_its_connection() -> None:
    made = await handler()
    made.data_received(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    message, payload = made._messages[-1]
    assert (message.should_close, message._replace(should_close=True).should_close) == (False, True)
    assert payload is EMPTY_PAYLOAD


@pytest.mark.parametrize(
    ("data", "is_fault"),
    [
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: 1\r\n" * 200 + b"\r\n",
                     lambda fault: "Too many headers" in str(fault), id="too-many-headers"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 9000 + b"\r\n\r\n",
                     lambda fault: isinstance(fault, LineTooLong), id="line-too-long"),
    ],
)  # fmt: skip
async def test_limits_are_told_apart_by_what_is_raised(data: bytes, is_fault: object) -> None:
    made = await handler()
    made.data_received(data)
    message, payload = made._messages[-1]
    assert isinstance(message, _ErrInfo)
    assert is_fault(message.exc)  # type: ignore[operator]
    assert payload is EMPTY_PAYLOAD


def test_an_error_is_status_cause_and_text() -> None:
    assert list(inspect.signature(_ErrInfo).parameters) == ["status", "exc", "message"]


def test_the_task_is_made_inside_connection_made() -> None:
    source = inspect.getsource(RequestHandler.connection_made)
    assert "self.start()" in source
    assert source.index("super().connection_made") < source.index("self.start()")


async def test_bytes_behind_an_upgrade_are_kept_unread() -> None:
    """`Connection.hand_over` takes them."""
    made = await handler()
    upgrade = b"Connection: Upgrade\r\nUpgrade: WebSocket\r\n\r\n"
    made.data_received(b"GET / HTTP/1.1\r\nHost: a\r\n" + upgrade + b"GET /evil HTTP/1.1\r\n")
    made.data_received(b"Host: a\r\n\r\n")
    assert (len(made._messages), made._upgraded) == (1, True)
    assert made._message_tail == b"GET /evil HTTP/1.1\r\nHost: a\r\n\r\n"


async def test_own_requests_can_be_made() -> None:
    server = web.Server(lambda _request: None)  # type: ignore[arg-type,return-value]
    assert callable(server.request_factory)
    assert callable(server.request_handler)
    assert list(inspect.signature(StreamWriter.__init__).parameters)[:3] == ["self", "protocol", "loop"]
    assert callable(StreamReader.set_exception)
    assert web_protocol.RequestHandler.eof_received
